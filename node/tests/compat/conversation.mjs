// Processes that talk through the messenger, fail, and make others.
import assert from 'node:assert/strict'
import { ao, evaluate, given, peek, run, send, spawn, until } from './world.mjs'

let ping, pong

await run({
  async ping_and_pong () {
    ping = await spawn('ping')
    pong = await spawn('pong')
    await evaluate(pong, 'Handlers.add("ping", {Action = "Ping"}, function (m) m.reply({Action = "Pong", Data = "pong " .. m.N}) end)')
    await evaluate(ping, `Pongs = {} Handlers.add("pong", {Action = "Pong"}, function (m) table.insert(Pongs, m.Data) end)`)
    await evaluate(ping, `for i = 1, 3 do Send({Target = "${pong}", Action = "Ping", N = i}) end`)
    await until(ping, '#Pongs', '3')
    assert.equal(await peek(ping, 'table.concat(Pongs, ",")'), 'pong 1,pong 2,pong 3')
  },
  async receive_waits_for_the_answer () {
    await evaluate(ping, `Answer = Send({Target = "${pong}", Action = "Ping", N = 9}).receive().Data`)
    await until(ping, 'Answer', 'pong 9')
  },
  async a_handler_that_errors_leaves_the_state () {
    await evaluate(ping, 'X = 1 Handlers.add("bad", {Action = "Bad"}, function () X = 2 error("boom") end)')
    const outcome = await send(ping, { Action: 'Bad' })
    assert.ok(String(outcome.Error).includes('boom'))
    assert.equal(await peek(ping, 'X'), '1')
    assert.equal((await evaluate(ping, 'X')).Output.data, '1')
  },
  async spawn_from_inside_gets_its_reply () {
    await evaluate(ping, 'Handlers.add("kid", {Action = "Spawned"}, function (m) Kid = m.Process end)')
    await evaluate(ping, `Spawn("${given.module}", {Name = "kid", Authority = "${given.mu_address}"})`)
    await until(ping, 'Kid ~= nil', 'true')
    const kid = await peek(ping, 'Kid')
    assert.match(kid, /^[\w-]{43}$/)
    await until(kid, 'Name', 'kid', ping)
    assert.equal(await peek(kid, 'Owner', ping), ping)
    const boot = await ao.result({ process: kid, message: kid })
    assert.equal(boot.Error, undefined)
  }
})
