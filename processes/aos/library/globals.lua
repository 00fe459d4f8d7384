---@meta
-- What stands in the global table beside Lua's own. Generated: change api.toml instead.

---The account that owns the process: only it may evaluate. Assign it to hand the process over.
---@type Id
Owner = nil

---The name of the process, from its tag `Name`.
---@type string
Name = nil

---Messages that no handler took; the newest 10,000.
---@type Message[]
Inbox = nil

---Errors of handlers and evaluations.
---@type string[]
Errors = nil

---Escape sequences for text of the terminal: `red`, `green`, `blue`, `gray`, `reset`.
---@type table<string, string>
Colors = nil

---The character that rings a terminal's bell.
---@type string
Bell = nil

---Whether random numbers were seeded.
---@type boolean
Seeded = nil

---What was printed while this message was handled.
---@type string[]
HANDLER_PRINT_LOGS = nil

---Puts a message into the outbox. Waits for the reply with `.receive()`.
---@param message Draft # What to send, and to whom.
---@return Sent
function Send(message) end

---Asks for a new process. Without a module it runs what this one runs.
---@param module Id # The module.
---@param message Draft # Tags and data of the process.
---@return Spawned
---@overload fun(message: Draft): Spawned
function Spawn(module, message) end

---Asks that processes see a message that is there already.
---@param assignment { Processes: Id[], Message: Id } # Which processes, which message.
---@return string
function Assign(assignment) end

---Waits, in the middle of a handler, for a message that matches; answers it.
---@param pattern Pattern # Which message.
---@return Message
function Receive(pattern) end

---The prompt of the shell. Define your own to change it.
---@return string
function Prompt() end

---The tags of a message as a map, from its list.
---@param message Message
---@return table<string, string>
function Tab(message) end

---Prints the version of the kernel.
function Version() end

---A value as Lua source: keys sorted, one text for equal tables.
---@param value any
---@param indent? integer # Spaces of a level; 4 if left out, 0 for all on one line.
---@return string
function Dump(value, indent) end

---What the host calls with each message. Not for processes.
---@param msg table
---@param env table
---@return table
function handle(msg, env) end
