import { GetQueueAttributesCommand } from '@aws-sdk/client-sqs'
import type { About } from './history.ts'
import type { Stage } from './stage.ts'
import type { World } from './world.ts'

/** A promise that was found broken. */
export interface Violation {
  promise: string
  about: About
  found: string
}

const COLLECTION_PREFIX = 'memento_event_'

/** What is left to do: nothing, when the system is at rest. */
export async function unrest(stage: Stage): Promise<string[]> {
  const { rows } = await stage.sql.query<{ what: string }>(`
    select 'job ' || state || ' of ' || event_id || '/' || user_id as what
    from indexing.face_jobs where ended_at is null
    union all select 'another look at ' || event_id || '/' || user_id
      from indexing.face_jobs where look_again_at is not null and state <> 'failed'
    union all select 'change of ' || coalesce(event_id::text, '') || '/' || coalesce(user_id::text, '') from indexing.changes
    -- That of a job that has failed is open until it is replayed, or tried again in an hour.
    union all select 'erasure of ' || event_id || '/' || coalesce(user_id::text, '') from indexing.erasures e
      where not exists (select from indexing.face_jobs j where (j.event_id, j.user_id) = (e.event_id, e.user_id) and j.state = 'failed')
    union all select 'run in progress of ' || event_id from indexing.event_runs where state = 'in_progress'
    union all select 'collection ' || collection || ' of ' || event_id from indexing.event_runs
      where collection = 'closing' or (collection = 'missing' and state = 'in_progress')
    union all select 'reconcile of ' || event_id from indexing.event_runs
      where collection = 'ready' and (reconciled_at is null or reconciled_at < changed_at + interval '1 minute'
        or reconcile_due < reconciled_at + interval '90 seconds')
    union all select 'put back event ' || event_id from indexing.event_runs r join public.events e using (event_id)
      where r.collection in ('closing', 'deleted') and e.is_active and e.cleanup_status = 'pending' and e.indexing_status <> 'pending'
        and r.ends_at > simulation.clock_timestamp()
    union all select 'unclaimed event ' || event_id from public.events
      where is_active and indexing_status = 'pending' and cleanup_status = 'pending' and starts_at <= simulation.clock_timestamp()`)
  const queues = await Promise.all(
    Object.entries(stage.queueUrls).map(async ([name, QueueUrl]) => {
      const { Attributes } = await stage.sqs.send(
        new GetQueueAttributesCommand({
          QueueUrl,
          AttributeNames: ['ApproximateNumberOfMessages', 'ApproximateNumberOfMessagesNotVisible'],
        }),
      )
      const messages = Object.values(Attributes ?? {}).reduce((sum, value) => sum + Number(value), 0)
      return messages > 0 ? [`${messages} messages in ${name}`] : []
    }),
  )
  return [...rows.map(({ what }) => what), ...queues.flat()]
}

/**
 * Events that have not been reconciled since something happened that no trigger and no bucket tells of.
 * @param since ms since the epoch; undefined: nothing such has happened
 */
export async function unnoticed(stage: Stage, since: number | undefined): Promise<string[]> {
  if (since === undefined) return []
  // A scheduler that had begun before may still have seen the world as it was, and a listing lags behind.
  const { rows } = await stage.sql.query<{ what: string }>(
    `select 'reconcile of what nobody told, of ' || event_id as what from indexing.event_runs
     where collection = 'ready' and ends_at > simulation.clock_timestamp() and reconciled_at < $1::timestamptz + interval '2 minutes'`,
    [new Date(since)],
  )
  return rows.map(({ what }) => what)
}

interface Standing {
  event: string
  open: boolean
  closed: boolean
  status: string
  run: string | null
  reason: string | null
  failed: number
  failing: number
}

