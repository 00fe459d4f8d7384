-- must: error C stack overflow
package.preload.loop = function() return require("loop") end
return require("loop")
