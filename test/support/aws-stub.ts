import { CloudWatchClient } from '@aws-sdk/client-cloudwatch'
import { EventBridgeClient } from '@aws-sdk/client-eventbridge'
import { LambdaClient } from '@aws-sdk/client-lambda'
import { S3Client } from '@aws-sdk/client-s3'
import { ServiceQuotasClient } from '@aws-sdk/client-service-quotas'
import { SNSClient } from '@aws-sdk/client-sns'
import { SSMClient } from '@aws-sdk/client-ssm'
import { vi } from 'vitest'

/** Answers a command by its input, or throws what AWS would. */
type Answer = (input: never) => object

const CLIENTS = [
  CloudWatchClient,
  EventBridgeClient,
  LambdaClient,
  S3Client,
  ServiceQuotasClient,
  SNSClient,
  SSMClient,
]

/** Takes the place of AWS services that have no server on this machine: each command is answered by its name. */
export function stubAws(answers: Record<string, Answer>) {
  const current = new Map(Object.entries(answers))
  const send = async (command: object) => {
    const name = command.constructor.name.replace(/Command$/, '')
    const answer = current.get(name)
    if (!answer) throw new Error(`the stub of AWS has no answer to ${name}`)
    return answer((command as { input: never }).input)
  }
  const spies = CLIENTS.map(({ prototype }) => vi.spyOn(prototype, 'send').mockImplementation(send as never))
  return {
    /** Answers a command in another way, from now on. */
    answer: (command: string, answer: Answer) => void current.set(command, answer),
    restore: () => {
      for (const spy of spies) spy.mockRestore()
    },
  }
}
