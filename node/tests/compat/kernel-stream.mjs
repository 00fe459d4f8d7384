// A seeded stream of messages that uses everything of aos: one half of the conformance check in kernel.mjs.
// Pure: the same seed gives the same messages.

export const PROCESS = 'P'.repeat(43)
const OWNER = 'O'.repeat(43)
const AUTHORITY = 'U'.repeat(43)
const MODULE = 'M'.repeat(43)
const WALLETS = ['A', 'B', 'C'].map((letter) => letter.repeat(43))

export const ENV = {
  Process: {
    Id: PROCESS,
    Owner: OWNER,
    Tags: [{ name: 'Name', value: 'x' }, { name: 'Authority', value: AUTHORITY }, { name: 'Module', value: MODULE }]
  },
  Module: { Id: MODULE, Owner: OWNER, Tags: [] }
}

/** Numbers from a seed (mulberry32). */
export function random (seed) {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  const below = (n) => Math.floor(next() * n)
  return {
    below,
    pick: (list) => list[below(list.length)],
    maybe: (probability) => next() < probability,
    times: (n, make) => Array.from({ length: n }, (_, index) => make(index))
  }
}

const tagList = (tags) => Object.entries(tags).map(([name, value]) => ({ name, value: String(value) }))

/** A message as a compute unit hands it over. */
export function message (nonce, { tags = {}, ...given } = {}) {
  const owner = given.Owner ?? OWNER
  return {
    Id: `message-${nonce}-`.padEnd(43, 'i'),
    Signature: 'S'.repeat(20),
    Data: ' ',
    Owner: owner,
    Target: PROCESS,
    Anchor: null,
    From: owner,
    Tags: tagList({ 'Data-Protocol': 'ao', Variant: 'ao.TN.1', Type: 'Message', ...tags }),
    Epoch: 0,
    Nonce: nonce,
    Timestamp: 1700000000000 + nonce,
    'Block-Height': 1500000,
    'Hash-Chain': 'h',
    Cron: false,
    'Read-Only': false,
    ...given
  }
}

/** The process's own item, the first message. */
export function boot (extra = [], given = {}) {
  const Tags = [
    ...tagList({ 'Data-Protocol': 'ao', Variant: 'ao.TN.1', Type: 'Process' }), ...ENV.Process.Tags, ...extra
  ]
  return { ...message(0), Id: PROCESS, Tags, ...given }
}

/* --- Lua texts --- */

const WORDS = [
  'alpha', 'beta', 'gamma', 'delta', 'eps', 'zeta', 'x', 'y', 'Name', 'Balance', 'Ticker', 'note', 'k1', 'k2'
]
const TEXTS = [
  'hi', 'hello world', '', ' ', 'quote\\"d', 'back\\\\slash', 'new\\nline', 'tab\\t', 'é ü 漢', '100%', '1', '0.5',
  'nil', '_'
]
const NUMBERS = [
  '0', '1', '-1', '7', '42', '1000000', '1.5', '-0.25', '1e15', '1e16', '2^53', '1/3', '3.0', '0x10', '-0.0', '1e100',
  'math.maxinteger', 'math.huge', '0/0'
]

export function lua (r) {
  const key = () => r.pick(WORDS)
  const text = () => `"${r.pick(TEXTS)}"`
  const number = () => r.pick(NUMBERS)
  const scalar = () => r.pick([number, text, () => r.pick(['true', 'false'])])()
  const array = (depth) => `{${r.times(r.below(5), () => value(depth - 1)).join(', ')}}`
  const object = (depth) => {
    const keys = [...new Set(r.times(r.below(5), key))]
    const items = keys.map((name) => `${name} = ${value(depth - 1)}`)
    if (r.maybe(0.15)) items.push(`[${1 + r.below(4)}] = ${scalar()}`)
    if (r.maybe(0.1)) items.push(scalar())
    return `{${items.join(', ')}}`
  }
  const value = (depth = 3) => depth <= 0 || r.maybe(0.4) ? scalar() : r.maybe(0.5) ? array(depth) : object(depth)
  const numbers = () => `{${r.times(r.below(6), () => String(r.below(50))).join(', ')}}`
  return { key, text, number, scalar, array, object, value, numbers }
}

/* --- Evals --- */

const MATCHED = [
  '{X="1"}', '{X="abc", Tags={X="b"}}', '{Action="Go", X="ABC"}', '{Tags={Action="Go"}}', '{X=5}', '{X=""}', '{}',
  '{Y="a-b", Tags={}}', '{X="x y", Data="d"}'
]
const SPECS = [
  '"Go"', '"go"', '{X="_"}', '{X="abc"}', '{X="^a"}', '{X="%d"}', '{X={"b","abc"}}',
  '{X=function(v) return v == "b" end}', '{}', '{Action="Go", X="_"}', '{X=""}', '{Y="A-B"}', '{X="^%D$"}', '5',
  'nil', '{X=5}', '{X={"^A",function(v) return v == nil end}}', 'function(m) return m.X end', '{X="[AB]"}',
  '{Data="."}'
]

