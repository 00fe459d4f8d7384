-- The chat room blueprint: who is in it, and who hears what.

local alice, bob, carol = wallet("alice"), wallet("bob"), wallet("carol")

describe("chatroom", function()
  local room

  before_each(function() room = spawn { load = "chatroom.lua", name = "lobby" } end)

  local function enter(...)
    for _, who in ipairs { ... } do room:send { From = who, Action = "Register" } end
  end

  describe("Register", function()
    it("lets one in and says so", function()
      local answer = room:send { From = alice, Action = "Register" }.Messages[1]
      assert.equals(alice, answer.Target)
      assert.equals("Registered", answer.Action)
      assert.equals("registered", answer.Data)
      assert.same({ alice }, room:get("Members"))
    end)

    it("twice makes one member", function()
      enter(alice, alice)
      assert.same({ alice }, room:get("Members"))
    end)

    it("refuses when the room is full", function()
      room:eval("for i = 1, 10000 do Members[i] = 'member' .. i end")
      local answer = room:send { From = alice, Action = "Register" }.Messages[1]
      assert.equals("Register-Error", answer.Action)
      assert.is_truthy(answer.Error:find("full", 1, true))
      assert.equals(10000, room:get("#Members"))
    end)
  end)

  describe("Unregister", function()
    it("lets one out", function()
      enter(alice, bob)
      assert.equals("Unregistered", room:send { From = alice, Action = "Unregister" }.Messages[1].Action)
      assert.same({ bob }, room:get("Members"))
    end)

    it("refuses whoever is not in", function()
      local answer = room:send { From = alice, Action = "Unregister" }.Messages[1]
      assert.equals("Unregister-Error", answer.Action)
      assert.is_truthy(answer.Error:find("not registered", 1, true))
    end)
  end)

  describe("Broadcast", function()
    it("reaches every member once and nobody else", function()
      enter(alice, bob)
      local outcome = room:send { From = bob, Action = "Broadcast", Data = "hi all", Nickname = "Bob" }
      assert.equals(3, #outcome.Messages)
      for _, member in ipairs { alice, bob } do
        local heard = outcome:message { Target = member, Action = "Broadcasted" }
        assert.equals("hi all", heard.Data)
        assert.equals(bob, heard.Broadcaster)
        assert.equals("Bob", heard.Nickname)
      end
      local receipt = outcome:message { Target = bob, Action = "Broadcast-Sent" }
      assert.equals("Broadcasted.", receipt.Data)
      assert.equals("2", receipt.Members)
    end)

    it("stops reaching who left", function()
      enter(alice, bob)
      room:send { From = alice, Action = "Unregister" }
      local outcome = room:send { From = bob, Action = "Broadcast", Data = "anyone?" }
      assert.is_nil(outcome:message { Target = alice })
    end)

    it("refuses silence", function()
      enter(alice)
      local outcome = room:send { From = alice, Action = "Broadcast", Data = "" }
      assert.equals(1, #outcome.Messages)
      assert.equals("Broadcast-Error", outcome.Messages[1].Action)
      assert.is_truthy(outcome.Messages[1].Error:find("Data is required", 1, true))
    end)
  end)

  it("lists its members", function()
    enter(alice, carol)
    local answer = room:send { From = bob, Action = "Members" }.Messages[1]
    assert.equals("2", answer.Count)
    assert.equals(alice .. "\n" .. carol, answer.Data)
  end)

  it("loads twice without harm and adds only its documented globals", function()
    local names = [[(function()
      local names = {}
      for name in pairs(_G) do names[name] = true end
      return names
    end)()]]
    local before = spawn { name = "plain" }:get(names)
    local twice = spawn { load = { "chatroom.lua", "chatroom.lua" }, name = "twice" }
    local added = {}
    for name in pairs(twice:get(names)) do
      if not before[name] then added[#added + 1] = name end
    end
    table.sort(added)
    assert.same({ "Members" }, added)
  end)
end)
