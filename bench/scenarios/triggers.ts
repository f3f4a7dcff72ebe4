import pg from 'pg'
import { type Figures, median, round, type Scenario } from '../scenario.ts'

const ATTENDEES = 50_000
const ROUNDS = 3
const SINGLES = 2_000
const SINGLE_ROUNDS = 3

/** What the app does to its tables, as one statement over all attendees and as one for an attendee ($1). */
interface Write {
  key: string
  title: string
  all: string
  one: string
}

// In this order: what is inserted is updated, then deleted.
const WRITES: Write[] = [
  {
    key: 'insert',
    title: 'consents inserted',
    all: `insert into public.event_consents (event_id, user_id, allow_recognition, consented_at, updated_at)
          select event, user_id, true, now(), now() from attendees`,
    one: `insert into public.event_consents (event_id, user_id, allow_recognition, consented_at, updated_at)
          select event, user_id, true, now(), now() from attendees where user_id = $1`,
  },
  {
    key: 'update',
    title: 'consents taken back',
    all: 'update public.event_consents set allow_recognition = false, revoked_at = now()',
    one: 'update public.event_consents set allow_recognition = false, revoked_at = now() where user_id = $1',
  },
  {
    key: 'update_again',
    title: 'consents given again',
    all: 'update public.event_consents set allow_recognition = true, consented_at = now()',
    one: 'update public.event_consents set allow_recognition = true, consented_at = now() where user_id = $1',
  },
  {
    key: 'update_other',
    title: 'another column of the consents updated',
    all: 'update public.event_consents set allow_profile_display = true',
    one: 'update public.event_consents set allow_profile_display = true where user_id = $1',
  },
  {
    key: 'photo',
    title: "profiles' photos changed",
    all: `update public.profiles set photo_path = photo_path || '.'`,
    one: `update public.profiles set photo_path = photo_path || '.' where user_id = $1`,
  },
  {
    key: 'delete',
    title: 'consents deleted',
    all: 'delete from public.event_consents',
    one: 'delete from public.event_consents where user_id = $1',
  },
]

/** ms of each write, round by round. */
type Times = Record<'without' | 'with', number[]>

export const triggers: Scenario = {
  name: 'triggers',
  title: `what our triggers add to the app's own writes: ${ATTENDEES} rows in one statement, and ${SINGLES} statements of one row`,
  async run({ postgres, say }) {
    const figures: Figures = {}
    const rows: (string | number)[][] = []
    for (const claimed of [false, true]) {
      const database = await postgres.createDatabase()
      const client = new pg.Client({ connectionString: database.url })
      await client.connect()
      try {
        await prepare(client, claimed)
        const bulk = await alternate(client, ROUNDS, (write) => client.query(write.all))
        say(`${claimed ? 'claimed' : 'unclaimed'}: in one statement`)
        const single = await alternate(client, SINGLE_ROUNDS, (write) => oneByOne(client, write))
        const standing = claimed ? 'claimed' : 'unclaimed'
        figures[standing] = { ...figuresOf(bulk), single_row: figuresOf(single) }
        rows.push(...rowsOf(`${standing}, one statement`, bulk), ...rowsOf(`${standing}, row by row`, single))
      } finally {
        await client.end()
        await database.drop()
      }
    }
    return {
      figures,
      table: { head: ['event', 'write', 'ms without triggers', 'ms with', 'ratio'], rows },
      notes: [
        'Medians. Commits cost next to nothing here (fsync is off, and no network lies between), so the ratios are the worst there can be.',
      ],
    }
  },
}

async function prepare(client: pg.Client, claimed: boolean): Promise<void> {
  // Nudges are queued as pg_net has it; nobody sends them.
  await client.query(
    `select indexing.configure_nudge('http://127.0.0.1:9/', 'a secret of sixteen characters')`,
  )
  await client.query(`
    create table attendees as
      select gen_random_uuid() as user_id, '00000000-0000-4000-8000-000000000000'::uuid as event
      from generate_series(1, ${ATTENDEES});
    alter table attendees add primary key (user_id);
    insert into auth.users (id) select user_id from attendees;
    insert into public.profiles (user_id, full_name, photo_path) select user_id, 'Somebody', user_id || '/photo' from attendees;
    insert into public.events (event_id, starts_at) select distinct event, now() + interval '1 hour' from attendees`)
  if (claimed)
    await client.query(`
      insert into indexing.event_runs (event_id, starts_at, ends_at, collection, fanned_out_at, state, settled_at)
        select event_id, starts_at, starts_at + interval '12 hours', 'ready', now(), 'completed', now() from public.events;
      insert into indexing.face_jobs (event_id, user_id, priority, starts_at, state, face_id, photo_key, photo_etag, ended_at)
        select event, user_id, 1, now(), 'indexed', user_id, user_id || '/photo', 'an ETag', now() from attendees`)
  await client.query(`
    create procedure switch_triggers(what text) language plpgsql as $$
    declare t record;
    begin
      for t in select tgname, tgrelid::regclass as relation from pg_trigger where tgname like 'indexing\\_%' loop
        execute format('alter table %s %s trigger %I', t.relation, what, t.tgname);
      end loop;
    end $$`)
  await tidy(client)
}

/** No round finds what an earlier one left. */
async function tidy(client: pg.Client): Promise<void> {
  await client.query('truncate indexing.changes, net.http_request_queue')
  for (const table of ['public.event_consents', 'public.profiles', 'indexing.changes'])
    await client.query(`vacuum analyze ${table}`)
}

/** Times each write with and without the triggers, in turns; which of the two goes first changes from round to round. */
async function alternate(
  client: pg.Client,
  rounds: number,
  perform: (write: Write) => Promise<unknown>,
): Promise<Map<Write, Times>> {
  const times = new Map(WRITES.map((write): [Write, Times] => [write, { without: [], with: [] }]))
  for (let round = -1; round < rounds; round++) {
    for (const mode of round % 2 === 0 ? (['without', 'with'] as const) : (['with', 'without'] as const)) {
      await client.query('call switch_triggers($1)', [mode === 'with' ? 'enable' : 'disable'])
      for (const [write, measured] of times) {
        const began = performance.now()
        await perform(write)
        // The first round warms up.
        if (round >= 0) measured[mode].push(performance.now() - began)
      }
      await tidy(client)
    }
  }
  return times
}

/** Each in a transaction of its own, prepared once, as the API does it. */
async function oneByOne(client: pg.Client, { key, one }: Write): Promise<void> {
  const { rows } = await client.query<{ user_id: string }>('select user_id from attendees limit $1', [
    SINGLES,
  ])
  for (const { user_id } of rows) await client.query({ name: key, text: one, values: [user_id] })
}

const figuresOf = (times: Map<Write, Times>): Figures =>
  Object.fromEntries(
    [...times].flatMap(([{ key }, measured]) => {
      const [without, withThem] = [median(measured.without), median(measured.with)]
      return [
        [`${key}_ratio`, round(withThem / without, 2)],
        [`${key}_ms`, round(withThem, 1)],
        [`${key}_ms_without`, round(without, 1)],
      ]
    }),
  )

const rowsOf = (label: string, times: Map<Write, Times>) =>
  [...times].map(([{ title }, measured]) => {
    const [without, withThem] = [median(measured.without), median(measured.with)]
    return [label, title, round(without, 1), round(withThem, 1), round(withThem / without, 2)]
  })
