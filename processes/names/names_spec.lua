-- The name registry: one owner per name, leases that end, limits.

local alice, bob = wallet("alice"), wallet("bob")

local DAY = 24 * 60 * 60 * 1000
local YEAR = 365 * DAY

describe("names", function()
  local registry

  before_each(function() registry = spawn { load = "names.lua", name = "registry" } end)

  local function ask(who, action, fields)
    fields = fields or {}
    fields.From, fields.Action = who, action
    fields.Tags = { Name = fields.Name }
    fields.Name = nil
    return registry:send(fields)
  end

  local function refused(outcome, action, text)
    local answer = outcome.Messages[1]
    assert.equals(action, answer.Action)
    assert.is_truthy(answer.Error:find(text, 1, true), answer.Error)
  end

  describe("Register", function()
    it("leases a name for a year, pointing at whoever asked", function()
      local answer = ask(alice, "Register", { Name = "Al-1" }).Messages[1]
      assert.equals("Register-Notice", answer.Action)
      assert.equals("al-1", answer.Name)
      assert.equals(alice, answer["Record-Owner"])
      assert.equals(alice, answer["Process-Id"])
      local record = registry:get("Records['al-1']")
      assert.equals(YEAR, record.expires_at - record.registered_at)
    end)

    it("takes a process and years", function()
      local answer = ask(alice, "Register", { Name = "al", ["Process-Id"] = bob, Years = "3" }).Messages[1]
      assert.equals(bob, answer["Process-Id"])
      assert.equals(3 * YEAR, registry:get("Records.al.expires_at - Records.al.registered_at"))
    end)

    local mistakes = {
      { "no name", {}, "Name is required" },
      { "a long name", { Name = ("a"):rep(52) }, "at most 51 letters, got 52" },
      { "a space", { Name = "a b" }, "letters, digits and inner hyphens, got 'a b'" },
      { "a hyphen in front", { Name = "-a" }, "inner hyphens" },
      { "a hyphen at the end", { Name = "a-" }, "inner hyphens" },
      { "no years", { Name = "a", Years = "0" }, "Years must be a number from 1 to 5, got '0'" },
      { "too many years", { Name = "a", Years = "6" }, "Years must be a number from 1 to 5" },
      { "no address", { Name = "a", ["Process-Id"] = "a b" }, "Process-Id must be an address, got 'a b'" },
    }
    for _, case in ipairs(mistakes) do
      it("refuses " .. case[1], function()
        refused(ask(alice, "Register", case[2]), "Register-Error", case[3])
        assert.is_nil(next(registry:get("Records")))
      end)
    end

    it("refuses a name that is taken, whatever its case, until the grace period is over", function()
      ask(alice, "Register", { Name = "al" })
      refused(ask(bob, "Register", { Name = "AL" }), "Register-Error", "'al' is taken until")
      clock.advance(YEAR + 13 * DAY)
      refused(ask(bob, "Register", { Name = "al" }), "Register-Error", "is taken until")
      clock.advance(2 * DAY)
      assert.equals(bob, ask(bob, "Register", { Name = "al" }).Messages[1]["Record-Owner"])
    end)

    it("refuses the 101st name of an owner", function()
      registry:eval(([[for i = 1, 100 do
        Records["n" .. i] = { owner = "%s", process = "p", registered_at = 0, expires_at = 9e15 // 1 | 0 }
      end]]):format(alice))
      -- The counts are made when the blueprint is loaded.
      local again = spawn { load = "names.lua", name = "again" }
      assert.is_nil(next(again:get("Records")))
      for i = 1, 100 do again:send { From = alice, Action = "Register", Tags = { Name = "n" .. i } } end
      local answer = again:send { From = alice, Action = "Register", Tags = { Name = "one-more" } }.Messages[1]
      assert.is_truthy(answer.Error:find("at most 100 names", 1, true), answer.Error)
      again:send { From = alice, Action = "Release", Tags = { Name = "n1" } }
      local freed = again:send { From = alice, Action = "Register", Tags = { Name = "one-more" } }.Messages[1]
      assert.equals("Register-Notice", freed.Action)
    end)
  end)

  describe("of an owner", function()
    before_each(function() ask(alice, "Register", { Name = "al" }) end)

    it("Set-Record points it elsewhere", function()
      assert.equals(bob, ask(alice, "Set-Record", { Name = "al", ["Process-Id"] = bob }).Messages[1]["Process-Id"])
      refused(ask(alice, "Set-Record", { Name = "al" }), "Set-Record-Error", "Process-Id must be an address")
    end)

    it("Transfer hands it over and tells both", function()
      local outcome = ask(alice, "Transfer", { Name = "al", Recipient = bob })
      assert.equals("Transfer-Notice", outcome:message { Target = alice }.Action)
      assert.equals(alice, outcome:message { Target = bob, Action = "Name-Received" }.Sender)
      assert.equals(bob, registry:get("Records.al.owner"))
      refused(ask(alice, "Release", { Name = "al" }), "Release-Error", "not yours")
    end)

    it("Renew adds to what is left, up to five years ahead", function()
      local before = registry:get("Records.al.expires_at")
      ask(alice, "Renew", { Name = "al", Years = "2" })
      assert.equals(before + 2 * YEAR, registry:get("Records.al.expires_at"))
      refused(ask(alice, "Renew", { Name = "al", Years = "3" }), "Renew-Error", "at most 5 years ahead")
    end)

    it("Renew works in the grace period, when others find nothing", function()
      clock.advance(YEAR + DAY)
      refused(ask(bob, "Get-Record", { Name = "al" }), "Get-Record-Error", "not registered")
      assert.equals("Renew-Notice", ask(alice, "Renew", { Name = "al" }).Messages[1].Action)
      assert.equals("Record-Notice", ask(bob, "Get-Record", { Name = "al" }).Messages[1].Action)
    end)

    it("Release frees it", function()
      assert.equals("Release-Notice", ask(alice, "Release", { Name = "al" }).Messages[1].Action)
      assert.equals("Register-Notice", ask(bob, "Register", { Name = "al" }).Messages[1].Action)
    end)

    for _, action in ipairs { "Set-Record", "Transfer", "Renew", "Release" } do
      it(action .. " is refused to others and for unknown names", function()
        refused(ask(bob, action, { Name = "al" }), action .. "-Error", "not yours")
        refused(ask(alice, action, { Name = "nobody" }), action .. "-Error", "not registered")
      end)
    end
  end)

  it("Get-Record answers tags and JSON", function()
    ask(alice, "Register", { Name = "al" })
    local answer = ask(bob, "Get-Record", { Name = "AL" }).Messages[1]
    assert.equals("al", answer.Name)
    assert.equals(alice, json.decode(answer.Data).owner)
  end)

  describe("Records", function()
    before_each(function()
      for _, name in ipairs { "delta", "alpha", "charlie", "bravo" } do ask(alice, "Register", { Name = name }) end
      ask(bob, "Register", { Name = "echo" })
    end)

    local function page(fields)
      local answer = ask(bob, "Records", fields).Messages[1]
      local names = {}
      for name in pairs(json.decode(answer.Data)) do names[#names + 1] = name end
      table.sort(names)
      return table.concat(names, " "), answer
    end

    it("come in order, page by page", function()
      local first, answer = page { Limit = "2" }
      assert.equals("alpha bravo", first)
      assert.equals("bravo", answer.Cursor)
      local last, rest = page { Limit = "3", Cursor = answer.Cursor }
      assert.equals("charlie delta echo", last)
      assert.is_nil(rest.Cursor)
    end)

    it("can be one owner's", function() assert.equals("echo", (page { ["Record-Owner"] = bob })) end)

    it("refuses a page too large", function()
      refused(ask(bob, "Records", { Limit = "101" }), "Records-Error", "Limit must be a number from 1 to 100")
    end)
  end)

  it("loads twice without harm and adds only its documented globals", function()
    local names = [[(function()
      local names = {}
      for name in pairs(_G) do names[name] = true end
      return names
    end)()]]
    local before = spawn { name = "plain" }:get(names)
    local twice = spawn { load = { "names.lua", "names.lua" }, name = "twice" }
    local added = {}
    for name in pairs(twice:get(names)) do
      if not before[name] then added[#added + 1] = name end
    end
    table.sort(added)
    assert.same({ "Records" }, added)
  end)
end)
