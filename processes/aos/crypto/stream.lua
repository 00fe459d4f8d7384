-- Streams of bytes: functions that give the next byte, and nil at the end. A stream is read once.

local bytes = require(".crypto.bytes")
local array = require(".crypto.array")

local stream = {}

function stream.fromString(s) return bytes.stream(bytes.of(s, "stream.fromString")) end

stream.fromArray = array.toStream

function stream.fromHex(digits) return stream.fromString((bytes.fromHex(digits))) end

function stream.toString(s) return bytes.of(s, "stream.toString") end

function stream.toArray(s) return array.fromStream(s) end

function stream.toHex(s) return bytes.toHex(bytes.of(s, "stream.toHex")):upper() end

return stream
