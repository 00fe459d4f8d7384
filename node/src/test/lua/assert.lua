-- `assert`: the names of luassert. A failure is a table that the runner reads: never a plain text.
local inspect, spies, host = ...

local assertions = {}
local show = inspect.show

local FILLERS = {
  is = true, are = true, was = true, were = true, has = true, have = true, does = true, ["do"] = true,
  a = true, an = true, be = true, to = true, it = true, spy = true, stub = true,
}
local NEGATIONS = { ["not"] = true, no = true, never = true }
local ALIASES = {
  equals = "equal", is_true = "true", is_false = "false", errors = "error", error_match = "error_matches",
  match = "matches", match_error = "error_matches", matches_error = "error_matches", ["function"] = "function",
  called_times = "called", is_nil = "nil", falsey = "falsy", similar = "same", returned = "returned_arguments",
}

--- Fails the test with a text at the line of the test that asks.
local function fail(text, message)
  if message ~= nil then text = tostring(message) .. "\n" .. text end
  local file, line = host.where()
  error({ is_weft_failure = true, message = text, file = file, line = line, trace = host.traceback() }, 0)
end

-- Each assertion: function(arguments) -> held, text if it should have held, text if it should not, index of the custom message.
local function define(name, run) assertions[name] = run end

local function expected_and_passed(expected, passed, more)
  local text = "expected: " .. show(expected) .. "\npassed:   " .. show(passed)
  return more and more ~= "" and text .. "\n" .. more or text
end

define("equal", function(a)
  local parting = type(a[1]) == "string" and type(a[2]) == "string" and a[1] ~= a[2] and inspect.parting(a[1], a[2])
  return a[1] == a[2],
    "the values must be equal\n" .. expected_and_passed(a[1], a[2], parting or nil),
    "the values must not be equal\nboth are: " .. show(a[1]), 3
end)

define("same", function(a)
  local held = inspect.same(a[1], a[2])
  local more = not held and type(a[1]) == "table" and type(a[2]) == "table" and inspect.differences(a[1], a[2])
  return held, "the values must be the same\n" .. expected_and_passed(a[1], a[2], more or nil),
    "the values must not be the same\nboth are: " .. show(a[1]), 3
end)

local function simple(name, test, what)
  define(name, function(a)
    return test(a[1]), "expected " .. what .. "\npassed:   " .. show(a[1]), "expected anything but " .. what, 2
  end)
end

simple("true", function(v) return v == true end, "true")
simple("false", function(v) return v == false end, "false")
simple("truthy", function(v) return v ~= nil and v ~= false end, "a value that counts as true")
simple("falsy", function(v) return not v end, "nil or false")
simple("nil", function(v) return v == nil end, "nil")
for _, kind in ipairs { "boolean", "number", "string", "table", "function", "userdata", "thread" } do
  simple(kind, function(v)
    return type(v) == kind or (kind == "function" and spies.is_spy(v))
  end, "a " .. kind)
