// The rows of processes/aos/golden.json on our kernel. Needs nothing but node.
//
//   node kernel-golden.mjs
import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { Engine } from '../../../processes/lua/driver.mjs'
import { bundle } from '../../../processes/aos/bundle.mjs'
import { ENV, boot, message } from './kernel-stream.mjs'
import { normal } from './kernel-normal.mjs'

/** The part of a value that is expected: objects by their named keys, all else whole. */
const part = (value, expected) =>
  value === null || typeof value !== 'object' || Array.isArray(value) || Array.isArray(expected)
    ? value
    : Object.fromEntries(Object.keys(expected).map((key) => [key, part(value[key], expected[key])]))

const { rows } = JSON.parse(readFileSync(new URL('../../../processes/aos/golden.json', import.meta.url), 'utf8'))
const engine = Engine.load(bundle(), { env: ENV })
let wrong = 0
rows.forEach(({ row, message: given, expect }, nonce) => {
  const before = engine.save()
  const answer = engine.handle(given.boot ? boot() : message(nonce, given), { keep: true })
  const outcome = normal(answer.ok ? answer.response : { Error: answer.response })
  if (outcome.Error !== undefined) engine.restore(before)
  const got = part(outcome, expect)
  const extra = expect.Error === undefined && outcome.Error !== undefined
  if (!extra && isDeepStrictEqual(got, normal(expect))) return
  wrong++
  console.log(`row ${row}\n  expected ${JSON.stringify(normal(expect))}\n  got      ${JSON.stringify(outcome)}`)
})
console.log(`${rows.length - wrong} of ${rows.length} golden rows agree`)
process.exitCode = wrong === 0 ? 0 : 1
