-- pg_net as the triggers know it: requests are queued in the transaction and sent after its commit, by somebody else, once.

create schema if not exists net;

create unlogged table if not exists net.http_request_queue (
  id                   bigint generated always as identity primary key,
  url                  text not null,
  headers              jsonb not null,
  body                 jsonb not null,
  timeout_milliseconds integer not null
);

create or replace function net.http_post(
  url text,
  body jsonb default '{}',
  params jsonb default '{}',
  headers jsonb default '{"Content-Type": "application/json"}',
  timeout_milliseconds integer default 5000
) returns bigint
language plpgsql security definer set search_path = '' as $$
declare
  request bigint;
begin
  insert into net.http_request_queue (url, headers, body, timeout_milliseconds)
  values (url, headers, body, timeout_milliseconds)
  returning id into request;
  perform pg_notify('pg_net', request::text); -- delivered at commit
  return request;
end
$$;

grant usage on schema net to anon, authenticated, service_role;
