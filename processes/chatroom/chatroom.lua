-- A chat room: processes and wallets register, and what one broadcasts goes to all of them.
-- Actions and answers are in README.md. What it is not: a store of messages; nothing is kept but the members.

-- Each broadcast costs one message per member.
local MEMBERS_MAX = 10000

-- ---- state: addresses in the order in which they came, each once ----

Members = Members or {}

local function placeOf(address)
  for place, member in ipairs(Members) do
    if member == address then return place end
  end
end

-- ---- actions ----

local function refuse(msg, action, text)
  msg.reply({ Action = action, ["Message-Id"] = msg.Id, Error = text })
end

local function register(msg)
  if not placeOf(msg.From) then
    if #Members >= MEMBERS_MAX then
      return refuse(msg, "Register-Error", ("The room is full: it has %d members"):format(#Members))
    end
    table.insert(Members, msg.From)
  end
  msg.reply({ Action = "Registered", Data = "registered" })
end

local function unregister(msg)
  local place = placeOf(msg.From)
  if not place then return refuse(msg, "Unregister-Error", "You are not registered in this room") end
  table.remove(Members, place)
  msg.reply({ Action = "Unregistered", Data = "unregistered" })
end

local function broadcast(msg)
  if type(msg.Data) ~= "string" or msg.Data == "" then
    return refuse(msg, "Broadcast-Error", "Data is required: it is the text to broadcast")
  end
  for _, member in ipairs(Members) do
    Send({
      Target = member,
      Action = "Broadcasted",
      Broadcaster = msg.From,
      Nickname = msg.Nickname or msg.From,
      Data = msg.Data,
    })
  end
  msg.reply({ Action = "Broadcast-Sent", Members = tostring(#Members), Data = "Broadcasted." })
end

local function members(msg)
  msg.reply({ Action = "Member-List", Count = tostring(#Members), Data = table.concat(Members, "\n") })
end

local function on(name, action, handle)
  Handlers.add(name, Handlers.utils.hasMatchingTag("Action", action), handle)
end

on("register", "Register", register)
on("unregister", "Unregister", unregister)
on("broadcast", "Broadcast", broadcast)
on("members", "Members", members)