function utilsCall (r, l) {
  const list = l.numbers()
  return r.pick([
    `Utils.map(function(x) return x * 2 end, ${list})`,
    `Utils.map(function(x) return tostring(x) end)(${list})`,
    `Utils.filter(function(x) return x % 2 == 0 end, ${list})`,
    `Utils.reduce(function(a, b) return a + b end, 0, ${list})`,
    `Utils.reduce(function(a, b, k) return a .. b .. tostring(k) end, "", ${list})`,
    `Utils.find(function(x) return x > ${r.below(50)} end, ${list})`,
    `Utils.concat(${list}, ${l.numbers()})`,
    `Utils.concat(${list})(${l.numbers()})`,
    `Utils.reverse(${list})`,
    `Utils.includes(${r.below(50)}, ${list})`,
    `#Utils.keys(${l.object(1)})`,
    `#Utils.values(${l.object(1)})`,
    `Utils.compose(function(x) return x + 1 end, function(x) return x * 10 end)(${r.below(9)})`,
    `Utils.curry(function(a, b, c) return a .. b .. c end)(${l.text()})(${l.text()})(${l.text()})`,
    `Utils.curry(function(a, b) return a .. b end, 2)(${l.text()}, ${l.text()})`,
    `Utils.prop("${l.key()}", ${l.object(1)})`,
    `Utils.propEq("${l.key()}", "hi", ${l.object(1)})`,
    `Utils.propEq("a")("b")({a = "b"})`,
    `Utils.capitalize(${l.text()})`,
    `Utils.normalize(${r.pick(['"x-my-name"', '"Action"', '"a_b_c"', '"fooBAR-bAZ"', '"-x--y"', '5', 'nil'])})`,
    `tostring(Utils.matchesSpec(${r.pick(MATCHED)}, ${r.pick(SPECS)}))`,
    `tostring(Utils.matchesPattern(${r.pick(['"_"', '"a"', '"^a$"', '"%a+"', '{"a","b"}', '5', 'nil', 'true', '""', '"a.c"'])}, ${r.pick(['"a"', '"A"', '"abc"', '5', 'nil', '""', '"1"'])}, {}))`,
    'Utils._version'
  ])
}

function badCall (r, l) {
  return r.pick([
    'Utils.map(5, {})', 'Utils.map(print, {a = 1})', 'Utils.filter(print, 5)', 'Utils.reduce(print, 0, {x = 1})',
    'Utils.find(5, {})', 'Utils.find(print, 5)', 'Utils.concat(5, {})', 'Utils.concat({}, 5)', 'Utils.reverse(5)',
    'Utils.includes(1, 5)', 'Utils.keys(5)', 'Utils.values(nil)', 'Utils.curry(5)', 'Utils.prop("a", 5)',
    'Utils.propEq("a", 5, {})', 'Dump({}, -1)', 'Dump({}, "x")', 'Send()', 'Send("x")', 'Spawn("M")',
    'Spawn(nil, {})', 'Assign()',
    'Assign({Processes = 5})', 'Assign({Processes = {}})', 'Handlers.add()', 'Handlers.add("x")',
    'Handlers.add(5, "x", print)',
    'Handlers.add("x", 5, print)', 'Handlers.remove()', 'Handlers.before(5)', 'Handlers.after()', 'Handlers.once()',
    'Handlers.before("_eval").add("x")', 'Handlers.utils.reply(5)', 'Handlers.utils.hasMatchingTag(1)',
    'Handlers.utils.hasMatchingTagOf("x", 1)', 'Handlers.utils.hasMatchingData(1)', 'Receive()', 'Receive(5)',
    'Handlers.evaluate()', 'Handlers.evaluate({})', 'ao.isTrusted()', 'ao.normalize({})', 'ao.result()',
    'ao.addAssignable()', 'ao.addAssignable(5, {})',
    'ao.removeAssignable()', 'Tab()', 'Tab({})', 'require("json").encode(print)', 'require("json").encode({1, nil, 3})',
    'require("json").decode("{bad")', 'require("json").decode("")', 'require("json").decode(5)',
    'require("json").decode("[1,")', 'require("json").encode({a = 1, [1] = 2})',
    'require(".bint")(256)("x")', 'require(".bint")(256).udivmod(1, 0)', 'require(".chance").seed()',
    'require(".chance").seed("x")', 'require(".chance").integer(5, 1)',
    'math.random(0)', 'math.random("x")', 'require(".stringify").format(5)', 'require(".pretty").tprint(5)',
    'require(".pretty").tprint({print})', '{[true] = 1}',
    'error("boom")', 'error("boom", 0)', 'error("boom", 2)', 'nofunction()', 'local t = nil; return t.x', '({}).x.y',
    '1 + {}', '{} .. "x"', '#5', '1 < "2"',
    'assert(false)', 'assert(nil, "message")', 'string.rep()', '("x"):nomethod()', 'setmetatable(1, {})',
    'tostring()', 'select(0)',
    'string.format("%d", 1.5)', 'math.floor("x")', 'load("x = = 1")()',
    'coroutine.wrap(function() error("inside") end)()',
    `error(${l.text()})`, 'error(error)', 'ipairs()', 'string.format("%y", 1)', 'math.tointeger({}) + 1',
    'table.concat({{}})', '("x"):rep(1e10)', 'utf8.char(-1)',
    'x = = 1', 'return return', 'for i = 1, 2 do', 'foo(', '1 +', 'goto nowhere', 'local 5 = x', '"unfinished',
    '[[unfinished', 'end', 'break', '}', 'x y', '0x', '--[[',
    'function f( return end', 'if true then', 'local function', 'a.b:c = 1', '::a:: ::a::', '"\\q"', '"\\300"', "'a\nb'"
  ])
}

