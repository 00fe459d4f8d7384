--- An incoming message made ready for handlers: names of tags in one form, tags as a map and at the root, JSON decoded,
-- `reply` and `forward`. Not the trust in its sender.

local ao = require(".ao")
local utils = require(".utils")
local json = require("json")

local message = {}

local function normal_tags(list)
  local map = {}
  for _, tag in ipairs(list) do
    local name = utils.normalize(tag.name)
    tag.name = name
    if map[name] == nil then
      map[name] = tag.value
    end
  end
  return map
end

--- Lifts tags to the root; `TagArray` is the list as it came, `Tags` a map in which the first of a name counts.
function message.open(msg)
  local map = normal_tags(msg.Tags)
  ao.normalize(msg)
  msg.TagArray, msg.Tags = msg.Tags, map
  return msg
end

--- Data that say they are JSON become what they mean.
function message.decode(msg)
  if msg.Tags["Content-Type"] == "application/json" then
    msg.Data = json.decode(msg.Data or "{}")
  end
end

--- Gives a message `reply(t)` and `forward(target, t)`.
function message.answerable(msg)
  function msg.reply(replyMsg)
    replyMsg.Target = msg["Reply-To"] or replyMsg.Target or msg.From
    replyMsg["X-Reference"] = msg["X-Reference"] or msg.Reference
    replyMsg["X-Origin"] = msg["X-Origin"]
    return ao.send(replyMsg)
  end

  function msg.forward(target, changes)
    local copy = ao.sanitize(msg)
    for key, value in pairs(changes or {}) do
      copy[key] = value
    end
    copy.Target = target
    copy["Reply-To"] = msg["Reply-To"] or msg.From
    copy["X-Reference"] = msg["X-Reference"] or msg.Reference
    copy["X-Origin"] = msg["X-Origin"] or msg.From
    copy.reply, copy.forward = nil, nil
    ao.send(copy)
  end
end

return message
