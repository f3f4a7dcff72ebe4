-- Calls a second at this moment. After a throttled call the rate is cut, and comes back by a hundredth of the quota a second.
-- Never less than one call in two seconds, unless the quota is.
create or replace function indexing.current_rate() returns double precision
language sql stable set search_path = '' as $$
  select case when p.rate is null then s.index_faces_tps else least(s.index_faces_tps, greatest(0.5,
    p.rate + s.index_faces_tps * 0.01 * greatest(0, extract(epoch from clock_timestamp() - p.rate_since)))) end
  from indexing.pace p cross join indexing.settings s
$$;

-- Hands out the next slots: the first begins in first_ms, the others follow every every_ms. Slots nobody uses cost their
-- time and no more. After a rest the first lie up to 0.25 s back, to be used at once: a quota is a bucket that has filled.
-- No slot lies further ahead than a minute; only a clock that was set back could ask for that.
create or replace function indexing.take_slots(slots integer) returns jsonb
language plpgsql set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  a_second constant double precision := indexing.current_rate();
  first timestamptz;
begin
  if slots = 0 then
    return jsonb_build_object('first_ms', 0, 'every_ms', 0);
  end if;
  update indexing.pace p set
    next_slot = least(greatest(p.next_slot, now - interval '0.25 seconds'), now + interval '1 minute')
      + make_interval(secs => slots / a_second)
  where p.only_row
  returning p.next_slot - make_interval(secs => slots / a_second) into first;
  return jsonb_build_object('first_ms', extract(epoch from first - now) * 1000, 'every_ms', 1000 / a_second);
end
$$;

-- Rekognition throttled: something else uses the quota too. All workers go slower, once a second at most.
create or replace function indexing.slow_down() returns void
language sql set search_path = '' as $$
  update indexing.pace p set rate = greatest(0.5, 0.7 * indexing.current_rate()), rate_since = clock_timestamp()
  where p.only_row and case when p.rate is null then true -- and no time since, which Postgres 15 and 16 could not subtract
    else abs(extract(epoch from clock_timestamp() - p.rate_since)) > 1 end
$$;
