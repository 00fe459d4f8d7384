---@meta
-- What a `*_spec.lua` finds under `weft test`. Generated: change api.toml instead.

---A message in an outbox. Every tag is also a field: `message.Quantity`.
---@class SpecMessage
---@field Target string # Whom it is for.
---@field Data? string # Its data.
---@field Anchor? string # What tells otherwise equal messages apart.
---@field Tags table # Its tags: a list of { name, value }, and each value by its name.
---@field [string] any # A tag.

---What one message came to.
---@class SpecOutcome
---@field Messages SpecMessage[] # Messages it sends.
---@field Spawns SpecMessage[] # Processes it asks for.
---@field Assignments table[] # Assignments it asks for.
---@field Output any # What it prints or answers.
---@field Error? any # Why the state is what it was before.
---@field GasUsed integer # Gas, where the module counts it.
---@field message fun(self: SpecOutcome, wanted?: table): SpecMessage|nil # The first message with these fields and tags.
---@field messages fun(self: SpecOutcome, wanted?: table): SpecMessage[] # All messages with these fields and tags.
---@field text fun(self: SpecOutcome): string # The output as text, without colours.

---A process under test. What a test does to it, no other test sees.
---@class SpecProcess
---@field id string # Its id.
---@field name string # Its name.
---@field owner string # Who owns it.
---@field send fun(self: SpecProcess, message: table): SpecOutcome # Sends a message. `From` is the owner if left out; fields that are none of a message's own become tags.
---@field dry fun(self: SpecProcess, message: table): SpecOutcome # The same, but nothing changes.
---@field eval fun(self: SpecProcess, code: string): string, SpecOutcome # Evaluates Lua as the owner; answers what the shell would print. An error of the code is raised.
---@field get fun(self: SpecProcess, expression: string): any # The value of a Lua expression in the process: `p:get("Balances.alice")`.
---@field handlers fun(self: SpecProcess): string[] # The names of its handlers, in order.

---What a pump did.
---@class SpecPumped
---@field delivered SpecMessage[] # Messages that processes here got, in order.
---@field outcomes SpecOutcome[] # What each of them came to.
---@field unknown SpecMessage[] # Messages for accounts and processes that are not here.
---@field spawned SpecProcess[] # Processes that were made.
---@field dropped string[] # What could not be sent, and why.
---@field message fun(self: SpecPumped, wanted?: table): SpecMessage|nil # The first message, delivered or unknown, with these fields and tags.

---@class clock
clock = {}

---@class block
block = {}

---@class json
json = {}

---The account that signs what processes send: every process trusts it.
---@type string
authority = nil

---luassert: `assert.equal(expected, actual)`, `assert.same`, `assert.is_true`, `assert.has_error`, ...
---@type any
assert = nil

---`spy.new(fn)`, `spy.on(table, key)`.
---@type any
spy = nil

---`stub(table, key, ...)`.
---@type any
stub = nil

---`mock(table, is_stub)`.
---@type any
mock = nil

---Matchers: `match._`, `match.is_string()`, `match.is_same(t)`.
---@type any
match = nil

---A block of tests. Its body runs first, then its tests; then everything is as before.
---@param name string
---@param body fun()
function describe(name, body) end

---As `describe`.
---@param name string
---@param body fun()
function context(name, body) end

---As `describe`, and globals and loaded modules are put back as well.
---@param name string
---@param body fun()
function insulate(name, body) end

---As `insulate`.
---@param name string
---@param body fun()
function expose(name, body) end

---A test.
---@param name string
---@param body? fun() # Pending if left out.
function it(name, body) end

---As `it`.
---@param name string
---@param body? fun()
function test(name, body) end

---As `it`.
---@param name string
---@param body? fun()
function spec(name, body) end

---A test that is not run; within a test, ends it as pending.
---@param name string
---@param body? fun()
function pending(name, body) end

---Runs before each test of the block.
---@param body fun()
function before_each(body) end

---Runs after each test of the block, whatever came of it.
---@param body fun()
function after_each(body) end

---Runs once, before the tests of the block.
---@param body fun()
function setup(body) end

---Runs once, after the tests of the block.
---@param body fun()
function teardown(body) end

---As `setup`, but only if a test of the block runs.
---@param body fun()
function lazy_setup(body) end

---As `teardown`, but only if a test of the block ran.
---@param body fun()
function lazy_teardown(body) end

---Within a test: runs at its end, whatever came of it.
---@param body fun()
function finally(body) end

---Makes a process, and loads files into it.
---@param options? { load?: string|string[], source?: string, name?: string, owner?: string|SpecProcess, tags?: table, module?: string, data?: any } # `load`: Lua files, beside the spec or in the current folder. `source`: Lua text. `module`: a file, the aos kernel if left out.
---@return SpecProcess
function spawn(options) end

---Delivers what processes sent, and what comes of that, until nothing is on its way.
---@param bound? integer # Most deliveries before the test fails; 1000 if left out.
---@return SpecPumped
function pump(bound) end

---The id of an account: the same name, the same id.
---@param name string
---@return string
function wallet(name) end

---A value as text.
---@param value any
---@return string
function inspect(value) end

---The time that the next message carries, in milliseconds. It goes on by 1 with each message.
---@return integer
function clock.now() end

---Sets the time; it never goes back.
---@param ms integer
---@return integer
function clock.set(ms) end

---Lets time pass.
---@param ms integer
---@return integer
function clock.advance(ms) end

---The block height that the next message carries.
---@return integer
function block.height() end

---Sets the block height; it never goes back.
---@param height integer
---@return integer
function block.set(height) end

---Lets blocks pass.
---@param count? integer
---@return integer
function block.advance(count) end

---A value as JSON text.
---@param value any
---@return string
function json.encode(value) end

---The value that a JSON text says.
---@param text string
---@return any
function json.decode(text) end
