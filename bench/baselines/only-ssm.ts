import { GetParameterCommand, SSMClient } from '@aws-sdk/client-ssm'

const ssm = new SSMClient()

/** A function that needs nothing but SSM Parameter Store. */
export const handler = () => ssm.send(new GetParameterCommand({ Name: '/parameter' }))
