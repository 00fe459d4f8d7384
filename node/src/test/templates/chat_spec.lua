-- Run it: weft test

local alice, bob = wallet("alice"), wallet("bob")

describe("{{name}}", function()
  local room

  before_each(function()
    room = spawn { load = "{{name}}.lua", name = "{{name}}" }
    room:send { From = alice, Action = "Join", Nickname = "Alice" }
  end)

  it("tells members who joins", function()
    local outcome = room:send { From = bob, Action = "Join", Nickname = "Bob" }
    assert.equal("Bob", outcome:message({ Target = bob, Action = "Joined" }).Nickname)
    assert.equal("Bob joined", outcome:message({ Target = alice }).Data)
  end)

  it("tells all members what is said", function()
    room:send { From = bob, Action = "Join", Nickname = "Bob" }
    local outcome = room:send { From = alice, Action = "Say", Data = "hi" }
    assert.equal(2, #outcome:messages { Action = "Said", Author = "Alice", Data = "hi" })
  end)

  it("is silent for those who did not join", function()
    local outcome = room:send { From = bob, Action = "Say", Data = "let me in" }
    assert.is_not_nil(outcome:message { Target = bob, Action = "Say-Error" })
    assert.same({}, room:get("History"))
  end)

  it("refuses a nickname that could fool others", function()
    local outcome = room:send { From = bob, Action = "Join", Nickname = "\27[31mAlice" }
    assert.is_not_nil(outcome:message { Target = bob, Action = "Join-Error" })
  end)

  it("keeps what was said, with its time", function()
    clock.advance(1000)
    local time = clock.now()
    room:send { From = alice, Action = "Say", Data = "first" }
    local lines = room:send({ From = bob, Action = "History" }):message { Target = bob }
    assert.same({ { author = "Alice", text = "first", time = time } }, json.decode(lines.Data))
  end)

  it("forgets who leaves", function()
    room:send { From = alice, Action = "Leave" }
    assert.same({}, room:get("Members"))
  end)
end)
