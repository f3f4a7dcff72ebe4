import type { QualityFilter, Reason } from '@aws-sdk/client-rekognition'
import type { DetectedFace } from './engine.ts'

/** What a face must have at least, and may have at most. */
interface Bar {
  confidence: number
  sharpness: number
  brightness: number
  /** Above it, a face is washed out. */
  mostBrightness: number
  sidePixels: number
  /** Degrees by which the head may be turned aside, up or down. */
  turn: number
}

/**
 * The service does not publish its bars. AUTO's sharpness is where recognition fails with the `faces` engine (see
 * faces/measure-quality.ts), 40 pixels is the documented minimum, and beyond 75 degrees one eye is out of sight.
 */
const bars: Record<QualityFilter, Bar> = {
  NONE: {
    confidence: 0,
    sharpness: 0,
    brightness: 0,
    mostBrightness: 100,
    sidePixels: 0,
    turn: 180,
  },
  LOW: {
    confidence: 40,
    sharpness: 15,
    brightness: 8,
    mostBrightness: 95,
    sidePixels: 40,
    turn: 80,
  },
  AUTO: {
    confidence: 40,
    sharpness: 25,
    brightness: 12,
    mostBrightness: 92,
    sidePixels: 40,
    turn: 75,
  },
  MEDIUM: {
    confidence: 60,
    sharpness: 40,
    brightness: 16,
    mostBrightness: 90,
    sidePixels: 60,
    turn: 60,
  },
  HIGH: {
    confidence: 80,
    sharpness: 60,
    brightness: 20,
    mostBrightness: 88,
    sidePixels: 80,
    turn: 45,
  },
}

export interface RejectedFace {
  face: DetectedFace
  reasons: Reason[]
}

/** Parts the faces good enough for a filter from the others; each part keeps its order. */
export function screen(
  faces: DetectedFace[],
  filter: QualityFilter,
): { accepted: DetectedFace[]; rejected: RejectedFace[] } {
  const judged = faces.map((face) => ({ face, reasons: reasonsAgainst(face, bars[filter]) }))
  return {
    accepted: judged.filter(({ reasons }) => reasons.length === 0).map(({ face }) => face),
    rejected: judged.filter(({ reasons }) => reasons.length > 0),
  }
}

/**
 * Parts the faces that MaxFaces allows from the others. The service drops "the faces with the lowest quality" first, and if
 * there are still too many "the faces with the smallest bounding boxes" (API Reference, IndexFaces). It does not say what
 * counts as lower quality; here a face is of lower quality than another when it meets fewer of the filters' bars, so that
 * faces of about the same quality are told apart by size. Each part keeps its order.
 * @param faces the largest first
 */
export function keepBest(
  faces: DetectedFace[],
  maxFaces: number,
): { kept: DetectedFace[]; excess: DetectedFace[] } {
  const best = new Set(
    faces.toSorted((one, other) => barsMet(other) - barsMet(one)).slice(0, maxFaces), // a stable sort
  )
  return {
    kept: faces.filter((face) => best.has(face)),
    excess: faces.filter((face) => !best.has(face)),
  }
}

function barsMet(face: DetectedFace): number {
  return Object.values(bars).filter((bar) => reasonsAgainst(face, bar).length === 0).length
}

function reasonsAgainst({ detail, sidePixels }: DetectedFace, bar: Bar): Reason[] {
  const { Confidence, Quality, Pose } = detail
  const reasons: Reason[] = []
  if (Confidence < bar.confidence) reasons.push('LOW_CONFIDENCE')
  if (Quality.Sharpness < bar.sharpness) reasons.push('LOW_SHARPNESS')
  if (Quality.Brightness < bar.brightness) reasons.push('LOW_BRIGHTNESS')
  if (Quality.Brightness > bar.mostBrightness) reasons.push('LOW_FACE_QUALITY')
  if (sidePixels < bar.sidePixels) reasons.push('SMALL_BOUNDING_BOX')
  if (Math.max(Math.abs(Pose.Yaw), Math.abs(Pose.Pitch)) > bar.turn) reasons.push('EXTREME_POSE')
  return reasons
}
