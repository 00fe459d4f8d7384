-- must: error circular reference
-- The answer itself cannot be written: an error, not a hang.
local t = {} t.t = t return t
