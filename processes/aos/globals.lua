--- The names a process finds in its global table, and what is set anew with each message.
-- Not the functions behind them: most are one call into another module.

local ao = require(".ao")
local handlers = require(".handlers")
local colors = require(".colors")
local console = require(".console")
local chance = require(".chance")

local globals = {}

-- What `os.time` answers: the timestamp of the message, in milliseconds.
local now

local function time()
  return now
end

local INBOX_MAX = 10000

--- Keeps a message in the inbox; the oldest goes when there are too many.
function globals.keep(msg)
  table.insert(Inbox, msg)
  if #Inbox > INBOX_MAX then
    table.remove(Inbox, 1)
  end
end

local function prompt()
  return colors.green .. Name .. colors.gray .. "@" .. colors.blue .. "aos-" .. require(".process")._version
    .. colors.gray .. "[Inbox:" .. colors.red .. tostring(#Inbox) .. colors.gray .. "]" .. colors.reset .. "> "
end

local function send(msg)
  if not msg.Target then
    print("WARN: No target specified for message. Data will be stored, but no process will receive it.")
  end
  local sent = ao.send(msg)
  return { output = "Message added to outbox", receive = sent.receive, onReply = sent.onReply }
end

--- `(module, message)` or `(message)`, which runs the module of this process.
local function spawn(...)
  local module, msg = ...
  if select("#", ...) == 1 then
    module, msg = ao._module, module
  end
  local spawned = ao.spawn(module, msg or {})
  return { output = "Spawn process request added to outbox", receive = spawned.receive }
end

local function receive(pattern)
  return handlers.receive(pattern)
end

local function assign(assignment)
  ao.assign(assignment)
  print("Assignment added to outbox.")
  return "Assignment added to outbox."
end

--- The tags of a message as a map, from a list of {name, value}.
local function tab(msg)
  local map = {}
  for _, tag in ipairs(msg.Tags) do
    map[tag.name] = map[tag.name] or tag.value
  end
  return map
end

local function version()
  print("version: " .. require(".process")._version)
end

local function random(...)
  local low, high = ...
  local count = select("#", ...)
  if count == 1 then
    return chance.integer(1, low)
  elseif count == 2 then
    return chance.integer(low, high)
  end
  return chance.random()
end

--- Puts every global in its place. Once, when the module is loaded.
function globals.install()
  Handlers, Utils, _G.ao = handlers, require(".utils"), ao
  Inbox, Errors, Colors, Bell = {}, {}, colors, "\7"
  HANDLER_PRINT_LOGS = {}
  Send, Spawn, Assign, Receive = send, spawn, assign, receive
  Prompt, Tab, Version, Dump = prompt, tab, version, require(".dump")
  print, math.random = console.print, random
  package.loaded.ao = ao
end

local function sum_of_bytes(text)
  local sum = 0
  for index = 1, #text do
    sum = sum + text:byte(index)
  end
  return sum
end

--- Whoever spawned the process: the sender of its own item.
local function first_owner(msg, env)
  if msg.Id == env.Process.Id then
    return msg.Tags["From-Process"] or msg.From
  end
  return env.Process.Owner
end

local function first_name(env)
  for _, tag in ipairs(env.Process.Tags) do
    if tag.name == "Name" then
      return tag.value
    end
  end
  return "aos"
end

local function seed(msg)
  local who = msg.Owner .. (msg.Module or ao._module) .. (msg.Id or ao.id)
  chance.seed(tonumber((msg["Block-Height"] or 0) .. tostring(sum_of_bytes(who))))
  Seeded = true
end

-- Whether the first message was seen. Not `Owner`: a process without an owner has given it up for good.
local begun = false

--- Sets what changes with a message: the clock, and an inbox that is missing. The first message also decides who owns
--- the process, what it is called and what chance brings.
function globals.settle(msg, env)
  if not begun then
    begun = true
    seed(msg)
    Owner, Name = first_owner(msg, env), first_name(env)
  end
  Inbox, Errors = Inbox or {}, Errors or {}
  now = msg.Timestamp
  os.time = time
end

return globals
