-- must: answer ok
-- Natives that a kernel took at its start are its own; poisoned ones stay in this process.
package.loaded.json = { encode = function() return "poisoned" end }
package.preload.evil = function() error("evil") end
assert(require("json").encode() == "poisoned")
assert(not pcall(require, "evil"))
assert(not pcall(require, "os.execute") and not pcall(require, "./driver") and not pcall(require, "/etc/passwd"))
return "ok"
