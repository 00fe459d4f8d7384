// Records what the real aos module answers to the tests marked "observed", or shows how the engine differs from it.
// Needs @permaweb/ao-loader and a module file (see node/tests/compat). Usage: node observe.mjs MODULE.wasm [--record] [NAME...]
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { observed, results, digest, evaluate } from './observed.mjs'

const SHOWN = 20
const require = createRequire(join(process.cwd(), 'here.js'))
const AoLoader = require('@permaweb/ao-loader')
const [path, ...rest] = process.argv.slice(2)
const record = rest.includes('--record')
const names = rest.filter((name) => name !== '--record')
const owner = 'o'.repeat(43)
const process_ = 'p'.repeat(43)
const env = { Process: { Id: process_, Owner: owner, Tags: [{ name: 'Name', value: 'x' }] }, Module: { Id: 'm'.repeat(43), Tags: [] } }

const handle = await AoLoader(readFileSync(path), { format: process.env.FORMAT ?? 'wasm32-unknown-emscripten-metering', computeLimit: 9e15, memoryLimit: '1-gb', extensions: [], UNSAFE_MEMORY: true })
let memory = null
async function send (id, tags, data) {
  const message = { Id: id, Owner: owner, From: owner, Target: process_, Module: env.Module.Id, Tags: tags, Data: data, Timestamp: 1700000000000, 'Block-Height': 1 }
  const { Memory, ...outcome } = await handle(memory, message, env)
  memory = Memory
  return outcome
}

await send(process_, [{ name: 'Type', value: 'Process' }], '1984')
let number = 0
for (const name of observed.filter((n) => !names.length || names.includes(n))) {
  const source = readFileSync(new URL(`./${name}.lua`, import.meta.url), 'utf8')
  const outcome = await send(String(++number).padStart(43, '0'), [{ name: 'Action', value: 'Eval' }], source)
  const text = outcome.Output?.data?.output ?? outcome.Output?.data
  if (typeof text !== 'string') throw new Error(`${name}: ${JSON.stringify(outcome)}`)
  const real = results(text)
  if (record) writeFileSync(new URL(`./${name}.expected`, import.meta.url), digest(real))
  const mine = results(evaluate(source))
  const differing = real.map((line, at) => at).filter((at) => real[at] !== mine[at])
  for (const at of differing.slice(0, SHOWN)) console.log(`${name} ${at + 1}\n  aos    ${real[at].slice(0, 300)}\n  engine ${mine[at]?.slice(0, 300)}`)
  console.log(`${name}: ${real.length} lines, ${differing.length} differ`)
}
