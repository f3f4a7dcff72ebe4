-- The pace of IndexFaces calls: Rekognition's quota belongs to the account, so all workers take their time slots from
-- this one row, on this one clock.
create table if not exists indexing.pace (
  only_row   boolean primary key default true check (only_row),
  next_slot  timestamptz not null default '-infinity', -- free from here on
  rate       double precision,                         -- calls a second now; null: the full pace
  rate_since timestamptz not null default '-infinity'
);
alter table indexing.pace add column if not exists quota double precision; -- the full pace, as the scheduler said it last
insert into indexing.pace default values on conflict do nothing;
alter table indexing.pace enable row level security;
revoke all on indexing.pace from public, anon, authenticated, service_role;

-- Hands out the next slots: the first begins in first_ms, the others follow every every_ms. Slots nobody uses cost their
-- time and no more. After a rest the first lie up to 0.25 s back, to be used at once: a quota is a bucket that has filled.
create or replace function indexing.take_slots(slots integer, tps double precision) returns jsonb
language plpgsql set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  rate double precision;
  first timestamptz;
begin
  if slots = 0 then
    return jsonb_build_object('first_ms', 0, 'every_ms', 0);
  end if;
  update indexing.pace p set
    next_slot = greatest(p.next_slot, now - interval '0.25 seconds')
      + make_interval(secs => slots / least(tps, indexing.recovered_rate(p.rate, p.rate_since, tps)))
  where p.only_row
  returning
    least(tps, indexing.recovered_rate(p.rate, p.rate_since, tps)),
    p.next_slot - make_interval(secs => slots / least(tps, indexing.recovered_rate(p.rate, p.rate_since, tps)))
  into rate, first;
  return jsonb_build_object(
    'first_ms', extract(epoch from first - now) * 1000, 'every_ms', 1000 / rate
  );
end
$$;

-- The rate a while after a cut: it comes back by a hundredth of the quota a second.
create or replace function indexing.recovered_rate(rate double precision, since timestamptz, tps double precision)
returns double precision language sql stable set search_path = '' as $$
  select case when rate is null then tps
    else least(tps, rate + tps * 0.01 * extract(epoch from clock_timestamp() - since)) end
$$;

-- Rekognition throttled: somebody else uses the quota too. Everybody goes slower, once a second at most. Not too much: what is
-- left unused for a moment is not lost, for the quota is a bucket that fills.
create or replace function indexing.slow_down(tps double precision) returns void
language sql set search_path = '' as $$
  update indexing.pace p set
    rate = greatest(0.5, 0.7 * indexing.recovered_rate(p.rate, p.rate_since, tps)), rate_since = clock_timestamp()
  where p.only_row and p.rate_since < clock_timestamp() - interval '1 second'
$$;

-- A worker says at once that a call of it was throttled, and is given new slots for this and those not yet made. See take_slots.
create or replace function public.indexing_throttled(slots integer, tps double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  perform indexing.slow_down(tps);
  return indexing.take_slots(slots, tps);
end
$$;

select indexing.close_functions();