/** Compares, at rest, what is in the collections with what the app wants, and what the app is told with what is so. */
export async function violations(stage: Stage, world: World, replayed: boolean): Promise<Violation[]> {
  const found: Violation[] = []
  const { rows: standings } = await stage.sql.query<Standing>(`
    select e.event_id as event,
      -- One that waits to be claimed anew is open when it is.
      e.is_active and e.cleanup_status = 'pending' and e.indexing_status <> 'pending' as open,
      e.cleanup_status <> 'pending' as closed,
      e.indexing_status as status, r.state as run, r.reason,
      -- The status says how the claim ended; what the app changed since then does not turn it back.
      (select count(*)::int from indexing.face_jobs j
       where j.event_id = e.event_id and j.state = 'failed' and j.ended_at <= r.settled_at) as failed,
      (select count(*)::int from indexing.face_jobs j where j.event_id = e.event_id and j.state = 'failed') as failing
    from public.events e left join indexing.event_runs r using (event_id)`)
  const { rows: wishes } = await stage.sql.query<{
    event: string
    user: string
    photo: string
    failed: boolean
  }>(`
    select c.event_id as event, c.user_id as user, p.photo_path as photo, j.state is not distinct from 'failed' as failed
    from public.event_consents c join public.profiles p using (user_id)
    left join indexing.face_jobs j using (event_id, user_id)
    where c.allow_recognition and p.photo_path is not null`)

  for (const standing of standings) {
    const { event, open, closed, run } = standing
    const faces = stage.rekognition.collection(COLLECTION_PREFIX + event)
    if (!run) {
      if (faces && !world.unclaimedAgain.has(event))
        found.push(broken('no collection of an event that was not claimed', { event }, 'a collection'))
      continue
    }
    const consenting = new Map(
      wishes.filter((wish) => wish.event === event).map((wish) => [wish.user, wish] as const),
    )
    const wanted = new Map(
      wishes
        .filter((wish) => wish.event === event && world.photos.get(wish.photo)?.usable)
        .map((wish) => [wish.user, wish] as const),
    )
    const seen = new Set<string>()
    if (closed && faces)
      found.push(broken('a closed event has no collection', { event }, `one with ${faces.length} faces`))
    for (const { externalImageId: user = '', imageKey = '', imageId } of faces ?? []) {
      const about = { event, user }
      const wish = wanted.get(user)
      if (seen.has(user)) found.push(broken('one face each', about, 'another face'))
      seen.add(user)
      // A failed job may not have come so far as to erase; what it left is erased after its replay.
      if (!replayed && (await jobFailed(stage, about))) continue
      // In a deactivated event the face of the profile's photo stays; its object is looked at when the event goes on.
      const stays = !open && !closed && consenting.get(user)?.photo === imageKey
      if (!wish && stays) continue
      if (!wish) found.push(broken('no face of anyone who does not consent', about, `a face of ${imageKey}`))
      else if (open && imageId !== stage.imageIds.get(wish.photo))
        found.push(broken('the face is of the current photo', about, `one of ${imageKey}, not ${wish.photo}`))
    }
    if (open)
      for (const [user, { failed, photo }] of wanted)
        if (!seen.has(user) && (replayed || !failed))
          found.push(
            broken('everybody who consents is in the collection', { event, user }, `none of ${photo}`),
          )
    const untrue = untruth(standing)
    if (untrue) found.push(broken('the status is true', { event }, `${untrue}: ${JSON.stringify(standing)}`))
  }

  const { rows: gone } = await stage.sql.query<{ event: string }>(
    'select event_id as event from indexing.event_runs r where not exists (select from public.events e where e.event_id = r.event_id)',
  )
  for (const { event } of gone)
    if (stage.rekognition.collection(COLLECTION_PREFIX + event))
      found.push(broken('a deleted event has no collection', { event }, 'a collection'))

  const { rows: broken_jobs } = await stage.sql.query<{ event: string; user: string; error: string | null }>(
    `select event_id as event, user_id as user, error from indexing.face_jobs
     where state = 'failed' and (error is null or reason is null)`,
  )
  for (const { event, user } of broken_jobs)
    found.push(broken('a failed job says why', { event, user }, 'no reason or no error'))
  const { rows: chains } = await stage.sql.query<{ broken_at: number | null }>(
    "select (public.indexing_verify_receipts(page => 1000000) ->> 'broken_at')::int as broken_at",
  )
  for (const { broken_at } of chains)
    if (broken_at !== null)
      found.push(broken('the chain of receipts is whole', {}, `broken at receipt ${broken_at}`))
  const { rows: unproven } = await stage.sql.query<{ event: string; user: string }>(
    `select j.event_id as event, j.user_id as user from indexing.face_jobs j
     join indexing.event_runs r using (event_id)
     where j.state = 'erased' and r.collection = 'ready'
       -- A face was there to be erased: none is after a photo that was skipped.
       and (select h ->> 'outcome' from jsonb_array_elements(j.history) with ordinality as attempts(h, n)
         where h ->> 'outcome' in ('indexed', 'skipped') order by n desc limit 1) = 'indexed'
       and not exists (select from indexing.receipts p where (p.event_id, p.user_id) = (j.event_id, j.user_id))
       -- Or it went with the whole collection, and the event was put back.
       and not exists (select from indexing.receipts p where p.event_id = j.event_id and p.user_id is null and p.noted_at > (
         select max((h ->> 'at')::timestamptz) from jsonb_array_elements(j.history) h where h ->> 'outcome' = 'indexed'))`,
  )
  for (const about of unproven) found.push(broken('an erasure has a receipt', about, 'none'))
  for (const write of world.failedWrites)
    found.push(broken('no write of the app fails because of us', {}, write))
  return found
}

const broken = (promise: string, about: About, what: string): Violation => ({ promise, about, found: what })

async function jobFailed(stage: Stage, { event, user }: About): Promise<boolean> {
  const { rowCount } = await stage.sql.query(
    `select from indexing.face_jobs where (event_id, user_id) = ($1, $2) and state = 'failed'`,
    [event, user],
  )
  return (rowCount ?? 0) > 0
}

/** Why the app is told something that is not so, if it is. */
function untruth({ status, run, reason, failed, failing }: Standing): string | undefined {
  if (status === 'pending') return undefined // it waits to be claimed anew; see unrest
  if (status === 'in_progress') return 'neither completed nor failed'
  if (status !== run) return 'the app is told something else than the ledger says'
  if (failed > 0 && status === 'completed') return 'completed, with failed jobs'
  if (failing === 0 && status === 'failed' && reason === null) return 'failed, without failed jobs'
  return undefined
}
