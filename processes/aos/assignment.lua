--- Which assignments a process takes. An assignment is a message meant for somebody else that was put into this
--- process's log too. Not the trust in senders: see `ao.isTrusted`.

local utils = require(".utils")

local assignment = { _version = "0.1.0" }

local function position_of(ao, name)
  for index, known in ipairs(ao.assignables) do
    if known.name == name then
      return index
    end
  end
end

local function add(ao, name, pattern)
  local at = name and position_of(ao, name)
  if at then
    ao.assignables[at].pattern = pattern
  else
    table.insert(ao.assignables, { name = name, pattern = pattern })
  end
end

local function remove(ao, key)
  if type(key) == "string" then
    key = position_of(ao, key)
    if not key then
      return
    end
  end
  assert(type(key) == "number", "index MUST be a number")
  if key > 0 and key <= #ao.assignables then
    table.remove(ao.assignables, key)
  end
end

--- Gives `ao` its four functions for assignments.
function assignment.init(ao)
  ao.assignables = ao.assignables or {}

  --- `(pattern)` or `(name, pattern)`: takes assignments that match.
  function ao.addAssignable(...)
    local name, pattern = ...
    if select("#", ...) == 1 then
      name, pattern = nil, name
    else
      assert(type(name) == "string", "MatchSpec name MUST be a string")
    end
    add(ao, name, pattern)
  end

  --- By name or by place in `ao.assignables`.
  function ao.removeAssignable(key)
    remove(ao, key)
  end

  --- Whether a message was meant for somebody else.
  function ao.isAssignment(msg)
    return msg.Target ~= ao.id
  end

  --- Whether this process takes such an assignment.
  function ao.isAssignable(msg)
    for _, known in pairs(ao.assignables) do
      if utils.matchesSpec(msg, known.pattern) then
        return true
      end
    end
    return false
  end
end

return assignment
