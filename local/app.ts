import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  DeleteCollectionCommand,
  type RekognitionClient,
  ResourceNotFoundException,
} from '@aws-sdk/client-rekognition'
import { DeleteObjectCommand, PutObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import pg from 'pg'

export interface AppOptions {
  /** Of the database, as the owner of the app's schema. */
  databaseUrl: string
  s3: S3Client
  photoBucket: string
  /** For the clean-up after an event, where the app deletes the collection by itself. */
  rekognition: RekognitionClient
  collectionPrefix: string
}

export interface NewEvent {
  name: string
  startsAt: Date | null
  isActive?: boolean
}

/** Somebody who comes to an event. */
export interface NewAttendee {
  name: string
  /** The photo to upload: the bytes of a JPEG or PNG, or whatever somebody uploads instead. */
  photo?: Uint8Array | string
  /** The file of the photo to upload, which is read only then. */
  photoFile?: string
  /** The profile names the photo's key, but the upload has not arrived. */
  photoIsMissing?: boolean
  /** What the profile says where no photo is uploaded: a key of the bucket, or a URL as old profiles have it. */
  photoPath?: string
  /** Whether they let the event recognise them; they do unless told otherwise. */
  consents?: boolean
}

const UPLOADS_AT_ONCE = 20

/**
 * What the app does, and no more: it writes its own tables and uploads photos. What attendees do themselves they do as role
 * `authenticated`, under row-level security.
 */
export class App {
  readonly #pool: pg.Pool
  readonly #s3: S3Client
  readonly #bucket: string
  readonly #rekognition: RekognitionClient
  readonly #collectionPrefix: string

  constructor({ databaseUrl, s3, photoBucket, rekognition, collectionPrefix }: AppOptions) {
    this.#pool = new pg.Pool({ connectionString: databaseUrl, max: 10 })
    this.#pool.on('error', () => {}) // an idle connection broke; the next query makes a new one, or says why not
    this.#s3 = s3
    this.#bucket = photoBucket
    this.#rekognition = rekognition
    this.#collectionPrefix = collectionPrefix
  }

  /** Returns its event_id. */
  async createEvent({ name, startsAt, isActive = true }: NewEvent): Promise<string> {
    const { rows } = await this.#pool.query<{ event_id: string }>(
      'insert into public.events (name, starts_at, is_active) values ($1, $2, $3) returning event_id',
      [name, startsAt, isActive],
    )
    return first(rows).event_id
  }

  async updateEvent(
    eventId: string,
    changes: Partial<{
      starts_at: Date | null
      is_active: boolean
      indexing_status: string
      cleanup_status: string
    }>,
  ): Promise<void> {
    const columns = Object.keys(changes).map(
      (column, index) => `${pg.escapeIdentifier(column)} = $${index + 2}`,
    )
    await this.#pool.query(`update public.events set ${columns} where event_id = $1`, [
      eventId,
      ...Object.values(changes),
    ])
  }

  /** What the app sees of this system's work: the event's indexing_status. */
  async statusOf(eventId: string): Promise<string> {
    const { rows } = await this.#pool.query<{ indexing_status: string }>(
      'select indexing_status from public.events where event_id = $1',
      [eventId],
    )
    return first(rows).indexing_status
  }

  async deleteEvent(eventId: string): Promise<void> {
    await this.#pool.query('delete from public.events where event_id = $1', [eventId])
  }

  /** Brings attendees to an event, any number at once: accounts, profiles, photos, consents. Returns their user ids. */
  async addAttendees(eventId: string, attendees: NewAttendee[]): Promise<string[]> {
    const rows = attendees.map(
      ({ name, photo, photoFile, photoIsMissing, photoPath = null, consents = true }) => {
        const user_id = randomUUID() as string
        const isUploaded = photo !== undefined || photoFile !== undefined
        const photo_path = isUploaded || photoIsMissing ? photoKey(user_id) : photoPath
        return { user_id, full_name: name, photo, photoFile, photo_path, consents }
      },
    )
    const waiting = [...rows]
    await Promise.all(
      Array.from({ length: UPLOADS_AT_ONCE }, async () => {
        for (let row = waiting.pop(); row; row = waiting.pop())
          if (row.photo_path) {
            const content = row.photoFile === undefined ? row.photo : await readFile(row.photoFile)
            if (content !== undefined) await this.#upload(row.photo_path, content)
          }
      }),
    )
    await this.#pool.query(
      `with attendees as (
         select * from jsonb_to_recordset($2) as a(user_id uuid, full_name text, photo_path text, consents boolean)
       ), accounts as (
         insert into auth.users (id) select user_id from attendees
       ), profiles as (
         insert into public.profiles (user_id, full_name, photo_path) select user_id, full_name, photo_path from attendees
       )
       insert into public.event_consents (event_id, user_id, allow_recognition, consented_at, updated_at)
       select $1, user_id, consents, case when consents then now() end, now() from attendees`,
      [eventId, JSON.stringify(rows.map(({ photo: _, photoFile: __, ...row }) => row))],
    )
    return rows.map(({ user_id }) => user_id)
  }

  /** An attendee gives or takes back their consent. */
  async setConsent(eventId: string, userId: string, consents: boolean): Promise<void> {
    await this.#as(
      userId,
      `insert into public.event_consents as c (event_id, user_id, allow_recognition, consented_at, revoked_at, updated_at)
       values ($1, $2, $3, case when $3 then now() end, case when not $3 then now() end, now())
       on conflict (event_id, user_id) do update set
         allow_recognition = excluded.allow_recognition, updated_at = now(),
         consented_at = coalesce(excluded.consented_at, c.consented_at), revoked_at = excluded.revoked_at`,
      [eventId, userId, consents],
    )
  }

  /**
   * An attendee replaces their photo: the old object is deleted, the new one is put under the same key, and the profile
   * is told that very key once more. Between the first and the second step the object does not exist.
   * @param gapMs how long the upload takes
   * @returns the key
   */
  async replacePhoto(userId: string, photo: Uint8Array | string, { gapMs = 0 } = {}): Promise<string> {
    const key = photoKey(userId)
    await this.#s3.send(new DeleteObjectCommand({ Bucket: this.#bucket, Key: key }))
    await sleep(gapMs)
    await this.#upload(key, photo)
    await this.setPhotoPath(userId, key)
    return key
  }

  /** The same in an app that gives each upload a key of its own. Returns the new key. */
  async changePhoto(userId: string, photo: Uint8Array | string): Promise<string> {
    const key = `${photoKey(userId)}-${randomUUID()}`
    await this.#upload(key, photo)
    await this.setPhotoPath(userId, key)
    return key
  }

  async setPhotoPath(userId: string, path: string | null): Promise<void> {
    await this.#as(userId, 'update public.profiles set photo_path = $2 where user_id = $1', [userId, path])
  }

  /** The clean-up after an event, as a job of the app does it: deletes the collection, and tells the event before and after. */
  async closeEvent(eventId: string): Promise<void> {
    await this.updateEvent(eventId, { cleanup_status: 'in_progress' })
    try {
      const CollectionId = `${this.#collectionPrefix}${eventId}`
      await this.#rekognition.send(new DeleteCollectionCommand({ CollectionId }))
    } catch (error) {
      if (!(error instanceof ResourceNotFoundException)) throw error // there never was one
    }
    await this.updateEvent(eventId, { cleanup_status: 'completed' })
  }

  /** An attendee deletes their account; profile and consents go with it. */
  async deleteAccount(userId: string): Promise<void> {
    await this.#pool.query('delete from auth.users where id = $1', [userId])
  }

  close(): Promise<void> {
    return this.#pool.end()
  }

  async #upload(key: string, photo: Uint8Array | string): Promise<void> {
    await this.#s3.send(new PutObjectCommand({ Bucket: this.#bucket, Key: key, Body: photo }))
  }

  /** Runs a statement as the API runs it for somebody who has signed in. */
  async #as(userId: string, statement: string, values: unknown[]): Promise<void> {
    const client = await this.#pool.connect()
    try {
      await client.query('begin')
      await client.query(
        `select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)`,
        [JSON.stringify({ sub: userId, role: 'authenticated' })],
      )
      const { rowCount } = await client.query(statement, values)
      if (rowCount === 0) throw new Error(`user ${userId} has no such row`)
      await client.query('commit')
    } catch (error) {
      await client.query('rollback')
      throw error
    } finally {
      client.release()
    }
  }
}

/** Made from the user's id alone, without an extension: a new photo takes the place of the old one. */
export const photoKey = (userId: string) => `profiles/${userId}-onboarding`

function first<T>(rows: T[]): T {
  const [row] = rows
  if (!row) throw new Error('there is no such row')
  return row
}
