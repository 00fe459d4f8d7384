--- Neural networks, asked in the middle of a handler: `ao.ai`. A model is the id of an item; the answer is the same on
--- every machine. Not the arithmetic: the compute unit answers, in JSON, through the engine's `ask`.

local json = require("json")
local native = require("weft")

local ai = {}

local NOT_GRANTED = "this process cannot ask models: its module needs the tag Extension = Inference"

--- Puts a question as the compute unit reads it and answers its reply. An error if it has no answer anywhere; where
--- only this node has none now, nothing comes of the whole message and it is evaluated again later.
local function ask(what, question)
  assert(native.ask, NOT_GRANTED)
  question["do"] = what
  local reply = json.decode(native.ask(json.encode(question)))
  if not reply.ok then
    error("ai." .. what .. ": " .. reply.error .. " (" .. reply.code .. ")", 0)
  end
  reply.ok = nil
  return reply
end

local function copy(from, into)
  into = into or {}
  for key, value in pairs(from or {}) do
    into[key] = value
  end
  return into
end

--- Text from a model. `{ model, prompt | messages | tokens, max_tokens, temperature, top_k, top_p, seed, stop,
--- stop_tokens, logprobs, receipt }` gives `{ text, tokens, finish, prompt_tokens, gas, attest }`.
function ai.generate(options)
  assert(type(options) == "table", "ai.generate takes a table")
  return ask("generate", copy(options))
end

--- Vectors of texts. `{ model, input = text or list, int8 }` gives `{ vectors, tokens, gas, attest }`.
function ai.embed(options)
  assert(type(options) == "table", "ai.embed takes a table")
  return ask("embed", copy(options))
end

--- How likely an answer is. `{ model, prompt | messages | tokens, answer | answer_tokens }` gives
--- `{ tokens, logprobs, total, next, logits, gas }`.
function ai.score(options)
  assert(type(options) == "table", "ai.score takes a table")
  local reply = ask("score", copy(options))
  reply.total = 0.0
  for _, logprob in ipairs(reply.logprobs) do
    reply.total = reply.total + logprob
  end
  return reply
end

--- The likeliest of several answers to one prompt: its place, and the score of each per token.
function ai.choose(options, answers)
  local best, scores = 1, {}
  for place, answer in ipairs(answers) do
    local reply = ai.score(copy({ answer = answer }, copy(options)))
    scores[place] = reply.total / math.max(#reply.tokens, 1)
    if scores[place] > scores[best] then
      best = place
    end
  end
  return best, scores
end

--- The tokens of a text.
function ai.tokenize(model, text)
  return ask("tokenize", { model = model, text = text }).tokens
end

--- The text of tokens.
function ai.detokenize(model, tokens)
  if #tokens == 0 then
    return ""
  end
  return ask("detokenize", { model = model, tokens = tokens }).text
end

--- What a model is: `{ encoder, weights, layers, heads, dim, vocabulary, positions }`.
function ai.facts(model)
  return ask("facts", { model = model })
end

--- How alike two vectors are: their dot product, 1 for the same direction if both have length one.
function ai.similarity(a, b)
  local sum = 0.0
  for place = 1, #a do
    sum = sum + a[place] * b[place]
  end
  return sum
end

-- ---- sessions ----

local Session = {}
Session.__index = Session

--- A text that goes on: prompts and answers one after the other. It is a list of tokens in the process and nothing
--- else; whatever the compute unit keeps of it only saves time. Options are those of `generate`.
function ai.session(options)
  assert(type(options) == "table" and options.model, "ai.session takes a table with a model")
  local session = setmetatable({ options = copy(options), tokens = {}, shown = 0, answer = {} }, Session)
  session.options.prompt = nil
  if options.prompt then
    session:add(options.prompt)
  end
  return session
end

--- How many tokens stand before every text of a model.
local function leading(model)
  return #ask("tokenize", { model = model, text = "" }).tokens
end

--- Puts a text at the end.
function Session:add(text)
  local tokens = ai.tokenize(self.options.model, text)
  local first = 1
  if #self.tokens > 0 then
    first = 1 + leading(self.options.model)
  end
  table.move(tokens, first, #tokens, #self.tokens + 1, self.tokens)
  self.answer, self.shown, self.ended = {}, 0, nil
  return self
end

--- What of the answer has not been told yet; bytes that are no whole character yet wait.
local function fresh(session)
  local text = ai.detokenize(session.options.model, session.answer)
  while text:sub(-3) == "\xef\xbf\xbd" do
    text = text:sub(1, -4)
  end
  local new = text:sub(session.shown + 1)
  session.shown = math.max(session.shown, #text)
  return new
end

--- Lets the model go on for so many tokens; answers the new text and the whole reply. Nothing more comes once
--- `session.ended`.
function Session:generate(max_tokens, more)
  if self.ended then
    return "", nil
  end
  local options = copy(more, copy(self.options))
  options.tokens, options.max_tokens = self.tokens, max_tokens or options.max_tokens
  local reply = ai.generate(options)
  self.ended = reply.finish == "stop" or nil
  table.move(reply.tokens, 1, #reply.tokens, #self.tokens + 1, self.tokens)
  table.move(reply.tokens, 1, #reply.tokens, #self.answer + 1, self.answer)
  return fresh(self), reply
end

--- The whole text so far.
function Session:text()
  return ai.detokenize(self.options.model, self.tokens)
end

return ai
