---@meta
-- The list of handlers, and how a message goes through it. Generated: change api.toml instead.

---@class Handlers
Handlers = {}

---@class Handlers.utils
Handlers.utils = {}

---The version of this library.
---@type string
Handlers._version = nil

---The handlers, in the order in which they are asked.
---@type Handler[]
Handlers.list = nil

---Handlers that wait for a message.
---@type thread[]
Handlers.coroutines = nil

---Number of the last handler that `once` named.
---@type integer
Handlers.onceNonce = nil

---The version of this library.
---@type string
Handlers.utils._version = nil

---Adds a handler at the end of the list, or renews the one of that name where it stands.
---@param name string # Its name; also its pattern if there is none.
---@param pattern Pattern # What it takes.
---@param handle Handle # What it does.
---@param maxRuns? integer|string # How often it runs before it is removed.
---@return integer # How many handlers there are.
---@overload fun(name: string, handle: Handle): integer
function Handlers.add(name, pattern, handle, maxRuns) end

---As `Handlers.add`, without an answer.
---@param name string
---@param pattern Pattern
---@param handle Handle
---@param maxRuns? integer|string
---@overload fun(name: string, handle: Handle)
function Handlers.append(name, pattern, handle, maxRuns) end

---Adds a handler at the start of the list, or renews the one of that name.
---@param name string
---@param pattern Pattern
---@param handle Handle
---@param maxRuns? integer|string
---@overload fun(name: string, handle: Handle)
function Handlers.prepend(name, pattern, handle, maxRuns) end

---A handler for one message, before all others.
---@param name string
---@param pattern Pattern
---@param handle Handle
---@overload fun(pattern: Pattern, handle: Handle)
function Handlers.once(name, pattern, handle) end

---Where to add a handler before another one.
---@param name string # The other one.
---@return { add: fun(name: string, pattern: Pattern, handle: Handle, maxRuns?: integer) }
function Handlers.before(name) end

---Where to add a handler behind another one.
---@param name string # The other one.
---@return { add: fun(name: string, pattern: Pattern, handle: Handle, maxRuns?: integer) }
function Handlers.after(name) end

---Takes a handler out.
---@param name string
function Handlers.remove(name) end

---Waits, in the middle of a handler, for a message that matches; answers it.
---@param pattern Pattern # Which message.
---@return Message
function Handlers.receive(pattern) end

---Sends a message through the list. The kernel calls it.
---@param msg Message
---@param env ao.Env
---@return any
function Handlers.evaluate(msg, env) end

---A handle as a function; a table of patterns and functions becomes one that calls the first that fits.
---@param handle Handle
---@return fun(msg: Message)
function Handlers.generateResolver(handle) end

---A pattern: the tag has this value.
---@param name string
---@param value string
---@return fun(msg: Message): boolean
function Handlers.utils.hasMatchingTag(name, value) end

---A pattern: the tag has one of these values.
---@param name string
---@param values string[]
---@return fun(msg: Message): boolean|integer
function Handlers.utils.hasMatchingTagOf(name, values) end

---A pattern: the data are this text.
---@param value string
---@return fun(msg: Message): boolean
function Handlers.utils.hasMatchingData(value) end

---A handle that replies with a text or with a message.
---@param input string|Draft
---@return fun(msg: Message)
function Handlers.utils.reply(input) end

---The pattern, but handlers after this one still see the message.
---@param pattern Pattern
---@return fun(msg: Message): any
function Handlers.utils.continue(pattern) end
