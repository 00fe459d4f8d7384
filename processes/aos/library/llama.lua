---@meta llama
-- The calls of processes that carry a language model in their module, made of `ao.ai`: `local Llama = require("llama")`. Generated: change api.toml instead.

---@class llama
local llama = {}

---Kept for sources that set it.
---@type integer
llama.logLevel = nil

---What this is.
---@return string
function llama.info() end

---Chooses a model.
---@param id string # Its id, or `/data/<id>`.
function llama.load(id) end

---Begins anew with a prompt.
---@param prompt string
function llama.setPrompt(prompt) end

---The text of the next tokens.
---@param count integer
---@return string
function llama.run(count) end

---The text of the next token; empty once the model has ended.
---@return string
function llama.next() end

---Puts a text at the end.
---@param text string
function llama.add(text) end

---Keeps the text at hand.
function llama.saveState() end

---Goes back to what was kept; whether there was any.
---@return boolean
function llama.loadState() end

---Forgets what was kept; whether there was any.
---@return boolean
function llama.clearState() end

---Lets the model go.
function llama.stop() end

return llama
