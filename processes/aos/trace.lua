--- Where the last error of a handle came from. Not the error itself, which travels as Lua errors do.

local trace = {}

local last

--- Called while the stack of the error still stands.
function trace.take()
  last = debug.traceback("", 3):gsub("^\n", "")
end

--- The stack of the last error, which is forgotten; that of the caller if there is none.
function trace.give()
  local text = last or debug.traceback("", 2):gsub("^\n", "")
  last = nil
  return text
end

return trace
