import { readFile } from 'node:fs/promises'
import { ResourceNotFoundException } from '@aws-sdk/client-rekognition'
import { S3Client } from '@aws-sdk/client-s3'
import pg from 'pg'
import { EXIT, OperatorError } from '../cli/exit.ts'
import { plain } from '../cli/terminal.ts'
import { App } from './app.ts'
import { FilesError, messageOf, readSearchPhotos } from './demo/files.ts'
import { connectPatiently, recognise, seeFaces } from './demo/proof.ts'
import { type Running, readRunning } from './running.ts'

/** What `event-indexer local` does in the system of `npm run dev`. Each command returns the lines to print. */
export interface LocalCommands {
  /** Creates an event that starts in so many minutes. */
  event: (name: string, inMinutes: number) => Promise<string[]>
  /** Brings somebody with a photo, of any content, to an event: the next one unless given. */
  add: (name: string, photo: string, event?: string) => Promise<string[]>
  /** Says who of an event's attendees are on a photo: of the next event unless given. */
  find: (photo: string, event?: string) => Promise<string[]>
  /** Runs one SQL statement as the database's owner. A line of JSON for each row; without rows what was done, like `UPDATE 2`. */
  sql: (statement: string) => Promise<string[]>
  close: () => Promise<void>
}

const refuse = (message: string, cause?: unknown) => new OperatorError(EXIT.notDone, message, { cause })

/** @throws {OperatorError} when `npm run dev` does not run in this clone */
export async function openLocal(folder?: string): Promise<LocalCommands> {
  const running = await readRunning(folder)
  if (!running)
    throw new OperatorError(EXIT.unreachable, 'The local system does not run. Start it with npm run dev.')
  return commandsOf(running)
}

function commandsOf({ postgres, aws, rekognition: service, photoBucket }: Running): LocalCommands {
  const { accessKeyId, secretAccessKey, region, endpoint } = aws
  const credentials = { accessKeyId, secretAccessKey }
  const s3 = new S3Client({ endpoint, region, credentials, forcePathStyle: true })
  const rekognition = connectPatiently({ endpoint: service.endpoint, region, credentials })
  const { collectionPrefix } = service
  const app = new App({ databaseUrl: postgres.url, s3, photoBucket, rekognition, collectionPrefix })
  const database = new pg.Pool({ connectionString: postgres.url, max: 1 })

  async function eventOf(wanted: string | undefined): Promise<{ id: string; name: string }> {
    const { rows } = await database.query<{ id: string; name: string }>(
      `select event_id as id, name from public.events where $1::uuid is null or event_id = $1
       order by starts_at is null, starts_at < now(), abs(extract(epoch from starts_at - now())) limit 1`,
      [wanted],
    )
    const [event] = rows
    if (event) return event
    throw refuse(
      wanted ? `There is no event ${wanted}.` : 'There is no event yet: event-indexer local event NAME',
    )
  }

  return {
    async event(name, inMinutes) {
      const id = await app.createEvent({ name, startsAt: new Date(Date.now() + inMinutes * 60_000) })
      return [`${id}  ${plain(name)} starts in ${inMinutes} min`]
    },

    async add(name, photo, event) {
      const { id, name: eventName } = await eventOf(event)
      const bytes = await readFile(photo).catch((error) => {
        throw refuse(`Cannot read ${photo}: ${messageOf(error)}`, error)
      })
      const [user = ''] = await app.addAttendees(id, [{ name, photo: bytes }])
      return [`${user}  ${plain(name)} comes to ${plain(eventName)}, with consent`]
    },

    async find(photo, event) {
      const { id } = await eventOf(event)
      const [search] = await readSearchPhotos([photo]).catch((error) => {
        throw error instanceof FilesError ? refuse(error.message, error) : error
      })
      const { rows } = await database.query<{ user_id: string; full_name: string }>(
        'select user_id, full_name from public.profiles join public.event_consents using (user_id) where event_id = $1',
        [id],
      )
      const names = new Map(rows.map(({ user_id, full_name }) => [user_id, plain(full_name)]))
      const faces = await seeFaces(rekognition, search?.bytes ?? Buffer.alloc(0))
      if (faces.length === 0) return ['There is no face on the photo.']
      const answers = await Promise.all(
        faces.map(async (face) => {
          const { match, closest } = await recognise(rekognition, `${collectionPrefix}${id}`, face).catch(
            (error) => {
              if (!(error instanceof ResourceNotFoundException)) throw error
              throw refuse(
                'The event has no collection yet: it is claimed within 20 minutes of its start.',
                error,
              )
            },
          )
          const said = ({ userId, similarity }: { userId: string; similarity: number }) =>
            `${names.get(userId) ?? userId} ${Math.floor(similarity)}%`
          if (match) return `${said(match)}  ${match.userId}`
          return closest ? `unknown, the closest is ${said(closest)}` : 'unknown'
        }),
      )
      if (answers.length === 1) return answers
      return answers.map((answer, index) => `${index + 1} of ${answers.length} from the left: ${answer}`)
    },

    async sql(statement) {
      const { command, rowCount, rows } = await database.query(statement).catch((error: Error) => {
        throw refuse(`Postgres refuses: ${error.message}`, error)
      })
      return rows.length > 0
        ? rows.map((row) => JSON.stringify(row))
        : [`${command} ${rowCount ?? ''}`.trimEnd()]
    },

    async close() {
      s3.destroy()
      rekognition.destroy()
      await Promise.all([app.close(), database.end()])
    },
  }
}
