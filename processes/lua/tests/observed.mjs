// What check.mjs and observe.mjs share: a test's lines in comparable form, and their digest for the .expected files.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Engine } from '../driver.mjs'

/** Tests whose expected results come from the real aos module. */
export const observed = ['json', 'base64', 'bint']

/** Tests whose expected results come from stock Lua. */
export const native = ['plain']

const runner = readFileSync(new URL('../hostile/runner.lua', import.meta.url))

/** The text that a chunk of Lua returns on the engine. */
export function evaluate (source, options = {}) {
  const engine = Engine.load(runner, { env: {}, ...options })
  const answer = engine.handle({ Id: '1', Data: source, Timestamp: 1700000000123, Tags: [] })
  if (!answer.ok || answer.response.Error) throw new Error(answer.ok ? answer.response.Error : answer.response)
  return answer.response.Output.data
}

// Where an error was raised and by which variable is not compared; nor what Lua's own operators and argument checks
// say of garbage, only that they refuse it.
const refusal = /=> (\w*)"?false"? \| .*(attempt to|bad argument|number expected).*/

/** A test's lines without what may differ. */
export function results (text) {
  return text.split('\n').map((line) => line.replace(/(\[string \\?"[^"\\]*\\?"\]|hostile):\d+: /g, '')
    .replace(refusal, '=> refused'))
}

/** One line for each kind of line: its first word, how many, and the hash of all. */
export function digest (lines) {
  const groups = new Map()
  for (const line of lines) {
    const name = line.split(' ')[0]
    if (!groups.has(name)) groups.set(name, [])
    groups.get(name).push(line)
  }
  return [...groups].map(([name, all]) => `${name} ${all.length} ${createHash('sha256').update(all.join('\n')).digest('hex').slice(0, 32)}\n`).join('')
}
