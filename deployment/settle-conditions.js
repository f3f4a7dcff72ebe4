/**
 * Settles the conditions of a template, which hang on nothing but settings that are known when it is made: what a setting
 * leaves out is in no template, and a reader of the deployed one sees what is there. As CloudFormation would: resources whose
 * condition fails are dropped, each `Fn::If` becomes its choice, and `AWS::NoValue` is left out.
 *
 * @param {{ Conditions?: Record<string, unknown>, Resources: Record<string, { Condition?: string }> }} template
 * @returns {object} the template without conditions
 * @throws {Error} naming a condition that is not there, or is made of more than `Fn::Equals` and `Fn::Not` of plain values
 */
export function settleConditions({ Conditions = {}, ...template }) {
  const holds = (condition) => {
    const [[name, operands]] = Object.entries(condition)
    if (name === 'Fn::Equals' && operands.every((operand) => typeof operand === 'string'))
      return operands[0] === operands[1]
    if (name === 'Fn::Not') return !holds(operands[0])
    throw new Error(`the condition ${JSON.stringify(condition)} cannot be settled when the template is made`)
  }
  const isMet = (name) => {
    if (!(name in Conditions)) throw new Error(`the template has no condition ${name}`)
    return holds(Conditions[name])
  }
  const choose = (value) => {
    if (typeof value !== 'object' || value === null) return value
    if (Array.isArray(value)) return value.map(choose).filter((item) => !isNothing(item))
    if ('Fn::If' in value) {
      const [name, yes, no] = value['Fn::If']
      return choose(isMet(name) ? yes : no)
    }
    const members = Object.entries(value).map(([key, member]) => [key, choose(member)])
    return Object.fromEntries(members.filter(([, member]) => !isNothing(member)))
  }
  const resources = Object.entries(template.Resources)
    .filter(([, { Condition }]) => Condition === undefined || isMet(Condition))
    .map(([logicalId, { Condition: _, ...resource }]) => [logicalId, resource])
  return choose({ ...template, Resources: Object.fromEntries(resources) })
}

const isNothing = (value) => JSON.stringify(value) === '{"Ref":"AWS::NoValue"}'
