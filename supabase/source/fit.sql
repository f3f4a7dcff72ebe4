-- Whether the app's tables are such that the adapter can work with them. `migrate` asks this before it changes anything: it makes this
-- function as a temporary one. `doctor` asks it of a database at work. No row is read.

-- Returns each misfit in words, with its table, column and type; none: everything fits.
create or replace function indexing.app_misfits() returns text[]
language plpgsql set search_path = '' as $$
declare
  misfits text[] := '{}';
  app_table record;
  fact record;
  found regtype;
  lacking text;
begin
  for app_table in select * from (values
    ('events', '{events.table}', 'SELECT, UPDATE, TRIGGER'),
    ('consents', '{consents.table}', 'SELECT, TRIGGER'),
    ('profiles', '{profiles.table}', 'SELECT, TRIGGER')
  ) t (topic, name, privileges) loop
    if to_regclass(app_table.name) is null then
      misfits := misfits || format('there is no table %s (%s.table)', app_table.name, app_table.topic);
      continue;
    end if;
    for lacking in
      select p from unnest(string_to_array(app_table.privileges, ', ')) p where not has_table_privilege(app_table.name, p)
    loop
      misfits := misfits || format('%s: the role %s has no right to %s', app_table.name, current_user, lacking);
    end loop;
    if row_security_active(app_table.name) then
      misfits := misfits || format('%s: row-level security hides rows from the role %s, which must own the table or have BYPASSRLS',
        app_table.name, current_user);
    end if;

    for fact in select * from (values
      ('events', 'event_id', '{events.event_id}', 'uuid'),
      ('events', 'name', '{events.name}', 'text'),
      ('events', 'starts_at', '{events.starts_at}', 'timestamp with time zone'),
      ('events', 'ends_at', '{events.ends_at}', 'timestamp with time zone'),
      ('events', 'active', '{events.active}', 'boolean'),
      ('events', 'closed', '{events.closed}', 'boolean'),
      ('events', 'status', '{events.status}', 'text, or an enum'),
      ('events', 'cleanup', '{events.cleanup}', 'text, or an enum'),
      ('consents', 'event_id', '{consents.event_id}', 'uuid'),
      ('consents', 'user_id', '{consents.user_id}', 'uuid'),
      ('consents', 'allows', '{consents.allows}', 'boolean'),
      ('profiles', 'user_id', '{profiles.user_id}', 'uuid'),
      ('profiles', 'photo', '{profiles.photo}', 'text')
    ) f (topic, name, expression, type) where topic = app_table.topic loop
      begin
        execute format('select pg_catalog.pg_typeof((select %s from %s limit 0))', fact.expression, app_table.name) into found;
        if not (case fact.type
          when 'text' then (select t.typcategory in ('S', 'X') from pg_catalog.pg_type t where t.oid = found) or found = 'unknown'::regtype
          when 'text, or an enum' then (select t.typcategory in ('S', 'E') from pg_catalog.pg_type t where t.oid = found)
          when 'timestamp with time zone' then found in ('timestamptz'::regtype, 'timestamp'::regtype, 'text'::regtype)
            and (found <> 'text'::regtype or fact.expression = 'null') -- an app without such a time
          else found = fact.type::regtype
        end) then
          misfits := misfits || format('%s: %s is of type %s, and must be %s (%s.%s)',
            app_table.name, fact.expression, found, fact.type, fact.topic, fact.name);
        end if;
        for lacking in
          select word from unnest(array['pending', 'in_progress', 'completed', 'failed']) word
          where fact.name in ('status', 'cleanup') and exists (select from pg_catalog.pg_type t where t.oid = found and t.typtype = 'e')
            and not exists (select from pg_catalog.pg_enum e where e.enumtypid = found and e.enumlabel = word)
        loop
          misfits := misfits || format('%s: the enum %s of %s has no value %L (events.%s)',
            app_table.name, found, fact.expression, lacking, fact.name);
        end loop;
      exception when others then
        misfits := misfits || format('%s: %s; it must be %s (%s.%s)', app_table.name, sqlerrm, fact.type, fact.topic, fact.name);
      end;
    end loop;
  end loop;
  return misfits;
end
$$;
