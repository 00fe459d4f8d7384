-- Spies, stubs and mocks: functions that remember how they were called. All are undone at the end of the
-- test, or of the block, that made them.
local inspect, undo = ...
local spies = { spy = {}, stub = {}, match = {} }

local Spy = {}
Spy.__index = Spy
Spy.__tostring = function() return "spy" end

function Spy.__call(self, ...)
  local call = { n = select("#", ...), ... }
  self.calls[#self.calls + 1] = call
  local results = table.pack(pcall(self.callback, ...))
  if not results[1] then
    self.given_back[#self.calls] = { n = 0 }
    error(results[2], 0)
  end
  self.given_back[#self.calls] = { n = results.n - 1, table.unpack(results, 2, results.n) }
  return table.unpack(results, 2, results.n)
end

--- Forgets the calls.
function Spy:clear()
  self.calls, self.given_back = {}, {}
  return self
end

--- Puts the original back.
function Spy:revert()
  if self.target and not self.reverted then
    rawset(self.target, self.key, self.original)
    self.reverted = true
  end
  return self.original
end

function Spy:called(times)
  return times == nil and #self.calls > 0 or #self.calls == times, #self.calls
end

local function any_same(lists, wanted)
  for _, list in ipairs(lists) do
    local equal = list.n == wanted.n
    for at = 1, wanted.n do equal = equal and inspect.same(wanted[at], list[at]) end
    if equal then return true end
  end
  return false
end

function Spy:called_with(...) return any_same(self.calls, table.pack(...)) end
function Spy:returned_with(...) return any_same(self.given_back, table.pack(...)) end

function spies.is_spy(value) return type(value) == "table" and getmetatable(value) == Spy end

local function new(callback)
  return setmetatable({ calls = {}, given_back = {}, callback = callback or function() end }, Spy)
end

local function on(target, key, callback)
  local spy = new(callback or target[key])
  spy.target, spy.key, spy.original = target, key, rawget(target, key)
  rawset(target, key, spy)
  undo(function() spy:revert() end)
  return spy
end

function spies.spy.new(callback) return new(callback) end
function spies.spy.on(target, key) return on(target, key) end
spies.spy.is_spy = spies.is_spy
setmetatable(spies.spy, { __call = function(_, callback) return new(callback) end })

local function stubbed(target, key, ...)
  local results = table.pack(...)
  local given = results[1]
  if results.n == 1 and type(given) == "function" then return on(target, key, given) end
  local spy = on(target, key, function() return table.unpack(results, 1, results.n) end)
  function spy.returns(...)
    results = table.pack(...)
    return spy
  end
  function spy.invokes(callback)
    spy.callback = callback
    return spy
  end
  return spy
end

function spies.stub.new(target, key, ...) return stubbed(target, key, ...) end
setmetatable(spies.stub, { __call = function(_, target, key, ...) return stubbed(target, key, ...) end })

--- Spies on every function of a table; stubs them if `is_stub`.
function spies.mock(target, is_stub)
  for _, key in ipairs(inspect.keys(target)) do
    if type(target[key]) == "function" then
      if is_stub then stubbed(target, key) else on(target, key) end
    end
  end
  return target
end

return spies