function libraryCall (r, l) {
  const big = () => `b("${r.maybe(0.3) ? '-' : ''}${1 + r.below(9)}${r.times(r.below(60), () => r.below(10)).join('')}")`
  return r.pick([
    `require("json").encode(${l.array(2)})`,
    `Dump(require("json").decode(${r.pick(["'[1,2.5,\"a\",null,true,{\"b\":[]}]'", "'{\"a\":{\"b\":-1e3},\"c\":\"\\\\u00e9\"}'", "'5'", "'\"x\"'", "'[]'", "'true'"])}))`,
    `Dump(require("json").decode(require("json").encode({a = ${l.text()}, b = {${l.text()}, ${r.below(1000)}, 1.5, true}})))`,
    `require(".base64").encode(${l.text()})`,
    `require(".base64").decode(require(".base64").encode(${l.text()}))`,
    `(function() local b = require(".bint")(256) return tostring(${big()} ${r.pick(['+', '-', '*', '//', '%', '&', '|', '~'])} ${big()}) end)()`,
    `(function() local b = require(".bint")(256) return tostring(${big()} ${r.pick(['<', '<=', '==', '>', '~='])} ${big()}) end)()`,
    `(function() local b = require(".bint")(${r.pick([64, 128, 256, 512, 1024])}) return tostring(-${big()}) .. b.tobase(${big()}, ${r.pick([2, 10, 16, 36])}) end)()`,
    `string.format("%5.2f|%d|%x|%s|%q|%g|%10s|%-5s|", ${r.below(1000)} / 7, ${r.below(99)}, ${r.below(9999)}, ${l.text()}, ${l.text()}, ${l.number()}, "r", "l")`,
    `("${r.pick(['hello world', 'a,b,,c', 'x=1, y=2'])}"):gsub("${r.pick(['%w+', ',', '(%w)=(%w)', 'o'])}", "${r.pick(['<%0>', '', '%%'])}")`,
    `table.concat({${r.times(4, () => r.below(99)).join(', ')}}, ${l.text()})`,
    `string.byte(${l.text()}, 1, -1)`,
    `math.type(${l.number()})`, `math.floor(${r.below(1000)} / 7)`, `${r.below(100)} // ${1 + r.below(9)}`,
    `${r.below(100)} % -${1 + r.below(9)}`, `7.5 // ${1 + r.below(4)}`, `1 << ${r.below(70)}`,
    `tostring(${l.number()})`, `tonumber(${l.text()})`, `tonumber("${r.below(100)}", ${10 + r.below(20)})`,
    `math.max(${l.number()}, 3)`, `math.sqrt(${r.below(50)})`, `math.sin(${r.below(50)})`, `2 ^ ${r.below(80)}`,
    `math.exp(${r.below(20)})`, `math.log(${1 + r.below(50)}, ${2 + r.below(9)})`, `math.fmod(${r.below(100)}, 7)`,
    `bit32.band(${r.below(9999)}, ${r.below(9999)})`, `bit32.lshift(1, ${r.below(40)})`,
    `utf8.len(${l.text()})`, `#${l.text()}`, `string.rep(${l.text()}, ${r.below(5)}, "-")`,
    `string.pack(">I4", ${r.below(99999)}):byte(1, -1)`, 'os.date("%Y-%m-%d", 0)', 'select("#", nil, nil)',
    'math.random()', `math.random(${1 + r.below(100)})`, `math.random(${r.below(10)}, ${10 + r.below(100)})`,
    `(function() local c = require(".chance") c.seed(${r.below(100000)}) return c.random() .. " " .. c.integer(1, 1000) end)()`,
    'os.time()', '_VERSION', 'tostring(next({}))', `require(".crypto.init").digest.sha2_512(${l.text()}).asHex()`,
    `require(".crypto.init").digest.sha3_256(${l.text()}).asHex()`,
    `require(".crypto.init").digest.sha2_256(require(".crypto.init").utils.stream.fromString(${l.text()})).asHex()`
  ])
}

