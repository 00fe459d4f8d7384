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
  -- The tokens of conversations by asker and name, and their order.
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

local function promptOf(msg)
  local prompt = msg["X-Prompt"] or msg.Data
  if type(prompt) ~= "string" or prompt == "" then return nil, "the prompt is missing: Data, or the tag X-Prompt" end
  if #prompt > PROMPT_BYTES_MAX then
    return nil, ("a prompt has at most %d bytes, got %d"):format(PROMPT_BYTES_MAX, #prompt)
  end
  return prompt
end

-- ---- sessions ----

local function sessionOf(msg)
  local name = msg["X-Session"]
  return name and msg.From .. "/" .. name
end

local function keep(name, tokens)
  if not Infer.Sessions[name] then
    table.insert(Infer.Order, name)
    if #Infer.Order > SESSIONS_MAX then Infer.Sessions[table.remove(Infer.Order, 1)] = nil end
  end
  Infer.Sessions[name] = tokens
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
  local text, ended = ao.ai.detokenize(job.model, job.answer), false
  local stops = job.settings.stop or {}
  for _, stop in ipairs(type(stops) == "table" and stops or { stops }) do
    local at = text:find(stop, 1, true)
    if at then text, ended = text:sub(1, at - 1), true end
  end
  return text, ended
end

local function finish(job, text, finished)
  if job.kept then keep(job.kept, joined(job.tokens, job.answer)) end
  local attestation = json.encode({ model = job.model, profile = job.profile, steps = job.links })
  tell(job, {
    Action = "Infer-Response", Finish = finished, Tokens = tostring(#job.answer), Gas = tostring(job.gas),
    Data = json.encode({ result = text, attestation = attestation }),
  })
end

--- What of a growing text may be told: all but bytes that are no whole character yet, unless it ends here.
local function told(text, isLast)
  while not isLast and text:sub(-3) == "\xef\xbf\xbd" do text = text:sub(1, -4) end
  return text
end

local function stream(job, text, isLast)
  local now = told(text, isLast)
  if job.stream and #now > job.told then
    job.chunks = job.chunks + 1
    tell(job, { Action = "Infer-Chunk", Index = tostring(job.chunks), Data = now:sub(job.told + 1) })
    job.told = #now
  end
end

--- The model's next tokens: from the prompt at first, then from all tokens so far.
local function go_on(job)
  local question = {}
  for name, value in pairs(job.settings) do question[name] = value end
  question.model, question.max_tokens = job.model, math.min(Infer.Step, job.left)
  if job.tokens then
    question.tokens = joined(job.tokens, job.answer)
  else
    question.messages, question.receipt = job.messages, true
  end
  local reply = ao.ai.generate(question)
  job.tokens = job.tokens or reply.receipt.prompt
  job.answer = joined(job.answer, reply.tokens)
  job.left, job.gas, job.profile = job.left - #reply.tokens, job.gas + reply.gas, reply.attest.profile
  table.insert(job.links, { head = reply.attest.head, link = reply.attest.link })
  return reply.finish
end

--- One step of an answer; whether it is over.
local function step(job)
  local ok, finished = pcall(go_on, job)
  if not ok then
    refuse(job, "failed", tostring(finished))
    return true
  end
  local text, ended = textOf(job)
  local isLast = ended or finished == "stop" or job.left < 1
  stream(job, text, isLast)
  if isLast then finish(job, text, ended and "stop" or finished) end
  return isLast
end

local function step_and_keep(number, job)
  if step(job) then
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

--- The tokens of a prompt behind those of its session, or turns, if this is a conversation's beginning.
local function begin(job, prompt, options)
  local before = job.kept and Infer.Sessions[job.kept]
  if Infer.Chat and not before then
    job.messages = options.messages or { { role = "user", content = prompt } }
    if options.system_prompt then
      table.insert(job.messages, 1, { role = "system", content = options.system_prompt })
    end
    return
  end
  local tokens = ao.ai.tokenize(job.model, prompt)
  if before then
    local first = 1 + #ao.ai.tokenize(job.model, "")
    tokens = joined(before, table.move(tokens, first, #tokens, 1, {}))
  end
  job.tokens = tokens
end

local function infer(msg)
  local job = { to = msg["Reply-To"] or msg.From, reference = msg["X-Reference"] or msg.Reference,
    session = msg["X-Session"], kept = sessionOf(msg), answer = {}, links = {}, gas = 0, told = 0, chunks = 0 }
  local why = Infer.Allow(msg)
  if why then return refuse(job, "refused", why) end
  if count(Infer.Jobs) >= JOBS_MAX then return refuse(job, "busy", "too many answers are under way") end
  local prompt, noPrompt = promptOf(msg)
  local options, noOptions = optionsOf(msg)
  if not prompt or not options then return refuse(job, "invalid", noPrompt or noOptions) end
  job.model, job.settings, job.stream = Infer.Model, settingsOf(options), options.stream == true
  if not job.model then return refuse(job, "no-model", "this process has no model: its owner sets Infer.Model") end
  local left = job.settings.max_tokens or Infer.Tokens
  if math.type(tonumber(left)) ~= "integer" or left < 1 or left > Infer.TokensMax then
    return refuse(job, "invalid", ("max_tokens must be a whole number from 1 to %d"):format(Infer.TokensMax))
  end
  job.left = left
  local ok, failed = pcall(begin, job, prompt, options)
  if not ok then return refuse(job, "failed", tostring(failed)) end
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
