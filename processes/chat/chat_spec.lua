-- The chat client: what it sends, what it shows, and whom it does not believe.

local owner = wallet("owner")
local lobby, cellar, stranger = wallet("lobby"), wallet("cellar"), wallet("stranger")

describe("chat", function()
  local me

  before_each(function()
    me = spawn { load = "chat.lua", name = "me", owner = owner }
    me:eval(("Rooms.lobby = '%s' Rooms.cellar = '%s'"):format(lobby, cellar))
  end)

  -- Evaluates as the owner does; what goes wrong is in the outcome.
  local function run(code)
    local outcome = me:send { From = owner, Action = "Eval", Data = code }
    return outcome, outcome:text()
  end

  it("joins a room", function()
    local outcome, text = run("Join('lobby', 'Ann')")
    assert.equals("Joining lobby", text)
    local sent = outcome:message { Target = lobby }
    assert.equals("Register", sent.Action)
    assert.equals("Ann", sent.Nickname)
    assert.equals("lobby", me:get("Chat.current"))
  end)

  it("says things in the current room, under its nickname", function()
    run("Join('lobby', 'Ann')")
    local sent = run("Say('hello')"):message { Target = lobby }
    assert.equals("Broadcast", sent.Action)
    assert.equals("hello", sent.Data)
    assert.equals("Ann", sent.Nickname)
  end)

  it("remembers the nickname and goes back to another room by name", function()
    run("Join('lobby', 'Ann')")
    assert.equals("Ann", run("Join('cellar')"):message { Target = cellar }.Nickname)
    assert.is_truthy(run("Say('still here', 'lobby')"):message { Target = lobby })
    assert.equals("lobby", me:get("Chat.current"))
  end)

  it("leaves", function()
    run("Join('lobby', 'Ann')")
    assert.equals("Unregister", run("Leave()"):message { Target = lobby }.Action)
    assert.is_truthy(run("Say('gone')").Error:find("you are in no room", 1, true))
  end)

  it("lists rooms, with a star where it is", function()
    run("Join('lobby', 'Ann')")
    local _, text = run("List()")
    assert.is_truthy(text:find("* lobby", 1, true), text)
    assert.is_truthy(text:find("  cellar", 1, true), text)
  end)

  local mistakes = {
    { "Join('attic', 'Ann')", 'no room "attic"' },
    { "Join()", "which room?" },
    { "Join('lobby')", "a nickname has 1 to 64 bytes" },
    { "Say('hi')", "you are in no room" },
    { "Say('')", "what to say?" },
    { "Say('hi', 'lobby')", 'you are not in "lobby"' },
    { "Leave('lobby')", 'you are not in "lobby"' },
  }
  for _, case in ipairs(mistakes) do
    it("tells what is wrong with " .. case[1], function()
      local outcome = run(case[1])
      assert.is_truthy(outcome.Error and outcome.Error:find(case[2], 1, true), outcome.Error)
      assert.same({}, outcome.Messages)
    end)
  end

  describe("what rooms send", function()
    before_each(function() run("Join('lobby', 'Ann')") end)

    it("is shown with speaker and room", function()
      local heard = me:send { From = lobby, Action = "Broadcasted", Nickname = "Bob", Data = "hi Ann" }
      assert.is_truthy(heard:text():find("Bob@lobby> hi Ann", 1, true), heard:text())
    end)

    it("is not believed from strangers nor from rooms one is not in", function()
      for _, from in ipairs { stranger, cellar } do
        local heard = me:send { From = from, Action = "Broadcasted", Nickname = "Bob", Data = "hi Ann" }
        assert.is_nil(heard:text():find("Bob@", 1, true))
      end
    end)

    it("cannot move the cursor", function()
      local heard = me:send { From = lobby, Action = "Broadcasted", Nickname = "B\nob", Data = "a\27[2Jb\nc" }
      assert.is_truthy(heard:text():find("B ob@lobby> a [2Jb c", 1, true), heard:text())
    end)

    it("tells when it is let in, and when not", function()
      assert.is_truthy(me:send { From = lobby, Action = "Registered" }:text():find("You are in lobby", 1, true))
      local refused = me:send { From = lobby, Action = "Register-Error", Error = "The room is full" }
      assert.is_truthy(refused:text():find("Not let in: The room is full", 1, true), refused:text())
      assert.is_truthy(run("Say('hi')").Error)
    end)
  end)

  it("loads twice without harm and adds only its documented globals", function()
    local names = [[(function()
      local names = {}
      for name in pairs(_G) do names[name] = true end
      return names
    end)()]]
    local before = spawn { name = "plain" }:get(names)
    local twice = spawn { load = { "chat.lua", "chat.lua" }, name = "twice" }
    local added = {}
    for name in pairs(twice:get(names)) do
      if not before[name] then added[#added + 1] = name end
    end
    table.sort(added)
    assert.same({ "Chat", "Join", "Leave", "List", "Rooms", "Say" }, added)
  end)
end)
