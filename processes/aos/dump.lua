--- A value as Lua source: keys sorted, no colours, one text for equal tables. Not `.stringify`.
-- What has no literal (functions, threads, circles) appears as quoted text. A value that is no table is quoted too.

local concat, rep, format = table.concat, string.rep, string.format

local RESERVED = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
until while]]):gmatch("%a+") do
  RESERVED[word] = true
end

local function quote(text)
  return (format("%q", text))
end

local dump_table

local function dump_value(value, unit, depth, open)
  local kind = type(value)
  if kind == "table" then
    return dump_table(value, unit, depth, open)
  elseif kind == "number" or kind == "boolean" then
    return tostring(value)
  end
  return quote(tostring(value))
end

local function dump_key(key, unit, depth, open)
  if type(key) == "string" and key:match("^[%a_][%w_]*$") and not RESERVED[key] then
    return key
  end
  return "[" .. dump_value(key, unit, depth, open) .. "]"
end

--- Numbers come first, in order; then the others by the text of their key.
local function before(left, right)
  local a, b = left.number, right.number
  if a and b then
    return a < b
  elseif a or b then
    return a ~= nil
  end
  return left.text < right.text
end

local function sorted_fields(source, unit, depth, open)
  local fields = {}
  for key, value in pairs(source) do
    local number = type(key) == "number" and key or nil
    fields[#fields + 1] = { text = dump_key(key, unit, depth, open), number = number, value = value }
  end
  table.sort(fields, before)
  return fields
end

dump_table = function(source, unit, depth, open)
  if open[source] then
    return quote("<Circular " .. tostring(source) .. ">")
  elseif next(source) == nil then
    return "{}"
  end
  open[source] = true
  local inside, lines = rep(" ", unit * (depth + 1)), {}
  for index, field in ipairs(sorted_fields(source, unit, depth + 1, open)) do
    lines[index] = inside .. field.text .. " = " .. dump_value(field.value, unit, depth + 1, open)
  end
  open[source] = nil
  if unit == 0 then
    return "{ " .. concat(lines, ", ") .. " }"
  end
  return "{\n" .. concat(lines, ",\n") .. "\n" .. rep(" ", unit * depth) .. "}"
end

--- `dump(value [, indent])`: `indent` is the spaces of a level, 4 if left out; 0 puts all on one line.
return function(value, indent)
  local unit = indent == nil and 4 or indent
  if math.type(unit) ~= "integer" or unit < 0 then
    error("indent must be unsigned integer", 2)
  end
  if type(value) == "table" then
    return dump_table(value, unit, 0, {})
  end
  return quote(tostring(value))
end
