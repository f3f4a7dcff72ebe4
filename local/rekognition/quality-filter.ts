import type { QualityFilter, Reason } from '@aws-sdk/client-rekognition'
import type { DetectedFace } from './engine.ts'

/** What a face must have at least. */
interface Bar {
  confidence: number
  sharpness: number
  brightness: number
  sidePixels: number
}

/**
 * The service does not publish its bars. AUTO's sharpness is where recognition fails with the `faces` engine (see
 * faces/measure-quality.ts), 40 pixels is the documented minimum. Pose is not judged: the engine's estimate is too rough
 * to refuse a face by.
 */
const bars: Record<QualityFilter, Bar> = {
  NONE: { confidence: 0, sharpness: 0, brightness: 0, sidePixels: 0 },
  LOW: { confidence: 40, sharpness: 15, brightness: 3, sidePixels: 40 },
  AUTO: { confidence: 40, sharpness: 25, brightness: 5, sidePixels: 40 },
  MEDIUM: { confidence: 60, sharpness: 40, brightness: 10, sidePixels: 60 },
  HIGH: { confidence: 80, sharpness: 60, brightness: 15, sidePixels: 80 },
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

function reasonsAgainst({ detail, sidePixels }: DetectedFace, bar: Bar): Reason[] {
  const reasons: Reason[] = []
  if (detail.Confidence < bar.confidence) reasons.push('LOW_CONFIDENCE')
  if (detail.Quality.Sharpness < bar.sharpness) reasons.push('LOW_SHARPNESS')
  if (detail.Quality.Brightness < bar.brightness) reasons.push('LOW_BRIGHTNESS')
  if (sidePixels < bar.sidePixels) reasons.push('SMALL_BOUNDING_BOX')
  return reasons
}
