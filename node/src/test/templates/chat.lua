-- {{name}}: a chat room. Who joined hears what others say. Load it: .load {{name}}.lua

Members = Members or {}
History = History or {}

--- Lines kept for those who come later.
local HISTORY_MAX = 100

local function refuse(msg, why)
  msg.reply({ Action = msg.Tags.Action .. "-Error", Error = why })
end

local function tell_all(message, but)
  for account in pairs(Members) do
    if account ~= but then
      Send({ Target = account, Action = message.Action, Author = message.Author, Data = message.Data })
    end
  end
end

Handlers.add("join", "Join", function(msg)
  local name = msg.Tags.Nickname
  if type(name) ~= "string" or not name:find("^[%w_%-]+$") or #name > 32 then
    return refuse(msg, "Nickname must be 1 to 32 letters, digits, _ or -")
  end
  Members[msg.From] = name
  msg.reply({ Action = "Joined", Nickname = name })
  tell_all({ Action = "Member-Joined", Author = name, Data = name .. " joined" }, msg.From)
end)

Handlers.add("leave", "Leave", function(msg)
  local name = Members[msg.From]
  if not name then return refuse(msg, "Join first") end
  Members[msg.From] = nil
  msg.reply({ Action = "Left" })
  tell_all({ Action = "Member-Left", Author = name, Data = name .. " left" })
end)

Handlers.add("say", "Say", function(msg)
  local name = Members[msg.From]
  if not name then return refuse(msg, "Join first") end
  History[#History + 1] = { author = name, text = msg.Data, time = msg.Timestamp }
  if #History > HISTORY_MAX then table.remove(History, 1) end
  tell_all({ Action = "Said", Author = name, Data = msg.Data })
end)

Handlers.add("history", "History", function(msg)
  msg.reply({ Action = "History-Lines", Data = require("json").encode(History) })
end)