const LOOKS = [
  'Owner', 'Name', '#Inbox', 'ao.reference', 'ao.id', 'ao._module', 'ao._version', 'ao.Nonce', 'Dump(ao.authorities)',
  'Dump(ao.assignables)', 'Dump(ao.env)', 'Dump(ao.outbox)',
  'Dump(ao.nonExtractableTags)', 'ao.nonForwardableTags', 'Colors', 'Bell', 'tostring(Seeded)', 'Prompt()',
  'Version()', 'Dump(Errors)', 'Dump(HANDLER_PRINT_LOGS)', 'Dump(Inbox[#Inbox])', 'Dump(Inbox[1])',
  'Dump(Handlers.list)', 'Handlers.onceNonce', '#Handlers.coroutines', 'Dump(Handlers.list, 0)',
  'Tab({Tags = {{name = "a", value = "b"}, {name = "a", value = "c"}}})',
  '(function() local r = {} for i, h in ipairs(Handlers.list) do r[i] = h.name .. ":" .. type(h.pattern) .. ":" .. tostring(h.maxRuns) end return table.concat(r, " ") end)()',
  'require(".process")._version', 'require(".stringify").isSimpleArray({1, "a"})',
  'tostring(ao.isTrusted({From = ao.authorities[1], Owner = "z"}))', 'tostring(ao.isAssignment({Target = "z"}))',
  'Dump(ao.normalize({Tags = {{name = "Foo", value = "1"}, {name = "Data", value = "2"}}}))',
  'Dump(ao.sanitize({Id = "i", Foo = {a = 1}, Tags = {}, Data = "d"}))', 'Dump(ao.clone({a = {1, 2}, b = "c"}))',
  'Dump(ao.result({Output = "o"}))', 'Dump(ao.result({Error = "e"}))',
  'tostring(ao == require("ao") and ao == require(".ao") and Handlers == require(".handlers") and Utils == require(".utils"))'
]

const CHANGES = [
  'Name = "renamed"', 'Name = "x"', 'Inbox = {}', 'Colors.red = Colors.red',
  'ao.addAssignable("go", {Action = "Go"})', 'ao.addAssignable({X = "1"})', 'ao.removeAssignable("go")',
  'ao.removeAssignable(1)',
  'ao.authorities = {}', 'table.insert(ao.authorities, string.rep("C", 43))', 'ao.log("logged")', 'ao.clearOutbox()',
  'ao.registerHint({From = "x"})', 'State = (State or 0) + 1 return State', 'Prompt = Prompt',
  'Prompt = function() return "custom> " end',
  'local colors, inbox = Colors, Inbox Prompt = function() return Name .. #Inbox .. "$ " end',
  'Handlers.remove("_eval")', 'Handlers.remove("_default")',
  'Handlers.list = {}', 'Errors = {}', 'Handlers.utils = Handlers.utils', 'math.randomseed(5)',
  'require(".chance").seed(77)', 'function shared(a) return a .. "!" end return shared("s")',
  'local function _loaded_mod() local M = {} function M.twice(x) return x * 2 end return M end _G.package.loaded["my.mod"] = _loaded_mod() return require("my.mod").twice(21)'
]

