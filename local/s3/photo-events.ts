import { randomUUID } from 'node:crypto'

/** Something that happened to an object. */
export type ObjectChange =
  | {
      type: 'created'
      bucket: string
      key: string
      /** In bytes. */
      size: number
      /** Without quotes. */
      etag: string
      reason: 'PutObject' | 'CopyObject' | 'CompleteMultipartUpload'
    }
  | { type: 'deleted'; bucket: string; key: string }

/**
 * The event that S3 sends to EventBridge for a change in a bucket without versions. A rule passes it on to its queue as it
 * is, so this is the body of a message. The key is not URL-encoded, other than in S3's older notifications.
 */
export function photoEvent(change: ObjectChange, region: string): Record<string, unknown> {
  const { bucket, key } = change
  const sequencer = nextSequencer()
  const what =
    change.type === 'created'
      ? { object: { key, size: change.size, etag: change.etag, sequencer }, reason: change.reason }
      : { object: { key, sequencer }, reason: 'DeleteObject', 'deletion-type': 'Permanently Deleted' }
  const { object, ...rest } = what
  return {
    version: '0',
    id: randomUUID(),
    'detail-type': change.type === 'created' ? 'Object Created' : 'Object Deleted',
    source: 'aws.s3',
    account: ACCOUNT,
    time: new Date().toISOString().replace(/\.\d+Z$/, 'Z'),
    region,
    resources: [`arn:aws:s3:::${bucket}`],
    detail: {
      version: '0',
      bucket: { name: bucket },
      object,
      'request-id': randomUUID().replaceAll('-', '').slice(0, 16).toUpperCase(),
      requester: ACCOUNT,
      'source-ip-address': '127.0.0.1',
      ...rest,
    },
  }
}

const ACCOUNT = '000000000000'

let last = 0n

/** Of two events for one key, the later has the greater sequencer. */
function nextSequencer(): string {
  const now = BigInt(Date.now()) << 20n
  last = now > last ? now : last + 1n
  return last.toString(16).padStart(16, '0')
}
