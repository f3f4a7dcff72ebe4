import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { RekognitionError } from './errors.ts'
import { type Operation, operations } from './operations.ts'

// AWS JSON 1.1: POST /, the operation in X-Amz-Target, JSON both ways.

const targetPrefix = 'RekognitionService.'

/** @throws RekognitionError UnknownOperationException */
export function readOperation(request: IncomingMessage): Operation {
  const target = request.headers['x-amz-target']
  const name = String(target).slice(targetPrefix.length)
  if (request.method !== 'POST' || target !== targetPrefix + name || !Object.hasOwn(operations, name)) {
    throw new RekognitionError(
      'UnknownOperationException',
      `${request.method} with X-Amz-Target ${target} is not an operation that this server speaks`,
    )
  }
  return name as Operation
}

/** @throws RekognitionError SerializationException */
export async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  try {
    return JSON.parse(Buffer.concat(chunks).toString())
  } catch {
    throw new RekognitionError('SerializationException')
  }
}

export function answer(response: ServerResponse, output: unknown): void {
  send(response, 200, output)
}

/** Answers in the form that the Developer Guide shows under 'Error components'. */
export function answerError(response: ServerResponse, error: RekognitionError): void {
  const { name, message, status } = error
  send(response, status, { __type: name, Code: name, Message: message })
}

function send(response: ServerResponse, status: number, body: unknown): void {
  const payload = JSON.stringify(body)
  response.writeHead(status, {
    'Content-Type': 'application/x-amz-json-1.1',
    'Content-Length': Buffer.byteLength(payload),
    'x-amzn-RequestId': randomUUID(),
  })
  response.end(payload)
}
