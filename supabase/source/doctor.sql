-- What `doctor` asks of the database: what is there, not how the events stand. Changes nothing, and tells no secret.
--   now           of the database's clock
--   misfits       see app_misfits
--   triggers      [{"table", "trigger", "state": enabled, disabled or missing}, …], those that the adapter needs
--   exposed       what of ours others than service_role may execute, or anybody through the API may read or write
--   withheld      functions of the API that service_role may not execute
--   pg_net        whether requests can be sent
--   nudge_url     where nudges go, or null
--   nudge_secret  whether the secret of the nudges has this SHA-256, in hexadecimal; null without one to compare
--   nudged_at     when the last nudge arrived; null if none has since it was configured
--   last_run_tps  IndexFaces calls a second, as the scheduler's last run had it
create or replace function public.indexing_doctor(nudge_digest text default null) returns jsonb
language sql volatile security definer set search_path = '' as $$
  select jsonb_build_object(
    'now', clock_timestamp(),
    'misfits', to_jsonb(indexing.app_misfits()),
    'triggers', (
      select jsonb_agg(jsonb_build_object('table', needed.app_table, 'trigger', needed.name, 'state',
        case when t.tgenabled is null then 'missing' when t.tgenabled in ('O', 'A') then 'enabled' else 'disabled' end
      ) order by needed.app_table, needed.name)
      from (values
        ('{consents.table}', 'indexing_consents_inserted'),
        ('{consents.table}', 'indexing_consents_updated'),
        ('{consents.table}', 'indexing_consents_deleted'),
        ('{consents.table}', 'indexing_truncated'),
        ('{profiles.table}', 'indexing_profiles_inserted'),
        ('{profiles.table}', 'indexing_photo_named'),
        ('{profiles.table}', 'indexing_profiles_updated'),
        ('{profiles.table}', 'indexing_profiles_deleted'),
        ('{profiles.table}', 'indexing_truncated'),
        ('{events.table}', 'indexing_events_updated'),
        ('{events.table}', 'indexing_events_deleted'),
        ('{events.table}', 'indexing_truncated')
      ) needed (app_table, name)
      left join pg_catalog.pg_trigger t on t.tgrelid = to_regclass(needed.app_table) and t.tgname = needed.name
    ),
    'exposed', (
      select coalesce(jsonb_agg(what || ' to ' || role order by what, role), '[]') from (
        select p.oid::regprocedure::text as what, r.rolname as role
        from pg_catalog.pg_proc p, pg_catalog.pg_roles r
        where (p.pronamespace = 'indexing'::regnamespace or (p.pronamespace = 'public'::regnamespace and p.proname like 'indexing\_%'))
          and r.rolname in ('anon', 'authenticated') and has_function_privilege(r.oid, p.oid, 'EXECUTE')
        union all
        select c.oid::regclass::text, r.rolname
        from pg_catalog.pg_class c, pg_catalog.pg_roles r
        where c.relnamespace = 'indexing'::regnamespace and c.relkind in ('r', 'v', 'm')
          and r.rolname in ('anon', 'authenticated', 'service_role')
          and has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE')
      ) open
    ),
    'withheld', (
      select coalesce(jsonb_agg(p.oid::regprocedure::text order by 1), '[]') from pg_catalog.pg_proc p
      where p.pronamespace = 'public'::regnamespace and p.proname like 'indexing\_%'
        and not has_function_privilege('service_role', p.oid, 'EXECUTE')
    ),
    'pg_net', exists (
      select from pg_catalog.pg_proc p where p.pronamespace = to_regnamespace('net') and p.proname = 'http_post'
    ),
    'nudge_url', (select n.url from indexing.nudging n),
    'nudge_secret', (
      select encode(sha256(convert_to(n.secret, 'UTF8')), 'hex') = nudge_digest from indexing.nudging n
    ),
    'nudged_at', (select n.arrived_at from indexing.nudging n),
    'last_run_tps', (select s.index_faces_tps from indexing.settings s)
  )
$$;
