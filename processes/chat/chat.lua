-- The chat client: Join, Say, Leave and List in your own process, for rooms made by the chatroom blueprint.
-- What is said in a room you joined is printed. What it is not: a room; it keeps no messages either.
--
--   Rooms.lobby = "PROCESS ID"      -- rooms you know, by name
--   Join("lobby", "nick")           -- then: Say("hello"), Say("hello", "lobby"), Leave("lobby"), List()

local NAME_BYTES_MAX = 64

-- ---- state ----

-- Rooms you know: name -> process id.
Rooms = Rooms or {}

-- current: the room that Say speaks in; nickname: your name; joined: names of rooms whose answers are shown.
Chat = Chat or { joined = {} }

-- ---- what is told ----

local function names(set)
  local list = {}
  for name in pairs(set) do list[#list + 1] = name end
  table.sort(list)
  return #list > 0 and table.concat(list, ", ") or "none"
end

local function paint(colour, text) return colour .. text .. Colors.reset end

-- ---- rooms ----

-- The name and id of a known room; raises what is wrong with it.
local function known(room)
  if type(room) ~= "string" or room == "" then error("which room? You know: " .. names(Rooms), 0) end
  if not Rooms[room] then
    error(('no room "%s". You know: %s. Add one: Rooms["%s"] = "PROCESS ID"'):format(room, names(Rooms), room), 0)
  end
  return room, Rooms[room]
end

-- Like known, for rooms you are in; without a name, the current one.
local function joined(room)
  room = room or Chat.current
  if not room then error("you are in no room: Join(room, nickname) first", 0) end
  local name, id = known(room)
  if not Chat.joined[name] then error(('you are not in "%s". You are in: %s'):format(name, names(Chat.joined)), 0) end
  return name, id
end

local function roomOf(id)
  for name in pairs(Chat.joined) do
    if Rooms[name] == id then return name end
  end
end

-- ---- what you call ----

-- Enters a room by its name in Rooms. The nickname is asked for once.
function Join(room, nickname)
  local name, id = known(room)
  nickname = nickname or Chat.nickname
  if type(nickname) ~= "string" or nickname == "" or #nickname > NAME_BYTES_MAX then
    error(("a nickname has 1 to %d bytes: Join(room, nickname)"):format(NAME_BYTES_MAX), 0)
  end
  Chat.nickname, Chat.current, Chat.joined[name] = nickname, name, true
  Send({ Target = id, Action = "Register", Nickname = nickname })
  return paint(Colors.gray, "Joining ") .. paint(Colors.blue, name)
end

-- Speaks in a room you are in: the current one unless named.
function Say(text, room)
  if type(text) ~= "string" or text == "" then error("what to say? Say(text) or Say(text, room)", 0) end
  local name, id = joined(room)
  Chat.current = name
  Send({ Target = id, Action = "Broadcast", Nickname = Chat.nickname, Data = text })
  return paint(Colors.gray, "Saying it in ") .. paint(Colors.blue, name)
end

-- Leaves a room: the current one unless named.
function Leave(room)
  local name, id = joined(room)
  Chat.joined[name] = nil
  if Chat.current == name then Chat.current = next(Chat.joined) end
  Send({ Target = id, Action = "Unregister" })
  return paint(Colors.gray, "Leaving ") .. paint(Colors.blue, name)
end

-- The rooms you know; a star marks those you are in.
function List()
  local lines = {}
  for name, id in pairs(Rooms) do
    local mark = Chat.joined[name] and "* " or "  "
    lines[#lines + 1] = mark .. paint(Colors.blue, name) .. paint(Colors.gray, "  " .. id)
  end
  table.sort(lines)
  return #lines > 0 and table.concat(lines, "\n") or 'no rooms: Rooms["name"] = "PROCESS ID"'
end

-- ---- what rooms send ----

-- Matches messages with one of these actions from a room you are in: a stranger cannot put words in it.
local function fromRoom(actions)
  return function(msg) return actions[msg.Action] ~= nil and roomOf(msg.From) ~= nil end
end

-- Control bytes could move the reader's cursor or forge a prompt.
local function plain(text) return (tostring(text):gsub("%c", " ")) end

local function show(msg)
  local who = plain(msg.Nickname or msg.Broadcaster or msg.From):sub(1, NAME_BYTES_MAX)
  print(paint(Colors.green, who) .. paint(Colors.gray, "@" .. roomOf(msg.From) .. "> ") .. plain(msg.Data))
end

local TOLD = {
  ["Registered"] = "You are in ",
  ["Register-Error"] = "Not let in: ",
  ["Broadcast-Error"] = "Not said: ",
  ["Unregister-Error"] = "Not left: ",
}

local function tell(msg)
  local name = roomOf(msg.From)
  local text = msg.Error and plain(msg.Error) .. " (" .. name .. ")" or name
  if msg.Action == "Register-Error" then Chat.joined[name] = nil end
  print(paint(Colors.gray, TOLD[msg.Action]) .. text)
end

-- The room's receipt for what you said: seen, nothing to show.
local function ignore() end

Handlers.add("chat-show", fromRoom({ ["Broadcasted"] = true }), show)
Handlers.add("chat-tell", fromRoom(TOLD), tell)
Handlers.add("chat-receipt", fromRoom({ ["Broadcast-Sent"] = true }), ignore)
