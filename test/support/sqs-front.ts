import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import {
  DeleteMessageCommand,
  GetQueueUrlCommand,
  ReceiveMessageCommand,
  SendMessageCommand,
  type SQSClient,
} from '@aws-sdk/client-sqs'
import { onTestFinished } from 'vitest'

interface Task {
  Status: 'RUNNING' | 'COMPLETED' | 'FAILED'
  SourceArn: string
  DestinationArn: string
  ApproximateNumberOfMessagesMoved: number
  StartedTimestamp: number
  FailureReason?: string
}

export interface SqsFrontOptions {
  /** Decides on the n-th request of an action, from 1: an error of this name, or nothing. */
  refuse?: (action: string, count: number) => string | undefined
  /** Whether it moves messages by itself, as SQS does; without it, such a request is passed on. */
  movesMessages?: boolean
  /** How a task ends that is begun. */
  taskFailure?: string
}

/** A server in front of an SQS server, for the length of a test: with message move tasks, or requests that are refused. */
export async function startSqsFront(
  sqs: SQSClient,
  endpoint: string,
  { refuse = () => undefined, movesMessages = false, taskFailure }: SqsFrontOptions,
) {
  const counts = new Map<string, number>()
  const tasks: Task[] = []

  const server = createServer(async (request, response) => {
    const action = String(request.headers['x-amz-target']).replace('AmazonSQS.', '')
    const body = await text(request)
    counts.set(action, (counts.get(action) ?? 0) + 1)
    const answer = (status: number, content: object) =>
      response
        .writeHead(status, { 'content-type': 'application/x-amz-json-1.0' })
        .end(JSON.stringify(content))

    const refusal = refuse(action, counts.get(action) ?? 0)
    if (refusal) return answer(403, { __type: `com.amazonaws.sqs#${refusal}`, message: `no ${action}` })
    if (movesMessages && action === 'ListMessageMoveTasks') return answer(200, { Results: tasks })
    if (movesMessages && action === 'StartMessageMoveTask') {
      const task = { ...JSON.parse(body), Status: 'RUNNING', ApproximateNumberOfMessagesMoved: 0 } as Task
      tasks.unshift(Object.assign(task, { StartedTimestamp: Date.now() }))
      void perform(task)
      return answer(200, { TaskHandle: String(tasks.length) })
    }
    const passedOn = await fetch(endpoint, {
      method: 'POST',
      headers: request.headers as Record<string, string>,
      body: body.replaceAll(origin, endpoint),
    })
    response.writeHead(passedOn.status, { 'content-type': 'application/x-amz-json-1.0' })
    response.end(await passedOn.text())
  })

  async function perform(task: Task): Promise<void> {
    const [from, to] = await Promise.all([urlOf(task.SourceArn), urlOf(task.DestinationArn)])
    for (;;) {
      const { Messages = [] } = await sqs.send(
        new ReceiveMessageCommand({ QueueUrl: from, MaxNumberOfMessages: 10 }),
      )
      if (Messages.length === 0 || taskFailure) break
      for (const { Body, ReceiptHandle } of Messages) {
        await sqs.send(new SendMessageCommand({ QueueUrl: to, MessageBody: Body }))
        await sqs.send(new DeleteMessageCommand({ QueueUrl: from, ReceiptHandle }))
        task.ApproximateNumberOfMessagesMoved++
      }
    }
    Object.assign(
      task,
      taskFailure ? { Status: 'FAILED', FailureReason: taskFailure } : { Status: 'COMPLETED' },
    )
  }

  async function urlOf(arn: string): Promise<string> {
    const get = new GetQueueUrlCommand({ QueueName: arn.replace(/^.*:/, '') })
    const { pathname } = new URL((await sqs.send(get)).QueueUrl ?? '')
    return `${endpoint}${pathname}`
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    /** What leads to this server, and to the work queue by way of it. */
    environment: (workQueueUrl: string) => ({
      WORK_QUEUE_URL: workQueueUrl.replace(endpoint, origin),
      AWS_ENDPOINT_URL_SQS: origin,
    }),
    requests: (action: string) => counts.get(action) ?? 0,
  }
}
