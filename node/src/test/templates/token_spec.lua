-- Run it: weft test

local owner, alice, bob = wallet("owner"), wallet("alice"), wallet("bob")

describe("{{name}}", function()
  local token

  before_each(function()
    token = spawn { load = "{{name}}.lua", name = "{{name}}", owner = owner }
    token:send { From = owner, Action = "Mint", Recipient = alice, Quantity = "100" }
  end)

  local function balance(account)
    return token:send({ From = bob, Action = "Balance", Recipient = account }):message({ Target = bob }).Balance
  end

  it("tells what it is", function()
    local info = token:send({ From = alice, Action = "Info" }):message { Target = alice }
    assert.equal("{{name}}", info.Name)
    assert.equal("12", info.Denomination)
  end)

  describe("Transfer", function()
    it("moves tokens and tells both sides", function()
      local outcome = token:send { From = alice, Action = "Transfer", Recipient = bob, Quantity = "30" }
      assert.equal("30", outcome:message({ Target = alice, Action = "Debit-Notice" }).Quantity)
      assert.equal("30", outcome:message({ Target = bob, Action = "Credit-Notice" }).Quantity)
      assert.equal("70", balance(alice))
      assert.equal("30", balance(bob))
    end)

    it("to oneself changes nothing", function()
      token:send { From = alice, Action = "Transfer", Recipient = alice, Quantity = "30" }
      assert.equal("100", balance(alice))
    end)

    for _, quantity in ipairs { "101", "0", "-1", "1.5", "many", ("9"):rep(77) } do
      it("refuses " .. quantity, function()
        local outcome = token:send { From = alice, Action = "Transfer", Recipient = bob, Quantity = quantity }
        assert.is_nil(outcome.Error)
        assert.is_string(outcome:message({ Target = alice, Action = "Transfer-Error" }).Tags.Error)
        assert.equal("100", balance(alice))
      end)
    end
  end)

  describe("Mint", function()
    it("is for the owner alone", function()
      local outcome = token:send { From = alice, Action = "Mint", Quantity = "1" }
      assert.is_not_nil(outcome:message { Action = "Mint-Error" })
      assert.equal("100", balance(alice))
    end)
  end)
end)
