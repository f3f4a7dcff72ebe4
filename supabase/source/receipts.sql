-- The proof of erasure. Each revocation of an attendee, and each closing of an event, is a row of indexing.erasures from the
-- moment it is processed. The worker's report says when DeleteFaces had answered; a later listing, by reconcile, that no face of
-- theirs is left. Then the scheduler makes a receipt of it. Only the scheduler touches the chain of receipts, so that no worker
-- waits for another.
-- Rows of erasures are locked after everything else, by their ids.

-- Notes that faces of these attendees have to go: one open erasure each.
--   events, users, noted  pairwise; when the app's change was noted
--   why                   consent: taken back; profile: it or its photo is gone; found: by reconcile; request: of an operator
create or replace function indexing.note_erasures(events uuid[], users uuid[], noted timestamptz[], why text) returns void
language plpgsql set search_path = '' as $$
declare
  again bigint[]; -- open ones: what was answered before this revocation is no answer to it
begin
  again := array(
    select e.id from indexing.erasures e
    join (select distinct * from unnest(events, users) as u(event_id, user_id)) n using (event_id, user_id)
    where e.verified_at is null and e.wanted_again_at is null order by e.id for update of e
  );
  update indexing.erasures e set
    deleted_at = null,
    reason = case when n.noted_at < e.noted_at then why else e.reason end, noted_at = least(e.noted_at, n.noted_at)
  from (
    select u.event_id, u.user_id, min(u.noted_at) as noted_at from unnest(events, users, noted) as u(event_id, user_id, noted_at)
    group by 1, 2
  ) n
  where e.id = any (again) and e.event_id = n.event_id and e.user_id = n.user_id;
  insert into indexing.erasures (event_id, user_id, reason, noted_at)
  select n.event_id, n.user_id, why, min(n.noted_at)
  from unnest(events, users, noted) as n(event_id, user_id, noted_at)
  where not exists (
    select from indexing.erasures e
    where e.event_id = n.event_id and e.user_id = n.user_id and e.verified_at is null and e.wanted_again_at is null
  )
  group by n.event_id, n.user_id;
end
$$;

