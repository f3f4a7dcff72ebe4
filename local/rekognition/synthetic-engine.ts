import { createHash } from 'node:crypto'
import { formatOf, isConvertible } from '../../src/core/photo-format.ts'
import type { DetectedFace, FaceEngine, FaceTemplate } from './engine.ts'
import { RekognitionError } from './errors.ts'

/**
 * An engine without a model, for tests and benchmarks: the bytes of a photo are the face. The same bytes are the same
 * face (similarity 100), other bytes are another (similarity 0). A photo that begins with one of these words is read
 * as text and is
 *
 * - `no-face…`: a photo that shows none
 * - `not-an-image…`: no JPEG or PNG; nor are an empty photo, and HEIC, WebP and the like
 * - `too-large…`, `too-small…`: an image with too many or too few pixels
 * - `faces:one,two,…`: a group photo of the faces `one`, `two`, …, the largest first unless they have sizes; each is the
 *   same face as the photo that consists of just that text
 * - `faces:one@0.5,two@0.4`: the same with sizes: the face is so many image widths wide and as many image heights high,
 *   in an image of 1920 pixels a side. The size is no part of the face: `one@0.5` is the face `one`
 *
 * A face whose text begins with one of these words fails every quality filter but NONE, with the reason beside it. The text
 * may begin with several of them, and the face fails with all their reasons:
 *
 *   blurred    LOW_SHARPNESS          unsure    LOW_CONFIDENCE
 *   dark       LOW_BRIGHTNESS         tiny      SMALL_BOUNDING_BOX (30 pixels)
 *   turned     EXTREME_POSE           washed-out  LOW_FACE_QUALITY
 *
 * A face whose text begins with `poor` passes the filters AUTO and LOW and no other: MaxFaces drops it before better ones.
 */
export function syntheticEngine(): FaceEngine {
  let detections = 0
  return {
    detect: async (photo) => {
      detections++
      return facesIn(photo).map(asDetected).sort(bySize)
    },
    detections: () => detections,
    similarity: (one, other) => (one.every((number, at) => number === other[at]) ? 100 : 0),
    close: async () => {},
  }
}

/** A face as a photo tells it. */
interface ToldFace {
  text: Uint8Array
  /** Its width and height as a share of the image's. */
  size: number | undefined
}

/** The image's sides. */
const imagePixels = 1920

function facesIn(photo: Uint8Array): ToldFace[] {
  const text = Buffer.from(photo.buffer, photo.byteOffset, photo.byteLength)
  const begins = (word: string) => text.subarray(0, word.length).equals(Buffer.from(word))
  if (text.length === 0 || begins('not-an-image') || isConvertible(formatOf(text.subarray(0, 16))))
    throw new RekognitionError('InvalidImageFormatException')
  if (begins('too-large')) throw new RekognitionError('ImageTooLargeException')
  if (begins('too-small')) throw new RekognitionError('InvalidParameterException')
  if (begins('no-face')) return []
  if (!begins('faces:')) return [{ text, size: undefined }]
  return text.subarray('faces:'.length).toString().split(',').map(toldFace)
}

function toldFace(told: string): ToldFace {
  const [, name = told, size] = /^(.*)@(0?\.\d+|1)$/s.exec(told) ?? []
  return { text: Buffer.from(name), size: size === undefined ? undefined : Number(size) }
}

/** The n-th face: side by side with the others, each a little smaller than the one before unless it has a size. */
function asDetected({ text, size }: ToldFace, index: number, { length: count }: ToldFace[]): DetectedFace {
  const flaws = flawsOf(text)
  const tiny = flaws.has('tiny') ? 30 / imagePixels : undefined
  const left = index / count
  const width = tiny ?? size ?? 0.5 / count
  const height = tiny ?? size ?? 0.6 - 0.3 * left
  const top = size === undefined ? 0.2 : 0.5 - height / 2
  const at = (x: number, y: number) => ({ X: left + x * width, Y: top + y * height })
  return {
    detail: {
      BoundingBox: { Left: left, Top: top, Width: width, Height: height },
      Confidence: flaws.has('unsure') ? 20 : flaws.has('poor') ? 50 : 99.9,
      Landmarks: [
        { Type: 'eyeLeft', ...at(0.3, 0.35) },
        { Type: 'eyeRight', ...at(0.7, 0.35) },
        { Type: 'mouthLeft', ...at(0.35, 0.75) },
        { Type: 'mouthRight', ...at(0.65, 0.75) },
        { Type: 'nose', ...at(0.5, 0.55) },
      ],
      Pose: { Roll: 0, Yaw: flaws.has('turned') ? 85 : 0, Pitch: 0 },
      Quality: {
        Brightness: flaws.has('dark') ? 2 : flaws.has('washed-out') ? 98 : 80,
        Sharpness: flaws.has('blurred') ? 2 : 95,
      },
    },
    sidePixels: tiny ? 30 : size === undefined ? 200 : size * imagePixels,
    template: fingerprint(text),
  }
}

const flaws = ['blurred', 'dark', 'turned', 'unsure', 'tiny', 'washed-out', 'poor'] as const

type Flaw = (typeof flaws)[number]

/** The words for flaws that the face's text begins with. */
function flawsOf(text: Uint8Array): Set<Flaw> {
  const found = new Set<Flaw>()
  for (let rest = Buffer.from(text).subarray(0, 200).toString().trimStart(); ; ) {
    const flaw = flaws.find((word) => rest.startsWith(word))
    if (!flaw) return found
    found.add(flaw)
    rest = rest.slice(flaw.length).trimStart()
  }
}

/** The largest first. */
function bySize({ detail: one }: DetectedFace, { detail: other }: DetectedFace): number {
  const area = ({ Width, Height }: { Width: number; Height: number }) => Width * Height
  return area(other.BoundingBox) - area(one.BoundingBox)
}

function fingerprint(face: Uint8Array): FaceTemplate {
  return Float32Array.from(createHash('sha256').update(face).digest())
}
