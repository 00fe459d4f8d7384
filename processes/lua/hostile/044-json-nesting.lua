-- must: error stack overflow
assert(#require("json").decode(string.rep("[", 100000) .. string.rep("]", 100000)) == 1)
return require("json").decode(string.rep("[", 1000000))
