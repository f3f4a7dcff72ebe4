-- What operators have done. Their programs note it after it is done; alarms and functions do not read it.

-- Notes an action. Its id is the caller's own, so that a repeated call notes nothing new.
create or replace function public.indexing_note_action(
  actor text, action text, event uuid default null, attendee uuid default null, note text default null,
  touched integer default null, id uuid default gen_random_uuid()
) returns boolean
language sql security definer set search_path = '' as $$
  insert into indexing.actions (action_id, actor, action, event_id, user_id, note, touched)
  values (id, left(actor, 200), action, event, attendee, left(note, 200), touched)
  on conflict (action_id) do nothing;
  select true
$$;

-- The actions about an event and those about everything, or all of them for a null: the latest first, a page at a time.
-- Returns [{"id", "at", "actor", "action", "event_id", "user_id", "note", "touched"}, …].
create or replace function public.indexing_actions(
  event uuid default null, before bigint default null, page integer default 100
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(a) order by a.id desc), '[]') from (
    select * from indexing.actions o
    where (event is null or o.event_id is null or o.event_id = event) and (before is null or o.id < before)
    order by o.id desc limit page
  ) a
$$;
