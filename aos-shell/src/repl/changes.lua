-- Runs a program and lists what it changed, as a dry run: nothing is kept. One line a change:
--   <+ new, - gone, ~ other>,<path>,<before>,<after>   percent-encoded.
local CODE = __CODE__
local TABLES, KEYS, CHANGES = 20000, 200000, 400
local format, byte, gsub, sub, concat = string.format, string.byte, string.gsub, string.sub, table.concat
local next, type, rawequal, tostring, sort = next, type, rawequal, tostring, table.sort
local pcall, load = pcall, load

local function escape(text)
  return (gsub(text, "[^%w_]", function(c) return format("%%%02X", byte(c)) end))
end

-- The outbox is shown as messages, what is printed as output, and the counters behind both change
-- with every message.
local function skipped(owner, key)
  if owner == _G and key == "HANDLER_PRINT_LOGS" then return true end
  return type(ao) == "table" and owner == ao
    and (key == "outbox" or key == "reference" or key == "_ref" or key == "Nonce")
end

local function step(path, key)
  if type(key) == "string" and key:match("^[%a_][%w_]*$") then
    return path == "" and key or path .. "." .. key
  end
  if type(key) == "string" then return path .. "[" .. format("%q", key) .. "]" end
  return path .. "[" .. tostring(key) .. "]"
end

local function snapshot()
  local paths, copies, queue, keys = { [_G] = "" }, {}, { _G }, 0
  local at = 1
  while at <= #queue do
    local t = queue[at]
    local copy = {}
    for key, value in next, t do
      keys = keys + 1
      if keys > KEYS then break end
      if not skipped(t, key) then
        copy[key] = value
        if type(value) == "table" and paths[value] == nil and #queue < TABLES then
          paths[value] = step(paths[t], key)
          queue[#queue + 1] = value
        end
      end
    end
    copies[t] = copy
    at = at + 1
  end
  return { paths = paths, copies = copies, queue = queue }
end

local function note(value)
  local kind = type(value)
  if kind == "nil" then return "" end
  if kind == "string" then return format("%q", sub(value, 1, 60)) end
  if kind == "table" then
    local n = 0
    for _ in next, value do n = n + 1 end
    return "table of " .. n
  end
  if kind == "function" then return "function" end
  return tostring(value)
end

local before = snapshot()
local run = load("return " .. CODE, "=aos") or load(CODE, "=aos")
local ok, problem = pcall(run)
local after = snapshot()

local lines = {}
local function change(t, key, old, new)
  if #lines >= CHANGES then return end
  local sign = old == nil and "+" or new == nil and "-" or "~"
  lines[#lines + 1] = concat({ sign, escape(step(after.paths[t], key)), escape(note(old)), escape(note(new)) }, ",")
end

for _, t in ipairs(after.queue) do
  local old, new = before.copies[t], after.copies[t]
  if old then
    for key, value in next, new do
      if not rawequal(old[key], value) then change(t, key, old[key], value) end
    end
    for key, value in next, old do
      if new[key] == nil then change(t, key, value, nil) end
    end
  end
end
sort(lines)
if not ok then return "weft-changes\n!" .. escape(tostring(problem)) .. "\nweft-end" end
return "weft-changes\n" .. concat(lines, "\n") .. "\nweft-end"
