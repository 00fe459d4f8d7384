--- The entry: what the engine calls for each message. Everything else is a module that the bundle put into
--- `package.preload`; they are loaded here, once, so that every process starts with all of them.

require(".globals").install()
for name in pairs(package.preload) do
  require(name)
  package.preload[name] = nil
end

local process = require(".process")

--- One message in, its response out: `{Output, Messages, Spawns, Assignments}` or `{Error}`.
function handle(msg, env)
  return process.handle(msg, env)
end
