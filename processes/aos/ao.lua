--- What a process tells the outside: messages, spawns, assignments, all gathered in an outbox; and whom it trusts.
-- Not the handlers, and not the shape of incoming messages: see `.handlers` and `.message`.

local handlers = require(".handlers")
local json = require("json")
local ai = require(".ai")

local ao = {
  _version = "0.0.6",
  id = "",
  _module = "",
  ai = ai,
  authorities = {},
  reference = 0,
  Nonce = nil,
  outbox = { Output = {}, Messages = {}, Spawns = {}, Assignments = {} },
  nonExtractableTags = {
    "Data-Protocol", "Variant", "From-Process", "From-Module", "Type", "From", "Owner", "Anchor", "Target", "Data",
    "Tags", "Read-Only",
  },
  nonForwardableTags = {
    "Data-Protocol", "Variant", "From-Process", "From-Module", "Type", "From", "Owner", "Anchor", "Target", "Tags",
    "TagArray", "Hash-Chain", "Timestamp", "Nonce", "Epoch", "Signature", "Forwarded-By", "Pushed-For", "Read-Only",
    "Cron", "Block-Height", "Reference", "Id", "Reply-To",
  },
}

--- A deep copy; tables met twice stay one, metatables are shared.
function ao.clone(value, seen)
  if type(value) ~= "table" then
    return value
  end
  seen = seen or {}
  if seen[value] then
    return seen[value]
  end
  local copy = {}
  seen[value] = copy
  for key, item in pairs(value) do
    copy[ao.clone(key, seen)] = ao.clone(item, seen)
  end
  return setmetatable(copy, getmetatable(value))
end

-- `ao.nonExtractableTags` as a set, and how many names are in it.
local kept, kept_count = {}, 0

local function is_current(list)
  if #list ~= kept_count then
    return false
  end
  for index = 1, kept_count do
    if not kept[list[index]] then
      return false
    end
  end
  return true
end

--- The list may be changed by the process; the set follows.
local function kept_names()
  local list = ao.nonExtractableTags
  if not is_current(list) then
    kept, kept_count = {}, #list
    for _, name in ipairs(list) do
      kept[name] = true
    end
  end
  return kept
end

--- Lifts the tags of a message to its root, but for `ao.nonExtractableTags`. Changes and answers the message.
function ao.normalize(msg)
  local names = kept_names()
  for _, tag in ipairs(msg.Tags) do
    if not names[tag.name] then
      msg[tag.name] = tag.value
    end
  end
  return msg
end

--- A copy of a message without what belongs to its delivery: `ao.nonForwardableTags`.
function ao.sanitize(msg)
  local copy = ao.clone(msg)
  for _, name in ipairs(ao.nonForwardableTags) do
    copy[name] = nil
  end
  return copy
end

local function is_authority(address)
  for _, authority in ipairs(ao.authorities) do
    if address == authority then
      return true
    end
  end
  return false
end

local function add_authorities(tags)
  for _, tag in ipairs(tags) do
    if tag.name == "Authority" and not is_authority(tag.value) then
      table.insert(ao.authorities, tag.value)
    end
  end
end

-- What a process sees of its environment. A copy: whatever it does to it, the kernel still knows who it is.
local seen_env

local function see(env)
  local seen = ao.clone(env)
  local process = seen.Process
  process.TagArray, process.Tags = process.Tags, {}
  for _, tag in ipairs(process.TagArray) do
    if process.Tags[tag.name] == nil then
      process.Tags[tag.name] = tag.value
    end
  end
  return seen
end

--- Takes over who we are from an environment. The authorities of the process are always among the trusted.
function ao.init(env)
  seen_env = seen_env or see(env)
  ao.env = seen_env
  ao.id = env.Process.Id
  if ao._module == "" then
    ao._module = env.Module.Id
  end
  add_authorities(env.Process.TagArray or env.Process.Tags)
  ao.clearOutbox()
end

--- Adds to the output of this message.
function ao.log(value)
  if type(ao.outbox.Output) == "string" then
    ao.outbox.Output = { ao.outbox.Output }
  end
  table.insert(ao.outbox.Output, value)
end

--- Forgets all that this message would send.
function ao.clearOutbox()
  ao.outbox = { Output = {}, Messages = {}, Spawns = {}, Assignments = {} }
end

local function next_reference()
  ao.reference = ao.reference + 1
  return tostring(ao.reference), string.format("%032d", ao.reference)
end

-- Keys of what is given to `ao.send` and `ao.spawn` that are no tags.
local PARTS = { Target = true, Data = true, Anchor = true, Tags = true, From = true }

