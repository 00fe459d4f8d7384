--- The entry: what the engine calls for each message. Everything else is a module in `package.preload`.

require(".globals").install()

for _, name in ipairs({ ".ao", ".assignment", ".base64", ".boot", ".chance", ".default", ".dump", ".eval", ".handlers",
  ".handlers-utils", ".pretty", ".process", ".stringify", ".utils", "json" }) do
  require(name)
end

--- One message in, its response out: `{Output, Messages, Spawns, Assignments}` or `{Error}`.
function handle(msg, env)
  return require(".process").handle(msg, env)
end
