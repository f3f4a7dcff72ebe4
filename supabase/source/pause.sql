-- An operator's pause: the outbox hands out no jobs of a paused event, erasures excepted. What lies in the queues already, no
-- more than QUEUE_SECONDS of work, is still done; claims, changes and reconcile go on, so that nothing is missed.

-- What an event is paused by: 'everything', 'event' or null.
create or replace function indexing.paused_by(event uuid) returns text
language sql stable set search_path = '' as $$
  select case when p.event_id is null then 'everything' else 'event' end
  from indexing.pauses p where p.event_id is null or p.event_id = event
  order by p.event_id nulls first limit 1
$$;

-- Pauses an event, or everything for a null. Returns whether it was not paused before.
create or replace function public.indexing_pause(event uuid default null) returns boolean
language plpgsql security definer set search_path = '' as $$
begin
  insert into indexing.pauses (event_id) values (event) on conflict do nothing;
  return found;
end
$$;

-- Lifts the pause of an event; for a null every pause there is. Returns how many were lifted.
create or replace function public.indexing_resume(event uuid default null) returns integer
language plpgsql security definer set search_path = '' as $$
declare
  lifted integer;
begin
  delete from indexing.pauses p where event is null or p.event_id = event;
  get diagnostics lifted = row_count;
  return lifted;
end
$$;

-- What is paused: [{"event_id": null for everything, "since"}, …].
create or replace function public.indexing_pauses() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(p) order by p.event_id nulls first), '[]') from indexing.pauses p
$$;