--- Adds what is given as tags: the other fields first, then `Tags`, which is a map or a list of {name, value}.
local function add_tags(tags, given)
  for name, value in pairs(given) do
    if not PARTS[name] then
      tags[#tags + 1] = { name = name, value = value }
    end
  end
  if not given.Tags then
    return
  end
  for name, value in pairs(given.Tags) do
    if type(value) == "table" and value.name and value.value then
      tags[#tags + 1] = value
    else
      tags[#tags + 1] = { name = name, value = value }
    end
  end
end

--- Data that are a table travel as JSON, and say so.
local function encode_data(given)
  if type(given.Data) == "table" then
    given["Content-Type"] = "application/json"
    given.Data = json.encode(given.Data)
  end
end

--- What `ao.send` answers: the message, and the ways to wait for its reply. The outbox has a table of its own.
local function sent(message, reference)
  local target = message.Target
  local answer = { Target = target, Data = message.Data, Anchor = message.Anchor, Tags = message.Tags }
  local function spec(from)
    return { From = from or target, ["X-Reference"] = reference }
  end
  function answer.onReply(...)
    local from, handle = ...
    if select("#", ...) ~= 2 then
      from, handle = nil, from
    end
    handlers.once(spec(from), handle)
  end
  function answer.receive(from)
    return handlers.receive(spec(from))
  end
  return answer
end

--- Puts a message into the outbox. Answers it, with `receive([from])` and `onReply([from,] handle)` for its reply.
function ao.send(msg)
  assert(type(msg) == "table", "msg should be a table")
  local reference, anchor = next_reference()
  encode_data(msg)
  local tags = {
    { name = "Data-Protocol", value = "ao" },
    { name = "Variant", value = "ao.TN.1" },
    { name = "Type", value = "Message" },
    { name = "Reference", value = reference },
  }
  add_tags(tags, msg)
  local message = { Target = msg.Target, Data = msg.Data, Anchor = anchor, Tags = tags }
  table.insert(ao.outbox.Messages, message)
  return sent(message, reference)
end

--- What `ao.spawn` answers: the wish, and the ways to wait for the new process.
local function spawned(spawn, reference)
  local spec = { Action = "Spawned", From = ao.id, Reference = reference }
  local answer = { Data = spawn.Data, Anchor = spawn.Anchor, Tags = spawn.Tags }
  function answer.onReply(handle)
    handlers.once(spec, handle)
  end
  function answer.receive()
    return handlers.receive(spec)
  end
  return answer
end

--- Puts the wish for a new process into the outbox. Answers it, with `receive()` and `onReply(handle)` for the
--- message `Action = Spawned`.
function ao.spawn(module, msg)
  assert(type(module) == "string", "Module source id is required!")
  assert(type(msg) == "table", "Message must be a table")
  local reference, anchor = next_reference()
  encode_data(msg)
  local tags = {
    { name = "Data-Protocol", value = "ao" },
    { name = "Variant", value = "ao.TN.1" },
    { name = "Type", value = "Process" },
    { name = "From-Process", value = ao.id },
    { name = "From-Module", value = ao._module },
    { name = "Module", value = module },
    { name = "Reference", value = reference },
  }
  add_tags(tags, msg)
  local spawn = { Data = msg.Data or "NODATA", Anchor = anchor, Tags = tags }
  table.insert(ao.outbox.Spawns, spawn)
  return spawned(spawn, reference)
end

--- Puts an assignment into the outbox: the message of that id shall be seen by these processes too.
function ao.assign(assignment)
  assert(type(assignment) == "table", "assignment should be a table")
  assert(type(assignment.Processes) == "table", "Processes should be a table")
  assert(type(assignment.Message) == "string", "Message should be a string")
  table.insert(ao.outbox.Assignments, assignment)
end

--- Whether the sender of a message, or who passed it on, is one of our authorities.
function ao.isTrusted(msg)
  return is_authority(msg.From) or is_authority(msg.Owner)
end

--- Kept for sources that call it: a hint where a sender's process lives has no use here.
function ao.registerHint(_msg) end

--- What the process answers: an error and nothing else, or the outbox with the given output.
function ao.result(result)
  if result.Error or ao.outbox.Error then
    return { Error = result.Error or ao.outbox.Error }
  end
  return {
    Output = result.Output or ao.outbox.Output,
    Messages = ao.outbox.Messages,
    Spawns = ao.outbox.Spawns,
    Assignments = ao.outbox.Assignments,
  }
end

require(".assignment").init(ao)

return ao
