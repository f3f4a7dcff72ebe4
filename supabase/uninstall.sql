-- Removes the event indexer from a database: triggers, functions, tables with what is in them, and its entries in the history of
-- migrations. The app's tables stay as they are, the status of their events included. One transaction, as the owner; to be run
-- by `event-indexer uninstall`, which shows before what it removes.
--
-- Dropping a trigger needs a lock that waits for the app's open transactions, and the app's reads and writes would queue behind it.
-- So the locks are asked for in short tries, with rests in between.
do $$
declare
  tries constant integer := 30;
  ours record;
begin
  for attempt in 1 .. tries loop
    begin
      set local lock_timeout = '300ms';
      for ours in
        select t.tgname as trigger, t.tgrelid::regclass as app_table
        from pg_catalog.pg_trigger t join pg_catalog.pg_proc f on f.oid = t.tgfoid
        where f.pronamespace = to_regnamespace('indexing')
        order by t.tgrelid::regclass::text
      loop
        execute format('drop trigger %I on %s', ours.trigger, ours.app_table);
      end loop;
      drop schema if exists indexing cascade;
      exit;
    exception when lock_not_available then
      if attempt = tries then
        raise exception 'tables of the app or of the event indexer have been locked for % seconds', tries
          using errcode = 'lock_not_available', hint = 'Nothing was removed. End that transaction (see pg_stat_activity) and try again.';
      end if;
    end;
    perform pg_sleep(0.7);
  end loop;

  for ours in
    select p.oid::regprocedure as signature from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname like 'indexing\_%'
  loop
    execute format('drop function %s', ours.signature);
  end loop;

  if to_regclass('supabase_migrations.schema_migrations') is not null then
    delete from supabase_migrations.schema_migrations where name like 'event\_indexer\_%';
  end if;
end
$$;
