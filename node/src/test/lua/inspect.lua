-- Values as text: stable order, bounded depth. And what differs between two of them.
local inspect = {}

local DEPTH_MAX, ENTRIES_MAX, DIFFERENCES_MAX = 8, 200, 12

local function is_name(key)
  return type(key) == "string" and key:find("^[%a_][%w_]*$") ~= nil
end

local function rank(key)
  return type(key) == "number" and 1 or type(key) == "string" and 2 or 3
end

local function before(a, b)
  local ra, rb = rank(a), rank(b)
  if ra ~= rb then return ra < rb end
  if ra < 3 then return a < b end
  return tostring(a) < tostring(b)
end

--- The keys of a table: numbers, then texts, each in order.
function inspect.keys(table_)
  local keys = {}
  for key in next, table_ do keys[#keys + 1] = key end
  table.sort(keys, before)
  return keys
end

local function quoted(text)
  local escapes = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }
  local shown = text:gsub('[%c"\\]', function(c) return escapes[c] or ("\\%03d"):format(c:byte()) end)
  return '"' .. shown .. '"'
end

local function key_text(key, show)
  return is_name(key) and key or "[" .. show(key) .. "]"
end

local function lines_of_table(value, depth, seen, show)
  local pad, parts, length = ("  "):rep(depth + 1), {}, 0
  local keys = inspect.keys(value)
  for at, key in ipairs(keys) do
    if at > ENTRIES_MAX then
      parts[#parts + 1] = ("... %d more"):format(#keys - ENTRIES_MAX)
      break
    end
    local text = show(rawget(value, key), depth + 1, seen)
    parts[#parts + 1] = key == at and text or key_text(key, show) .. " = " .. text
    length = length + #parts[#parts]
  end
  if length < 60 and not table.concat(parts):find("\n") then return "{ " .. table.concat(parts, ", ") .. " }" end
  return "{\n" .. pad .. table.concat(parts, ",\n" .. pad) .. "\n" .. ("  "):rep(depth) .. "}"
end

local function show(value, depth, seen)
  depth, seen = depth or 0, seen or {}
  if type(value) == "string" then return quoted(value) end
  if type(value) ~= "table" then return tostring(value) end
  local meta = getmetatable(value)
  if type(meta) == "table" and rawget(meta, "__tostring") then return tostring(value) end
  if seen[value] then return "<cycle>" end
  if next(value) == nil then return "{}" end
  if depth >= DEPTH_MAX then return "{ ... }" end
  seen[value] = true
  local text = lines_of_table(value, depth, seen, show)
  seen[value] = nil
  return text
end

--- A value as Lua would write it.
function inspect.show(value) return show(value) end

local function is_matcher(value)
  return type(value) == "table" and rawget(value, "is_weft_matcher") == true
end
inspect.is_matcher = is_matcher

local function own_equality(a, b)
  local ma, mb = getmetatable(a), getmetatable(b)
  local eq = type(ma) == "table" and rawget(ma, "__eq")
  return eq and type(mb) == "table" and rawget(mb, "__eq") == eq
end

--- Whether two values are equal through and through. Metatables count only if they define `__eq`;
--- a matcher on the expected side decides for itself.
function inspect.same(expected, actual, seen)
  if is_matcher(expected) then return expected.matches(actual) end
  if rawequal(expected, actual) then return true end
  if type(expected) ~= "table" or type(actual) ~= "table" then return expected == actual end
  if own_equality(expected, actual) then return expected == actual end
  seen = seen or {}
  if seen[expected] == actual then return true end
  seen[expected] = actual
  for key, value in next, expected do
    if not inspect.same(value, rawget(actual, key), seen) then return false end
  end
  for key in next, actual do
    if rawget(expected, key) == nil then return false end
  end
  return true
end

local function collect(expected, actual, path, found, seen)
  if #found > DIFFERENCES_MAX or inspect.same(expected, actual) then return end
  local both = type(expected) == "table" and type(actual) == "table" and not is_matcher(expected)
  if not both or seen[expected] then
    found[#found + 1] = { path = path == "" and "(the value)" or path, expected = expected, actual = actual }
    return
  end
  seen[expected] = true
  local keys = {}
  for key in next, expected do keys[key] = true end
  for key in next, actual do keys[key] = true end
  for _, key in ipairs(inspect.keys(keys)) do
    local step = is_name(key) and "." .. key or "[" .. show(key) .. "]"
    collect(rawget(expected, key), rawget(actual, key), path .. step, found, seen)
  end
  seen[expected] = nil
end

--- What differs, one line for each place.
function inspect.differences(expected, actual)
  local found, lines = {}, {}
  collect(expected, actual, "", found, {})
  for at, one in ipairs(found) do
    if at > DIFFERENCES_MAX then
      lines[#lines + 1] = "  ... and more"
      break
    end
    lines[#lines + 1] = ("  at %s: expected %s, got %s"):format(one.path, show(one.expected, 6), show(one.actual, 6))
  end
  return table.concat(lines, "\n")
end

--- Where two texts part: byte, line and column, or nil.
function inspect.parting(expected, actual)
  if #expected < 40 and #actual < 40 then return nil end
  local at = 1
  while expected:byte(at) == actual:byte(at) do at = at + 1 end
  local head = expected:sub(1, at - 1)
  local line = select(2, head:gsub("\n", "")) + 1
  local column = at - (head:find("\n[^\n]*$") or 0)
  return ("  they part at byte %d (line %d, column %d)"):format(at, line, column)
end

return inspect
