-- Prompts answered by message, with a model that counts: what it is asked, in which steps, and what comes back.

local owner, asker = wallet("owner"), wallet("asker")

-- A model of bytes with room for 60 tokens: it begins texts with token 1 and goes on with a, b, c... to `Ends` letters.
-- Its template writes turns as `<r:text>` with the role's first letter, and `<a:` before an answer, which `stop_tokens` end.
local MODEL = [[
  Ends, Asked = 10, {}
  ao.ai.facts = function() return { positions = 60 } end
  ao.ai.tokenize = function(_, what, continues)
    if type(what) == "string" then
      if continues then return { what:byte(1, -1) } end
      return { 1, what:byte(1, -1) }
    end
    local all = ""
    for _, turn in ipairs(what) do all = all .. "<" .. turn.role:sub(1, 1) .. ":" .. turn.content:upper() .. ">" end
    all = all .. "<A:"
    return { 1, all:upper():byte(1, -1) }, { 62 }
  end
  ao.ai.detokenize = function(_, tokens) return string.char(table.unpack(tokens)) end
  ao.ai.generate = function(question)
    table.insert(Asked, question)
    local so_far = 0
    for _, token in ipairs(question.tokens) do
      if token >= 97 then so_far = so_far + 1 end
    end
    local tokens, finish = {}, "length"
    while #tokens < question.max_tokens and finish == "length" do
      so_far = so_far + 1
      table.insert(tokens, 96 + so_far)
      if so_far == Ends then finish = "stop" end
    end
    return { tokens = tokens, finish = finish, gas = #tokens, attest = { profile = "p", head = "h", link = "l" } }
  end
  Infer.Model, Infer.Step = "model", 4
]]

describe("infer", function()
  local server

  before_each(function()
    server = spawn { load = "infer.lua", name = "server", owner = owner }
    server:eval(MODEL)
  end)

  local function ask(prompt, options, fields)
    local tags = { ["X-Reference"] = "r", ["X-Options"] = options and json.encode(options) }
    for name, value in pairs(fields or {}) do tags[name] = value end
    local outcomes = { server:send { From = asker, Action = "Infer", Data = prompt, Tags = tags } }
    local step = outcomes[1]:message { Action = "Infer-Step" }
    while step do
      table.insert(outcomes, server:send { From = server.id, Action = "Infer-Step", Tags = { Job = step.Job } })
      step = outcomes[#outcomes]:message { Action = "Infer-Step" }
    end
    return outcomes[#outcomes]:message { Action = "Infer-Response" }, outcomes
  end

  it("answers in steps, to whoever asked", function()
    local answer, outcomes = ask("ABC", { max_tokens = 9 })
    assert.equals(3, #outcomes)
    assert.equals(asker, answer.Target)
    assert.equals("r", answer["X-Reference"])
    assert.same({ "abcdefghi", "length", "9", "9" },
      { json.decode(answer.Data).result, answer.Finish, answer.Tokens, answer.Gas })
    assert.equals(3, #json.decode(json.decode(answer.Data).attestation).steps)
    assert.is_nil(next(server:get("Infer.Jobs")))
  end)

  it("ends where the model does, or a text says so", function()
    assert.equals("stop", ask("ABC", { max_tokens = 50 }).Finish)
    local cut = ask("ABC", { max_tokens = 50, stop = "de" })
    assert.same({ "abc", "stop" }, { json.decode(cut.Data).result, cut.Finish })
  end)

  it("passes the options on by their names", function()
    ask("ABC", { max_tokens = 2, temp = 0.5, top_p = 0.25, seed = "s", odd = 1 })
    local asked = server:get("Asked[1]")
    assert.same({ 0.5, 0.25, "s" }, { asked.temperature, asked.top_p, asked.seed })
    assert.is_nil(asked.odd)
  end)

  it("streams what is new", function()
    local _, outcomes = ask("ABC", { max_tokens = 6, stream = true })
    local told = {}
    for _, outcome in ipairs(outcomes) do
      local chunk = outcome:message { Action = "Infer-Chunk" }
      table.insert(told, chunk.Index .. chunk.Data)
    end
    assert.same({ "1abcd", "2ef" }, told)
  end)

  it("goes on with a conversation, each asker his own", function()
    ask("AB", { max_tokens = 2 }, { ["X-Session"] = "s" })
    ask("CD", { max_tokens = 1 }, { ["X-Session"] = "s" })
    assert.same({ 1, 65, 66, 97, 98, 67, 68 }, server:get("Asked[#Asked].tokens"))
    server:send { From = owner, Action = "Infer", Data = "E", Tags = { ["X-Session"] = "s" } }
    assert.same({ 1, 69 }, server:get("Asked[#Asked].tokens"))
  end)

  local function tokens_of(number)
    return string.char(table.unpack(server:get("Asked[" .. (number or "#Asked") .. "].tokens"), 2))
  end

  it("keeps turns where prompts are turns, and writes all of them for every answer", function()
    server:eval("Infer.Chat = true")
    ask("one", { max_tokens = 2, system_prompt = "x" }, { ["X-Session"] = "s" })
    assert.equals("<S:X><U:ONE><A:", tokens_of())
    assert.same({ 62 }, server:get("Asked[#Asked].stop_tokens"))
    ask("two", { max_tokens = 1 }, { ["X-Session"] = "s" })
    assert.equals("<S:X><U:ONE><A:AB><U:TWO><A:", tokens_of())
    ask("", { max_tokens = 1, system_prompt = "y", messages = { { role = "user", content = "three" } } },
      { ["X-Session"] = "s" })
    assert.equals("<S:Y><U:ONE><A:AB><U:TWO><A:A><U:THREE><A:", tokens_of())
    server:eval("Infer.Chat = false")
    assert.equals("invalid", ask("a", { system_prompt = "y" }).Code)
  end)

  it("ends every step of a turn where the turn ends", function()
    server:eval("Infer.Chat = true")
    ask("one", { max_tokens = 9 })
    assert.same({ 62 }, server:get("Asked[#Asked].stop_tokens"))
    assert.equals("<U:ONE><A:abcdefgh", tokens_of())
  end)

  it("goes on without the text that ended an answer, and streams none of it", function()
    local _, outcomes = ask("AB", { max_tokens = 9, stop = { "ef", "x" }, stream = true }, { ["X-Session"] = "s" })
    local streamed = ""
    for _, outcome in ipairs(outcomes) do
      local chunk = outcome:message { Action = "Infer-Chunk" }
      streamed = streamed .. (chunk and chunk.Data or "")
    end
    assert.equals("abcd", streamed)
    ask("CD", { max_tokens = 1 }, { ["X-Session"] = "s" })
    assert.equals("ABabcdCD", tokens_of())
  end)

  it("ends an answer where the model's room does", function()
    server:eval("Ends = 26")
    local answer = ask(("A"):rep(47), { max_tokens = 600 })
    assert.same({ "length", "12" }, { answer.Finish, answer.Tokens })
  end)

  it("reads whole numbers however JSON writes them", function()
    for _, most in ipairs({ "5", "5.0", "0.5e1" }) do
      local answer = ask("A", nil, { ["X-Options"] = '{"max_tokens":' .. most .. "}" })
      assert.equals("5", answer.Tokens)
    end
  end)

  it("takes a step from nobody but itself", function()
    local first = server:send { From = asker, Action = "Infer", Data = "A", Tags = {} }
    local job = first:message { Action = "Infer-Step" }.Job
    server:send { From = asker, Action = "Infer-Step", Tags = { Job = job } }
    assert.equals(1, server:get("#Asked"))
  end)

  local mistakes = {
    { "no prompt", "", {}, "invalid", "the prompt is missing" },
    { "too many tokens", "A", { max_tokens = 5000 }, "invalid", "from 1 to 4096" },
    { "half a token", "A", { max_tokens = 1.5 }, "invalid", "from 1 to 4096" },
    { "a text as a number", "A", { max_tokens = "5" }, "invalid", "from 1 to 4096" },
    { "a stop that is no text", "A", { stop = 5 }, "invalid", "stop must be" },
    { "turns of a text", "A", { messages = { { role = "user", content = "a" } } }, "invalid", "Infer.Chat" },
  }
  for _, case in ipairs(mistakes) do
    it("refuses " .. case[1], function()
      local answer = ask(case[2], case[3])
      assert.equals(case[4], answer.Code)
      assert.is_truthy(answer.Message:find(case[5], 1, true), answer.Message)
    end)
  end

  it("refuses options that are no JSON, whom its owner refuses, and without a model", function()
    assert.equals("invalid", ask("A", nil, { ["X-Options"] = "{" }).Code)
    server:eval("Infer.Allow = function(msg) return 'not ' .. msg.From end")
    assert.equals("not " .. asker, ask("A").Message)
    server:eval("Infer.Allow = function() end Infer.Model = nil")
    assert.equals("no-model", ask("A").Code)
  end)

  it("tells an asker what the model refuses", function()
    server:eval("ao.ai.generate = function() error('too hot', 0) end")
    local answer = ask("A")
    assert.same({ "failed", "too hot" }, { answer.Code, answer.Message })
    server:eval("ao.ai.tokenize = function() error('no words', 0) end")
    assert.equals("no words", ask("A").Message)
    server:eval("Infer.Allow = function() error('who?', 0) end")
    assert.equals("who?", ask("A").Message)
  end)
end)
