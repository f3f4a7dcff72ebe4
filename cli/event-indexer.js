#!/usr/bin/env node
import { register } from 'tsx/esm/api'

// Of no use to an operator: which Node runs here says nothing of the functions'.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= 'true'

register()
const { main } = await import('./main.ts')
await main(process.argv)
