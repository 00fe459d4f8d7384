--- Where the last error of a handle came from. Not the error itself, which travels as Lua errors do.

local trace = {}

local last

local function stack(...)
  return (debug.traceback(...):gsub("^\n", ""))
end

--- Starts a message: no error yet.
function trace.forget()
  last = nil
end

--- Called by a message handler of `xpcall`, while the stack of the error still stands. The first of a message counts:
--- later ones are the same error on its way up.
function trace.take()
  last = last or stack("", 4)
end

--- The stack of the last error in a handle; else that of the thread that died.
function trace.give(thread)
  return last or stack(thread, "")
end

return trace
