--- The handler of last resort: keeps the message in the inbox and prints a line about it.

local colors = require(".colors")

local SHOWN_MAX = 20

local function about(msg)
  local label, value = "Action", msg.Action
  if not value then
    label, value = "Data", msg.Data or ""
  end
  if type(value) == "table" then
    value = require("json").encode(value)
  end
  return colors.gray .. label .. " = " .. colors.blue .. tostring(value):sub(1, SHOWN_MAX) .. colors.reset
end

--- A handle that calls `insertInbox(msg)` for each message.
return function(insertInbox)
  return function(msg)
    insertInbox(msg)
    local from = msg.From
    local who = from and from:sub(1, 3) .. "..." .. from:sub(-3) or "unknown"
    print(colors.gray .. "New Message From " .. colors.green .. who .. colors.gray .. ": " .. about(msg))
  end
end
