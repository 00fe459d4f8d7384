--- One message from its arrival to the response. Not the handlers, not the outbox: they are called from here.

local ao = require(".ao")
local handlers = require(".handlers")
local message = require(".message")
local console = require(".console")
local colors = require(".colors")
local dump = require(".dump")
local trace = require(".trace")
local globals = require(".globals")

local process = { _version = "2.0.4" }

local function is_eval(msg)
  return msg.Action == "Eval" and Owner == msg.From
end

local function is_boot(msg)
  return msg.Id == ao.id and msg.Tags.Type == "Process" and Owner == msg.From
end

local evaluate, boot = require(".eval")(ao), require(".boot")(ao)
local default = require(".default")(globals.keep)

local function boot_and_keep(msg)
  boot(msg)
  if #Inbox == 0 then
    globals.keep(msg)
  end
end

local function anything()
  return true
end

local function has(name)
  for _, handler in ipairs(handlers.list) do
    if handler.name == name then
      return true
    end
  end
  return false
end

--- The kernel's own handlers are always there: whoever takes them out finds them back at the end of the list.
local function register(msg)
  if not has("_eval") then
    handlers.append("_eval", is_eval, evaluate)
  end
  if is_boot(msg) then
    handlers.once("_boot", is_boot, boot_and_keep)
  end
  if not has("_default") then
    handlers.append("_default", anything, default)
  end
end

local function output(is_answer)
  local result = { data = console.text(), prompt = Prompt() }
  if is_answer then
    result.test = dump(HANDLER_PRINT_LOGS)
  else
    result.print = true
  end
  return result
end

local function finish(is_answer)
  return ao.result({ Output = output(is_answer) })
end

local function refuse(msg, what)
  print(what .. " is not trusted! From: " .. msg.From .. " - Owner: " .. msg.Owner)
  return finish(false)
end

local function is_stranger(msg)
  return msg.From ~= msg.Owner and not ao.isTrusted(msg)
end

--- An error may be any value; a table without a text of its own is shown as source.
local function text_of(problem)
  if type(problem) == "table" and not (getmetatable(problem) or {}).__tostring then
    return dump(problem)
  end
  return tostring(problem)
end

--- The error as it is shown: what was printed, for a message that is no Eval what it was and where it failed, the text.
local function failure(msg, problem, thread)
  problem = text_of(problem)
  if msg.Action ~= "Eval" then
    local what = msg.Action and "with Action = " .. msg.Action or ""
    print(colors.red .. "Error" .. colors.gray .. " handling message " .. what .. colors.reset)
    print(colors.green .. problem .. colors.reset)
    print("\n" .. colors.gray .. trace.give(thread) .. colors.reset)
  else
    table.insert(Errors, problem)
  end
  return { Error = console.text() .. "\n\n" .. colors.red .. "error:\n" .. colors.reset .. problem }
end

local function drop_dead()
  for index, thread in ipairs(handlers.coroutines) do
    if coroutine.status(thread) == "dead" then
      table.remove(handlers.coroutines, index)
    end
  end
end

local function run(msg, env)
  trace.forget()
  local thread = coroutine.create(handlers.evaluate)
  local ok, problem = coroutine.resume(thread, msg, env)
  table.insert(handlers.coroutines, thread)
  drop_dead()
  if not ok then
    return failure(msg, problem, thread)
  elseif ao.outbox.Error then
    return { Error = ao.outbox.Error }
  end
  ao.Nonce = msg.Nonce
  return finish(msg.Action == "Eval")
end

--- Takes one message, answers the response: `{Output, Messages, Spawns, Assignments}` or `{Error}`.
function process.handle(msg, env)
  ao.init(env)
  message.open(msg)
  globals.settle(msg, env)
  console.clear()
  message.decode(msg)
  if is_stranger(msg) then
    return refuse(msg, "Message")
  elseif ao.isAssignment(msg) and not ao.isAssignable(msg) then
    if msg.From ~= ao.id then
      ao.send({ Target = msg.From, Data = "Assignment is not trusted by this process!" })
    end
    return refuse(msg, "Assignment")
  end
  register(msg)
  message.answerable(msg)
  return run(msg, env)
end

return process
