-- must: answer never
-- __gc is not honoured: neither now nor in a later message.
called = "never"
for i = 1, 100 do setmetatable({}, { __gc = function() called = "called" end }) end
collectgarbage() collectgarbage()
return called
