-- Run it: weft test

local alice, bob = wallet("alice"), wallet("bob")

describe("{{name}}", function()
  local process

  before_each(function()
    process = spawn { load = "{{name}}.lua", name = "{{name}}" }
  end)

  it("answers a greeting", function()
    local answer = process:send({ From = alice, Action = "Hello" }):message { Target = alice }
    assert.equal("Hello-Back", answer.Action)
    assert.equal("Hello, " .. alice, answer.Data)
  end)

  it("counts greetings, and starts anew in each test", function()
    assert.equal(0, process:get("Greeted"))
    process:send { From = alice, Action = "Hello" }
    process:send { From = bob, Action = "Hello" }
    assert.equal(2, process:get("Greeted"))
  end)

  it("leaves other actions alone", function()
    local outcome = process:send { From = alice, Action = "Something-Else" }
    assert.same({}, outcome.Messages)
  end)
end)
