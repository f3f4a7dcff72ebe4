import { GetParametersCommand, SSMClient } from '@aws-sdk/client-ssm'

const ssm = new SSMClient()

/** A function that needs nothing but SSM Parameter Store. */
export const handler = () => ssm.send(new GetParametersCommand({ Names: ['/parameter'] }))
