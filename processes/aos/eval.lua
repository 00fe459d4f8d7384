--- The handler of `Action = Eval`: compiles the data, runs it, prints what it answers. Not the right to do so: that is
-- the pattern under which `.process` registers it.

local stringify = require(".stringify")

local function text_of(value)
  if type(value) == "table" then
    return stringify.format(value)
  end
  return tostring(value)
end

--- Prints all values up to the last that is neither nil nor false.
local function show(values)
  local count = values.n
  while count > 0 and not values[count] do
    count = count - 1
  end
  for index = 1, count do
    print(text_of(values[index]))
  end
end

--- An expression first, then statements.
local function compile(expr)
  local chunk = load("return " .. expr, "aos")
  if chunk then
    return chunk
  end
  return load(expr, "aos")
end

--- A handle. `ao` gets the error if the source cannot be compiled.
return function(ao)
  return function(msg)
    local chunk, problem = compile(msg.Data)
    if not chunk then
      ao.outbox.Error = problem
      return
    end
    show(table.pack(chunk()))
  end
end
