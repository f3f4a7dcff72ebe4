-- What an operator asks beyond the progress of the claimed events.

-- Events of the app that are not claimed, the soonest first: of the given ones, or of all that wait for it and start within
-- a day or should have started within the last one.
-- Returns [{"event_id", "name", "status" (the app's), "starts_at", "active", "attendees" (who consent)}, …].
create or replace function public.indexing_unclaimed(events uuid[] default null) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(unclaimed) order by unclaimed.starts_at, unclaimed.event_id), '[]')
  from (
    select
      e.event_id, e.name, e.indexing_status as status, e.starts_at, e.is_active is true as active,
      (select count(*) from public.event_consents c where c.event_id = e.event_id and c.allow_recognition) as attendees
    from public.events e
    where not exists (select from indexing.event_runs r where r.event_id = e.event_id)
      and case when events is null
        then e.indexing_status = 'pending'
          and e.starts_at between case when e.is_active then now() - interval '1 day' else now() end
            and now() + interval '1 day'
        else e.event_id = any (events) end
  ) unclaimed
$$;

-- What lay in the dead-letter queue and is no message of ours, the latest first, a page at a time.
--   before_at, before_id  of the last one of the page before; nulls at the start
-- Returns {"total": how many are kept, "letters": [{"message_id", "received_at", "problem", "body", "attributes"}, …]}.
create or replace function public.indexing_dead_letters(
  before_at timestamptz default null, before_id text default null, page integer default 50
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'total', (select count(*) from indexing.dead_letters),
    'letters', coalesce(jsonb_agg(to_jsonb(letter) order by letter.received_at desc, letter.message_id desc), '[]')
  )
  from (
    select d.message_id, d.received_at, d.problem, d.body, d.attributes
    from indexing.dead_letters d
    where before_at is null or (d.received_at, d.message_id) < (before_at, before_id)
    order by d.received_at desc, d.message_id desc
    limit page
  ) letter
$$;

select indexing.close_functions();
