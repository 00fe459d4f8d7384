// The engine's conformance under node: what aos and stock Lua do (tests/*.expected), what README.md promises, the ABI itself.
// No Rust, no network. Usage: [WEFT_ENGINE=engine.wasm] node check.mjs
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Engine, frame } from './driver.mjs'
import { observed, native, results, digest, evaluate } from './tests/observed.mjs'

const options = { path: process.env.WEFT_ENGINE ?? fileURLToPath(new URL('./engine.wasm', import.meta.url)) }
const read = (name) => readFileSync(new URL(name, import.meta.url))
const runner = read('./hostile/runner.lua')
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
const image = (engine) => sha256(new Uint8Array(engine.exports.memory.buffer))
const message = (data, more) => ({ Id: '1', Data: data, Timestamp: 1700000000123, Tags: [], ...more })
const run = (engine, data) => engine.handle(message(data)).response.Output.data

const checks = {
  'the artefact is the one recorded' () {
    if (process.env.WEFT_ENGINE) return
    const wasm = read('./engine.wasm')
    assert.equal(read('./engine.sha256').toString(), `${sha256(wasm)}  engine.wasm\n`)
    assert.ok(wasm.length < 700 * 1024)
  },

  'imports and exports are the ABI and nothing else' () {
    const module = new WebAssembly.Module(readFileSync(options.path))
    const names = (list) => list.map(({ module, name, kind }) => [module, name, kind].filter(Boolean).join(' ')).sort().join(', ')
    assert.equal(names(WebAssembly.Module.imports(module)), 'weft ask function, weft take function, weft throw function, weft try function')
    assert.equal(names(WebAssembly.Module.exports(module)), '__stack_pointer global, _initialize function, memory memory, weft_alloc function, weft_call function, ' +
      'weft_handle function, weft_has_env function, weft_load function, weft_set_env function')
  },

  'a question is answered in the middle of a message' () {
    const source = 'local ask = require("weft").ask function handle(msg) return { Output = ask(msg.Data), Again = select(2, pcall(ask, "")) } end'
    const answer = (question) => question && `${question} ${'é'.repeat(100000)}`
    const { response } = Engine.load(source, { env: {}, ...options, answer }).handle(message('why'))
    assert.deepEqual(response, { Output: `why ${'é'.repeat(100000)}`, Again: '' })
  },

  'a booted process is small' () {
    const engine = Engine.load(runner, { env: {}, ...options })
    assert.ok(engine.exports.memory.buffer.byteLength <= 2 * 1024 * 1024, `${engine.exports.memory.buffer.byteLength} bytes`)
  },

  'errors of load, set_env and handle' () {
    const engine = new Engine(options)
    assert.deepEqual(engine.load('return = 1'), { ok: false, response: "module:1: unexpected symbol near '='" })
    assert.deepEqual(new Engine(options).load('error("at boot")'), { ok: false, response: 'module:1: at boot' })
    assert.deepEqual(new Engine(options).load('\x1bLua'), { ok: false, response: "attempt to load a binary chunk (mode is 't')" })
    const empty = Engine.boot('', options)
    assert.equal(empty.exports.weft_has_env(), 0)
    assert.deepEqual(empty.setEnv([1]), { ok: true, response: null })
    assert.equal(empty.exports.weft_has_env(), 1)
    assert.equal(empty.setEnv('no table').ok, false)
    assert.deepEqual(empty.handle(message('')), { ok: false, response: 'the module defines neither handle nor compute' })
  },

  'handle sees the message and the env' () {
    const engine = Engine.load('function handle(msg, env) return { msg = msg, env = env, time = os.time() } end', { env: { Process: { Id: 'p' } }, ...options })
    const sent = { Id: 'x', Tags: [{ name: 'A', value: '1' }], Number: 5, Float: 1.5, Big: 2 ** 60, Yes: true, No: false, None: null, Text: 'é\u0000"\n', Empty: [], Timestamp: '1234' }
    const { response } = engine.handle(sent)
    const { None, ...seen } = sent
    assert.deepEqual(response.msg, { ...seen, Big: Number('1.1529215046068e+18') })
    assert.deepEqual(response.env, { Process: { Id: 'p' } })
    assert.equal(response.time, 1234)
  },

  'compute keeps its state' () {
    const source = 'function compute(state, assignment, opts) state.count = (state.count or 0) + 1 state.results = { n = state.count, data = assignment.Data, opts = next(opts) == nil } return "ok", state end'
    const engine = Engine.load(source, { env: {}, ...options })
    engine.handle(message('a'))
    assert.deepEqual(engine.handle(message('b')).response, { n: 2, data: 'b', opts: true })
    const plain = Engine.load('function compute(state) if state.done then return "error", "twice" end state.done = true return state end', { env: {}, ...options })
    assert.deepEqual(plain.handle(message('')), { ok: true, response: [] })
    assert.deepEqual(plain.handle(message('')), { ok: false, response: 'twice' })
  },

  'integers of a response are whole, bytes are UTF-8' () {
    const engine = Engine.load(runner, { env: {}, ...options })
    const text = engine.handleText(message('return { math.maxinteger, 2^53 | 0, 1e100, 0.1, "\\xff\\xe2\\x82|\\xf0\\x9f\\x98\\x80|\\xed\\xa0\\x80|\\xf4\\x90" }'))
    assert.ok(text.includes('[9223372036854775807,9007199254740992,1e+100,0.1,"\ufffd\ufffd|😀|\ufffd\ufffd\ufffd|\ufffd\ufffd"]'), text)
    for (let length = 1; length < 5; length++) {
      for (let seed = 0; seed < 400; seed++) {
        const bytes = Array.from({ length }, (_, at) => createHash('md5').update(`${length}/${seed}/${at}`).digest()[0] | (at % 2 ? 128 : 192))
        const lua = `return "${bytes.map((byte) => '\\' + String(byte).padStart(3, '0')).join('')}"`
        assert.equal(run(engine, lua), new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(bytes)), lua)
      }
    }
  },

  'bad frames are refused' () {
    const engine = Engine.load(runner, { env: {}, ...options })
    const whole = frame(message('return 1', { Nested: [{ a: [1, 2.5, true, null] }] }))
    const send = (bytes) => JSON.parse(engine.call('weft_handle', bytes))
    assert.equal(send(whole).ok, true)
    for (let length = 0; length < whole.length; length++) assert.match(send(whole.subarray(0, length)).response, /^bad frame: /)
    for (const bytes of [[2, 0], [1, 8], [1, 0, 0], [1, 6, 255, 255, 255, 255], [1, 5, 255, 255, 255, 127], [1, ...Array(300).fill([6, 1, 0, 0, 0]).flat(), 0]]) assert.match(send(Buffer.from(bytes)).response, /^bad frame: /)
    assert.equal(send(whole).ok, true)
  },

  'the same messages make the same memory, forked or not' () {
    const source = 'state = {} function handle(msg) for i = 1, 50 do state[#state + 1] = { msg.Data .. i, {}, tostring({}) } end if #state > 500 then state = {} end return { #state, collectgarbage("count") } end'
    const boot = () => Engine.load(source, { env: { Process: {} }, ...options })
    const [one, two] = [boot(), boot()]
    const fork = one.fork()
    for (let n = 0; n < 100; n++) {
      const answer = one.handleText(message(`m${n}`), { keep: true })
      assert.equal(two.handleText(message(`m${n}`), { keep: true }), answer)
      assert.equal(fork.handleText(message(`m${n}`), { keep: true }), answer)
    }
    assert.equal(image(one), image(two))
    assert.equal(image(one), image(fork))
  },

  'the order of pairs is fixed' () {
    const engine = Engine.load(runner, { env: {}, ...options })
    assert.equal(run(engine, 'local t = {} for i = 1, 20 do t["k" .. i] = i end local s = {} for k in pairs(t) do s[#s + 1] = k end return table.concat(s, " ")'),
      readFileSync(new URL('./tests/pairs.expected', import.meta.url), 'utf8').trim())
  },

  'memory runs out as an error, and the process lives on' () {
    const engine = Engine.load(runner, { env: {}, memoryBytesMax: 8 * 1024 * 1024, ...options })
    for (const greedy of ['local t = {} for i = 1, math.huge do t[i] = {} end', 'return string.rep("x", 1 << 25)', 'local s = "x" while true do s = s .. s end', 'return require("json").decode("[" .. string.rep("0,", 1 << 21) .. "0]")']) {
      for (const keep of [false, true]) {
        const { ok, response } = engine.handle(message(greedy), { keep })
        assert.ok(!ok && response.includes('not enough memory'), response)
        assert.equal(run(engine, 'return 1 + 1'), 2)
      }
    }
    assert.equal(engine.handle(message('x'.repeat(1 << 24))).response, 'not enough memory')
    assert.equal(run(engine, 'return 1 + 1'), 2)
  }
}

for (const name of observed) {
  checks[`${name} is as aos's`] = () => assert.equal(digest(results(evaluate(read(`./tests/${name}.lua`), options))), read(`./tests/${name}.expected`).toString())
}
for (const name of native) {
  checks[`${name} is as stock Lua's`] = () => assert.equal(digest(evaluate(read(`./tests/${name}.lua`), options).split('\n')), read(`./tests/${name}.expected`).toString())
}
for (const name of ['os', 'sandbox', 'lines']) checks[`${name}.lua`] = () => assert.equal(evaluate(read(`./tests/${name}.lua`), options), 'ok')

let failures = 0
for (const [name, check] of Object.entries(checks)) {
  try {
    check()
    console.log(`ok    ${name}`)
  } catch (error) {
    failures++
    console.log(`FAIL  ${name}\n${error.stack ?? error}`)
  }
}
process.exitCode = failures ? 1 : 0