const OTHERS = [
  'ao.init(ao.env) return Dump(ao.authorities)', 'return tostring(ao.isAssignable({Target = "z", Action = "Go"}))',
  'ao.log("a") ao.log({b = 1}) return Dump(ao.outbox)',
  'ao.addAssignable("tour", {Tour = "1"}) ao.removeAssignable("tour")',
  'Send({Target = "T"}) ao.clearOutbox() return Dump(ao.outbox)',
  'return Dump(pcall(Handlers.evaluate, {Tags = {}}, {}))',
  'return Handlers.generateResolver({[{X = "1"}] = function(m) return m.X end})({X = "1"})',
  'return Bell .. ao._version',
  'return Handlers.generateResolver(print) == print',
  'return Utils.normalize("a-b_c") .. tostring(Utils.matchesSpec({X = "1"}, {X = "^%d$"}))',
  'return require(".dump") == Dump', 'require(".eval")(ao)({Data = "1 + 1"}) return "evaluated"',
  'require(".default")(function(m) print("inserted") end)({From = "abcdefgh", Data = "d"})',
  'return type(require(".boot")(ao))',
  'local other = {} require(".assignment").init(other) return Dump(Utils.keys(other) and #Utils.keys(other))',
  'Handlers.onceNonce = Handlers.onceNonce + 1 return Handlers.onceNonce', 'return #Handlers.coroutines >= 0',
  'Handlers.add("tour", Handlers.utils.continue({Tour = "1"}), Handlers.utils.reply("toured"))',
  'Handlers.remove("tour")',
  'return Handlers.utils.hasMatchingTag("A", "b")({Tags = {A = "b"}})',
  'return Handlers.utils.hasMatchingTagOf("A", {"b"})({Tags = {A = "c"}})',
  'return Handlers.utils.hasMatchingData("d")({Data = "d"})', 'return Utils.find(function(x) return x > 1 end)({1, 2})',
  'return Utils.compose(tostring, function(x) return x * 2 end)(4)',
  'return Utils.curry(function(a, b) return a - b end)(5)(3)',
  'return Utils.prop("a")({a = 1})', 'return Utils.filter(function(x) return x end)({1, 2})',
  'return Utils.values({5})[1] + Utils.keys({5})[1]', 'return require(".crypto.init")._version',
  'return Utils.concat({1})({2})', 'return tostring(Utils.propEq("a", "b", {a = "b"}))',
  'return Utils.reverse({1, 2, 3})',
  'return Handlers.receive == Receive', 'ao.assign({Processes = {"A"}, Message = "tour"})',
  'return require(".base64").encode("x") .. require("json").encode({1})',
  'return tostring(require(".bint")(64)(5))', 'return require(".chance").integer(3, 3)',
  'return Utils.map(tostring)({1})',
  'return require(".stringify").format({1}) .. require(".pretty").tprint({1})',
  'return Utils.reduce(math.max, 0, {1, 5, 3})',
  'Handlers.add("replier", {Tour = "2"}, function(m) m.reply({}) m.forward("F") end)',
  'Assign({Processes = {}, Message = "tour"})',
  'Handlers.append("tour2", {Tour = "3"}, print) Handlers.before("tour2").add("tour1", {Tour = "3"}, print)',
  'Handlers.after("tour2").add("tour3", {Tour = "3"}, print) Handlers.prepend("tour0", {Tour = "3"}, print)',
  'Handlers.once({Tour = "4"}, print) ao.send({Target = "T"}).onReply(function(m) print(m.Data) end)',
  'return Dump(ao.spawn("MOD", {}).Tags)',
  'Spawn("MOD", {}) return type(Send({Target = "T"}).receive)',
  'if Tour then Receive("Never") Send({Target = "T"}).receive() end',
  'return Utils.includes(2)({1, 2})', 'return Utils.capitalize("aBC")',
  'return tostring(Utils.matchesPattern({"a", "^b"}, "bc", {}))'
]

/** What every stream has to use; `ao.assign(` and the like stand for themselves. */
export const NAMES = `Assign Bell Colors Dump Errors HANDLER_PRINT_LOGS Inbox Name Owner Prompt Receive Seeded Send Spawn Tab Version
ao.Nonce ao._module ao._version ao.addAssignable ao.assign( ao.assignables ao.authorities ao.clearOutbox ao.clone ao.env ao.id ao.init
ao.isAssignable ao.isAssignment ao.isTrusted ao.log ao.nonExtractableTags ao.nonForwardableTags ao.normalize ao.outbox ao.reference
ao.registerHint ao.removeAssignable ao.result ao.sanitize ao.send ao.spawn Handlers.add Handlers.append Handlers.prepend Handlers.once
Handlers.before Handlers.after Handlers.remove Handlers.evaluate Handlers.receive Handlers.generateResolver Handlers.coroutines
Handlers.onceNonce Handlers.list Handlers.utils.reply Handlers.utils.continue hasMatchingTag( hasMatchingTagOf hasMatchingData Utils.map
Utils.filter Utils.reduce Utils.find Utils.concat Utils.reverse Utils.includes Utils.compose Utils.curry Utils.prop( Utils.propEq
Utils.keys Utils.values Utils.normalize Utils.capitalize Utils.matchesSpec Utils.matchesPattern .reply .forward .receive( .onReply
(".stringify") (".pretty") (".chance") (".bint") (".base64") (".crypto.init") (".dump") (".eval") (".default") (".boot") (".assignment")
(".process") (".handlers") (".utils") (".ao") ("ao") ("json")`.split(/\s+/)

