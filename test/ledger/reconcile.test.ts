import { RekognitionClient } from '@aws-sdk/client-rekognition'
import { expect, it, onTestFinished, vi } from 'vitest'
import type { Reconciled } from '../../src/core/contract.ts'
import { reconcileEvent } from '../../src/scheduler/reconcile.ts'
import { one, openLedger } from '../support/ledger.ts'

it('attendees are compared page by page, each once, whether the collection holds a face of theirs or not', async () => {
  const { app, owner, prepare, service } = await openLedger()
  const event = await app.event()
  const users = await app.users(11)
  await app.consent(event, users.slice(0, 8))
  await prepare()
  await owner.query(`update indexing.face_jobs set state = 'indexed', face_id = 'a face', photo_key = 'photos/' || user_id, photo_etag = 'etag',
    ended_at = now() - interval '1 hour'`)
  const inCollection = users.filter((_, index) => index % 3 === 0 || index > 7)
  const send = vi.spyOn(RekognitionClient.prototype, 'send').mockImplementation(async () => ({
    Faces: inCollection.map((user) => ({ FaceId: 'a face', ExternalImageId: user.toUpperCase() })),
  }))
  onTestFinished(() => send.mockRestore())
  const pages: (string | null)[] = []
  const refuse = () => Promise.reject(new Error('not to be called'))
  const { differences, who } = await reconcileEvent(event, new Date().toISOString(), {
    settings: { collectionPrefix: 'memento_event_' },
    database: {
      reconcile: async ({ after, through, faces, as_of, lag_seconds }) => {
        const found = await one<Reconciled>(
          service,
          `select public.indexing_reconcile(event => $1, as_of => $2, after => $3, through => $4, faces => $5,
               lag_seconds => $6, page => 2)`,
          [event, as_of, after, through, JSON.stringify(faces), lag_seconds],
        )
        pages.push(found.through)
        return found
      },
      reconcile_done: async () => true,
      note_photos: async () => 0,
      may_create_collection: refuse,
      collections_done: refuse,
    },
    rekognition: new RekognitionClient({ region: 'eu-central-1' }),
    photos: {
      bucket: 'photos',
      look: async () => ({ etag: 'etag', versionId: undefined, size: 1, contentType: undefined }),
      read: refuse,
      readStart: refuse,
    },
  })
  expect(differences).toEqual({ extra: 3, missing: 5, doubled: 0, unnoticed: 0, stale_photos: 0 })
  expect(who.map(({ user_id }) => user_id)).toEqual(users.filter((_, index) => index % 3 !== 0 || index > 7))
  expect(pages).toEqual([users[1], users[3], users[5], users[7], null])
})
