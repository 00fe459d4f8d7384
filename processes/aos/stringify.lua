--- Values as coloured text, as a terminal shows them. Not `.dump`, whose text is plain, sorted and stable.
-- A table is one of three shapes: short lists of numbers and texts on one line, other lists one item a line, and the
-- rest one `key = value` a line. The order is that of `pairs`.

local stringify = { _version = "0.0.1" }

local RED, GREEN, BLUE, RESET = "\27[31m", "\27[32m", "\27[34m", "\27[0m"
local CIRCLE = "<circular reference>"
local concat, rep = table.concat, string.rep

--- Whether a table holds nothing but numbers and texts at 1, 2, 3... Visits in the order of `pairs`.
function stringify.isSimpleArray(list)
  local expected = 1
  for key, value in pairs(list) do
    local kind = type(value)
    if key ~= expected or (kind ~= "number" and kind ~= "string") then
      return false
    end
    expected = expected + 1
  end
  return true
end

local function scalar(value)
  if type(value) == "string" then
    return GREEN .. '"' .. value .. '"' .. RESET
  end
  return BLUE .. tostring(value) .. RESET
end

local function one_line(list)
  local items = {}
  for index = 1, #list do
    items[index] = scalar(list[index])
  end
  return "{ " .. concat(items, ", ") .. " }"
end

--- The tables on the way down are in `open`, so that a list inside itself ends.
local function item(value, indent, visited, open)
  if type(value) ~= "table" then
    return scalar(value)
  end
  if open[value] then
    return CIRCLE
  end
  open[value] = true
  local text = stringify.format(value, indent, visited, open)
  open[value] = nil
  return text
end

--- The items of a list up to the first key that is not the next number; nil for the key if there is none.
local function list_items(source, indent, visited, open)
  local items, pad = {}, rep(" ", indent + 2)
  for key, value in pairs(source) do
    if key ~= #items + 1 then
      return items, key
    end
    items[key] = pad .. item(value, indent + 2, visited, open)
  end
  return items, nil
end

--- The lines of `source` from `key` on; nil if one of the values was shown before: the whole is a circle then.
local function field_lines(source, key, indent, visited, open)
  local lines, pad = {}, rep(" ", indent + 3)
  local value = source[key]
  while key ~= nil do
    local k = key
    local text
    if type(value) == "table" then
      if visited[value] then
        return nil
      end
      visited[value] = true
      text = stringify.format(value, indent + 2, visited, open)
    else
      text = scalar(value)
    end
    lines[#lines + 1] = pad .. RED .. k .. RESET .. " = " .. text
    key, value = next(source, key)
  end
  return lines
end

--- A table as coloured text; `indent` spaces stand before its last line. A table met a second time under a key turns
--- what holds it into `<circular reference>`.
function stringify.format(source, indent, visited, open)
  indent, visited, open = indent or 0, visited or {}, open or {}
  if stringify.isSimpleArray(source) then
    return one_line(source)
  end
  local items, key = list_items(source, indent, visited, open)
  if key == nil then
    return "{\n" .. concat(items, ",\n") .. "\n" .. rep(" ", indent + 1) .. "}"
  end
  local lines = field_lines(source, key, indent, visited, open)
  if not lines then
    return CIRCLE
  end
  return "{\n" .. concat(lines, ",\n") .. "\n" .. rep(" ", indent) .. "}"
end

return stringify
