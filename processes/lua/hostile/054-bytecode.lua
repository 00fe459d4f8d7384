-- must: answer attempt to load a binary chunk
-- No bytecode gets in, whatever mode is asked for; and none gets out.
assert(string.dump == nil)
local signature = "\27Lua\x53\0\x19\x93\r\n\x1a\n" .. string.rep("\0", 200)
for _, mode in ipairs({ "b", "bt", "t" }) do assert(load(signature, "x", mode) == nil) end
local parts = { signature }
assert(load(function() return table.remove(parts) end, "x", "b") == nil)
local why = select(2, load(signature, "x", "b"))
return why:match("attempt to load a binary chunk")
