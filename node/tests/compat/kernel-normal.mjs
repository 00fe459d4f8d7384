// When two outcomes count as equal: what processes/aos/DIFFERENCES.md allows, and nothing else.

const KERNEL_FILES =
  'handlers|process|ao|utils|eval|stringify|pretty|dump|assignment|default|chance|handlers-utils|boot|globals|message|console|trace|colors'
const NATIVE_FILES = 'json|\\.bint|\\.base64|\\.crypto[a-z0-9_.]*'
const RULES = [
  // Addresses.
  [/(function|table|thread|userdata): (?:builtin: )?0x[0-9a-f]+/g, '$1: ADDRESS'],
  // Positions inside kernel files. Quotes are escaped where a text is shown as a literal.
  [new RegExp(`\\[string \\\\*"\\.(?:${KERNEL_FILES})\\\\*"\\]:\\d+: `, 'g'), 'KERNEL: '],
  // Tracebacks of errors in handlers.
  // eslint-disable-next-line no-control-regex
  [/stack traceback:\n[^\x1b]*\x1b\[0m/g, 'TRACEBACK\x1b[0m']
]
const NATIVE = new RegExp(`\\[string \\\\*"(?:${NATIVE_FILES})\\\\*"\\]:\\d+: `, 'g')

/** A value with everything left out that may differ. */
export function normal (value) {
  if (typeof value === 'string') return RULES.reduce((text, [pattern, to]) => text.replace(pattern, to), value)
  if (Array.isArray(value)) return value.map(normal)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, normal(value[key])]))
}

/** A forwarded message carries the tags of another, in the order of a table that the kernel built: any is right. */
function unordered (messages) {
  const text = (tag) => JSON.stringify(tag)
  const forwarded = (message) => message.Tags?.some?.((tag) => tag.name === 'Reply-To')
  const sorted = (tags) => [...tags].sort((a, b) => text(a) < text(b) ? -1 : 1)
  return messages?.map?.((message) => forwarded(message) ? { ...message, Tags: sorted(message.Tags) } : message)
}

const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')

/** A library that is native here names the line of the caller, where aos names a line of the library. */
function equalButForNatives (theirs, mine) {
  const parts = theirs.split(NATIVE)
  const place = '(?:KERNEL: |\\[string \\\\*"[^"]*"\\]:\\d+: )?'
  return parts.length > 1 && new RegExp(`^${parts.map(escaped).join(place)}$`).test(mine)
}

const FIELDS = ['Error', 'Output', 'Messages', 'Spawns', 'Assignments']

function window (text, other) {
  let at = 0
  while (at < text.length && text[at] === other[at]) at++
  return text.slice(Math.max(0, at - 80), at + 160)
}

/** What differs first, shown from there; nothing if the outcomes are equal. */
export function differs (theirs, mine) {
  if (theirs.Thrown) {
    if (mine.Error !== undefined) return
    return { field: 'Error', theirs: theirs.Error, mine: JSON.stringify(mine) }
  }
  for (const field of FIELDS) {
    const [a, b] = [theirs, mine].map((outcome) => {
      const value = normal(outcome[field])
      return JSON.stringify(field === 'Messages' ? unordered(value) : value) ?? ''
    })
    if (a !== b && !equalButForNatives(a, b)) return { field, theirs: window(a, b), mine: window(b, a) }
  }
}
