// Records what stock Lua answers to the tests marked "native", or shows how the engine differs from it.
// Needs Lua 5.3.6 as lua5.3. Usage: node native.mjs [--record]
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { native, digest, evaluate } from './observed.mjs'

const SHOWN = 20
for (const name of native) {
  const path = fileURLToPath(new URL(`./${name}.lua`, import.meta.url))
  const run = 'io.write(assert(loadfile(arg[1]))())'
  const env = { ...process.env, TZ: 'UTC', LC_ALL: 'C' }
  const stock = execFileSync('lua5.3', ['-e', `arg = { ${JSON.stringify(path)} } ${run}`], { env, encoding: 'utf8', maxBuffer: 1 << 28 }).split('\n')
  if (process.argv.includes('--record')) writeFileSync(new URL(`./${name}.expected`, import.meta.url), digest(stock))
  const mine = evaluate(readFileSync(path)).split('\n')
  const differing = stock.map((line, at) => at).filter((at) => stock[at] !== mine[at])
  for (const at of differing.slice(0, SHOWN)) console.log(`${name} ${at + 1}\n  stock  ${stock[at].slice(0, 300)}\n  engine ${mine[at]?.slice(0, 300)}`)
  console.log(`${name}: ${stock.length} lines, ${differing.length} differ`)
}