function sending (r, l) {
  const target = r.pick(['"T"', 'ao.id', `"${r.pick(WALLETS)}"`, '"0xabc"'])
  const fields = [`Target = ${target}`]
  if (r.maybe(0.7)) fields.push(`Action = "${r.pick(['Go', 'Ask', 'Transfer'])}"`)
  if (r.maybe(0.6)) fields.push(`Data = ${r.pick([l.text(), l.object(2), l.numbers(), '5', 'nil', 'true'])}`.replace(/math.huge|0\/0/g, '1'))
  if (r.maybe(0.4)) fields.push(`Tags = ${r.pick(['{A = "1", B = "2"}', '{{name = "A", value = "1"}, {name = "B", value = "2"}}', '{}', '{N = 5, F = print}', '{["X-Y"] = "z"}'])}`)
  if (r.maybe(0.3)) fields.push(`["${r.pick(['Content-Type', 'X-Foo', 'Quantity', 'Reference', 'Variant'])}"] = ${r.pick(['"v"', '"application/json"', '7', 'true'])}`)
  if (r.maybe(0.1)) fields.push(`From = "me", Anchor = "an", Cron = true`)
  if (r.maybe(0.1)) fields.push(`Assignments = {"A", "B"}`)
  if (r.maybe(0.05)) fields.shift()
  const given = `{${fields.join(', ')}}`
  return r.pick([
    `Send(${given})`, `Send(${given})`, `ao.send(${given}) return "sent"`, `Dump(ao.send(${given}))`,
    `Dump(Send(${given}))`, `local t = ${given} Send(t) return Dump(t)`,
    `local m = ao.send(${given}) m.Extra = 1 m.Target = "other" return "changed"`, `Spawn(ao._module, ${given})`,
    `Dump(ao.spawn("MOD", ${given}))`, `Spawn(${given})`,
    `Spawn("MOD", {Data = "return 1", Tags = {["On-Boot"] = "Data"}})`,
    `Assign({Processes = {"A", "B"}, Message = "${r.below(99)}"})`,
    `ao.assign({Processes = {${target}}, Message = "m", BaseLayer = true, Exclude = {"Data"}})`,
    `Assign({Processes = {}, Message = "e"})`
  ])
}

function waiting (r) {
  return r.pick([
    'local m = Receive({Action = "Go"}) print("received " .. tostring(m.Data)) return m.Action',
    'local m = Receive("Ask") print("asked " .. m.From:sub(1, 3))',
    'local m = Receive(function(m) return m.X == "1" end) print("X=1 " .. m.Id)',
    'local m = Send({Target = "T", Action = "Ask"}).receive() print("answer " .. m.Data) return "end"',
    'local m = Send({Target = "T"}).receive(ao.id) print("own " .. m.Data)',
    'Send({Target = "T"}).onReply(function(m) print("reply " .. m.Data) end)',
    'ao.send({Target = "T"}).onReply("V", function(m) print("reply of V " .. m.Data) end)',
    'local p = Spawn(ao._module, {Data = "x"}).receive() print("spawned " .. tostring(p.Process))',
    'ao.spawn(ao._module, {}).onReply(function(m) print("child " .. tostring(m.Process)) end)',
    'local a = Receive("Go") local b = Receive("Ask") print(a.Id == b.Id, a.Action .. b.Action) return a.Action .. b.Action',
    'Receive("Go") error("after receive")', 'coroutine.yield("by hand")',
    'Handlers.once("Go", function(m) print("once " .. m.Action) end)',
    'Handlers.once("named", {X = "2"}, function(m) print("once named") end)',
    'Handlers.receive({Action = "Transfer"}) print("transfer seen")'
  ])
}

const BODIES = [
  'function(m) print("%NAME% " .. tostring(m.Action)) end',
  'function(m) m.reply({Action = "Pong", Data = "pong of %NAME%"}) end',
  'function(m) m.reply({Data = {ok = true}, N = 1}) print("replied") end',
  'function(m) m.forward("FWD", {Extra = "%NAME%"}) end', 'function(m) Count = (Count or 0) + 1 print(Count) end',
  'function(m) Send({Target = m.From, Data = m.Data}) end',
  'function(m) local a = Send({Target = m.From, Action = "Ask"}).receive() print("%NAME% got " .. tostring(a.Data)) m.reply({Data = "later"}) end',
  'function(m) error("bad %NAME%") end', 'function(m) local n = nil; return n.x end',
  'function(m) print(Dump(m)) end', 'function(m) print({m.Action, #Inbox}) return "ignored" end',
  'function(m, e) print(tostring(e)) print(os.time()) end',
  'Handlers.utils.reply("auto")', 'Handlers.utils.reply({Action = "Auto", Data = "d"})',
  '{[{X = "1"}] = function(m) print("%NAME% resolver") end}',
  'function(m) Handlers.remove("%NAME%") print("removed") end',
  'function(m) Spawn(ao._module, {Data = m.Data}) Assign({Processes = {m.From}, Message = m.Id}) end',
  'function(m) print(m.Tags) m.reply({Target = "else", ["X-Reference"] = "own"}) end',
  'function(m) Receive({X = "2"}) print("%NAME% resumed") end', 'function(m) print(m.Data) print(type(m.Data)) end'
]

const PATTERNS = [
  '"Go"', '"Ask"', '"Transfer"', '{Action = "Go"}', '{Action = "Go", X = "_"}', '{X = {"1", "2"}}', '{X = "^%d+$"}',
  '{X = function(v) return v == "3" end}', '{Data = "ping"}', '{From = "' + WALLETS[0] + '"}',
  'function(m) return m.X == "1" end', 'function(m) return m.X == "2" and "continue" or false end',
  'function(m) return m.X == "3" and -1 or 0 end', 'function(m) return m.Action == "Go" and 1 or "skip" end',
  'function(m) return m.X == "4" and "break" or false end',
  'Handlers.utils.hasMatchingTag("Action", "Ask")', 'Handlers.utils.hasMatchingTagOf("X", {"1", "5"})',
  'Handlers.utils.hasMatchingData("ping")', 'Handlers.utils.continue("Go")', 'Handlers.utils.continue({X = "5"})',
  '{["X-Foo"] = "a b"}', '{}', 'function(m) if m.X == "6" then return nil end return false end',
  'function(m) if m.X == "7" then error("in pattern") end return false end',
  'function(m) return m.X == "8" and {} or false end'
]