-- Records what workers did for attendees with an open erasure: [{"event_id", "user_id", "faces": deleted, "ended": whether the
-- job has ended, "indexed": with a face, which the app wants again, "unwanted": whether the app wants none of them, "had_face":
-- whether the job had ended with a face before}, …]. A face that a worker deleted because nobody wants it, before any change said
-- so, is an erasure, too; so is one that was gone by then, because the app had deleted it or the whole collection.
create or replace function indexing.answer_erasures(done jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  concerned bigint[];
begin
  concerned := array(
    select e.id from indexing.erasures e join jsonb_to_recordset(done) as d(event_id uuid, user_id uuid) using (event_id, user_id)
    where e.verified_at is null and e.wanted_again_at is null order by e.id for update of e
  );
  with noted as (
    insert into indexing.erasures (event_id, user_id, reason, noted_at)
    select d.event_id, d.user_id, 'found', now
    from jsonb_to_recordset(done) as d(event_id uuid, user_id uuid, faces integer, ended boolean, unwanted boolean, had_face boolean)
    where d.unwanted and (d.faces > 0 or (d.ended and d.had_face)) and not exists (
      select from indexing.erasures e
      where e.id = any (concerned) and e.event_id = d.event_id and e.user_id = d.user_id
    )
    returning id
  )
  select concerned || coalesce(array_agg(id), '{}') into concerned from noted;
  if cardinality(concerned) > 0 then
    update indexing.erasures e set
      faces = e.faces + d.faces,
      deleted_at = case when d.ended and not d.indexed then coalesce(e.deleted_at, now) else e.deleted_at end,
      wanted_again_at = case when d.ended and d.indexed then now end
    from jsonb_to_recordset(done) as d(event_id uuid, user_id uuid, faces integer, ended boolean, indexed boolean)
    where e.id = any (concerned) and e.event_id = d.event_id and e.user_id = d.user_id;
  end if;
end
$$;

-- Records what a listing of the event's collection shows: an attendee whose faces had been deleted longer ago than a listing
-- lags behind is seen to be gone. The arguments are those of reconcile.
create or replace function indexing.verify_erasures(
  event uuid, as_of timestamptz, after uuid, through uuid, faces jsonb, lag_seconds double precision
) returns void
language plpgsql set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
  listed constant uuid[] := array(
    select f.user_id from jsonb_to_recordset(faces) as f(user_id uuid, face_ids jsonb) where f.face_ids <> '[]'
  );
  concerned bigint[];
begin
  concerned := array(
    select e.id from indexing.erasures e
    where e.event_id = event and (after is null or e.user_id > after) and (through is null or e.user_id <= through)
      and e.verified_at is null and e.wanted_again_at is null
      and e.deleted_at <= as_of - make_interval(secs => lag_seconds) and e.user_id <> all (listed)
    order by e.id for update
  );
  update indexing.erasures e set verified_at = now where e.id = any (concerned);
end
$$;

-- An event was closed: all faces go with its collection.
create or replace function indexing.note_closing(event uuid) returns void
language sql set search_path = '' as $$
  insert into indexing.erasures (event_id, reason, noted_at) values (event, 'event', clock_timestamp())
$$;

-- DeleteCollection has answered; `final` when no call that was under way can have made it anew.
create or replace function indexing.answer_closing(event uuid, final boolean) returns void
language sql set search_path = '' as $$
  update indexing.erasures e set
    deleted_at = coalesce(e.deleted_at, clock_timestamp()), verified_at = case when final then clock_timestamp() end
  where e.event_id = event and e.user_id is null and e.verified_at is null
$$;

create or replace function indexing.utc(moment timestamptz) returns text
language sql immutable as $$
  select to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- What the hash of a receipt is made of, after the hash of the receipt before it: its fields but the hash, in their order, nulls
-- as nothing, times in UTC to the microsecond.
create or replace function indexing.receipt_text(receipt indexing.receipts) returns text
language sql stable as $$
  select array_to_string(array[
    receipt.position::text, receipt.event_id::text, receipt.user_id::text, receipt.reason,
    indexing.utc(receipt.noted_at), receipt.faces::text, indexing.utc(receipt.deleted_at), indexing.utc(receipt.verified_at),
    indexing.utc(receipt.wanted_again_at), indexing.utc(receipt.sealed_at)
  ], '|', '')
$$;

create or replace function indexing.receipt_hash(before bytea, receipt indexing.receipts) returns bytea
language sql stable as $$
  select sha256(before || convert_to(indexing.receipt_text(receipt), 'UTF8'))
$$;

-- A receipt is deleted only when the chain begins after it; see prune.
create or replace function indexing.on_receipts() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if tg_op = 'DELETE' and old.position <= (select c.start_position from indexing.receipt_chain c) then
    return old;
  end if;
  raise exception 'a receipt of an erasure is neither changed nor deleted' using errcode = 'restrict_violation';
end
$$;
create or replace trigger receipts_append_only before update or delete on indexing.receipts
  for each row execute function indexing.on_receipts();

-- What could keep an erasure open for ever: an attendee of a collection that is gone is gone with it; a job that has failed or
-- was forgotten is tried again every hour, also after the event's end; an event whose listing has not come is reconciled.
create or replace function indexing.push_erasures(page integer) returns void
language plpgsql set search_path = '' as $$
declare
  now constant timestamptz := clock_timestamp();
begin
  perform indexing.queue_jobs(array_agg(event_id), array_agg(user_id), erases => true, listing => true) from (
    select j.event_id, j.user_id
    from indexing.erasures e join indexing.face_jobs j using (event_id, user_id) join indexing.event_runs r using (event_id)
    where e.verified_at is null and e.wanted_again_at is null and e.deleted_at is null and e.noted_at < now - interval '1 hour'
      and j.ended_at < now - interval '1 hour' and r.collection in ('missing', 'ready')
    order by e.noted_at limit page
  ) stuck;
  perform indexing.touch_runs(array_agg(distinct event_id)) from (
    select e.event_id from indexing.erasures e
    where e.verified_at is null and e.wanted_again_at is null and e.deleted_at < now - interval '3 minutes'
    order by e.noted_at limit page
  ) unseen;
  update indexing.erasures e set deleted_at = coalesce(e.deleted_at, now), verified_at = now
  where e.id = any (array(
    select o.id from indexing.erasures o join indexing.event_runs r using (event_id)
    where o.verified_at is null and o.wanted_again_at is null and o.user_id is not null and r.collection = 'deleted'
    order by o.id limit page for update of o skip locked
  ));
end
$$;

-- Makes receipts of a page of the erasures that have ended. Callers take turns.
-- Returns {"sealed": n, "seconds": [from the change to the listing without a face, …] of those that were verified,
-- "position", "hash": of the last receipt, "more": whether to call again}.
create or replace function public.indexing_seal_receipts(page integer) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  chain indexing.receipt_chain;
  erasure indexing.erasures;
  receipt indexing.receipts;
  sealed bigint[] := '{}';
  seconds double precision[] := '{}';
begin
  perform indexing.push_erasures(page);
  perform pg_advisory_xact_lock(hashtext('indexing.receipts'));
  insert into indexing.receipt_chain default values on conflict do nothing;
  select * into chain from indexing.receipt_chain;
  for erasure in
    select * from indexing.erasures e where e.verified_at is not null or e.wanted_again_at is not null
    order by e.id limit page for update skip locked
  loop
    receipt := row(
      chain.position + 1, erasure.event_id, erasure.user_id, erasure.reason, erasure.noted_at, erasure.faces, erasure.deleted_at,
      erasure.verified_at, erasure.wanted_again_at, clock_timestamp(), null
    );
    receipt.hash := indexing.receipt_hash(chain.hash, receipt);
    insert into indexing.receipts select receipt.*;
    chain.position := receipt.position;
    chain.hash := receipt.hash;
    sealed := sealed || erasure.id;
    if erasure.verified_at is not null then
      seconds := seconds || extract(epoch from erasure.verified_at - erasure.noted_at)::double precision;
    end if;
  end loop;
  update indexing.receipt_chain c set position = chain.position, hash = chain.hash
  where c.position <> chain.position;
  delete from indexing.erasures e where e.id = any (sealed);
  return jsonb_build_object(
    'sealed', cardinality(sealed), 'seconds', to_jsonb(seconds), 'position', chain.position, 'hash', encode(chain.hash, 'hex'),
    'more', cardinality(sealed) = page
  );
end
$$;

-- Verifies a page of the chain.
--   after, previous  the position and hash that the page before ended with; nulls at the start
-- Returns {"through", "hash": of the last one of the page, "broken_at": the first position at which it does not fit, or null,
-- "more": whether to call again}.
create or replace function public.indexing_verify_receipts(
  after bigint default null, previous text default null, page integer default 5000
) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  chain indexing.receipt_chain;
  place bigint;
  last_hash bytea;
  receipt indexing.receipts;
  read integer := 0;
begin
  select * into chain from indexing.receipt_chain;
  place := coalesce(after, chain.start_position, 0);
  last_hash := coalesce(decode(previous, 'hex'), chain.start_hash, '');
  for receipt in
    select * from indexing.receipts r where r.position > place order by r.position limit page
  loop
    if receipt.position <> place + 1 or receipt.hash is distinct from indexing.receipt_hash(last_hash, receipt) then
      return jsonb_build_object('through', place, 'hash', encode(last_hash, 'hex'), 'broken_at', place + 1, 'more', false);
    end if;
    read := read + 1;
    place := receipt.position;
    last_hash := receipt.hash;
  end loop;
  return jsonb_build_object(
    'through', place, 'hash', encode(last_hash, 'hex'), 'more', read = page,
    -- The end must be the one that was noted when the last receipt was written.
    'broken_at', case when read < page and (place, last_hash) is distinct from (coalesce(chain.position, 0), coalesce(chain.hash, ''))
      then place + 1 end
  );
end
$$;

-- The erasures of an attendee, of an event, or of an attendee of an event; the closings of the events whose job of the attendee
-- is still known included. A page of the receipts at a time, the latest first.
--   before  the position of the last receipt of the page before; null at the start
-- Returns {
--   "open": [{"event_id", "user_id" (null: the whole event), "reason", "noted_at", "faces", "deleted_at", "verified_at",
--             "wanted_again_at", "state", "error": of the job}, …], those included whose change is not processed yet,
--   "receipts": [{"position", "event_id", "user_id", "reason", "noted_at", "faces", "deleted_at", "verified_at", "wanted_again_at",
--             "sealed_at", "text", "previous", "hash": in hexadecimal; sha256 of the bytes of previous and of the text}, …]
-- }
create or replace function public.indexing_receipts(
  attendee uuid default null, event uuid default null, before bigint default null, page integer default 500
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'open', (
      select coalesce(jsonb_agg(to_jsonb(o) order by o.noted_at), '[]') from (
        select e.event_id, e.user_id, e.reason, e.noted_at, e.faces, e.deleted_at, e.verified_at, e.wanted_again_at,
          j.state, j.error
        from (
          select event_id, user_id, reason, noted_at, faces, deleted_at, verified_at, wanted_again_at from indexing.erasures
          union all
          select c.event_id, c.user_id, 'consent', c.noted_at, 0, null, null, null from indexing.changes c
          where c.source = 'consents' and c.erases and exists (select from indexing.event_runs r where r.event_id = c.event_id)
          union all
          select k.event_id, c.user_id, 'profile', c.noted_at, 0, null, null, null
          from indexing.changes c join indexing.face_jobs k using (user_id) where c.source = 'profiles' and c.erases
        ) e
        left join indexing.face_jobs j using (event_id, user_id)
        where (indexing_receipts.event is null or e.event_id = indexing_receipts.event)
          and (attendee is null or e.user_id = attendee or e.user_id is null
            and exists (select from indexing.face_jobs k where k.event_id = e.event_id and k.user_id = attendee))
        order by e.noted_at limit 1000
      ) o
    ),
    'receipts', (
      select coalesce(jsonb_agg(to_jsonb(r) || jsonb_build_object(
          'hash', encode(r.hash, 'hex'), 'text', indexing.receipt_text(r),
          'previous', encode(coalesce(
            (select p.hash from indexing.receipts p where p.position = r.position - 1),
            (select c.start_hash from indexing.receipt_chain c where c.start_position = r.position - 1), ''), 'hex')
        ) order by r.position desc), '[]')
      from (
        select asked.position from (
          select s.position from indexing.receipts s -- each by an index
          where s.user_id = attendee and (indexing_receipts.event is null or s.event_id = indexing_receipts.event)
          union all
          select s.position from indexing.face_jobs k join indexing.receipts s on s.event_id = k.event_id and s.user_id is null
          where k.user_id = attendee and (indexing_receipts.event is null or k.event_id = indexing_receipts.event)
          union all
          select s.position from indexing.receipts s
          where attendee is null and (indexing_receipts.event is null or s.event_id = indexing_receipts.event)
        ) asked
        where before is null or asked.position < before
        order by asked.position desc limit page
      ) found
      join indexing.receipts r using (position)
    )
  )
$$;
