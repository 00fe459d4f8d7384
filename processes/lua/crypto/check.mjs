// The crypto library against its reference: cases.lua on the Lua engine and in the real aos module.
//
// node --experimental-wasm-memory64 check.mjs [--reference AOS.wasm --modules NODE_MODULES] [--seed N] [--rounds N] [--write]
//
// Without --reference: the lines of golden.lua (seed 1, one round), which the reference printed.
// With it: both sides print, the lines are compared; --write makes golden.lua anew from the reference.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { join, resolve } from 'node:path'
import { Engine } from '../driver.mjs'

const here = fileURLToPath(new URL('.', import.meta.url))
const library = join(here, '../../aos/crypto')

const args = process.argv.slice(2)
const option = (name, other) => args.includes(name) ? args[args.indexOf(name) + 1] : other
const seed = Number(option('--seed', 1))
const rounds = Number(option('--rounds', 1))
const program = `CASES_SEED, CASES_ROUNDS = ${seed}, ${rounds}\n` + readFileSync(join(here, 'cases.lua'), 'utf8')

/** A Lua long string that holds `text` whatever is in it. */
const long = (text) => {
  let level = 1
  while (text.includes(`]${'='.repeat(level)}]`)) level++
  return `[${'='.repeat(level)}[\n${text}]${'='.repeat(level)}]`
}

function ours () {
  const files = readdirSync(library).filter((name) => name.endsWith('.lua'))
  const parts = files.map((name) => {
    const text = readFileSync(join(library, name), 'utf8')
    return `package.preload[".crypto.${name.slice(0, -4)}"] = assert(load(${long(text)}, "=crypto/${name}"))`
  })
  const module = parts.join('\n') + '\nfunction handle(msg) return { Output = assert(load(msg.Data))() } end'
  const answer = Engine.load(module, { env: { Process: {}, Module: {} } }).handle({ Data: program })
  if (!answer.ok) throw new Error(answer.response)
  return answer.response.Output
}

async function reference () {
  const require = createRequire(join(resolve(option('--modules', '.')), 'x'))
  const loaded = await import(pathToFileURL(require.resolve('@permaweb/ao-loader')))
  const loader = loaded.default.default ?? loaded.default
  const id = (letter) => letter.repeat(43)
  const env = { Process: { Id: id('P'), Owner: id('O'), Tags: [] }, Module: { Id: id('M'), Owner: id('O'), Tags: [] } }
  const handle = await loader(readFileSync(option('--reference')), {
    format: 'wasm64-unknown-emscripten-draft_2024_02_15', computeLimit: 9e15, memoryLimit: '1-gb', extensions: [], UNSAFE_MEMORY: true
  })
  const message = { Target: id('P'), Owner: id('O'), From: id('O'), 'Block-Height': '1', Timestamp: '1', Module: id('M'), Cron: false }
  const boot = await handle(null, { ...message, Id: id('P'), Tags: [{ name: 'Type', value: 'Process' }], Data: ' ' }, env)
  const result = await handle(boot.Memory, { ...message, Id: id('I'), Tags: [{ name: 'Action', value: 'Eval' }], Data: program }, env)
  if (result.Error) throw new Error(result.Error)
  const data = result.Output.data
  return typeof data === 'string' ? data : data.output
}

const golden = () => [...readFileSync(join(here, 'golden.lua'), 'utf8').matchAll(/^ {2}"(.*)",$/gm)].map((m) => m[1].replace(/\\(.)/g, '$1'))
const quote = (line) => `  "${line.replace(/[\\"]/g, '\\$&')}",`

const wanted = args.includes('--reference') ? (await reference()).split('\n') : golden()
if (args.includes('--write')) {
  const head = '-- What cases.lua prints in the reference module (seed 1, one round). Made by check.mjs --write; not edited.\n\n'
  writeFileSync(join(here, 'golden.lua'), `${head}return {\n${wanted.map(quote).join('\n')}\n}\n`)
}
const printed = ours().split('\n')
const wrong = wanted.map((line, i) => [line, printed[i]]).filter(([a, b]) => a !== b)
for (const [a, b] of wrong.slice(0, 10)) console.log(`wanted ${a}\n   got ${b}`)
console.log(`${wanted.length} lines, ${wrong.length} differ${printed.length === wanted.length ? '' : `, ${printed.length} printed`}`)
process.exitCode = wrong.length || printed.length !== wanted.length ? 1 : 0
