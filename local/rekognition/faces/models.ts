import type { DetectedFace } from '../engine.ts'
import { type FaceApi, loadFaceApi } from './face-api.ts'
import { type Frame, frameAround, type Point, toImage } from './frame.ts'
import {
  alignedFrame,
  distanceBetween,
  estimatePose,
  type FacePoints,
  mirrored,
  pickPoints,
  rollOf,
  wireLandmarks,
} from './landmarks.ts'
import { type Found, type Look, lookOnce, scoresOf } from './look.ts'
import { measureQuality } from './measure-quality.ts'
import {
  cutFrame,
  decode,
  mirror,
  type Pixels,
  type Rect,
  stretchContrast,
  stretchToSquare,
} from './pixels.ts'
import { templateOf } from './similarity.ts'

const landmarkSide = 112
const recognitionSide = 150

/** A face that scores less is looked at again, close up. */
const certain = 0.9

/**
 * A face whose points move less stands as assumed (see #unsteadiness). Measured on 46 portraits of 12 people, turned by quarters,
 * of which each was taken for standing in all four ways: 0.033 and more, 0.073 in the middle, where it stood otherwise; 0.02 or
 * less for 11 of the 12 that stood upright and were taken for it.
 */
const steady = 0.03

/** A face is taken for standing otherwise than it was found when its points move less then, by this factor. */
const clearly = 0.7

/** How much is shown of a face close up, in sides of its box. */
const closeUps = [1.5, 2, 2.6, 3.4]

/** The largest faces alone are looked at close up, since each costs a pass of the detector. */
const mostCloseUps = 6

/** Enough for not looking again. */
const sure = 0.5

interface Face {
  score: number
  box: Rect
  points: FacePoints
}

/** The models of face-api, as far as they find faces and describe them. */
export class FaceModels {
  readonly #faceapi: FaceApi

  private constructor(faceapi: FaceApi) {
    this.#faceapi = faceapi
  }

  static async load(): Promise<FaceModels> {
    return new FaceModels(await loadFaceApi())
  }

  /** See FaceEngine.detect. */
  async detect(photo: Uint8Array): Promise<DetectedFace[]> {
    const image = await decode(photo)
    const faces: DetectedFace[] = []
    for (const face of await this.#lookClosely(image, await this.#find(image))) {
      faces.push(await this.#describe(image, face))
    }
    return faces
  }

  /** The faces in an image, the largest first. */
  async #find(image: Pixels): Promise<Found[]> {
    let best: Found[] = []
    let shown = image
    for (const look of looks) {
      if (look.contrast && shown === image) shown = await stretchContrast(image)
      const found = await this.#look(shown, look)
      if (surest(found) > surest(best)) best = found
      if (surest(best) >= sure) break
    }
    return this.#upright(shown, bySize(best))
  }

