-- The version of the schema that the functions of the deployment ask for. Raised with each migration that they rest on.
create or replace function public.indexing_schema_version() returns integer
language sql immutable security definer set search_path = '' as $$ select 1 $$;

-- The one place where rights are given: the API's functions (public.indexing_…) to service_role alone, everything else to
-- nobody. Supabase grants every new function of schema public to anon and authenticated.
do $$
declare
  f record;
begin
  for f in
    select p.oid::regprocedure as signature, n.nspname = 'public' as served
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'indexing' or (n.nspname = 'public' and p.proname like 'indexing\_%')
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', f.signature);
    if f.served then
      execute format('grant execute on function %s to service_role', f.signature);
    end if;
  end loop;
end
$$;
