---@meta
-- What messages, patterns and handlers are. Generated: change api.toml instead.

---The id of an item, a process or an account: 43 characters, usually.
---@alias Id string

---What a handler takes. A text is an `Action`. A table has a condition for each field or tag: a text, a Lua pattern, `"_"` for anything, a list of which one must fit, or a function.
---A function answers `true`, -1 or "break" to take the message and end; 1 or "continue" to take it and go on; `false`, 0, "skip" or nil to leave it.
---@alias Pattern string|table<string, string|boolean|string[]|fun(value: any, msg: Message): boolean>|fun(msg: Message): boolean|integer|string|nil

---What a handler does: a function, or a table of patterns and functions of which the first that fits is called.
---@alias Handle fun(msg: Message)|table<Pattern, fun(msg: Message)>

---A tag of a message.
---@class Tag
---@field name string # Its name.
---@field value string # Its value.

---A message as a handler gets it. Every tag is also a field of the message itself: `msg.Quantity`.
---@class Message
---@field Id Id # The id of the message.
---@field From Id # The process it comes from, or the account that signed it.
---@field Owner Id # The account that signed it; the messenger's for messages of processes.
---@field Target Id # Whom it is for.
---@field Data any # The data: text, or what JSON says if `Content-Type` is `application/json`.
---@field Tags table<string, string> # The tags by name; of two of one name the first counts.
---@field TagArray Tag[] # The tags in order.
---@field Action? string # The tag `Action`: what is wanted.
---@field Timestamp integer # When it was scheduled, in milliseconds.
---@field Block-Height integer # The block height then.
---@field Nonce? integer # The slot. None in a dry run.
---@field Epoch? integer # Always 0.
---@field Hash-Chain? string # The hash chain of the log up to this message.
---@field Cron boolean # Whether the process's own cron sent it.
---@field Anchor? string # What tells otherwise equal messages apart.
---@field Reference? string # The sender's number for it.
---@field X-Reference? string # The number of the message that this one replies to.
---@field Reply-To? Id # Whom to reply to, if not the sender.
---@field Forwarded-By? Id # Who passed it on.
---@field [string] any # Each tag by its name.
---@field reply fun(message: Draft): Sent # Sends a message back to `Reply-To`, else to the sender.
---@field forward fun(target: Id, changes?: Draft) # Sends this message on; replies go to the first sender.

---A message to be sent. Every field that is not named here becomes a tag.
---@class Draft
---@field Target? Id # Whom it is for.
---@field Data? any # The data; a table travels as JSON.
---@field Action? string # What is wanted.
---@field Tags? table<string, string>|Tag[] # More tags.
---@field Assignments? Id[] # Processes that shall see the message too.
---@field [string] any # A tag.

---A message in the outbox.
---@class Sent
---@field receive fun(from?: Id): Message # Waits, in the middle of a handler, for the reply; answers it.
---@field onReply fun(from: Id|Handle, handle?: Handle) # Calls a function once with the reply.

---A process that was asked for.
---@class Spawned
---@field receive fun(): Message # Waits for the message `Action = Spawned`; its tag `Process` is the id.
---@field onReply fun(handle: Handle) # Calls a function once with it.

---A handler in the list.
---@class Handler
---@field name string # Its name; adding one of the same name renews it.
---@field pattern Pattern # What it takes.
---@field handle Handle # What it does.
---@field maxRuns? integer|string # How often it runs before it is removed.
