-- What a Supabase project has before the app's first migration, as far as the app and this system rest on it: the roles
-- of the API, who owns what, the accounts, and the default privileges. Run once, by the superuser, in an empty cluster.

-- The owner of the app's schema; as on Supabase no superuser.
create role postgres login createdb createrole bypassrls;

create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role to postgres with admin option;

alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';

alter schema public owner to postgres;
grant usage on schema public to anon, authenticated, service_role;

-- Whatever is made in schema public is open to the API's roles unless revoked. Kept as it is there, so that a revoke
-- that was forgotten shows.
alter default privileges for role postgres in schema public
  grant all on tables to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on sequences to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on functions to anon, authenticated, service_role;

create schema auth;
grant usage on schema auth to postgres, anon, authenticated, service_role;

create table auth.users (
  id uuid primary key default gen_random_uuid(),
  email text unique
);
grant all on auth.users to postgres;

-- The account that a request of the API comes from; null outside of one.
create function auth.uid() returns uuid language sql stable as $$
  select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid
$$;
