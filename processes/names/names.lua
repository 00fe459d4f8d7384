-- A name registry: short names, each leased to one owner for a time and pointing at one process or wallet.
-- Actions and answers are in README.md. What it is not: a market (names cost nothing) nor a resolver for other
-- registries. A name has at most one owner at any time.

local json = require("json")

local NAME_BYTES_MAX = 51
local NAMES_PER_OWNER_MAX = 100
local NAMES_MAX = 100000
local YEARS_MAX = 5
local PAGE_MAX = 100
local ADDRESS_BYTES_MAX = 128

local DAY_MS = 24 * 60 * 60 * 1000
local YEAR_MS = 365 * DAY_MS
-- After it ends, a lease can for this long be renewed by its owner and taken by nobody.
local GRACE_MS = 14 * DAY_MS

-- ---- state ----

-- name -> { owner, process, registered_at, expires_at }; times in milliseconds
Records = Records or {}

-- Kept from Records, so not state: how many names each owner has, and in all.
local counts, total = {}, 0
for _, record in pairs(Records) do
  counts[record.owner] = (counts[record.owner] or 0) + 1
  total = total + 1
end

local function put(name, record)
  Records[name] = record
  counts[record.owner] = (counts[record.owner] or 0) + 1
  total = total + 1
end

local function drop(name)
  local owner = Records[name].owner
  Records[name] = nil
  counts[owner] = counts[owner] > 1 and counts[owner] - 1 or nil
  total = total - 1
end

-- ---- reading messages ----

local function nowOf(msg) return math.tointeger(tonumber(msg.Timestamp)) or 0 end

