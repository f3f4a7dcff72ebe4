import { text } from 'node:stream/consumers'
import { fromEnv } from '@aws-sdk/credential-provider-env'
import { domainOf, signedRequests } from './signed-requests.ts'
import { pause } from './time.ts'
import * as z from './zod.ts'

/** SSM Parameter Store refused, or did not answer; `name` is that of its own error. */
export class ParameterStoreError extends Error {
  constructor(name: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = name
  }
}

const answer = z.object({ Parameter: z.object({ Value: z.string() }) })
const refusal = z.object({ __type: z._default(z.string(), 'UnknownError'), message: z.optional(z.string()) })

const RETRY_AFTER_MS = 200

/**
 * Connects to SSM Parameter Store, with the credentials of the environment, which Lambda sets. Its one request does not need
 * the client of SSM, which would be an eighth of each bundle.
 * @param endpoint of another server than SSM, as AWS_ENDPOINT_URL has it
 * @returns a function that reads a parameter, decrypted. It is tried twice where that may help, and rejects with
 *   {@link ParameterStoreError}
 */
export function connectParameterStore(
  region: string,
  endpoint = process.env.AWS_ENDPOINT_URL_SSM ?? process.env.AWS_ENDPOINT_URL,
): (name: string) => Promise<string> {
  const { protocol, hostname, port, pathname } = new URL(
    endpoint ?? `https://ssm.${region}.${domainOf(region)}`,
  )
  const send = signedRequests({
    service: 'ssm',
    region,
    credentials: fromEnv(),
    timeoutMs: 4_000,
  })

  async function get(name: string): Promise<string> {
    const { statusCode, body } = await send({
      protocol,
      hostname,
      ...(port && { port: Number(port) }),
      method: 'POST',
      path: pathname,
      headers: {
        'content-type': 'application/x-amz-json-1.1',
        'x-amz-target': 'AmazonSSM.GetParameter',
      },
      body: JSON.stringify({ Name: name, WithDecryption: true }),
    }).catch((cause) => {
      throw new ParameterStoreError('NoAnswer', String(cause), { cause })
    })
    const said: unknown = await text(body)
      .then(JSON.parse)
      .catch(() => undefined)
    const read = answer.safeParse(said)
    if (statusCode === 200 && read.success) return read.data.Parameter.Value
    const { __type, message = `HTTP status ${statusCode}` } = refusal.safeParse(said).data ?? {
      __type: 'UnknownError',
    }
    throw new ParameterStoreError(__type.replace(/^.*#/, ''), message, { cause: { statusCode } })
  }

  return async (name) => {
    try {
      return await get(name)
    } catch (error) {
      if (!(error instanceof ParameterStoreError && isPassing(error))) throw error
      await pause(RETRY_AFTER_MS * (0.5 + Math.random()))
      return get(name)
    }
  }
}

const isPassing = ({ name, cause }: ParameterStoreError): boolean =>
  name === 'NoAnswer' ||
  name === 'ThrottlingException' ||
  ((cause as { statusCode?: number } | undefined)?.statusCode ?? 0) >= 500
