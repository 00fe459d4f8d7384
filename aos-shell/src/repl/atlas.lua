-- Lists what a process holds, as a graph of its tables: read-only, run as a dry run for completion.
-- One line a table, in breadth-first order from _G, so that the line's number is the table's:
--   <table behind __index or nothing>|<key>,<kind>,<table or nothing>,<note>;...
-- then one line a handler: !<name>,<action or nothing>,<its function>. Text is percent-encoded.
local TABLES, KEYS, WIDE, ITEMS = 4000, 40000, 2000, 16
local format, byte, gsub, sub, concat = string.format, string.byte, string.gsub, string.sub, table.concat

local function escape(text)
  return (gsub(text, "[^%w_]", function(c) return format("%%%02X", byte(c)) end))
end

local ids, queue = { [_G] = 1 }, { _G }
local function id(t)
  if not ids[t] then
    if #queue >= TABLES then return "" end
    queue[#queue + 1] = t
    ids[t] = #queue
  end
  return ids[t]
end

local function parameters(f)
  local names = {}
  local ok, info = pcall(function() return debug.getinfo(f, "u") end)
  if not ok or type(info) ~= "table" then return "" end
  for i = 1, info.nparams or 0 do
    local found, name = pcall(debug.getlocal, f, i)
    if not found or type(name) ~= "string" then return "" end
    names[i] = name
  end
  if info.isvararg then names[#names + 1] = "..." end
  return "(" .. concat(names, ", ") .. ")"
end

local function note(value, kind)
  if kind == "function" then return parameters(value) end
  if kind == "string" then return sub(value, 1, 43) end
  if kind == "number" or kind == "boolean" then return tostring(value) end
  return ""
end

local keys = 0
local function entry(key, value)
  keys = keys + 1
  local kind = type(value)
  local child = ""
  if kind == "table" then child = id(value) end
  return concat({ escape(key), sub(kind, 1, 1), child, escape(note(value, kind)) }, ",")
end

local function listed(key, size)
  return math.type(key) == "integer" and key >= 1 and (key <= ITEMS or key == size)
end

local function line(t)
  local entries, behind = {}, ""
  local size = rawlen(t)
  local key, value = next(t)
  while key ~= nil and #entries < WIDE and keys < KEYS do
    if type(key) == "string" then
      entries[#entries + 1] = entry("s" .. key, value)
    elseif listed(key, size) then
      entries[#entries + 1] = entry("i" .. format("%d", key), value)
    end
    key, value = next(t, key)
  end
  local meta = getmetatable(t)
  local index = type(meta) == "table" and rawget(meta, "__index")
  if type(index) == "table" then behind = id(index) end
  return behind .. "|" .. concat(entries, ";")
end

local lines, at = { "weft-atlas" }, 1
while at <= #queue and keys < KEYS do
  lines[#lines + 1] = line(queue[at])
  at = at + 1
end

local function handlers()
  for _, handler in ipairs(Handlers.list) do
    local action = handler.pattern
    if type(action) == "table" then action = action.Action or action.action end
    if type(action) ~= "string" then action = "" end
    lines[#lines + 1] = "!" .. escape(tostring(handler.name)) .. "," .. escape(action)
      .. "," .. escape(tostring(handler.handle))
  end
end
pcall(handlers)
lines[#lines + 1] = "weft-end"
return concat(lines, "\n")
