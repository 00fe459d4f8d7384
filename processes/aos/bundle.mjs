// The bundle of the kernel: one Lua text made of the files that aos.manifest names. For tests under node; the rule is
// in README.md, and whoever else bundles must give the same bytes.
import { readFileSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'

const OPEN = '[=====[\n'
const CLOSE = ']=====]'

/** The module source. */
export function bundle (folder = new URL('.', import.meta.url)) {
  const lines = readFileSync(new URL('aos.manifest', folder), 'utf8').split('\n').filter(Boolean)
  const parts = lines.map((line) => {
    const [name, file] = line.split(' ')
    const source = readFileSync(new URL(file, folder), 'utf8')
    if (source.includes(CLOSE)) throw new Error(`${file} contains ${CLOSE}`)
    const chunk = `assert(load(${OPEN}${source}${CLOSE}, "${name}"))`
    return name === 'main' ? `${chunk}()\n` : `package.preload["${name}"] = ${chunk}\n`
  })
  return parts.join('')
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) process.stdout.write(bundle())
