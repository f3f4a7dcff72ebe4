-- The version of the schema that the functions of the deployment ask for. Raised with each migration that they rest on.
create or replace function public.indexing_schema_version() returns integer
language sql immutable security definer set search_path = '' as $$ select 1 $$;

-- The one place where rights are given: the API's functions (public.indexing_…) to service_role alone, everything else to
-- nobody. Supabase grants every new function of schema public to anon and authenticated.
--
-- And how they are planned. A connection keeps its plans: those that it made while the ledger was small would read all of it,
-- for each row even, when 100,000 jobs have come, until autovacuum sees them. So a call plans anew, by the tables' present size;
-- and what workers call for every batch, where planning would cost too much, looks its few rows up by index in any case.
do $$
declare
  of_each_batch constant text[] := array['indexing_lease', 'indexing_refresh', 'indexing_complete', 'indexing_fail_dead_letters'];
  f record;
  setting text;
begin
  for f in
    select p.oid::regprocedure as signature, n.nspname = 'public' as served, p.proname = any (of_each_batch) as by_key
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'indexing' or (n.nspname = 'public' and p.proname like 'indexing\_%')
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', f.signature);
    if f.served then
      execute format('grant execute on function %s to service_role', f.signature);
      foreach setting in array case when f.by_key then array['enable_seqscan = off', 'enable_hashjoin = off', 'enable_mergejoin = off']
        else array['plan_cache_mode = force_custom_plan'] end
      loop
        execute format('alter function %s set %s', f.signature, setting);
      end loop;
    end if;
  end loop;
end
$$;