end
simple("integer", function(v) return math.type(v) == "integer" end, "an integer")
simple("callable", function(v)
  local meta = getmetatable(v)
  return type(v) == "function" or (type(meta) == "table" and meta.__call ~= nil)
end, "something that can be called")
simple("id", function(v) return type(v) == "string" and #v == 43 and not v:find("[^%w_%-]") end, "an id of 43 characters")

define("near", function(a)
  local held = math.abs(a[1] - a[2]) <= a[3]
  return held, ("expected %s ± %s\npassed:   %s"):format(show(a[1]), show(a[3]), show(a[2])),
    ("expected anything but %s ± %s\npassed:   %s"):format(show(a[1]), show(a[3]), show(a[2])), 4
end)

define("matches", function(a)
  if type(a[2]) ~= "string" then return false, "a text must match\npattern: " .. show(a[1]) .. "\npassed:  " .. show(a[2]), "" end
  local held = a[2]:find(a[1], a[3] or 1, a[4]) ~= nil
  return held, "the text must match\npattern: " .. show(a[1]) .. "\npassed:  " .. show(a[2]),
    "the text must not match\npattern: " .. show(a[1]) .. "\npassed:  " .. show(a[2]), 5
end)

define("contains", function(a)
  local wanted, inside = a[1], a[2]
  local held = false
  if type(inside) == "string" then
    held = inside:find(tostring(wanted), 1, true) ~= nil
  elseif type(inside) == "table" then
    for _, value in pairs(inside) do held = held or inspect.same(wanted, value) end
  end
  return held, "it must be contained\nwanted: " .. show(wanted) .. "\nin:     " .. show(inside),
    "it must not be contained\nunwanted: " .. show(wanted) .. "\nin:       " .. show(inside), 3
end)

define("unique", function(a)
  local values = a[1]
  for i, one in pairs(values) do
    for j, other in pairs(values) do
      local twice = i ~= j and (one == other or (a[2] == true and inspect.same(one, other)))
      if twice then return false, "the values must be unique\ntwice: " .. show(one) .. "\nin: " .. show(values), "" end
    end
  end
  return true, "", "the values must not be unique\nin: " .. show(values), 3
end)

-- Errors raised by a function -------------------------------------------------------------------

local function raised(a)
  local called = a[1]
  if type(called) ~= "function" and not spies.is_spy(called) then
    fail("expected a function to call, got " .. show(called))
  end
  local ok, problem = pcall(called)
  if type(problem) == "table" and problem.is_weft_failure then problem = problem.message end
  if type(problem) == "userdata" then problem = tostring(problem) end
  return not ok, problem
end

local function bare(problem)
  return type(problem) == "string" and (problem:gsub("^[^\n]-:%d+: ", "", 1)) or problem
end

define("error", function(a)
  local threw, problem = raised(a)
  local wanted = a[2]
  if not threw then return false, "the function must raise an error, and did not", "" end
  if wanted == nil then return true, "", "the function must not raise an error\nraised: " .. show(problem), 3 end
  local held = inspect.same(wanted, problem) or inspect.same(wanted, bare(problem))
  return held, "another error was raised\n" .. expected_and_passed(wanted, bare(problem)),
    "this error must not be raised\nraised: " .. show(problem), 3
end)

define("error_matches", function(a)
  local threw, problem = raised(a)
  if not threw then return false, "the function must raise an error, and did not", "" end
  local held = tostring(problem):find(a[2], a[3] or 1, a[4]) ~= nil
  return held, "the error must match\npattern: " .. show(a[2]) .. "\nraised:  " .. show(problem),
    "the error must not match\npattern: " .. show(a[2]) .. "\nraised:  " .. show(problem), 5
end)

-- Spies ----------------------------------------------------------------------------------------

local function count(name, holds, words)
  define(name, function(a)
    local spy, times = a[1], a[2]
    local made = #spy.calls
    local text = ("expected %s, got %d calls"):format(words:format(times or 0), made)
    return holds(made, times), text, ("did not expect %s, got %d calls"):format(words:format(times or 0), made), 3
  end)
end

define("called", function(a)
  local held, made = a[1]:called(a[2])
  local wanted = a[2] and ("%d calls"):format(a[2]) or "at least one call"
  return held, ("expected %s, got %d"):format(wanted, made), ("did not expect %s, got %d"):format(wanted, made), 3
end)
count("called_at_least", function(made, times) return made >= times end, "at least %d calls")
count("called_at_most", function(made, times) return made <= times end, "at most %d calls")
count("called_more_than", function(made, times) return made > times end, "more than %d calls")
count("called_less_than", function(made, times) return made < times end, "less than %d calls")

local function with(name, method, field)
  define(name, function(a)
    local spy = a[1]
    local wanted = { n = a.n - 1, table.unpack(a, 2, a.n) }
    local held = spy[method](spy, table.unpack(wanted, 1, wanted.n))
    wanted.n = nil
    local seen = {}
    for at, call in ipairs(spy[field]) do seen[at] = { table.unpack(call, 1, call.n) } end
    local text = "\nwanted: " .. show(wanted) .. "\nseen:   " .. show(seen)
    return held, "no call is like this" .. text, "a call is like this" .. text
  end)
end
with("called_with", "called_with", "calls")
with("returned_with", "returned_with", "given_back")

define("returned_arguments", function(a)
  return a.n - 1 == a[1], ("expected %s arguments, got %d"):format(show(a[1]), a.n - 1), "did not expect that many arguments"
end)

-- The callable table -----------------------------------------------------------------------------

local function resolve(words)
  local negated, rest = false, {}
  for _, word in ipairs(words) do
    if NEGATIONS[word] then
      negated = not negated
    elseif not (FILLERS[word] and #rest == 0) then
      rest[#rest + 1] = word
    end
  end
  local name = table.concat(rest, "_")
  return ALIASES[name] or name, negated
end

local function run(words, subject, message, ...)
  local name, negated = resolve(words)
  local arguments = table.pack(...)
  if subject then arguments = table.pack(subject, ...) end
  -- `assert.spy(s)` and the like name what the rest is about.
  if name == "" and arguments.n >= 1 then return nil, arguments[1] end
  local assertion = assertions[name]
  if not assertion then
    fail(("assert has no `%s`; see docs/testing.md for what it has"):format(table.concat(words, ".")))
  end
  local held, positive, negative, custom = assertion(arguments)
  if (not held) == (not negated) then
    fail(negated and negative or positive, message or (custom and arguments[custom]))
  end
  return ...
end

local Chain = {}

local function chain(words, subject, message)
  return setmetatable({ words = words, subject = subject, message = message }, Chain)
end

local function extended(words, key)
  local longer = { table.unpack(words) }
  for word in tostring(key):lower():gmatch("[^_]+") do longer[#longer + 1] = word end
  return longer
end

function Chain.__index(self, key)
  return chain(extended(rawget(self, "words"), key), rawget(self, "subject"), rawget(self, "message"))
end

function Chain.__call(self, ...)
  local words, message = rawget(self, "words"), rawget(self, "message")
  local name, last = resolve(words), words[#words]
  if name == "" and (last == "spy" or last == "stub") then return chain({}, (...), message) end
  if name == "message" then return chain({}, nil, (...)) end
  if name == "" and NEGATIONS[last] == nil then fail("assert." .. table.concat(words, ".") .. " says nothing to check") end
  return run(words, rawget(self, "subject"), message, ...)
end

local api = {}

--- `assert:register("assertion", name, callback, positive, negative)`: an assertion of your own.
function api.register(_, kind, name, callback, positive, negative)
  if kind ~= "assertion" then return end
  define(name:lower(), function(a)
    local held = callback({ mod = true }, a)
    local shown = {}
    for at = 1, a.n do shown[at] = show(a[at]) end
    local list = "\npassed: " .. table.concat(shown, ", ")
    return held, (positive or name .. " must hold") .. list, (negative or name .. " must not hold") .. list
  end)
end

local assert_ = setmetatable({}, {
  __index = function(_, key) return api[key] or chain(extended({}, key)) end,
  __call = function(_, value, message, ...)
    if not value then
      if message ~= nil and type(message) ~= "string" then error(message, 0) end
      fail(message or "assertion failed!")
    end
    return value, message, ...
  end,
})

-- Matchers for arguments and parts of tables: `match._`, `match.is_string()`, `match.is_same(t)`, ... ----

local function matcher(words)
  return function(...)
    local given = table.pack(...)
    local name, negated = resolve(words)
    local assertion = assertions[name] or fail("match has no `" .. name .. "`")
    local function matches(value)
      local takes_two = given.n > 0
      local held = takes_two and assertion({ n = given.n + 1, given[1], value, table.unpack(given, 2, given.n) })
        or not takes_two and assertion({ n = 1, value })
      return (not held) == negated
    end
    return setmetatable({ is_weft_matcher = true, matches = matches }, {
      __tostring = function() return "<" .. table.concat(words, "_") .. ">" end,
    })
  end
end

local anything = setmetatable({ is_weft_matcher = true, matches = function() return true end }, {
  __tostring = function() return "<anything>" end,
})
local Match = {}
local function matches_from(words)
  return setmetatable({}, {
    __index = function(_, key)
      if #words == 0 and key == "_" then return anything end
      return matches_from(extended(words, key))
    end,
    __call = function(_, ...) return matcher(words)(...) end,
  })
end
Match = matches_from({})

return assert_, Match, fail
