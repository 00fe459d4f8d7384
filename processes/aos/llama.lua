--- `require("llama")`: the calls of a process that carries a language model in its module, made of `ao.ai`. Programs
--- written for one run as they are. Not the model: it is the item whose id is loaded.

local ai = require(".ai")

local llama = { logLevel = 0 }

-- The text at hand, and the one put aside by saveState.
local session, saved

local function at_hand()
  return assert(session, "no model is loaded: call load(id) first")
end

function llama.info()
  return "A language model, computed by the compute unit to the same bits everywhere."
end

--- Takes an id, or the path of its file, `/data/<id>`.
function llama.load(id)
  assert(type(id) == "string", "load takes the id of a model")
  local model = id:gsub("^/data/", "")
  ai.facts(model)
  session, saved = ai.session({ model = model }), nil
end

--- Begins anew with a prompt.
function llama.setPrompt(prompt)
  session = ai.session({ model = at_hand().options.model, prompt = prompt })
end

--- The text of the next tokens.
function llama.run(count)
  return (at_hand():generate(count))
end

--- The text of the next token; empty once the model has ended.
function llama.next()
  return llama.run(1)
end

--- Puts a text at the end.
function llama.add(text)
  at_hand():add(text)
end

--- Keeps the text at hand, to go on from here again.
function llama.saveState()
  saved = { model = at_hand().options.model, tokens = table.move(session.tokens, 1, #session.tokens, 1, {}) }
end

--- Goes back to what was kept; whether there was any.
function llama.loadState()
  if not saved then
    return false
  end
  session = ai.session({ model = saved.model })
  table.move(saved.tokens, 1, #saved.tokens, 1, session.tokens)
  return true
end

--- Forgets what was kept; whether there was any.
function llama.clearState()
  local was = saved ~= nil
  saved = nil
  return was
end

--- Lets the model go.
function llama.stop()
  session, saved = nil, nil
end

package.loaded.Llama, package.loaded[".Llama"] = llama, llama

return llama
