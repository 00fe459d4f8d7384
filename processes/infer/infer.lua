-- Answers prompts by message: `Action = Infer` in the shape of the field's inference services, for answers too long for
-- one evaluation. Actions and tags are in README.md. What it is not: a market; who may ask and what it costs is
-- `Infer.Allow`. An answer is made in steps of `Infer.Step` tokens, one message each, so no slot takes long and where
-- the steps end never depends on time.

local json = require("json")

local JOBS_MAX = 100
local SESSIONS_MAX = 100
local PROMPT_BYTES_MAX = 256 * 1024

-- ---- state ----

Infer = Infer or {
  -- The model that answers where the options name none.
  Model = nil,
  -- Tokens of one step, and of an answer where the options name no number, and at most.
  Step = 64,
  Tokens = 256,
  TokensMax = 4096,
  -- Whether prompts are turns of a conversation, written as the model's template says.
  Chat = false,
  -- Whose prompts are taken; answers a reason for a refusal.
  Allow = function(_msg) end,
  -- Answers under way by number, and how many were begun.
  Jobs = {},
  Begun = 0,
  -- Conversations by asker and name: a list of tokens, or `{ turns }` where prompts are turns; and their order.
  Sessions = {},
  Order = {},
}

-- ---- reading messages ----

-- Options as the field writes them and as `ao.ai.generate` does.
local NAMES = {
  max_tokens = "max_tokens", temp = "temperature", temperature = "temperature", top_k = "top_k", top_p = "top_p",
  seed = "seed", stop = "stop",
}

local function optionsOf(msg)
  local text = msg["X-Options"]
  if not text or text == "" then return {} end
  local ok, options = pcall(json.decode, text)
  if not ok or type(options) ~= "table" then return nil, "X-Options must be a JSON object" end
  return options
end

local function settingsOf(options)
  local settings = {}
  for name, ours in pairs(NAMES) do
    if options[name] ~= nil then settings[ours] = options[name] end
  end
  return settings
end

--- How many tokens an answer may have. JSON writes whole numbers as `5`, `5.0` or `5e0`.
local function mostOf(settings)
  local most = settings.max_tokens
  if most == nil then most = Infer.Tokens end
  most = type(most) == "number" and math.tointeger(most)
  if not most or most < 1 or most > Infer.TokensMax then
    return nil, ("max_tokens must be a whole number from 1 to %d"):format(Infer.TokensMax)
  end
  return most
end

--- Texts that end the answer.
local function stopsOf(settings)
  local stops = settings.stop
  if type(stops) ~= "table" then stops = { stops } end
  for _, stop in ipairs(stops) do
    if type(stop) ~= "string" or stop == "" then return nil, "stop must be a text or a list of texts, none empty" end
  end
  return stops
end

