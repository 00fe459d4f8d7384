-- Processes as a spec handles them. The work is done by the host; here is only how it reads.
local host, inspect, json = ...

local function raise(text, level) error(text, (level or 1) + 1) end

--- Answers what the host answers, or raises its refusal at the caller's caller.
local function must(value, problem, ...)
  if value == nil and problem ~= nil then raise(problem, 3) end
  return value, problem, ...
end

-- Messages ------------------------------------------------------------------------------------------

local Tags = {}
function Tags.__index(tags, name)
  if type(name) ~= "string" then return nil end
  for at = 1, #tags do
    if tags[at].name == name then return tags[at].value end
  end
end

local Message = {}
function Message.__index(message, name)
  local tags = rawget(message, "Tags")
  return tags and tags[name]
end

local function dress(messages)
  for _, message in ipairs(type(messages) == "table" and messages or {}) do
    if type(message) == "table" then
      if type(message.Tags) == "table" then setmetatable(message.Tags, Tags) end
      setmetatable(message, Message)
    end
  end
  return messages
end

local function is_like(message, wanted)
  for key, value in pairs(wanted) do
    if not inspect.same(value, message[key]) then return false end
  end
  return true
end

local function find_all(messages, wanted)
  local found = {}
  for _, message in ipairs(messages) do
    if is_like(message, wanted) then found[#found + 1] = message end
  end
  return found
end

local Outcome = {}
Outcome.__index = Outcome

--- The first message of the outbox whose fields and tags are those given.
function Outcome:message(wanted) return find_all(self.Messages, wanted or {})[1] end

--- All messages of the outbox whose fields and tags are those given.
function Outcome:messages(wanted) return find_all(self.Messages, wanted or {}) end

--- What was printed or returned, as text without colours.
function Outcome:text()
  local output = self.Output
  if type(output) == "table" then output = output.data or output.output or "" end
  if type(output) == "table" then output = output.output or output.json or "" end
  return (tostring(output):gsub("\27%[[%d;]*m", ""))
end

local function dressed(outcome)
  dress(outcome.Messages)
  dress(outcome.Spawns)
  return setmetatable(outcome, Outcome)
end

-- What a spec writes becomes what the host takes -----------------------------------------------------

local OWN = {
  From = true, Owner = true, Target = true, Data = true, Id = true, Anchor = true, Tags = true, Timestamp = true,
  ["Block-Height"] = true, Cron = true,
}

local function text_of(name, value)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "boolean" then return tostring(value) end
  if kind == "number" then return math.type(value) == "float" and value % 1 == 0 and ("%d"):format(value) or tostring(value) end
  error(("tag `%s` must be a text, a number or a boolean, got %s"):format(name, kind), 0)
end

local function add_tags(into, from)
  if from[1] ~= nil then
    for _, tag in ipairs(from) do into[#into + 1] = { name = tag.name or tag[1], value = text_of(tag.name or tag[1], tag.value or tag[2]) } end
    return
  end
  for _, name in ipairs(inspect.keys(from)) do
    into[#into + 1] = { name = tostring(name), value = text_of(tostring(name), from[name]) }
  end
end

local function tags_of(fields, own)
  local tags, loose = {}, {}
  for name, value in pairs(fields) do
    if not own[name] then loose[name] = value end
  end
  add_tags(tags, loose)
  if fields.Tags then add_tags(tags, fields.Tags) end
  return tags
end

local function data_of(data)
  if data == nil then return nil end
  if type(data) == "table" then return json.encode(data) end
  return tostring(data)
end

local function id_of(value)
  return type(value) == "table" and value.id or value
end

local function message_of(fields)
  if type(fields) ~= "table" then error("a message is a table, got " .. type(fields), 0) end
  return {
    From = id_of(fields.From), Owner = id_of(fields.Owner), Target = id_of(fields.Target), Data = data_of(fields.Data), Id = fields.Id,
    Anchor = fields.Anchor, Timestamp = fields.Timestamp, Height = fields["Block-Height"], Cron = fields.Cron,
    Tags = tags_of(fields, OWN),
  }
end

local function call(work, ...)
  local results = table.pack(pcall(work, ...))
  if not results[1] then raise(results[2], 3) end
  return table.unpack(results, 2, results.n)
end

-- Processes ------------------------------------------------------------------------------------------

local Process = {}
Process.__index = Process
Process.__tostring = function(self) return ("process %s (%s)"):format(self.name, self.id) end

--- Sends a message and answers its outcome; what it sends in turn waits for `pump()`.
function Process:send(fields)
  return dressed(must(host.send(self.serial, call(message_of, fields))))
end

--- Like `send`, but the process and the world stay as they were.
function Process:dry(fields)
  local message = call(message_of, fields)
  message.is_dry = true
  return dressed(must(host.send(self.serial, message)))
end

--- Evaluates Lua in the process, as its owner. Answers what the shell would print, and the outcome.
function Process:eval(code)
  local outcome = dressed(must(host.eval(self.serial, tostring(code))))
  return outcome:text(), outcome
end

-- Writes a value as JSON inside of the process, whatever its keys and bytes are: a table is a list of keys and values.
local READER = [[local seen, write = {}
local function text(s)
  return '"' .. s:gsub('[%c"\\\127-\255]', function(c) return ('\\u%04x'):format(c:byte()) end) .. '"'
end
function write(v, depth)
  local kind = type(v)
  if kind == 'string' then return text(v) end
  if kind == 'number' then
    if math.type(v) == 'integer' then return ('%d'):format(v) end
    if v ~= v or v == math.huge or v == -math.huge then return '{"special":' .. text(tostring(v)) .. '}' end
    return ('{"float":%.17g}'):format(v)
  end
  if kind ~= 'table' then return kind == 'boolean' and tostring(v) or kind == 'nil' and 'null' or '{"special":' .. text('<' .. kind .. '>') .. '}' end
  if seen[v] then return '{"special":"<cycle>"}' end
  if depth > 60 then return '{"special":"<too deep>"}' end
  seen[v] = true
  local parts = {}
  for key, value in next, v do
    parts[#parts + 1] = write(key, depth + 1)
    parts[#parts + 1] = write(value, depth + 1)
  end
  seen[v] = nil
  return '{"table":[' .. table.concat(parts, ',') .. ']}'
end
return write((%s), 0) .. '\n']]

local SPECIAL = { inf = math.huge, ["-inf"] = -math.huge, nan = 0 / 0, ["-nan"] = 0 / 0 }

local function bytes(text)
  if not text:find("[\128-\255]") then return text end
  return (text:gsub(utf8.charpattern, function(c) return string.char(utf8.codepoint(c)) end))
end

local function read_back(raw)
  if type(raw) == "string" then return bytes(raw) end
  if type(raw) ~= "table" then return raw end
  if raw.float then return raw.float + 0.0 end
  if raw.special then return SPECIAL[raw.special] or raw.special end
  local value = {}
  for at = 1, #raw.table, 2 do value[read_back(raw.table[at])] = read_back(raw.table[at + 1]) end
  return value
end

--- The value of a Lua expression in the process, read by a dry run: `p:get("Balances.alice")`.
--- Functions and the like come as texts such as `<function>`.
function Process:get(expression)
  expression = tostring(expression)
  must(host.compile(expression))
  local code = READER:gsub("%%s", function() return expression end)
  local raw, problem = host.read(self.serial, code)
  if problem ~= nil then raise(problem, 2) end
  return read_back(raw)
end

--- What handlers it has, in order.
function Process:handlers()
  return self:get("(function() local n = {} for _, h in ipairs(Handlers.list) do n[#n + 1] = h.name end return n end)()")
end

local SPAWN = { load = true, source = true, name = true, owner = true, tags = true, module = true, data = true, timeout = true }

local function check_spawn(fields)
  if type(fields) ~= "table" then error("spawn wants a table such as { load = \"token.lua\" }, got " .. type(fields), 0) end
  for key in pairs(fields) do
    if not SPAWN[key] then error(("spawn has no field `%s`; tags go into `tags = { ... }`"):format(tostring(key)), 0) end
  end
end

local function list_of(value)
  if value == nil then return {} end
  return type(value) == "table" and value or { value }
end

local function spawn(fields)
  call(check_spawn, fields or {})
  fields = fields or {}
  local tags = {}
  call(add_tags, tags, fields.tags or {})
  local serial, id, owner, name = must(host.spawn {
    load = list_of(fields.load), source = fields.source, name = fields.name, owner = id_of(fields.owner),
    tags = tags, module = fields.module, data = data_of(fields.data),
  })
  return setmetatable({ serial = serial, id = id, owner = owner, name = name }, Process)
end

-- Several of them ---------------------------------------------------------------------------------------

local Pumped = {}
Pumped.__index = Pumped

--- The first message that was delivered, or that nobody here takes, with the fields and tags given.
function Pumped:message(wanted)
  return find_all(self.delivered, wanted or {})[1] or find_all(self.unknown, wanted or {})[1]
end

local function pump(bound)
  local pumped = must(host.pump(bound or 1000))
  dress(pumped.delivered)
  dress(pumped.unknown)
  for _, one in ipairs(pumped.outcomes) do dressed(one) end
  for _, one in ipairs(pumped.spawned) do setmetatable(one, Process) end
  return setmetatable(pumped, Pumped)
end

local clock = {
  --- The time the next message carries, in milliseconds.
  now = function() return host.clock() end,
  set = function(ms) return (must(host.clock(ms))) end,
  advance = function(ms) return (must(host.clock(host.clock() + ms))) end,
}
local block = {
  height = function() return host.height() end,
  set = function(height) return (must(host.height(height))) end,
  advance = function(count) return (must(host.height(host.height() + (count or 1)))) end,
}

return function(into)
  into.spawn, into.pump, into.clock, into.block = spawn, pump, clock, block
  into.wallet = function(name) return host.wallet(tostring(name)) end
  into.authority = host.wallet("authority")
  into.inspect = inspect.show
  into.json = json
end
