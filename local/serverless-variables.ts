/** Where the variables of a serverless.yml get their values. */
export interface VariableSources {
  /** The file itself, for `${self:…}`. */
  self: unknown
  stage: string
  /** Values for `${param:…}`, `${opt:…}` and `${env:…}`; what is not here is as if it were not set. */
  param?: Record<string, string>
  opt?: Record<string, string>
  env?: Record<string, string>
  /** Values of the sources that plugins add, by source and address. */
  plugins?: Record<string, (address: string) => unknown>
}

const INNERMOST = /\$\{(?!AWS::)([^${}]*)\}/
const WHOLE = /^\$\{[^${}]*\}$/

/**
 * Replaces the variables in all strings of a value, as the Serverless Framework does: `${self:path}`, `${param:name}`,
 * `${opt:name}`, `${env:NAME}`, `${sls:stage}` and those of plugins, each with fallbacks after commas. CloudFormation's own (`${AWS::…}`) stay.
 *
 * @throws {Error} naming the variable that has no value or that only a deployment can resolve
 */
export function resolveVariables(value: unknown, sources: VariableSources): unknown {
  if (typeof value === 'string') return resolveText(value, sources)
  if (Array.isArray(value)) return value.map((item) => resolveVariables(item, sources))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, resolveVariables(item, sources)]),
  )
}

function resolveText(text: string, sources: VariableSources): unknown {
  const match = INNERMOST.exec(text)
  const expression = match?.[1]
  if (!match || expression === undefined) return text
  const value = evaluate(expression, sources)
  if (WHOLE.test(text)) return resolveVariables(value, sources)
  if (typeof value === 'object' && value !== null)
    throw new Error(`\${${expression}} is no text, but part of one: ${text}`)
  return resolveText(
    text.replace(match[0], () => String(value)),
    sources,
  )
}

function evaluate(expression: string, sources: VariableSources): unknown {
  for (const choice of expression.split(/,(?=(?:[^']*'[^']*')*[^']*$)/)) {
    const literal = /^\s*'(.*)'\s*$/.exec(choice)
    const value = literal ? literal[1] : lookUp(choice.trim(), sources)
    if (value !== undefined && value !== null) return value
  }
  throw new Error(`variable \${${expression}} has no value`)
}

function lookUp(address: string, { self, stage, param, opt, env, plugins }: VariableSources): unknown {
  const [source, name = ''] = address.split(/:(.*)/s)
  switch (source) {
    case 'self':
      return name.split('.').reduce<unknown>(memberOf, self)
    case 'param':
      return param?.[name]
    case 'opt':
      return opt?.[name]
    case 'env':
      return env?.[name]
  }
  if (address === 'sls:stage') return stage
  const plugin = plugins?.[source ?? '']
  if (plugin) return plugin(name)
  throw new Error(`variable \${${address}} cannot be resolved without a deployment`)
}

const memberOf = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined
