--- The handler of last resort: keeps the message in the inbox and prints a line about it. Data that are neither text
--- nor table are an error, as they always were.

local colors = require(".colors")
local json = require("json")

local SHOWN_MAX = 20

local function about(msg)
  if msg.Action then
    return "Action", msg.Action:sub(1, SHOWN_MAX)
  end
  local data = msg.Data or ""
  if type(data) == "table" then
    data = json.encode(data)
  end
  return "Data", data:sub(1, SHOWN_MAX)
end

local function short(msg)
  if not msg.From then
    return "unknown"
  end
  return msg.From:sub(1, 3) .. "..." .. msg.From:sub(-3)
end

--- A handle that calls `insertInbox(msg)` for each message.
return function(insertInbox)
  return function(msg)
    insertInbox(msg)
    local sender = short(msg)
    local label, value = about(msg)
    print(colors.gray .. "New Message From " .. colors.green .. sender .. colors.gray .. ": "
      .. colors.gray .. label .. " = " .. colors.blue .. value .. colors.reset)
  end
end