  /**
   * The faces as they are found when the image is shown so that they stand upright, which the largest decides. The detector
   * sees faces that lie on their side or stand on their head, too, but puts rough boxes around them and does not say how they
   * stand.
   */
  async #upright(image: Pixels, found: Found[]): Promise<Found[]> {
    const [largest] = found
    if (!largest) return found
    const asFound = await this.#unsteadiness(image, largest)
    if (asFound < steady) return found
    let best = { found, unsteadiness: Math.max(steady, clearly * asFound) }
    for (const turn of largest.turn === 0 ? [1, 2, 3] : [0, 1, 2, 3]) {
      const others = await this.#lookTurned(image, turn)
      if (!others[0]) continue
      const unsteadiness = await this.#unsteadiness(image, others[0])
      if (unsteadiness < best.unsteadiness) best = { found: others, unsteadiness }
      if (unsteadiness < steady) break
    }
    return best.found
  }

  /** The faces that are found when the image is turned by so many quarters, the largest first. */
  async #lookTurned(image: Pixels, turn: number): Promise<Found[]> {
    for (const side of [512, 256]) {
      const found = await this.#look(image, { side, turns: [turn], contrast: false })
      if (found.length > 0) return bySize(found)
    }
    return []
  }

  #look(image: Pixels, look: Look): Promise<Found[]> {
    return lookOnce(image, look, (input) => this.#locate(input))
  }

  #locate(input: Pixels) {
    return this.#withTensor(input, (tensor) =>
      this.#faceapi.nets.ssdMobilenetv1.locateFaces(tensor, { minConfidence: possible, maxResults: 100 }),
    )
  }

  /**
   * Finds the points of each face. Faces that the detector is not sure of are shown to it again, upright, close up and at
   * several sizes, and get the best score of these.
   */
  async #lookClosely(image: Pixels, found: Found[]): Promise<Face[]> {
    const faces: Face[] = []
    for (const face of found) {
      const { points } = await this.#findPoints(image, face)
      faces.push({ score: face.score, box: face.box, points })
    }
    const doubtful = faces.filter(({ score }) => score < certain).slice(0, mostCloseUps)
    if (doubtful.length === 0) return faces
    const clear = await stretchContrast(image)
    for (const face of doubtful) {
      face.score = Math.max(face.score / 2, await this.#scoreCloseUp(clear, face))
    }
    return faces
  }

  async #scoreCloseUp(image: Pixels, { box, points }: Face): Promise<number> {
    const frame = frameAround(box, rollOf(points))
    const frames = closeUps.map((factor) => ({ ...frame, size: factor * frame.size }))
    return Math.max(...(await scoresOf(image, frames, (input) => this.#locate(input))))
  }

  async #describe(image: Pixels, { score, box, points }: Face): Promise<DetectedFace> {
    const aligned = await cutFrame(image, alignedFrame(points), recognitionSide)
    const whole = await stretchToSquare(image, box, recognitionSide)
    const pose = estimatePose(points)
    return {
      detail: {
        BoundingBox: {
          Left: box.left / image.width,
          Top: box.top / image.height,
          Width: box.width / image.width,
          Height: box.height / image.height,
        },
        Confidence: score * 100,
        Landmarks: wireLandmarks(points, image),
        Pose: pose,
        Quality: measureQuality(whole),
      },
      sidePixels: Math.min(box.width, box.height),
      template: templateOf(await this.#descriptorOf(aligned), pose),
    }
  }

  /** The average of a face and its mirror image, which is closer to the same face in another light or pose. */
  async #descriptorOf(face: Pixels): Promise<Float32Array> {
    const one = await this.#descriptor(face)
    const other = await this.#descriptor(mirror(face))
    return one.map((value, at) => (value + (other[at] ?? 0)) / 2)
  }

  async #descriptor(face: Pixels): Promise<Float32Array> {
    const descriptor = await this.#withTensor(face, (tensor) =>
      this.#faceapi.nets.faceRecognitionNet.computeFaceDescriptor(tensor),
    )
    return descriptor as Float32Array
  }

  /** The points of a face: looked for as it was found, then with its eyes level, which the model knows better. */
  async #findPoints(image: Pixels, { box, turn }: Found): Promise<{ points: FacePoints; level: Frame }> {
    const first = await this.#pointsWithin(image, frameAround(box, turn))
    const level = frameAround(box, rollOf(first))
    return { points: await this.#pointsWithin(image, level), level }
  }

  /**
   * How far the points of a face move when it is shown otherwise, on average, in sides of its box. The landmark model knows
   * upright faces alone: of one that stands otherwise than assumed it gives other points each time.
   */
  async #unsteadiness(image: Pixels, found: Found): Promise<number> {
    const { points, level } = await this.#findPoints(image, found)
    const { angle, size } = level
    const others = [await this.#pointsInMirror(image, level)]
    for (const frame of [
      { ...level, size: 1.2 * size },
      { ...level, size: 0.85 * size },
      { ...level, angle: angle + 0.25 },
      { ...level, angle: angle - 0.25 },
    ])
      others.push(await this.#pointsWithin(image, frame))
    const moved = others.reduce((sum, other) => sum + distanceBetween(points, other), 0) / others.length
    return moved / Math.max(found.box.width, found.box.height)
  }

  async #pointsWithin(image: Pixels, frame: Frame): Promise<FacePoints> {
    const points = await this.#landmarks(await cutFrame(image, frame, landmarkSide))
    return pickPoints(points.map((point) => toImage(frame, point)))
  }

  /** The same by what the model sees in the mirror. */
  async #pointsInMirror(image: Pixels, frame: Frame): Promise<FacePoints> {
    const points = await this.#landmarks(mirror(await cutFrame(image, frame, landmarkSide)))
    return mirrored(pickPoints(points.map(({ x, y }) => toImage(frame, { x: 1 - x, y }))))
  }

  /** The 68 points of the face that fills the input, which reaches from 0 to 1 both ways. */
  async #landmarks(input: Pixels): Promise<Point[]> {
    const landmarks = await this.#withTensor(input, (tensor) =>
      this.#faceapi.nets.faceLandmark68Net.detectLandmarks(tensor),
    )
    if (Array.isArray(landmarks)) throw new TypeError('landmarks of one face were asked for')
    return landmarks.positions.map(({ x, y }) => ({ x: x / landmarkSide, y: y / landmarkSide }))
  }

  async #withTensor<T>(
    { data, width, height }: Pixels,
    use: (tensor: ReturnType<FaceApi['tf']['tensor3d']>) => Promise<T>,
  ): Promise<T> {
    const tensor = this.#faceapi.tf.tensor3d(new Uint8Array(data), [height, width, 3], 'int32')
    try {
      return await use(tensor)
    } finally {
      tensor.dispose()
    }
  }
}

/** Less is no face: in 24 parts of photos without faces, at any size, the detector never went beyond 0.27. */
const possible = 0.35

const looks: Look[] = [
  { side: 512, turns: [0], contrast: false },
  { side: 220, turns: [0, 1, 2, 3], contrast: true },
  { side: 150, turns: [0, 1, 2, 3], contrast: true },
]

const bySize = (faces: Found[]): Found[] => faces.toSorted((one, other) => area(other.box) - area(one.box))

function surest(faces: Found[]): number {
  return Math.max(0, ...faces.map((face) => face.score))
}

function area({ width, height }: Rect): number {
  return width * height
}
