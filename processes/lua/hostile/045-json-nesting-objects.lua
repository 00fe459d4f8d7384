-- must: error stack overflow
return require("json").decode(string.rep('{"a":', 1000000))
