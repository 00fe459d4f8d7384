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

--- Another session that goes on as this one does: what of its answer was told and whether it ended are part of it.
local function twin(of)
  local function list(tokens)
    return table.move(tokens, 1, #tokens, 1, {})
  end
  local other = ai.session({ model = of.options.model })
  other.tokens, other.answer, other.shown, other.ended = list(of.tokens), list(of.answer), of.shown, of.ended
  return other
end

--- Keeps the text at hand, to go on from here again.
function llama.saveState()
  saved = twin(at_hand())
end

--- Goes back to what was kept; whether there was any.
function llama.loadState()
  if not saved then
    return false
  end
  session = twin(saved)
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