function handling (r) {
  const name = `h${r.below(8)}`
  const body = r.pick(BODIES).replaceAll('%NAME%', name)
  const pattern = r.pick(PATTERNS)
  const where = `h${r.below(8)}`
  return r.pick([
    `Handlers.add("${name}", ${pattern}, ${body})`, `Handlers.add("${name}", ${pattern}, ${body})`,
    `Handlers.add("${name}", ${pattern}, ${body}, ${r.pick(['1', '2', '"inf"', 'nil'])})`,
    `Handlers.append("${name}", ${pattern}, ${body})`, `Handlers.prepend("${name}", ${pattern}, ${body})`,
    `Handlers.once("${name}", ${pattern}, ${body})`, `Handlers.once(${pattern}, ${body})`,
    `Handlers.add("${r.pick(['Go', 'Ask'])}", ${body})`,
    `Handlers.before("${where}").add("${name}", ${pattern}, ${body})`,
    `Handlers.after("${where}").add("${name}", ${pattern}, ${body}, 1)`, `Handlers.remove("${name}")`,
    `Handlers.remove("${where}")`, `Handlers.remove("${where}")`
  ])
}

const TOKEN = `
local bint = require(".bint")(256)
Balances = {[ao.id] = tostring(bint(1000000)), ["${WALLETS[0]}"] = "500"}
local function add(a, b) return tostring(bint(a) + bint(b)) end
local function subtract(a, b) return tostring(bint(a) - bint(b)) end
Handlers.add("t-info", "Info", function(m) m.reply({Name = "Coin", Ticker = "CN", Denomination = "12"}) end)
Handlers.add("t-balance", "Balance", function(m)
  local who = m.Tags.Recipient or m.Tags.Target or m.From
  m.reply({Balance = Balances[who] or "0", Ticker = "CN", Account = who, Data = Balances[who] or "0"})
end)
Handlers.add("t-balances", "Balances", function(m)
  local sorted = {}
  for _, who in ipairs(Utils.keys(Balances)) do sorted[#sorted + 1] = who end
  table.sort(sorted)
  m.reply({Data = Utils.map(function(who) return who .. "=" .. Balances[who] end, sorted)})
end)
Handlers.add("t-transfer", "Transfer", function(m)
  assert(type(m.Recipient) == "string", "Recipient is required!")
  assert(type(m.Quantity) == "string" and bint.__lt(0, bint(m.Quantity)), "Quantity must be greater than 0")
  local from = Balances[m.From] or "0"
  if bint(m.Quantity) <= bint(from) then
    Balances[m.From] = subtract(from, m.Quantity)
    Balances[m.Recipient] = add(Balances[m.Recipient] or "0", m.Quantity)
    Send({Target = m.Recipient, Action = "Credit-Notice", Sender = m.From, Quantity = m.Quantity})
    m.reply({Action = "Debit-Notice", Recipient = m.Recipient, Quantity = m.Quantity, Data = Colors.gray .. "You transferred " .. Colors.blue .. m.Quantity .. Colors.reset})
  else
    m.reply({Action = "Transfer-Error", Error = "Insufficient Balance!"})
  end
end)
Handlers.add("t-mint", "Mint", function(m)
  if m.From == ao.id or m.From == Owner then
    Balances[m.From] = add(Balances[m.From] or "0", m.Quantity)
    m.reply({Data = "minted " .. m.Quantity})
  else
    m.reply({Action = "Mint-Error", Error = "Only the Process Id can mint new tokens!"})
  end
end)
return "token"`

/* --- Messages --- */

function evalSource (r, l) {
  const ways = [
    [5, () => `return ${l.value()}`], [2, () => l.scalar()], [4, () => `print(${l.value()}) return ${l.value()}`],
    [2, () => r.times(3, () => `print(${l.scalar()})`).join(' ')],
    [4, () => `return Dump(${l.value()})`], [1, () => `return Dump(${l.value()}, ${r.below(5)})`],
    [2, () => `return require(".stringify").format(${l.array(3)}, ${r.below(4)})`],
    [1, () => `return require(".pretty").tprint({${r.times(4, () => l.scalar()).join(', ')}}, ${r.below(3)})`],
    [9, () => `return ${utilsCall(r, l)}`], [9, () => `return (${libraryCall(r, l)})`],
    [9, () => badCall(r, l)], [12, () => `return ${r.pick(LOOKS)}`], [5, () => r.pick(CHANGES)],
    [12, () => sending(r, l)], [8, () => waiting(r)], [14, () => handling(r)]
  ]
  let at = r.below(ways.reduce((sum, [weight]) => sum + weight, 0))
  for (const [weight, make] of ways) {
    if (at < weight) return make()
    at -= weight
  }
}

