import { connectRekognition } from '../src/core/collection.ts'
import { connectPhotoStore } from '../src/core/photo-store.ts'
import type { ReconcileParts } from '../src/scheduler/reconcile.ts'
import { EXIT, OperatorError } from './exit.ts'
import type { Ledger } from './ledger.ts'
import type { System } from './system.ts'

/**
 * What the comparison of collections needs, with your own rights: the prefix and the bucket are those that the scheduler goes by,
 * which it writes into the ledger at each run.
 * @throws {OperatorError} before its first run
 */
export async function collectionsOf(ledger: Ledger, { environment }: System): Promise<ReconcileParts> {
  const { collection_prefix, photo_bucket } = await ledger.database.deployment({})
  if (collection_prefix === null || photo_bucket === null)
    throw new OperatorError(
      EXIT.notDone,
      'The scheduler has not run yet, and it is the scheduler that writes into the ledger which collections and which bucket are its own. Run it once.',
    )
  const rekognition = connectRekognition()
  const region = environment.AWS_REGION ?? (await rekognition.config.region())
  return {
    settings: { collectionPrefix: collection_prefix },
    database: ledger.database,
    rekognition,
    photos: connectPhotoStore(photo_bucket, region, rekognition),
  }
}
