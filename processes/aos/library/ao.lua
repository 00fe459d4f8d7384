---@meta
-- What a process tells the outside, and whom it trusts. `Send`, `Spawn` and `Assign` are the short forms. Generated: change api.toml instead.

---The process and its module, as they were made.
---@class ao.Env
---@field Process { Id: Id, Owner: Id, Tags: table<string, string>, TagArray: Tag[] } # The process item.
---@field Module { Id: Id, Owner: Id, Tags: table<string, string> } # The module item.

---What this message sends.
---@class ao.Outbox
---@field Output table # What is shown to whoever asks.
---@field Messages table[] # Messages.
---@field Spawns table[] # Processes to make.
---@field Assignments table[] # Assignments.

---@class ao
ao = {}

---The id of this process.
---@type Id
ao.id = nil

---The id of its module.
---@type Id
ao._module = nil

---The version of this library.
---@type string
ao._version = nil

---The process and its module, as they were made.
---@type ao.Env
ao.env = nil

---Accounts whose signature on a message of another process is believed.
---@type Id[]
ao.authorities = nil

---Patterns of messages that may be assigned to this process.
---@type table[]
ao.assignables = nil

---What this message sends.
---@type ao.Outbox
ao.outbox = nil

---The number of the message sent last.
---@type integer
ao.reference = nil

---The slot of the message at hand.
---@type integer
ao.Nonce = nil

---Tags that do not become fields of a message.
---@type string[]
ao.nonExtractableTags = nil

---Fields that `forward` leaves out.
---@type string[]
ao.nonForwardableTags = nil

---Puts a message into the outbox.
---@param message Draft # What to send, and to whom.
---@return Sent
function ao.send(message) end

---Asks for a new process.
---@param module Id # The module.
---@param message Draft # Tags and data of the process.
---@return Spawned
function ao.spawn(module, message) end

---Asks that processes see a message that is there already.
---@param assignment { Processes: Id[], Message: Id } # Which processes, which message.
function ao.assign(assignment) end

---Whether one of `ao.authorities` stands behind a message.
---@param msg Message
---@return boolean
function ao.isTrusted(msg) end

---Whether a message was sent to somebody else and assigned to this process.
---@param msg Message
---@return boolean
function ao.isAssignment(msg) end

---Whether a message may be assigned to this process.
---@param msg Message
---@return boolean
function ao.isAssignable(msg) end

---Allows assignments of messages that match; renews the rule of that name.
---@param name string # The rule's name.
---@param pattern Pattern # Which messages.
---@overload fun(pattern: Pattern)
function ao.addAssignable(name, pattern) end

---Takes a rule out, by its name or its place.
---@param name string|integer
function ao.removeAssignable(name) end

---Adds to the output of this message.
---@param value any
function ao.log(value) end

---What the process answers: an error and nothing else, or the outbox with an output.
---@param result { Error: any, Output: any }
---@return table
function ao.result(result) end

---Forgets all that this message would send.
function ao.clearOutbox() end

---Takes over who we are from the environment. The kernel calls it.
---@param env ao.Env
function ao.init(env) end

---A deep copy.
---@param value any
---@param seen? table
---@return any
function ao.clone(value, seen) end

---Lifts the tags of a message to its root.
---@param msg Message
---@return Message
function ao.normalize(msg) end

---A copy of a message without what belongs to its delivery.
---@param msg Message
---@return Message
function ao.sanitize(msg) end

---Kept for sources that call it; does nothing.
---@param msg Message
function ao.registerHint(msg) end
