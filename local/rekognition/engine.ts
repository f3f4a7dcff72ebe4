/** A rectangle in fractions of the image's width and height, measured from the top left. */
export interface BoundingBox {
  Left: number
  Top: number
  Width: number
  Height: number
}

/** A point of the face, in fractions of the image's width and height. */
export interface Landmark {
  Type: 'eyeLeft' | 'eyeRight' | 'mouthLeft' | 'mouthRight' | 'nose'
  X: number
  Y: number
}

/** What the service says of a face by default, in the service's names. Percent, and degrees for the pose. */
export interface FaceDetail {
  BoundingBox: BoundingBox
  Confidence: number
  Landmarks: Landmark[]
  Pose: { Roll: number; Yaw: number; Pitch: number }
  Quality: { Brightness: number; Sharpness: number }
}

/** What a face is compared by. Only the engine that made it knows what the numbers mean. */
export type FaceTemplate = Float32Array

export interface DetectedFace {
  detail: FaceDetail
  /** The shorter side of the face's box, in pixels of the image scaled down to at most 1920 a side. */
  sidePixels: number
  template: FaceTemplate
}

/** Who waits for a detection, and for how long. */
export interface DetectOptions {
  /** Aborted when the caller has gone: a photo that nobody waits for any more is not looked at. */
  signal?: AbortSignal | undefined
  /**
   * Refuse the photo if it has to wait for its turn and its faces would be known later than that, in milliseconds; without a
   * limit unless given.
   */
  withinMs?: number | undefined
}

/** Finds faces in photos and compares them: the part of the service that is not bookkeeping. */
export interface FaceEngine {
  /**
   * The faces in a photo (the bytes of a JPEG or PNG), the largest first; none is an empty list.
   * @throws RekognitionError InvalidImageFormatException, ImageTooLargeException, InvalidParameterException (too small),
   *   or ThrottlingException (see withinMs)
   * @throws the signal's reason once it is aborted
   */
  detect(photo: Uint8Array, options?: DetectOptions): Promise<DetectedFace[]>
  /** How many photos it has looked at, as opposed to how many it was asked about. */
  detections(): number
  /** How surely two faces are of the same person, 0 to 100. */
  similarity(one: FaceTemplate, other: FaceTemplate): number
  close(): Promise<void>
}