local function nameOf(msg)
  local name = msg.Tags.Name
  if type(name) ~= "string" or name == "" then return nil, "Name is required" end
  if #name > NAME_BYTES_MAX then
    return nil, ("Name must have at most %d letters, got %d"):format(NAME_BYTES_MAX, #name)
  end
  local lower = name:lower()
  if not lower:find("^[a-z0-9][a-z0-9-]*$") or lower:sub(-1) == "-" then
    return nil, "Name must be of letters, digits and inner hyphens, got '" .. name .. "'"
  end
  return lower
end

local function yearsOf(msg)
  if msg.Years == nil then return 1 end
  local years = math.tointeger(tonumber(msg.Years))
  if not years or years < 1 or years > YEARS_MAX then
    return nil, ("Years must be a number from 1 to %d, got '%s'"):format(YEARS_MAX, tostring(msg.Years))
  end
  return years
end

local function addressOf(value, tag)
  if type(value) ~= "string" or not value:find("^[%w_-]+$") or #value > ADDRESS_BYTES_MAX then
    return nil, tag .. " must be an address, got '" .. tostring(value) .. "'"
  end
  return value
end

-- ---- leases ----

local function isTaken(record, now) return record ~= nil and now <= record.expires_at + GRACE_MS end

local function isLive(record, now) return record ~= nil and now <= record.expires_at end

-- The name and record of a message by its owner, or nil and what is wrong.
local function owned(msg)
  local name, problem = nameOf(msg)
  if not name then return nil, problem end
  local record = Records[name]
  if not isTaken(record, nowOf(msg)) then return nil, "The name '" .. name .. "' is not registered" end
  if record.owner ~= msg.From then return nil, "The name '" .. name .. "' is not yours" end
  return name, record
end

local function roomFor(owner)
  if (counts[owner] or 0) >= NAMES_PER_OWNER_MAX then
    return nil, ("An owner may have at most %d names"):format(NAMES_PER_OWNER_MAX)
  end
  return true
end

-- ---- answers ----

local function refuse(msg, action, text)
  msg.reply({ Action = action, ["Message-Id"] = msg.Id, Error = text })
end

local function describe(action, name, record)
  return {
    Action = action,
    Name = name,
    ["Record-Owner"] = record.owner,
    ["Process-Id"] = record.process,
    ["Registered-At"] = tostring(record.registered_at),
    ["Expires-At"] = tostring(record.expires_at),
    Data = json.encode(record),
  }
end

-- ---- actions ----

local function room(msg, name, now)
  local record = Records[name]
  if isTaken(record, now) then
    return nil, ("The name '%s' is taken until %d"):format(name, record.expires_at + GRACE_MS)
  end
  if not record and total >= NAMES_MAX then return nil, ("The registry is full: it has %d names"):format(total) end
  return roomFor(msg.From)
end

local function register(msg)
  local now = nowOf(msg)
  local name, problem = nameOf(msg)
  if not name then return refuse(msg, "Register-Error", problem) end
  local years, wrong = yearsOf(msg)
  if not years then return refuse(msg, "Register-Error", wrong) end
  local process, bad = addressOf(msg.Tags["Process-Id"] or msg.From, "Process-Id")
  if not process then return refuse(msg, "Register-Error", bad) end
  local free, why = room(msg, name, now)
  if not free then return refuse(msg, "Register-Error", why) end
  if Records[name] then drop(name) end
  put(name, { owner = msg.From, process = process, registered_at = now, expires_at = now + years * YEAR_MS })
  msg.reply(describe("Register-Notice", name, Records[name]))
end

local function setRecord(msg)
  local name, record = owned(msg)
  if not name then return refuse(msg, "Set-Record-Error", record) end
  local process, bad = addressOf(msg.Tags["Process-Id"], "Process-Id")
  if not process then return refuse(msg, "Set-Record-Error", bad) end
  record.process = process
  msg.reply(describe("Set-Record-Notice", name, record))
end

local function transfer(msg)
  local name, record = owned(msg)
  if not name then return refuse(msg, "Transfer-Error", record) end
  local recipient, bad = addressOf(msg.Recipient, "Recipient")
  if not recipient then return refuse(msg, "Transfer-Error", bad) end
  local free, why = roomFor(recipient)
  if recipient ~= msg.From and not free then return refuse(msg, "Transfer-Error", why) end
  drop(name)
  record.owner = recipient
  put(name, record)
  msg.reply(describe("Transfer-Notice", name, record))
  local received = describe("Name-Received", name, record)
  received.Target, received.Sender = recipient, msg.From
  Send(received)
end

-- Adds years to what is left; a lease never reaches further than the most years from now.
local function renew(msg)
  local name, record = owned(msg)
  if not name then return refuse(msg, "Renew-Error", record) end
  local years, wrong = yearsOf(msg)
  if not years then return refuse(msg, "Renew-Error", wrong) end
  local expires = math.max(record.expires_at, nowOf(msg)) + years * YEAR_MS
  if expires > nowOf(msg) + YEARS_MAX * YEAR_MS then
    return refuse(msg, "Renew-Error", ("A lease may reach at most %d years ahead"):format(YEARS_MAX))
  end
  record.expires_at = expires
  msg.reply(describe("Renew-Notice", name, record))
end

local function release(msg)
  local name, record = owned(msg)
  if not name then return refuse(msg, "Release-Error", record) end
  drop(name)
  msg.reply({ Action = "Release-Notice", Name = name })
end

local function getRecord(msg)
  local name, problem = nameOf(msg)
  if not name then return refuse(msg, "Get-Record-Error", problem) end
  local record = Records[name]
  if not isLive(record, nowOf(msg)) then
    return refuse(msg, "Get-Record-Error", "The name '" .. name .. "' is not registered")
  end
  msg.reply(describe("Record-Notice", name, record))
end

local function pageOf(msg)
  if msg.Limit == nil then return PAGE_MAX end
  local limit = math.tointeger(tonumber(msg.Limit))
  if not limit or limit < 1 or limit > PAGE_MAX then
    return nil, ("Limit must be a number from 1 to %d, got '%s'"):format(PAGE_MAX, tostring(msg.Limit))
  end
  return limit
end

-- Live names after `cursor`, of one owner if given, in order.
local function liveNames(now, cursor, owner)
  local names = {}
  for name, record in pairs(Records) do
    local wanted = isLive(record, now) and name > cursor and (owner == nil or record.owner == owner)
    if wanted then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

local function records(msg)
  local limit, problem = pageOf(msg)
  if not limit then return refuse(msg, "Records-Error", problem) end
  local names = liveNames(nowOf(msg), tostring(msg.Cursor or ""), msg.Tags["Record-Owner"])
  local page = {}
  for i = 1, math.min(limit, #names) do page[names[i]] = Records[names[i]] end
  msg.reply({
    Action = "Records-Notice",
    Count = tostring(math.min(limit, #names)),
    Cursor = #names > limit and names[limit] or nil,
    Data = json.encode(page),
  })
end

local function on(name, action, handle)
  Handlers.add(name, Handlers.utils.hasMatchingTag("Action", action), handle)
end

on("names-register", "Register", register)
on("names-set-record", "Set-Record", setRecord)
on("names-transfer", "Transfer", transfer)
on("names-renew", "Renew", renew)
on("names-release", "Release", release)
on("names-get-record", "Get-Record", getRecord)
on("names-records", "Records", records)
