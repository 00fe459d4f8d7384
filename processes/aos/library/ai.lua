---@meta
-- Neural networks, asked in the middle of a handler. A model is the id of an item; answers are the same on every machine. Generated: change api.toml instead.

---The id of an item whose data is a model, followed by nothing, `:a16` or `:a8`.
---@alias ao.ai.Model string

---A turn of a conversation.
---@class ao.ai.Turn
---@field role string # `system` (or `developer`), `user`, `assistant`, `tool`.
---@field content string # What is said.

---What stands before an answer: exactly one of `prompt`, `messages` and `tokens`.
---@class ao.ai.Prompt
---@field model ao.ai.Model # Which model.
---@field prompt? string # A text.
---@field messages? ao.ai.Turn[] # Turns, written as the model's template says.
---@field tokens? integer[] # Exactly these tokens.

---An answer that is wanted.
---@class ao.ai.Generate: ao.ai.Prompt
---@field max_tokens? integer # Tokens at most.
---@field temperature? number # 0, the default, takes the likeliest token; else from 0.001 to 100.
---@field top_k? integer # Only this many of the likeliest tokens; 0 for all.
---@field top_p? number # Only the likeliest that together have this share; 1 for all.
---@field seed? string|integer # Mixed into the draws, with the process, the message and the number of the call.
---@field stop? string|string[] # Texts that end the answer.
---@field stop_tokens? integer[] # Tokens that end it.
---@field logprobs? integer # Tells each token's probability, and of so many others.
---@field receipt? boolean # Whether the whole receipt is wanted.

---An answer.
---@class ao.ai.Generated
---@field text string # Its text.
---@field tokens integer[] # Its tokens, the one that ended it included.
---@field finish string # `stop` or `length`.
---@field prompt_tokens integer # How many tokens the prompt has.
---@field logprobs? { chosen: number, likeliest: { [1]: integer, [2]: number }[] }[] # Natural logarithms.
---@field gas integer # What the model cost.
---@field attest { profile: string, model: string, head: string, link: string, seed: string } # By which anybody checks it.
---@field receipt? table # What `weft infer verify` takes.

---A text that goes on: a list of tokens in the process.
---@class ao.ai.Session
---@field tokens integer[] # All of them.
---@field ended? boolean # Whether the model has ended.
---@field add fun(self: ao.ai.Session, text: string): ao.ai.Session # Puts a text at the end.
---@field generate fun(self: ao.ai.Session, max_tokens?: integer, more?: table): string, ao.ai.Generated? # Lets the model go on; answers the new text. What may begin a text of `stop`, or is no whole character yet, comes with a later call.
---@field text fun(self: ao.ai.Session): string # The whole text.

---@class ao
ao = {}

---@class ao.ai
ao.ai = {}

---Text from a model.
---@param options ao.ai.Generate
---@return ao.ai.Generated
function ao.ai.generate(options) end

---Vectors of texts, of length one; with `int8` their components times 127 as whole numbers.
---@param options { model: ao.ai.Model, input: string|string[], int8?: boolean }
---@return { vectors: number[][], tokens: integer, gas: integer, attest: table }
function ao.ai.embed(options) end

---How likely a model holds an answer: natural logarithms, each and in all.
---@param options { model: ao.ai.Model, prompt?: string, messages?: ao.ai.Turn[], tokens?: integer[], answer?: string, answer_tokens?: integer[] }
---@return { tokens: integer[], logprobs: number[], total: number, next: integer, logits: string, gas: integer, attest: { profile: string, model: string, prompt: string } }
function ao.ai.score(options) end

---The likeliest of several answers, none of them empty: its place, and the score of each per token.
---@param options ao.ai.Prompt
---@param answers string[]
---@return integer
---@return number[]
function ao.ai.choose(options, answers) end

---The tokens of a text, `continues` where it follows another; of turns those that an answer follows, and those that end the answer.
---@param model ao.ai.Model
---@param what string|ao.ai.Turn[]
---@param continues? boolean
---@return integer[]
---@return integer[]?
function ao.ai.tokenize(model, what, continues) end

---The text of tokens.
---@param model ao.ai.Model
---@param tokens integer[]
---@return string
function ao.ai.detokenize(model, tokens) end

---What a model is.
---@param model ao.ai.Model
---@return { encoder: boolean, weights: integer, layers: integer, heads: integer, dim: integer, vocabulary: integer, positions: integer }
function ao.ai.facts(model) end

---The dot product of two vectors: 1 for the same direction.
---@param a number[]
---@param b number[]
---@return number
function ao.ai.similarity(a, b) end

---Begins a text that goes on, with `prompt`, `messages`, `tokens` or nothing. Options are those of `ao.ai.generate`.
---@param options ao.ai.Generate
---@return ao.ai.Session
function ao.ai.session(options) end
