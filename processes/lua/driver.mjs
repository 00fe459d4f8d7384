// Runs a Lua source on engine.wasm under node: a library for tests, and a pipe of JSON lines. Not a compute unit:
// no gas, no memory limit unless asked. Usage and ABI: README.md.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath, pathToFileURL } from 'node:url'

const PAGE_BYTES = 65536
const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

class Throw extends Error {}
Error.stackTraceLimit = 0
const thrown = new Throw()

/** A JSON value as a frame. Numbers that are safe integers become integers, all others floats; bytes may be a Uint8Array. */
export function frame (value) {
  const parts = [Uint8Array.of(1)]
  const number = (size, write) => { const view = new DataView(new ArrayBuffer(size)); write(view); parts.push(new Uint8Array(view.buffer)) }
  const count = (n) => number(4, (view) => view.setUint32(0, n, true))
  const kind = (k) => parts.push(Uint8Array.of(k))
  const bytes = (s) => { const b = typeof s === 'string' ? encoder.encode(s) : s; count(b.length); parts.push(b) }
  const add = (v) => {
    if (v === null || v === undefined) return kind(0)
    if (typeof v === 'boolean') return kind(v ? 2 : 1)
    if (typeof v === 'bigint' || Number.isSafeInteger(v)) { kind(4); return number(8, (view) => view.setBigInt64(0, BigInt(v), true)) }
    if (typeof v === 'number') { kind(3); return number(8, (view) => view.setFloat64(0, v, true)) }
    if (typeof v === 'string' || v instanceof Uint8Array) { kind(5); return bytes(v) }
    if (Array.isArray(v)) { kind(6); count(v.length); return v.forEach(add) }
    const entries = Object.entries(v).filter(([, x]) => x !== undefined)
    kind(7)
    count(entries.length)
    for (const [key, x] of entries) { bytes(key); add(x) }
  }
  add(value)
  return Buffer.concat(parts)
}

function leb (bytes, at) {
  let value = 0
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++]
    value |= (byte & 127) << shift
    if (byte < 128) return [value >>> 0, at]
  }
}

const asLeb = (value) => value < 128 ? [value] : [(value & 127) | 128, ...asLeb(value >>> 7)]

/** The module with a maximum written into its memory section: growing beyond it fails, as under a host's limit. */
export function withMemoryMax (wasm, bytes) {
  for (let at = 8; at < wasm.length;) {
    const [size, body] = leb(wasm, at + 1)
    if (wasm[at] === 5) {
      const [pages] = leb(wasm, body + 2)
      const section = [1, 1, ...asLeb(pages), ...asLeb(Math.max(pages, Math.floor(bytes / PAGE_BYTES)))]
      return Buffer.concat([wasm.subarray(0, at), Buffer.from([5, ...asLeb(section.length), ...section]), wasm.subarray(body + size)])
    }
    at = body + size
  }
  throw new Error('no memory section')
}

const modules = new Map()
function compiled (path, memoryBytesMax) {
  const key = `${path} ${memoryBytesMax}`
  if (!modules.has(key)) {
    const wasm = readFileSync(path)
    modules.set(key, new WebAssembly.Module(memoryBytesMax ? withMemoryMax(wasm, memoryBytesMax) : wasm))
  }
  return modules.get(key)
}

/** One process: an instance and its memory. */
export class Engine {
  constructor ({ path = fileURLToPath(new URL('./engine.wasm', import.meta.url)), memoryBytesMax, answer } = {}) {
    this.options = { path, memoryBytesMax, answer }
    const weft = {
      try: (f, L, ud) => this.try(f, L, ud),
      throw: () => { throw thrown },
      ask: (at, length) => this.ask(at, length),
      take: (at) => new Uint8Array(this.exports.memory.buffer).set(this.reply, at)
    }
    const instance = new WebAssembly.Instance(compiled(path, memoryBytesMax), { weft })
    this.exports = instance.exports
    this.exports._initialize()
  }

  try (f, L, ud) {
    const stack = this.exports.__stack_pointer.value
    try {
      this.exports.weft_call(f, L, ud)
      return 0
    } catch (error) {
      if (error !== thrown) throw error
      this.exports.__stack_pointer.value = stack
      return 1
    }
  }

  /** A question of the process: answered by the option `answer`, a function from JSON text to JSON text. */
  ask (at, length) {
    if (!this.options.answer) throw new Error('import weft.ask is not provided')
    const question = decoder.decode(new Uint8Array(this.exports.memory.buffer, at, length))
    this.reply = encoder.encode(this.options.answer(question))
    return this.reply.length
  }

  /** Calls an export that takes (ptr, len) with bytes; answers the JSON text it points at. */
  call (name, bytes) {
    const at = this.exports.weft_alloc(bytes.length)
    if (at === 0) return '{"ok":false,"response":"not enough memory"}'
    new Uint8Array(this.exports.memory.buffer).set(bytes, at)
    const answer = this.exports[name](at, bytes.length)
    const view = new DataView(this.exports.memory.buffer)
    return decoder.decode(new Uint8Array(this.exports.memory.buffer, answer + 4, view.getUint32(answer, true)))
  }

  load (source) { return JSON.parse(this.call('weft_load', typeof source === 'string' ? encoder.encode(source) : source)) }

  setEnv (env) { return JSON.parse(this.call('weft_set_env', frame(env))) }

  /** The response's text. What an `ok:false` or a trap did to the memory is undone, unless `keep`. */
  handleText (message, { keep = false } = {}) {
    const before = keep ? null : this.save()
    let text
    try {
      text = this.call('weft_handle', frame(message))
    } catch (error) {
      if (!before) throw error
      text = JSON.stringify({ ok: false, response: `trap: ${error.message}` })
    }
    if (before && text.startsWith('{"ok":false')) this.restore(before)
    return text
  }

  handle (message, options) { return JSON.parse(this.handleText(message, options)) }

  save () {
    return { bytes: new Uint8Array(this.exports.memory.buffer).slice(), stack: this.exports.__stack_pointer.value }
  }

  restore ({ bytes, stack }) {
    const memory = this.exports.memory
    if (memory.buffer.byteLength < bytes.length) memory.grow((bytes.length - memory.buffer.byteLength) / PAGE_BYTES)
    const view = new Uint8Array(memory.buffer)
    view.set(bytes)
    view.fill(0, bytes.length)
    this.exports.__stack_pointer.value = stack
  }

  fork () {
    const copy = new Engine(this.options)
    copy.restore(this.save())
    return copy
  }

  static boot (source, options) {
    const engine = new Engine(options)
    const loaded = engine.load(source)
    if (!loaded.ok) throw new Error(loaded.response)
    return engine
  }

  static load (source, { env, ...options } = {}) {
    const engine = Engine.boot(source, options)
    if (env) engine.setEnv(env)
    return engine
  }
}

async function main (args) {
  const option = (name) => { const at = args.indexOf(name); return at < 0 ? undefined : args.splice(at, 2)[1] }
  const env = option('--env')
  const path = option('--engine')
  const [module] = args
  if (!module) { console.error('usage: driver.mjs MODULE.lua [--env ENV.json] [--engine engine.wasm] < messages.jsonl'); process.exit(2) }
  const engine = Engine.load(readFileSync(module), { env: env ? JSON.parse(readFileSync(env, 'utf8')) : {}, path })
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim()) process.stdout.write(engine.handleText(JSON.parse(line)) + '\n')
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) await main(process.argv.slice(2))
