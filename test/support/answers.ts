import type { FunctionName } from '../../src/core/contract.ts'
import { faceOf, one, type openLedger } from './ledger.ts'

const PREFIX = 'indexing_'

/** What each function of the database answers, with an event under way. */
export async function answersOf(
  ledger: Awaited<ReturnType<typeof openLedger>>,
): Promise<Record<FunctionName, unknown>> {
  const { app, owner, prepare, sendAll, work, fail } = ledger
  const event = await app.event()
  const [user = ''] = await app.users(3)
  await app.consent(event, await one<string[]>(owner, 'select array_agg(user_id) from profiles'))
  await prepare()
  const messages = await sendAll()
  await work(messages.slice(0, 1))
  await fail(messages.slice(1, 2))
  const [job = { event_id: '', user_id: '', version: 1 }] = messages.slice(2)
  const token = '99999999-9999-4999-8999-999999999999'
  const letter = { message_id: 'm', body: 'b', attributes: {}, problem: 'p' }
  const asked: Record<FunctionName, Record<string, unknown>> = {
    schema_version: {},
    start_run: { tps: 5, max_failed_share: 0 },
    claim: { window_minutes: 20 },
    fan_out: {},
    process_changes: { erasing: true },
    note_photos: { photo_keys: [`photos/${user}`] },
    collections_due: { page: 10 },
    collections_done: { results: [{ event_id: event, result: 'exists' }], quiet_seconds: 120 },
    may_create_collection: { event },
    take_send_batch: { page: 10, work_cap: 10, urgent_cap: 10 },
    lease: { messages: [job], token, lease_seconds: 60 },
    refresh: { jobs: [job], slots: 1, throttled: false },
    complete: {
      token,
      results: [
        {
          ...job,
          outcome: 'indexed',
          photo_key: `photos/${user}`,
          photo_etag: 'e',
          face_id: faceOf('photo'),
          obsolete_face_ids: [],
          needs_listing: false,
          refused: null,
          reason: null,
          error: null,
          index_calls: 1,
          faces_deleted: 0,
        },
      ],
      throttled: false,
      quiet_seconds: 30,
      grace_seconds: 600,
    },
    fail_dead_letters: { letters: [job] },
    keep_dead_letters: { letters: [letter] },
    rescue: { lost_after_seconds: 480, batch_seconds: 90 },
    reconcile_due: { page: 10, event },
    reconcile: {
      event,
      as_of: new Date().toISOString(),
      after: null,
      through: null,
      faces: [{ user_id: user, face_ids: ['another'] }],
      lag_seconds: 30,
    },
    reconcile_done: {
      event,
      as_of: new Date().toISOString(),
      differences: { extra: 1, missing: 0, doubled: 0, unnoticed: 0, stale_photos: 0, recreated: false },
    },
    drift: { event },
    open_collections: {},
    deployment: {},
    cleanup: { page: 10 },
    prune: { keep_days: 30, receipt_days: 1095, page: 10 },
    seal_receipts: { page: 10 },
    verify_receipts: {},
    receipts: { attendee: user },
    erase_attendee: { attendee: user },
    erase_event: { event },
    orphans_due: {},
    orphans: { events: [event, token] },
    replay: { event },
    progress: {},
    jobs: { event },
    rehearsal: { event },
    attendee: { attendee: user },
    forecast: {},
    unclaimed: {},
    dead_letters: {},
    acknowledge_dead_letters: {},
    find_jobs: { event, wanted: '', name_column: 'full_name' },
    names: { attendees: [user], name_column: 'full_name' },
    pause: { event },
    pauses: {},
    resume: { event },
    note_action: {
      actor: 'ada@laptop',
      action: 'pause',
      event,
      attendee: user,
      note: 'n',
      touched: 1,
      id: token,
    },
    actions: { event },
    curve: { event },
    health: { window_minutes: 20 },
    doctor: {},
    begin_nudged_run: { run_seconds: 60 },
    end_nudged_run: {},
  }
  const answers: [string, unknown][] = []
  for (const [name, args] of Object.entries(asked)) {
    const given = Object.entries(args)
    const named = given.map(([key], index) => `${key} => $${index + 1}`)
    const values = given.map(([, value]) => asParameter(value))
    const answer = await one(owner, `select public.${PREFIX}${name}(${named})`, values)
    answers.push([name, answer])
  }
  return Object.fromEntries(answers) as Record<FunctionName, unknown>
}

const isTexts = (value: unknown) => Array.isArray(value) && value.every((item) => typeof item === 'string')
const asParameter = (value: unknown) =>
  typeof value === 'object' && value !== null && !isTexts(value) ? JSON.stringify(value) : value
