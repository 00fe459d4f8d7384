-- Blocks and tests, by the names of busted. A block's body runs when its turn comes; its tests run right
-- after. Each block and each test begins with a mark and ends by going back to it: processes, clock and
-- block height are then what they were.
local host, inspect, options = ...
local busted = {}

local block      -- being collected or run
local running    -- the test under way
local undoing = {}

--- Remembers how to take something back at the end of the test or block.
function busted.undo(how) undoing[#undoing + 1] = how end

local function undo_down_to(height)
  while #undoing > height do table.remove(undoing)() end
end

local function isolated(work, ...)
  local height, mark = #undoing, host.mark()
  local result = table.pack(work(...))
  undo_down_to(height)
  host.restore(mark)
  return table.unpack(result, 1, result.n)
end

-- Errors ----------------------------------------------------------------------------------------

local function problem_of(raised)
  if type(raised) == "table" and (raised.is_weft_failure or raised.is_weft_pending) then return raised end
  local text = type(raised) == "table" and inspect.show(raised) or tostring(raised):gsub("^runtime error: ", "", 1)
  local file, line = host.where()
  return { is_weft_error = true, message = text, file = file, line = line, trace = host.traceback() }
end

local function guarded(work, ...) return xpcall(work, problem_of, ...) end

-- Collecting --------------------------------------------------------------------------------------

local function new_block(name, parent)
  return {
    name = name, parent = parent, children = {}, before_each = {}, after_each = {},
    setup = {}, teardown = {}, lazy_setup = {}, lazy_teardown = {},
  }
end

local function must_collect(word)
  if running then error(("`%s` inside of a test: it belongs into a describe or the file"):format(word), 3) end
end

local function must_be_called(word, name, body)
  if type(name) ~= "string" then error(("`%s` wants a name first, got %s"):format(word, type(name)), 3) end
  if type(body) ~= "function" then error(("`%s(%q)` wants a function, got %s"):format(word, name, type(body)), 3) end
end

local function add(kind, name, body, insulated)
  local file, line = host.where()
  table.insert(block.children, {
    kind = kind, name = name, body = body, insulated = insulated, file = file, line = line,
  })
end

local function declares_block(word, insulated)
  return function(name, body)
    must_collect(word)
    if body == nil and type(name) == "function" then name, body = word, name end
    must_be_called(word, name, body)
    add("block", name, body, insulated)
  end
end

local function declares_test(word)
  return function(name, body)
    must_collect(word)
    if body == nil and type(name) == "string" then return add("pending", name) end
    must_be_called(word, name, body)
    add("test", name, body)
  end
end

local function pending(name, body)
  if running then error({ is_weft_pending = true, message = tostring(name or "") }, 0) end
  must_be_called("pending", name, body or print)
  add("pending", name, body)
end

local function declares_hook(list)
  return function(body)
    must_collect(list)
    if type(body) ~= "function" then error(("`%s` wants a function, got %s"):format(list, type(body)), 2) end
    table.insert(block[list], body)
  end
end

local function finally(body)
  if not running then error("`finally` outside of a test", 2) end
  table.insert(running.finals, body)
end

-- Running -----------------------------------------------------------------------------------------

local function full_name(node)
  local names, at = { node.name }, block
  while at and at.name do
    table.insert(names, 1, at.name)
    at = at.parent
  end
  return names
end

local function is_selected(names)
  return not options.filter or table.concat(names, " "):find(options.filter, 1, true) ~= nil
end

local function path_to(at)
  local path = {}
  while at do
    table.insert(path, 1, at)
    at = at.parent
  end
  return path
end

local function run_all(list)
  for _, body in ipairs(list) do body() end
end

local function befores()
  for _, at in ipairs(path_to(block)) do run_all(at.before_each) end
end

-- Everything that comes after runs, whatever fails; the first failure is the one that is told.
local function afters(failed)
  local path = path_to(block)
  for i = #path, 1, -1 do
    for _, body in ipairs(path[i].after_each) do
      local ok, problem = guarded(body)
      failed = failed or (not ok and problem) or nil
    end
  end
  for _, body in ipairs(running.finals) do
    local ok, problem = guarded(body)
    failed = failed or (not ok and problem) or nil
  end
  return failed
end

local function status_of(problem)
  if not problem then return "passed" end
  if problem.is_weft_pending then return "pending" end
  return problem.is_weft_failure and "failed" or "error"
end

local function run_setup(at, kind)
  if at[kind .. "_done"] then return end
  at[kind .. "_done"] = true
  local ok, problem = guarded(run_all, at[kind])
  if not ok then at.broken = at.broken or problem end
end

local function setups()
  for _, at in ipairs(path_to(block)) do
    run_setup(at, "setup")
    run_setup(at, "lazy_setup")
  end
end

local function broken_setup()
  for _, at in ipairs(path_to(block)) do
    if at.broken then return at.broken end
  end
end

local function body_of(node)
  befores()
  node.body()
end

local function run_test(node)
  running = { finals = {} }
  host.begin()
  local problem = broken_setup()
  if not problem then
    local ok, raised = guarded(body_of, node)
    problem = afters(not ok and raised or nil)
  end
  running = nil
  return problem
end

local function report(node, names, problem)
  host.record {
    names = names, status = status_of(problem), file = node.file, line = node.line,
    message = problem and problem.message, at_file = problem and problem.file, at_line = problem and problem.line,
    trace = problem and not problem.is_weft_pending and problem.trace or nil,
  }
end

local function visit_test(node)
  local names = full_name(node)
  if not is_selected(names) then return end
  if node.kind == "pending" then
    host.begin()
    return report(node, names, { is_weft_pending = true, message = "" })
  end
  setups()
  report(node, names, isolated(run_test, node))
end

local visit_block

local function visit_children()
  for _, child in ipairs(block.children) do
    if child.kind == "block" then visit_block(child) else visit_test(child) end
  end
end

local function report_hooks(lists)
  for _, list in ipairs(lists) do
    for _, body in ipairs(list) do
      local ok, problem = guarded(body)
      if not ok then report({ name = "teardown" }, full_name({ name = "teardown" }), problem) end
    end
  end
end

local function run_block(body)
  host.begin()
  local ok, problem = guarded(body)
  if not ok then
    return report({ name = "the block itself" }, full_name({ name = "the block itself" }), problem)
  end
  -- Under a filter a block may have nothing to run; then its setup would only cost.
  if #block.children > 0 and not options.filter then run_setup(block, "setup") end
  visit_children()
  report_hooks { block.lazy_setup_done and block.lazy_teardown or {}, block.setup_done and block.teardown or {} }
end

local function shallow(of)
  local copy = {}
  for key, value in next, of do copy[key] = value end
  return copy
end

local function put_back(into, from)
  for key in next, into do
    if from[key] == nil then into[key] = nil end
  end
  for key, value in next, from do into[key] = value end
end

function visit_block(node)
  local outer = block
  local globals, loaded = node.insulated and shallow(_G), node.insulated and shallow(package.loaded)
  block = new_block(node.name, outer)
  isolated(run_block, node.body)
  block = outer
  if node.insulated then
    put_back(_G, globals)
    put_back(package.loaded, loaded)
  end
end

--- Runs a file: its chunk is a block without a name.
function busted.run(chunk)
  block = new_block(nil, nil)
  isolated(run_block, chunk)
end

--- Puts the names where specs look for them.
function busted.install(into)
  into.describe, into.context = declares_block("describe"), declares_block("context")
  into.insulate, into.expose = declares_block("insulate", true), declares_block("expose")
  into.it, into.test, into.spec = declares_test("it"), declares_test("test"), declares_test("spec")
  into.pending, into.finally = pending, finally
  into.before_each, into.after_each = declares_hook("before_each"), declares_hook("after_each")
  into.setup, into.teardown = declares_hook("setup"), declares_hook("teardown")
  into.strict_setup, into.strict_teardown = into.setup, into.teardown
  into.lazy_setup, into.lazy_teardown = declares_hook("lazy_setup"), declares_hook("lazy_teardown")
  into.randomize = function() end
end

return busted
