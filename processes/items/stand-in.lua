-- Stands in until processes/aos has a bundle: Eval, handlers by action, print, Send.
local outbox, printed
Handlers = { list = {} }
function Handlers.add(name, action, run)
  table.insert(Handlers.list, { name = name, action = action, run = run })
end
function print(...)
  local parts = table.pack(...)
  for i = 1, parts.n do parts[i] = tostring(parts[i]) end
  printed[#printed + 1] = table.concat(parts, "\t", 1, parts.n)
end
function Send(message)
  local tags = {}
  for name, value in pairs(message) do
    if name ~= "Target" and name ~= "Data" then tags[#tags + 1] = { name = name, value = tostring(value) } end
  end
  outbox[#outbox + 1] = { Target = message.Target, Data = message.Data or "", Tags = tags, Anchor = "" }
end
local function tag(message, name)
  for _, one in ipairs(message.Tags) do if one.name == name then return one.value end end
end
local function eval(message)
  local run, complaint = load("return " .. message.Data, "=eval")
  if not run then run, complaint = load(message.Data, "=eval") end
  if not run then error(complaint, 0) end
  return run()
end
local function shown(value)
  if type(value) ~= "table" then return tostring(value) end
  return require("json").encode(value)
end
function handle(message, env)
  outbox, printed = {}, {}
  Owner = Owner or env.Process.Owner
  ao = ao or { id = env.Process.Id, env = env }
  local value
  local ok, complaint = pcall(function()
    local action = tag(message, "Action")
    if action == "Eval" and message.From == Owner then value = eval(message) return end
    for _, handler in ipairs(Handlers.list) do
      if handler.action == action then return handler.run(message) end
    end
  end)
  if not ok then return { Error = tostring(complaint), Messages = {}, Spawns = {}, Assignments = {} } end
  if value ~= nil then printed[#printed + 1] = shown(value) end
  local data = table.concat(printed, "\n")
  return {
    Output = { data = data, print = true, prompt = "> " },
    Messages = outbox, Spawns = {}, Assignments = {},
  }
end
