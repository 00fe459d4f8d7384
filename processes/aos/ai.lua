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
--- `{ tokens, logprobs, total, next, logits, gas, attest }`.
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
  assert(type(answers) == "table" and #answers > 0, "ai.choose takes a list of answers, at least one")
  local best, scores = 1, {}
  for place, answer in ipairs(answers) do
    local reply = ai.score(copy({ answer = answer }, copy(options)))
    -- Nothing said is neither likely nor unlikely; as 0 it would win always.
    assert(#reply.tokens > 0, "ai.choose: answer " .. place .. " is empty")
    scores[place] = reply.total / #reply.tokens
    if scores[place] > scores[best] then
      best = place
    end
  end
  return best, scores
end

--- The tokens of a text; `continues` where it follows another. Of turns, `{ { role, content }, ... }`: those that an
--- answer follows, and those that end the answer besides the model's own.
function ai.tokenize(model, what, continues)
  if type(what) == "table" then
    local reply = ask("tokenize", { model = model, messages = what })
    return reply.tokens, reply.stop_tokens
  end
  return ask("tokenize", { model = model, text = what, continues = continues }).tokens
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

local function append(list, more)
  return table.move(more, 1, #more, #list + 1, list)
end

--- A text that goes on: prompts and answers one after the other. It is a list of tokens in the process and nothing
--- else; whatever the compute unit keeps of it only saves time. Options are those of `generate`.
function ai.session(options)
  assert(type(options) == "table" and options.model, "ai.session takes a table with a model")
  local session = setmetatable({ options = copy(options), tokens = {}, shown = 0, answer = {} }, Session)
  local own, begins = session.options, 0
  for _, name in ipairs({ "prompt", "messages", "tokens" }) do
    begins, own[name] = begins + (options[name] and 1 or 0), nil
  end
  assert(begins < 2, "ai.session begins with one of prompt, messages and tokens")
  if options.messages then
    local stops
    session.tokens, stops = ai.tokenize(own.model, options.messages)
    own.stop_tokens = append(append({}, stops), own.stop_tokens or {})
  elseif options.tokens then
    append(session.tokens, options.tokens)
  elseif options.prompt then
    session:add(options.prompt)
  end
  return session
end

--- Puts a text at the end.
function Session:add(text)
  append(self.tokens, ai.tokenize(self.options.model, text, #self.tokens > 0))
  self.answer, self.shown, self.ended = {}, 0, nil
  return self
end

--- A text before the first of those that end it; nothing if none does.
local function cut(text, stops)
  local first
  for _, stop in ipairs(stops) do
    local at = text:find(stop, 1, true)
    first = at and math.min(at, first or at) or first
  end
  return first and text:sub(1, first - 1)
end

--- How many bytes at a text's end may begin one that ends it.
local function held(text, stops)
  local most = 0
  for _, stop in ipairs(stops) do
    for count = math.min(#stop - 1, #text), most + 1, -1 do
      if text:sub(-count) == stop:sub(1, count) then
        most = count
        break
      end
    end
  end
  return most
end

--- What of the answer has not been told yet. Until it ends, bytes wait that are no whole character yet or may begin a
--- text that ends it.
local function fresh(session, text, stops)
  if not session.ended then
    while text:sub(-3) == "\xef\xbf\xbd" do
      text = text:sub(1, -4)
    end
    text = text:sub(1, #text - held(text, stops))
  end
  local new = text:sub(session.shown + 1)
  session.shown = math.max(session.shown, #text)
  return new
end

--- Leaves of an answer what its text is made of: behind that stands what ended it.
local function shorten(session, text)
  local model, answer, before = session.options.model, session.answer, #session.tokens - #session.answer
  local rest
  repeat
    answer[#answer] = nil
    local left = ai.detokenize(model, answer)
    rest = text:sub(1, #left) == left and text:sub(#left + 1)
  until rest
  if rest ~= "" then
    append(answer, ai.tokenize(model, rest, before + #answer > 0))
  end
  session.tokens = append(table.move(session.tokens, 1, before, 1, {}), answer)
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
  append(self.tokens, reply.tokens)
  append(self.answer, reply.tokens)
  local stops = type(options.stop) == "table" and options.stop or { options.stop }
  local text = ai.detokenize(self.options.model, self.answer)
  -- A text that ends it may have begun in an answer before.
  local before = cut(text, stops)
  if before then
    self.ended, text = true, before
    shorten(self, text)
  end
  return fresh(self, text, stops), reply
end

--- The whole text so far.
function Session:text()
  return ai.detokenize(self.options.model, self.tokens)
end

return ai
