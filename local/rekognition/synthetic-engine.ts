import { createHash } from 'node:crypto'
import type { DetectedFace, FaceEngine, FaceTemplate } from './engine.ts'
import { RekognitionError } from './errors.ts'

/**
 * An engine without a model, for tests and benchmarks: the bytes of a photo are the face. The same bytes are the same
 * face (similarity 100), other bytes are another (similarity 0). A photo that begins with one of these words is read
 * as text and is
 *
 * - `no-face…`: a photo that shows none
 * - `not-an-image…`: no JPEG or PNG
 * - `faces:one,two,…`: a group photo of the faces `one`, `two`, …, the largest first; each is the same face as the photo
 *   that consists of just that text
 *
 * and a face whose text begins with `blurred` is too blurred for any quality filter but NONE.
 */
export function syntheticEngine(): FaceEngine {
  return {
    detect: async (photo) => facesIn(photo).map(asDetected),
    similarity: (one, other) => (one.every((number, at) => number === other[at]) ? 100 : 0),
    close: async () => {},
  }
}

function facesIn(photo: Uint8Array): Uint8Array[] {
  const text = Buffer.from(photo.buffer, photo.byteOffset, photo.byteLength)
  const begins = (word: string) => text.subarray(0, word.length).equals(Buffer.from(word))
  if (begins('not-an-image')) throw new RekognitionError('InvalidImageFormatException')
  if (begins('no-face')) return []
  if (!begins('faces:')) return [text]
  const names = text.subarray('faces:'.length).toString().split(',')
  return names.map((name) => Buffer.from(name))
}

/** The n-th largest face: side by side with the others, each a little smaller than the one before. */
function asDetected(face: Uint8Array, index: number, { length: count }: Uint8Array[]): DetectedFace {
  const width = 0.5 / count
  const left = index / count
  const blurred = Buffer.from(face).subarray(0, 'blurred'.length).toString() === 'blurred'
  return {
    detail: {
      BoundingBox: { Left: left, Top: 0.2, Width: width, Height: 0.6 - 0.3 * left },
      Confidence: 99.9,
      Landmarks: [
        { Type: 'eyeLeft', X: left + 0.3 * width, Y: 0.3 },
        { Type: 'eyeRight', X: left + 0.7 * width, Y: 0.3 },
        { Type: 'mouthLeft', X: left + 0.35 * width, Y: 0.45 },
        { Type: 'mouthRight', X: left + 0.65 * width, Y: 0.45 },
        { Type: 'nose', X: left + 0.5 * width, Y: 0.38 },
      ],
      Pose: { Roll: 0, Yaw: 0, Pitch: 0 },
      Quality: { Brightness: 80, Sharpness: blurred ? 2 : 95 },
    },
    sidePixels: 200,
    template: fingerprint(face),
  }
}

function fingerprint(face: Uint8Array): FaceTemplate {
  return Float32Array.from(createHash('sha256').update(face).digest())
}