function tagsOf (r, sent) {
  const tags = {}
  if (r.maybe(0.8)) tags[r.pick(['Action', 'Action', 'Action', 'action'])] = r.pick(['Go', 'Go', 'Ask', 'Transfer', 'Balance', 'Balances', 'Info', 'Mint', 'Unknown', 'A very long action that has no handler'])
  if (r.maybe(0.6)) tags.X = String(r.below(10))
  if (r.maybe(0.4)) tags.Reference = String(r.below(100))
  if (r.maybe(0.5)) tags['X-Reference'] = String(Math.max(1, sent - r.below(12)))
  if (r.maybe(0.1)) tags['Reply-To'] = r.pick(WALLETS)
  if (r.maybe(0.1)) tags['X-Origin'] = 'origin'
  if (r.maybe(0.1)) tags['x-foo'] = 'A B'
  if (r.maybe(0.1)) tags[r.pick(['fooBar', 'x_y_z', 'Id', 'Timestamp', 'TagArray', 'reply', 'From-Process', 'data', 'Name', 'Nonce'])] = 'tagged'
  if (/^(Transfer|Balance|Mint)/.test(tags.Action ?? '')) {
    if (r.maybe(0.9)) tags.Recipient = r.pick([...WALLETS, PROCESS])
    if (r.maybe(0.9)) tags.Quantity = r.pick(['1', '7', '100', '99999999', '0', '-5', 'x'])
  }
  return tags
}

function trigger (r, nonce, sent) {
  const tags = tagsOf(r, sent)
  const given = { tags, Data: r.pick(['ping', 'hello', ' ', '', 'a longer text than twenty characters', '1 + 1']) }
  const sender = r.below(10)
  if (sender < 4) given.Owner = r.pick(WALLETS)
  else if (sender < 7) Object.assign(given, { Owner: AUTHORITY, From: r.pick(['T', 'V', 'W', PROCESS, ...WALLETS]) })
  else if (sender < 8) Object.assign(given, { Owner: 'Z'.repeat(43), From: 'Y'.repeat(43) })
  if (r.maybe(0.08)) Object.assign(given, { Target: 'E'.repeat(43) })
  if (r.maybe(0.06)) Object.assign(given, { tags: { ...tags, 'Content-Type': 'application/json' }, Data: r.pick(['{"a":[1,2,{"b":null}]}', '[]', '"text"', '5', '{broken', ' ']) })
  if (r.maybe(0.04)) Object.assign(given, { Cron: true, Id: undefined, Signature: undefined, Epoch: undefined, Nonce: undefined, 'Hash-Chain': undefined, Data: undefined, Anchor: undefined })
  if (r.maybe(0.04)) Object.assign(given, { 'Read-Only': true })
  if (r.maybe(0.04)) Object.assign(given, { Owner: AUTHORITY, From: PROCESS, tags: { Action: 'Spawned', Reference: String(Math.max(1, sent - r.below(6))), Process: 'NEW', 'From-Process': PROCESS } })
  if (r.maybe(0.03)) Object.assign(given, { tags: { ...tags, Action: 'Eval' } })
  return message(nonce, given)
}

const CURED = 'Handlers.list = {} Inbox = {} Name = "x"'

/** `count` messages. Each wants the outcome of the one before, so that replies can name references that exist. */
export function * stream (seed, count) {
  const r = random(seed)
  const l = lua(r)
  let sent = 1
  const reference = (outcome) => { sent = Math.max(sent, ...(outcome?.Messages ?? []).map((m) => Number(m.Anchor) || 0), ...(outcome?.Spawns ?? []).map((m) => Number(m.Anchor) || 0)) }
  const evaluate = (nonce, Data) => message(nonce, { Data, tags: { Action: 'Eval' } })
  const tour = [...LOOKS.map((look) => `return ${look}`), ...CHANGES, ...OTHERS]
  const nextOfTour = () => tour.splice(r.below(tour.length), 1)[0]
  const onBoot = r.maybe(0.5)
  yield boot(onBoot ? tagList({ 'On-Boot': 'Data' }) : [], onBoot ? { Data: 'print("booted") Booted = true return 5' } : {})
  for (let nonce = 1; nonce < count; nonce++) {
    let item
    if (nonce === 40 || (nonce > 40 && r.maybe(0.004))) item = evaluate(nonce, TOKEN)
    else if (nonce % 150 === 149) item = evaluate(nonce, CURED)
    else if (r.maybe(0.4)) item = trigger(r, nonce, sent)
    else if (tour.length > 0 && (r.maybe(0.3) || nonce > count * 0.85)) item = evaluate(nonce, nextOfTour())
    else item = evaluate(nonce, evalSource(r, l))
    reference(yield item)
  }
}
