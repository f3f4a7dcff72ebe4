import { ListCollectionsCommand, ListFacesCommand, type RekognitionClient } from '@aws-sdk/client-rekognition'
import type { SQSClient } from '@aws-sdk/client-sqs'
import { isError } from '../../src/core/collection.ts'
import { type PhotoStore, PhotoStoreError } from '../../src/core/photo-store.ts'
import { CALL_TIMEOUT_MS } from '../../src/core/policy.ts'
import type { Settings } from '../../src/core/settings.ts'
import { domainOf, signedRequests } from '../../src/core/signed-requests.ts'
import { attributesOf, deadLetterQueueOf } from '../queues.ts'
import { amount } from '../words.ts'
import { type Check, isDenied, note, ok, problem } from './check.ts'

const NOBODY = '00000000-0000-0000-0000-000000000000'

/** What the queues are compared with, as far as it is known. */
export interface QueueFacts {
  maxReceives: number | undefined
  /** The worker's timeout, in seconds. */
  workerTimeout: number | undefined
}

/** Whether the queues are there, and are as the functions need them. */
export async function checkQueues(
  sqs: SQSClient,
  urls: Record<'work' | 'urgent', string>,
  { maxReceives, workerTimeout }: QueueFacts,
): Promise<Check[]> {
  const wrong: string[] = []
  let deadLetters: string | undefined
  for (const [name, url] of Object.entries(urls)) {
    const of = await attributesOf(sqs, url, ['All'])
    const redrive = JSON.parse(of.RedrivePolicy || '{}')
    if (redrive.deadLetterTargetArn === undefined) wrong.push(`the ${name} queue has no dead-letter queue`)
    else if (maxReceives !== undefined && Number(redrive.maxReceiveCount) !== maxReceives)
      wrong.push(
        `the ${name} queue gives up after ${redrive.maxReceiveCount} receives, the worker counts on ${maxReceives}`,
      )
    if (redrive.deadLetterTargetArn !== undefined) deadLetters = await deadLetterQueueOf(sqs, url)
    if (workerTimeout !== undefined && Number(of.VisibilityTimeout) < 6 * workerTimeout)
      wrong.push(
        `the ${name} queue shows a message again after ${of.VisibilityTimeout} s, which must be six times the worker’s timeout of ${workerTimeout} s`,
      )
  }
  const waiting =
    deadLetters === undefined
      ? 0
      : Number((await attributesOf(sqs, deadLetters, ['All'])).ApproximateNumberOfMessages)
  return [
    wrong.length > 0
      ? problem('queues', `${sentence(wrong)}.`, 'They are not as serverless.yml has them: deploy again.')
      : ok('queues', 'Work, urgent and dead-letter queue are there, as they should be.'),
    ...(waiting > 0
      ? [
          note(
            'dead letters',
            `${amount(waiting, 'message')} in the dead-letter queue.`,
            'The finalizer takes them within a minute. If they stay: npx event-indexer redrive.',
          ),
        ]
      : []),
  ]
}

const sentence = (parts: string[]) => parts.join('; ').replace(/^./, (first) => first.toUpperCase())

/** What S3 answers about a bucket as such. */
export interface BucketAnswer {
  /** Of HTTP. */
  status: number
  region: string | undefined
  /** How far AWS's clock is ahead of this machine's, in ms, to the second. */
  ahead: number | undefined
}

/** Asks S3 for a bucket: it names the bucket's region also where it refuses. */
export async function askBucket(
  bucket: string,
  region: string,
  { config }: RekognitionClient,
): Promise<BucketAnswer> {
  const endpoint = process.env.AWS_ENDPOINT_URL_S3 ?? process.env.AWS_ENDPOINT_URL
  const { protocol, hostname, port } = new URL(endpoint ?? `https://s3.${region}.${domainOf(region)}`)
  const send = signedRequests({
    service: 's3',
    region,
    credentials: config.credentials,
    uriEscapePath: false,
    timeoutMs: CALL_TIMEOUT_MS,
  })
  const { statusCode, headers, body } = await send({
    protocol,
    hostname,
    ...(port && { port: Number(port) }),
    method: 'HEAD',
    path: `/${bucket}`,
    headers: {},
  })
  body.resume()
  const date = Date.parse(headers.date ?? '')
  return {
    status: statusCode,
    region: headers['x-amz-bucket-region'],
    ahead: Number.isNaN(date) ? undefined : date - Date.now(),
  }
}

/** Asks for an object that does not exist: S3 answers 404 only to callers who may read objects and list the bucket. */
export async function checkBucket(
  { status, region: at }: BucketAnswer,
  photos: PhotoStore,
  region: string,
): Promise<Check> {
  const { bucket } = photos
  if (status === 404)
    return problem(
      'bucket',
      `There is no bucket ${bucket}.`,
      'Deploy again with S3_BUCKET_NAME set to the bucket of the app’s photos.',
    )
  if (at !== undefined && at !== region)
    return problem(
      'bucket',
      `Bucket ${bucket} is in ${at}, and Rekognition is asked in ${region}, where it cannot read the photos.`,
      `Deploy the system in ${at}: AWS_REGION=${at}.`,
    )
  try {
    await photos.look(`event-indexer-doctor/${NOBODY}`)
  } catch (error) {
    if (!(error instanceof PhotoStoreError)) throw error
    return problem(
      'bucket',
      `${error.message}.`,
      'Allow this to your role or user, and to the roles of the functions; look for a bucket policy that denies it.',
    )
  }
  return ok('bucket', `Bucket ${bucket} can be read, in the region of Rekognition (${region}).`)
}

/** Lists collections, and the faces of a collection that is not there. */
export async function checkRekognition(
  rekognition: RekognitionClient,
  { collectionPrefix }: Pick<Settings, 'collectionPrefix'>,
): Promise<Check> {
  try {
    await rekognition.send(new ListCollectionsCommand({ MaxResults: 1 }))
    await rekognition.send(new ListFacesCommand({ CollectionId: `${collectionPrefix}${NOBODY}` }))
  } catch (error) {
    if (isDenied(error))
      return problem(
        'rekognition',
        `Rekognition refuses: ${(error as Error).message}`,
        `Your role or user needs rekognition:ListCollections, and rekognition:ListFaces on collection/${collectionPrefix}*.`,
      )
    if (!isError(error, 'ResourceNotFoundException')) throw error
  }
  return ok('rekognition', `Rekognition answers, for collections ${collectionPrefix}….`)
}
