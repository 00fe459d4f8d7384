--- Small helpers for lists and functions, and the matching of messages by patterns. Not the handlers themselves.
-- Functions of several arguments may be given them one after another, as `map(fn)(list)`.

local utils = { _version = "0.0.5" }

local find, match, lower = string.find, string.match, string.lower

--- Whether a text is a Lua pattern rather than a plain word.
local function is_pattern(text)
  return find(text, "[%^%$%(%)%%%.%[%]%*%+%?]") ~= nil
end

local function matches_any(choices, value, msg)
  for _, choice in pairs(choices) do
    if utils.matchesPattern(choice, value, msg) then
      return true
    end
  end
  return false
end

local function matches_text(pattern, value)
  local text, wanted = lower(value or ""), lower(pattern)
  if is_pattern(pattern) then
    return match(text, wanted) ~= nil
  end
  return text == wanted
end

--- Whether a value fits one pattern: `"_"` (anything), a function(value, msg), a text (a Lua pattern if it looks like
--- one, else an equal text; case never counts), or a table of such, of which one must fit. No value counts as an empty
--- text.
function utils.matchesPattern(pattern, value, msg)
  if not pattern then
    return false
  elseif pattern == "_" then
    return true
  end
  local kind = type(pattern)
  if kind == "string" then
    return matches_text(pattern, value)
  elseif kind == "function" then
    return pattern(value, msg) and true or false
  elseif kind == "table" then
    return matches_any(pattern, value, msg)
  end
  return false
end

--- A field is looked for at the root and among the tags; one of the two has to fit. Functions are asked about both.
local function matches_fields(msg, spec)
  for key, pattern in pairs(spec) do
    local value, tag = msg[key], msg.Tags and msg.Tags[key]
    if not value and not tag then
      return false
    end
    local fits = utils.matchesPattern(pattern, value, msg)
    if not fits or type(pattern) ~= "string" then
      fits = utils.matchesPattern(pattern, tag, msg) or fits
    end
    if not fits then
      return false
    end
  end
  return true
end

--- Whether a message fits a pattern: a function(msg) answers for itself, a text is the `Action`, and of a table each
--- field must be there and fit.
function utils.matchesSpec(msg, spec)
  local kind = type(spec)
  if kind == "function" then
    return spec(msg)
  elseif kind == "table" then
    return matches_fields(msg, spec)
  elseif kind == "string" then
    return msg.Action == spec
  end
  return false
end

--- Whether a table has no keys but 1..n.
local function is_array(value)
  if type(value) ~= "table" then
    return false
  end
  local count = 0
  for _ in pairs(value) do
    count = count + 1
    if value[count] == nil then
      return false
    end
  end
  return true
end

--- A function that takes its `arity` arguments in as many calls as one likes.
function utils.curry(fn, arity)
  assert(type(fn) == "function", "function is required as first argument")
  arity = arity or debug.getinfo(fn, "u").nparams
  if arity < 2 then
    return fn
  end
  local function collect(given)
    return function(...)
      local all = { table.unpack(given) }
      for _, value in ipairs({ ... }) do
        all[#all + 1] = value
      end
      if #all >= arity then
        return fn(table.unpack(all))
      end
      return collect(all)
    end
  end
  return collect({})
end

utils.concat = utils.curry(function(first, second)
  assert(is_array(first), "first argument should be a table that is an array")
  assert(is_array(second), "second argument should be a table that is an array")
  local result = table.move(first, 1, #first, 1, {})
  return table.move(second, 1, #second, #result + 1, result)
end, 2)

utils.reduce = utils.curry(function(fn, initial, list)
  assert(type(fn) == "function", "first argument should be a function that accepts (result, value, key)")
  assert(is_array(list), "third argument should be a table that is an array")
  local result = initial
  for key, value in pairs(list) do
    if result == nil then
      result = value
    else
      result = fn(result, value, key)
    end
  end
  return result
end, 3)

utils.map = utils.curry(function(fn, list)
  assert(type(fn) == "function", "first argument should be a unary function")
  assert(is_array(list), "second argument should be an Array")
  local result = {}
  for index, value in ipairs(list) do
    result[index] = fn(value, index)
  end
  return result
end, 2)

utils.filter = utils.curry(function(fn, list)
  assert(type(fn) == "function", "first argument should be a unary function")
  assert(is_array(list), "second argument should be an Array")
  local result = {}
  for _, value in ipairs(list) do
    if fn(value) then
      result[#result + 1] = value
    end
  end
  return result
end, 2)

utils.find = utils.curry(function(fn, list)
  assert(type(fn) == "function", "first argument should be a unary function")
  assert(type(list) == "table", "second argument should be a table that is an array")
  for _, value in pairs(list) do
    if fn(value) then
      return value
    end
  end
end, 2)

utils.propEq = utils.curry(function(name, wanted, object)
  assert(type(name) == "string", "first argument should be a string")
  assert(type(wanted) == "string", "second argument should be a string")
  assert(type(object) == "table", "third argument should be a table<object>")
  return object[name] == wanted
end, 3)

utils.prop = utils.curry(function(name, object)
  return object[name]
end, 2)

utils.includes = utils.curry(function(wanted, list)
  assert(type(list) == "table", "argument needs to be a table")
  assert(is_array(list), "argument should be a table that is an array")
  for _, value in ipairs(list) do
    if value == wanted then
      return true
    end
  end
  return false
end, 2)

function utils.reverse(list)
  assert(is_array(list), "argument needs to be a table that is an array")
  local result, size = {}, #list
  for index = 1, size do
    result[index] = list[size - index + 1]
  end
  return result
end

--- The functions one after another, the last one first.
function utils.compose(...)
  local fns = { ... }
  return function(value)
    for index = #fns, 1, -1 do
      value = fns[index](value)
    end
    return value
  end
end

function utils.keys(tbl)
  assert(type(tbl) == "table", "argument needs to be a table")
  local result = {}
  for key in pairs(tbl) do
    result[#result + 1] = key
  end
  return result
end

function utils.values(tbl)
  assert(type(tbl) == "table", "argument needs to be a table")
  local result = {}
  for _, value in pairs(tbl) do
    result[#result + 1] = value
  end
  return result
end

--- `hello` as `Hello`: the first letter upper, the others lower case. What is no text comes back as it is.
function utils.capitalize(text)
  if type(text) ~= "string" then
    return text
  end
  return text:sub(1, 1):upper() .. text:sub(2):lower()
end

-- Names met before, and how many of them are kept at most.
local normal, normal_count, NORMAL_MAX = {}, 0, 256

--- `x_my-name` as `X-My-Name`, the form of tag names. What is no text comes back as it is.
function utils.normalize(text)
  if type(text) ~= "string" then
    return text
  end
  local known = normal[text]
  if known then
    return known
  end
  known = text:gsub("_", "-"):gsub("[^-]+", utils.capitalize)
  if normal_count >= NORMAL_MAX then
    normal, normal_count = {}, 0
  end
  normal[text], normal_count = known, normal_count + 1
  return known
end

return utils
