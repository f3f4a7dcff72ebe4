import { parentPort } from 'node:worker_threads'
import type { DetectedFace } from '../engine.ts'
import { type ErrorName, RekognitionError } from '../errors.ts'
import { FaceModels } from './models.ts'

// A thread of the `faces` engine: gets photos, one at a time, answers each with a Finding. Its first word is 'ready'.

export type Finding = { faces: DetectedFace[] } | { error: { name: ErrorName; message: string } }

if (!parentPort) throw new Error('thread.ts is to be started as a worker thread')
const port = parentPort

const models = await FaceModels.load()
port.on('message', (photo: Uint8Array) => {
  find(photo).then((finding) => port.postMessage(finding))
})
port.postMessage('ready')

async function find(photo: Uint8Array): Promise<Finding> {
  try {
    return { faces: await models.detect(photo) }
  } catch (error) {
    if (error instanceof RekognitionError) return { error: { name: error.name, message: error.message } }
    const reason = error instanceof Error ? (error.stack ?? error.message) : String(error)
    return { error: { name: 'InternalServerError', message: `The face engine failed: ${reason}` } }
  }
}
