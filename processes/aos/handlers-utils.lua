--- Ready-made patterns and handles for `Handlers.add`; reachable as `Handlers.utils`. Not the evaluation of handlers.

local utils = require(".utils")

local helpers = { _version = "0.0.2" }

--- A pattern: the tag has this value.
function helpers.hasMatchingTag(name, value)
  assert(type(name) == "string" and type(value) == "string", "invalid arguments: (name : string, value : string)")
  return function(msg)
    return msg.Tags[name] == value
  end
end

--- A pattern: the tag has one of these values.
function helpers.hasMatchingTagOf(name, values)
  assert(type(name) == "string" and type(values) == "table", "invalid arguments: (name : string, values : string[])")
  return function(msg)
    for _, value in ipairs(values) do
      if msg.Tags[name] == value then
        return true
      end
    end
    return 0
  end
end

--- A pattern: the data are this text.
function helpers.hasMatchingData(value)
  assert(type(value) == "string", "invalid arguments: (value : string)")
  return function(msg)
    return msg.Data == value
  end
end

--- A handle that replies with a text or with a message.
function helpers.reply(input)
  assert(type(input) == "table" or type(input) == "string", "invalid arguments: (input : table or string)")
  return function(msg)
    msg.reply(type(input) == "string" and { Data = input } or input)
  end
end

--- The pattern, but handlers after this one still see the message.
function helpers.continue(pattern)
  return function(msg)
    local match = utils.matchesSpec(msg, pattern)
    if not match or match == 0 or match == "skip" then
      return match
    end
    return 1
  end
end

return helpers
