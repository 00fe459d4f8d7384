--- What a process prints, gathered for the output of the message. Not the pretty-printer itself: see `.stringify`.
-- The lines stand in the global `HANDLER_PRINT_LOGS`, as they always did.

local stringify = require(".stringify")
local colors = require(".colors")

local console = {}

local COLOR = { ["nil"] = colors.red, number = colors.green, boolean = colors.blue }

local function text_of(value)
  local kind = type(value)
  if kind == "string" then
    return value
  elseif kind == "table" then
    return stringify.format(value)
  elseif COLOR[kind] then
    return COLOR[kind] .. tostring(value) .. colors.reset
  end
  return tostring(value)
end

--- The global `print`: a line of output, of its first argument.
function console.print(value)
  table.insert(HANDLER_PRINT_LOGS, text_of(value))
end

--- Starts a message without output.
function console.clear()
  HANDLER_PRINT_LOGS = {}
end

--- All lines.
function console.text()
  return table.concat(HANDLER_PRINT_LOGS, "\n")
end

return console
