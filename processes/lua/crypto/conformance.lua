-- Compares what cases.lua prints with golden.lua, inside a process: leaves the differing lines in a global.

local printed = require("cases")
local golden = require("golden")

CryptoDifferences = {}

local at = 0
for line in printed:gmatch("[^\n]*") do
  at = at + 1
  if line ~= golden[at] then
    CryptoDifferences[#CryptoDifferences + 1] = { line = at, wanted = golden[at], got = line }
  end
end
if at ~= #golden then CryptoDifferences[#CryptoDifferences + 1] = { lines = at, wanted = #golden } end
