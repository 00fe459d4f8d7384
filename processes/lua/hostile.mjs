// Runs the hostile programs under node, each in a worker with a memory limit. What only gas can stop is stopped here by
// time, and must not have ended by itself before. Usage: [WEFT_ENGINE=engine.wasm] node hostile.mjs [NAME...]
import { readFileSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import { Engine } from './driver.mjs'

const FOLDER = new URL('./hostile/', import.meta.url)
const MEMORY_BYTES_MAX = 64 * 1024 * 1024
const GAS_MS = 400
const END_MS = 60000
const message = (source) => ({ Id: '1', Data: source, Timestamp: 1700000000000, Tags: [] })

/** In the worker: the program's response, then what an innocent message in the same process gets. */
function run (source) {
  const engine = Engine.load(readFileSync(new URL('runner.lua', FOLDER)), { env: {}, memoryBytesMax: MEMORY_BYTES_MAX, path: process.env.WEFT_ENGINE })
  parentPort.postMessage('started')
  const response = engine.handle(message(source))
  const after = engine.handle(message('return 1 + 1'))
  parentPort.postMessage({ response, after, bytes: engine.exports.memory.buffer.byteLength })
}

function outcome (source, ms) {
  return new Promise((resolve) => {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { source } })
    let timer
    const end = (value) => { clearTimeout(timer); worker.terminate(); resolve(value) }
    worker.on('message', (value) => {
      if (value === 'started') timer = setTimeout(() => end({ gas: true }), ms)
      else end(value)
    })
    worker.on('error', (error) => end({ crash: String(error) }))
  })
}

/** What is wrong with an outcome, or null. */
function fault (must, { gas, crash, response, after }) {
  if (crash) return crash
  if (gas) return must === 'gas' ? null : 'did not end'
  const text = response.ok ? response.response.Output?.data ?? response.response.Error : response.response
  if (text?.startsWith?.('trap:')) return text
  if (must === 'gas') return `ended: ${text}`
  const [kind, wanted] = [must.split(' ')[0], must.slice(must.indexOf(' ') + 1)]
  if (kind === 'memory' && (response.ok || !text.includes('not enough memory'))) return `not out of memory: ${text}`
  if (kind === 'error' && (response.ok || (must !== kind && !text.includes(wanted)))) return `no such error: ${text}`
  if (kind === 'answer' && (!response.ok || text !== wanted)) return `answered: ${text}`
  const tampers = kind === 'answer' && after.response !== undefined
  if (!after.ok && !tampers) return `broke the next message: ${after.response}`
  return null
}

async function main (names) {
  let failures = 0
  const files = readdirSync(FOLDER).filter((name) => /^\d+-/.test(name) && (!names.length || names.some((n) => name.includes(n))))
  for (const name of files) {
    const source = readFileSync(new URL(name, FOLDER), 'utf8')
    const must = source.split('\n')[0].replace('-- must: ', '')
    const wrong = fault(must, await outcome(source, must === 'gas' ? GAS_MS : END_MS))
    if (wrong) { failures++; console.log(`${name}: must ${must}\n  ${wrong}`) }
  }
  console.log(`${files.length - failures} of ${files.length} hostile programs end as they must`)
  process.exitCode = failures ? 1 : 0
}

if (isMainThread) await main(process.argv.slice(2))
else run(workerData.source)
