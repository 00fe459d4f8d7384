--- The list of handlers, and how a message goes through it. Not what a message is: see `.process`.
-- A handler is `{name, pattern, handle, maxRuns}`. The list is walked in order; the first match ends the walk unless
-- its pattern says "continue". The handler called `_default` takes what nobody matched.

local utils = require(".utils")
local trace = require(".trace")

local handlers = {
  _version = "0.0.5",
  list = {},
  coroutines = {},
  onceNonce = 0,
  utils = require(".handlers-utils"),
}

local USAGE = table.concat({
  "Invalid arguments given. Expected: \n",
  "\tname : string, ",
  "\tpattern : Action : string | MsgMatch : table,\n",
  "\t\tfunction(msg: Message) : {-1 = break, 0 = skip, 1 = continue},\n",
  "\thandle(msg : Message) : void) | Resolver,\n",
  '\tMaxRuns? : number | "inf" | nil',
})

local PATTERN_KINDS = { ["function"] = true, table = true, string = true }

local function position_of(name)
  for index, handler in ipairs(handlers.list) do
    if handler.name == name then
      return index
    end
  end
end

local function new_handler(name, pattern, handle, max_runs)
  assert(type(name) == "string" and PATTERN_KINDS[type(pattern)], USAGE)
  return { name = name, pattern = pattern, handle = handlers.generateResolver(handle), maxRuns = max_runs }
end

--- `(name, handle)`, `(name, pattern, handle)` or `(name, pattern, handle, maxRuns)`.
local function arguments(...)
  local name, pattern, handle, max_runs = ...
  local count = select("#", ...)
  assert(count >= 2, USAGE)
  if count == 2 then
    pattern, handle = name, pattern
  end
  return new_handler(name, pattern, handle, max_runs)
end

--- Puts the handler where `place(list)` says; one of the same name stays where it is and is renewed.
local function put(handler, place)
  local at = position_of(handler.name)
  if at then
    local known = handlers.list[at]
    known.pattern, known.handle, known.maxRuns = handler.pattern, handler.handle, handler.maxRuns
  else
    table.insert(handlers.list, place(handlers.list), handler)
  end
end

local function first()
  return 1
end

local function last(list)
  return #list + 1
end

local function resolve(choices, msg)
  for pattern, func in pairs(choices) do
    if utils.matchesSpec(msg, pattern) then
      return func(msg)
    end
  end
end

--- A handle as a function of its own. A table maps patterns to functions: the first that matches is called.
function handlers.generateResolver(handle)
  if type(handle) == "function" then
    return function(msg)
      return handle(msg)
    end
  end
  return function(msg)
    return resolve(handle, msg)
  end
end

--- Adds a handler at the end of the list, or renews the one of that name. Answers how many there are.
function handlers.add(...)
  put(arguments(...), last)
  return #handlers.list
end

--- As `add`, without an answer.
function handlers.append(...)
  put(arguments(...), last)
end

--- Adds a handler at the start of the list, or renews the one of that name.
function handlers.prepend(...)
  put(arguments(...), first)
end

--- `(pattern, handle)` or `(name, pattern, handle)`: a handler for one message, before all others.
function handlers.once(...)
  local name, pattern, handle = ...
  if select("#", ...) ~= 3 then
    handle, pattern = pattern, name
    name = "_once_" .. tostring(handlers.onceNonce)
    handlers.onceNonce = handlers.onceNonce + 1
  end
  handlers.prepend(name, pattern, handle, 1)
end

--- Waits, in the middle of a handler or an Eval, for a message that matches; answers it.
function handlers.receive(pattern)
  local waiting = coroutine.running()
  handlers.once(pattern, function(msg)
    local ok, problem = coroutine.resume(waiting, msg)
    if not ok then
      error(problem)
    end
  end)
  return coroutine.yield(pattern)
end

--- `before(name).add(name, pattern, handle, maxRuns)` puts a new handler before that one; it does nothing if there is
--- none of that name.
function handlers.before(name)
  assert(type(name) == "string", "Handler name MUST be a string")
  local at = position_of(name)
  return {
    add = function(...)
      local handler = new_handler(...)
      if at then
        table.insert(handlers.list, at, handler)
      end
    end,
  }
end

--- `after(name).add(name, pattern, handle, maxRuns)` puts a new handler behind that one.
function handlers.after(name)
  assert(type(name) == "string", "Handler name MUST be a string")
  local at = position_of(name)
  return {
    add = function(...)
      local handler = new_handler(...)
      if at then
        table.insert(handlers.list, at + 1, handler)
      end
    end,
  }
end

--- Takes the handler of that name out; nothing happens if there is none.
function handlers.remove(name)
  assert(type(name) == "string", "name MUST be string")
  local at = position_of(name)
  if at then
    table.remove(handlers.list, at)
  end
end

local WORDS = { continue = 1, ["break"] = -1 }

--- What a pattern answered as a number: negative takes the message and ends, positive takes it and goes on.
local function verdict(answer)
  if answer == false then
    return 0
  elseif answer == true then
    return -1
  end
  local kind = type(answer)
  if kind == "string" then
    return WORDS[answer] or 0
  end
  assert(kind == "number", "Pattern result is not valid, it MUST be string, number, or boolean")
  return answer
end

local function remember(problem)
  trace.take()
  return problem
end

local function count_run(handler)
  if type(handler.maxRuns) ~= "number" then
    return
  end
  handler.maxRuns = handler.maxRuns - 1
  if handler.maxRuns == 0 then
    handlers.remove(handler.name)
  end
end

local function run(handler, msg)
  local ok, problem = xpcall(handler.handle, remember, msg)
  if not ok then
    error(problem)
  end
  count_run(handler)
end

--- Sends a message through the list; answers true if a handler took it.
function handlers.evaluate(msg, env)
  assert(type(msg) == "table", "msg is not valid")
  assert(type(env) == "table", "env is not valid")
  for _, handler in ipairs(handlers.list) do
    if handler.name ~= "_default" then
      local match = verdict(utils.matchesSpec(msg, handler.pattern))
      if match ~= 0 then
        run(handler, msg)
      end
      if match < 0 then
        return true
      end
    end
  end
  local at = position_of("_default")
  if at then
    return handlers.list[at].handle(msg, env)
  end
end

return handlers
