// The reference evaluator behind a pipe: JSON lines in, JSON lines out.
//
// First line in: {"module": path, "format": name, "mode": "compare" | "copies" | "no-copies"}.
// Then one line per message: {"env": {...}, "message": {...}, "fails": bool}.
// compare: one line out per message with its outcome. A message announced to fail is taken back afterwards, as a CU
//   does with the outcome's Error; one that fails unannounced is reported as such.
// copies, no-copies: messages run without output, then one line out: {"ms": process CPU time of each message}.
import AoLoader from '@permaweb/ao-loader'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

// The loader replaces Date.now and console.log while it works.
const write = (value) => process.stdout.write(JSON.stringify(value) + '\n')
const cpu = () => { const u = process.cpuUsage(); return (u.user + u.system) / 1000 }

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const setup = JSON.parse((await lines.next()).value)
const copies = setup.mode === 'copies'
const handle = await AoLoader(readFileSync(setup.module), {
  format: setup.format,
  computeLimit: setup.computeLimit ?? 9e12,
  memoryLimit: '1-gb',
  extensions: [],
  UNSAFE_MEMORY: !copies
})

let memory = null
let saved = null
const times = []

async function evaluate ({ env, message, fails }) {
  if (fails && memory) {
    if (saved === null || saved.length < memory.byteLength) saved = new Uint8Array(memory.byteLength)
    saved.set(new Uint8Array(memory))
  }
  let outcome
  try {
    const { Memory, ...rest } = await handle(copies ? memory : null, message, env)
    memory = Memory
    outcome = rest
  } catch (thrown) {
    outcome = { Thrown: String(thrown?.message ?? thrown) }
  }
  const failed = outcome.Thrown !== undefined || outcome.Error
  if (failed && !fails && !copies) outcome.Unannounced = true
  if (failed && fails) new Uint8Array(memory).set(saved.subarray(0, memory.byteLength))
  return outcome
}

for (let line = await lines.next(); !line.done; line = await lines.next()) {
  const started = cpu()
  const outcome = await evaluate(JSON.parse(line.value))
  times.push(cpu() - started)
  if (setup.mode === 'compare') write(outcome)
}
if (setup.mode !== 'compare') write({ ms: times })