local function promptOf(msg, options)
  local prompt = msg["X-Prompt"] or msg.Data
  if type(prompt) ~= "string" or prompt == "" then
    if options.messages then return "" end
    return nil, "the prompt is missing: Data, or the tag X-Prompt"
  end
  if #prompt > PROMPT_BYTES_MAX then
    return nil, ("a prompt has at most %d bytes, got %d"):format(PROMPT_BYTES_MAX, #prompt)
  end
  return prompt
end

--- What is wrong with options that only conversations have.
local function turnless(options)
  for _, name in ipairs({ "messages", "system_prompt" }) do
    if options[name] ~= nil and not Infer.Chat then return name .. " is of conversations: the owner sets Infer.Chat" end
  end
  if options.messages ~= nil and (type(options.messages) ~= "table" or #options.messages == 0) then
    return "messages must be a list of turns"
  end
end

-- ---- sessions ----

local function sessionOf(msg)
  local name = msg["X-Session"]
  return name and msg.From .. "/" .. name
end

local function keep(name, said)
  if not Infer.Sessions[name] then
    table.insert(Infer.Order, name)
    if #Infer.Order > SESSIONS_MAX then Infer.Sessions[table.remove(Infer.Order, 1)] = nil end
  end
  Infer.Sessions[name] = said
end

local function joined(before, after)
  local all = table.move(before, 1, #before, 1, {})
  return table.move(after, 1, #after, #all + 1, all)
end

-- ---- answering ----

local function tell(job, message)
  message.Target = job.to
  message["X-Reference"], message["X-Session"] = job.reference, job.session
  ao.send(message)
end

local function refuse(job, code, why)
  tell(job, { Action = "Infer-Response", Code = code, Message = why, Data = json.encode({ error = why }) })
end

--- The answer's text, cut before the first text that ends it; whether one did.
local function textOf(job)
  local text, first = ao.ai.detokenize(job.model, job.answer), nil
  for _, stop in ipairs(job.stops) do
    local at = text:find(stop, 1, true)
    first = at and math.min(at, first or at) or first
  end
  if first then text = text:sub(1, first - 1) end
  return text, first ~= nil
end

--- Puts an answer behind what was said before. A text that ended it is no part of it.
local function remember(job, text, isCut)
  if job.turns then
    table.insert(job.turns, { role = "assistant", content = text })
    return keep(job.kept, { turns = job.turns })
  end
  local answer = job.answer
  if isCut then answer = text == "" and {} or ao.ai.tokenize(job.model, text, true) end
  keep(job.kept, joined(job.tokens, answer))
end

local function finish(job, text, isCut, finished)
  if job.kept then remember(job, text, isCut) end
  local attestation = json.encode({ model = job.model, profile = job.profile, steps = job.links })
  tell(job, {
    Action = "Infer-Response", Finish = isCut and "stop" or finished, Tokens = tostring(#job.answer),
    Gas = tostring(job.gas), Data = json.encode({ result = text, attestation = attestation }),
  })
end

--- What of a growing text may be told: all but bytes that are no whole character yet or may begin a text that ends it,
--- unless it ends here.
local function told(text, stops, isLast)
  if isLast then return text end
  while text:sub(-3) == "\xef\xbf\xbd" do text = text:sub(1, -4) end
  local held = 0
  for _, stop in ipairs(stops) do
    for bytes = held + 1, math.min(#stop - 1, #text) do
      if text:sub(-bytes) == stop:sub(1, bytes) then held = bytes end
    end
  end
  return text:sub(1, #text - held)
end

local function stream(job, text, isLast)
  local now = told(text, job.stops, isLast)
  if job.stream and #now > job.told then
    job.chunks = job.chunks + 1
    tell(job, { Action = "Infer-Chunk", Index = tostring(job.chunks), Data = now:sub(job.told + 1) })
    job.told = #now
  end
end

--- The model's next tokens, from all tokens so far.
local function go_on(job)
  local question = {}
  for name, value in pairs(job.settings) do question[name] = value end
  question.model, question.max_tokens = job.model, math.min(Infer.Step, job.left)
  question.tokens = joined(job.tokens, job.answer)
  local reply = ao.ai.generate(question)
  job.answer = joined(job.answer, reply.tokens)
  job.left, job.gas, job.profile = job.left - #reply.tokens, job.gas + reply.gas, reply.attest.profile
  table.insert(job.links, { head = reply.attest.head, link = reply.attest.link })
  return reply.finish
end

--- One step of an answer; whether it is over.
local function step(job)
  local finished = go_on(job)
  local text, isCut = textOf(job)
  local isLast = isCut or finished == "stop" or job.left < 1
  stream(job, text, isLast)
  if isLast then finish(job, text, isCut, finished) end
  return isLast
end

--- Every ask gets an answer: what goes wrong is one.
local function attempt(job, work, ...)
  local ok, result = pcall(work, ...)
  if ok then return result end
  refuse(job, "failed", tostring(result))
  return true
end

local function step_and_keep(number, job)
  if attempt(job, step, job) then
    Infer.Jobs[number] = nil
  else
    Infer.Jobs[number] = job
    ao.send({ Target = ao.id, Action = "Infer-Step", Job = number })
  end
end

local function count(list)
  local sum = 0
  for _ in pairs(list) do sum = sum + 1 end
  return sum
end

--- All turns of a conversation: those before, those of the options, the prompt. A new system prompt takes the place of
--- the one before.
local function turnsOf(before, prompt, options)
  local turns = joined(joined(before, {}), options.messages or {})
  if prompt ~= "" then table.insert(turns, { role = "user", content = prompt }) end
  if options.system_prompt then
    local hasOne = type(turns[1]) == "table" and turns[1].role == "system"
    table.insert(turns, 1, { role = "system", content = options.system_prompt })
    if hasOne then table.remove(turns, 2) end
  end
  return turns
end

--- The tokens that the answer follows, and how many of it the model has room for.
local function begin(job, prompt, options)
  local before = job.kept and Infer.Sessions[job.kept] or {}
  if Infer.Chat then
    job.turns = turnsOf(before.turns or {}, prompt, options)
    -- Every ask is written anew as the model's template says: so each turn is closed, and one that begins is opened.
    job.tokens, job.settings.stop_tokens = ao.ai.tokenize(job.model, job.turns)
  else
    job.tokens = joined(before, ao.ai.tokenize(job.model, prompt, #before > 0))
  end
  local room = ao.ai.facts(job.model).positions - #job.tokens
  -- Without room for a single token the model says so itself.
  job.left = math.max(1, math.min(job.left, room))
end

--- What is asked; a code and a reason where it is not answered.
local function read(job, msg)
  local why = Infer.Allow(msg)
  if why then return "refused", why end
  if count(Infer.Jobs) >= JOBS_MAX then return "busy", "too many answers are under way" end
  local options, wrong = optionsOf(msg)
  if not options then return "invalid", wrong end
  local prompt
  prompt, wrong = promptOf(msg, options)
  wrong = wrong or turnless(options)
  if wrong then return "invalid", wrong end
  job.model, job.settings, job.stream = Infer.Model, settingsOf(options), options.stream == true
  if not job.model then return "no-model", "this process has no model: its owner sets Infer.Model" end
  job.left, wrong = mostOf(job.settings)
  if not wrong then job.stops, wrong = stopsOf(job.settings) end
  if wrong then return "invalid", wrong end
  begin(job, prompt, options)
end

local function infer(msg)
  local job = { to = msg["Reply-To"] or msg.From, reference = msg["X-Reference"] or msg.Reference,
    session = msg["X-Session"], kept = sessionOf(msg), answer = {}, links = {}, gas = 0, told = 0, chunks = 0 }
  local isOver = attempt(job, function()
    local code, why = read(job, msg)
    if code then refuse(job, code, why) end
    return code ~= nil
  end)
  if isOver then return end
  Infer.Begun = Infer.Begun + 1
  step_and_keep(tostring(Infer.Begun), job)
end

Handlers.add("infer", { Action = "Infer" }, infer)

--- Only this process sends itself on.
Handlers.add("infer-step", { Action = "Infer-Step", From = ao.id }, function(msg)
  local job = Infer.Jobs[msg.Job]
  if job then step_and_keep(msg.Job, job) end
end)

Handlers.add("infer-info", { Action = "Info" }, function(msg)
  msg.reply({ Action = "Info-Response", Model = Infer.Model or "none", Step = tostring(Infer.Step),
    ["Tokens-Max"] = tostring(Infer.TokensMax), Jobs = tostring(count(Infer.Jobs)) })
end)
