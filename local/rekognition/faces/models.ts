import type { DetectedFace } from '../engine.ts'
import { type FaceApi, loadFaceApi } from './face-api.ts'
import { alignedSquare, estimatePose, type FacePoints, pickPoints, wireLandmarks } from './landmarks.ts'
import { measureQuality } from './measure-quality.ts'
import { clip, cutSquare, decode, fitInto, type Pixels, type Rect, scaledToFit } from './pixels.ts'

/** The inputs of the three models are squares of so many pixels. */
const detectorSide = 512
const landmarkSide = 112
const recognitionSide = 150

/**
 * The detector is best at faces of a tenth to a third of its input. So a photo that shows no sure face at full size is
 * looked at again smaller, which finds the faces of close portraits: of 308 portraits, close and wide, some in grey, dark,
 * blurred, mirrored or turned by 10°, the first look finds four fifths, the second all but 11, the third all but 3.
 */
const looks = [detectorSide, 220, 150]

/** Enough for not looking again. */
const sure = 0.5

/** Less is no face: in 24 parts of photos without faces, at any size, the detector never went beyond 0.27. */
const possible = 0.35

interface Found {
  score: number
  /** In pixels of the image. */
  box: Rect
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
    for (const found of await this.#find(image)) faces.push(await this.#describe(image, found))
    return faces
  }

  /** The faces in an image, the largest first. */
  async #find(image: Pixels): Promise<Found[]> {
    let best: Found[] = []
    for (const side of looks) {
      const found = await this.#look(image, side)
      if (surest(found) > surest(best)) best = found
      if (surest(best) >= sure) break
    }
    return best.sort((one, other) => area(other.box) - area(one.box))
  }

  async #look(image: Pixels, side: number): Promise<Found[]> {
    const { scale } = scaledToFit(image, side)
    const input = await fitInto(image, side, detectorSide)
    const detections = await this.#withTensor(input, (tensor) =>
      this.#faceapi.nets.ssdMobilenetv1.locateFaces(tensor, { minConfidence: possible, maxResults: 100 }),
    )
    return detections.map(({ score, box }) => {
      const { x, y, width, height } = box
      const inImage = { left: x / scale, top: y / scale, width: width / scale, height: height / scale }
      return { score, box: clip(inImage, image) }
    })
  }

  async #describe(image: Pixels, { score, box }: Found): Promise<DetectedFace> {
    const points = await this.#findPoints(image, box)
    const aligned = await cutSquare(image, clip(alignedSquare(points), image), recognitionSide)
    const template = await this.#withTensor(aligned, (tensor) =>
      this.#faceapi.nets.faceRecognitionNet.computeFaceDescriptor(tensor),
    )
    // Bars would count as detail.
    const whole = await cutSquare(image, box, recognitionSide, 'stretch')
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
        Pose: estimatePose(points),
        Quality: measureQuality(whole),
      },
      sidePixels: Math.min(box.width, box.height),
      template: template as Float32Array,
    }
  }

  async #findPoints(image: Pixels, box: Rect): Promise<FacePoints> {
    const input = await cutSquare(image, box, landmarkSide)
    const landmarks = await this.#withTensor(input, (tensor) =>
      this.#faceapi.nets.faceLandmark68Net.detectLandmarks(tensor),
    )
    if (Array.isArray(landmarks)) throw new TypeError('landmarks of one face were asked for')
    const { width, height, scale } = scaledToFit(box, landmarkSide)
    const bars = { x: (landmarkSide - width) / 2, y: (landmarkSide - height) / 2 }
    return pickPoints(
      landmarks.positions.map(({ x, y }) => ({
        x: box.left + (x - bars.x) / scale,
        y: box.top + (y - bars.y) / scale,
      })),
    )
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

function surest(faces: Found[]): number {
  return Math.max(0, ...faces.map((face) => face.score))
}

function area({ width, height }: Rect): number {
  return width * height
}
