// Plain JavaScript, since a thread does not inherit the TypeScript loader of its parent.
import { register } from 'tsx/esm/api'

register()
await import('./thread.ts')
