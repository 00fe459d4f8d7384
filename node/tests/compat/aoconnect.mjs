// Every call of the unmodified client, in legacy mode, with only the three URLs set.
import assert from 'node:assert/strict'
import { ao, evaluate, given, peek, run, send, signer, spawn } from './world.mjs'

let pid, first

await run({
  async spawn () {
    pid = await spawn('compat')
    assert.match(pid, /^[\w-]{43}$/)
    const boot = await ao.result({ process: pid, message: pid })
    assert.equal(boot.Error, undefined)
    assert.deepEqual(boot.Messages, [])
  },
  async message_and_result () {
    first = await evaluate(pid, '1 + 1')
    assert.equal(first.Output.data, '2')
    assert.equal(typeof first.GasUsed, 'number')
    const version = await evaluate(pid, "require('.process')._version")
    assert.match(version.Output.data, /^2\.0\./)
    assert.ok(version.Output.prompt.includes('compat'))
  },
  async message_without_data () {
    const outcome = await send(pid, { Action: 'Nothing-Handles-This' })
    assert.ok(outcome.Output.data.includes('Nothing-Handles-This'))
  },
  async results_with_cursors () {
    const newest = await ao.results({ process: pid, sort: 'DESC', limit: 2 })
    assert.equal(newest.edges.length, 2)
    const all = await ao.results({ process: pid, sort: 'ASC', limit: 100 })
    assert.equal(all.edges.length, 4)
    const cursor = JSON.parse(atob(all.edges[1].cursor))
    assert.equal(cursor.ordinate, '1')
    assert.equal(cursor.sort, 'ASC')
    const last = all.edges.at(-1).cursor
    const nothing = await ao.results({ process: pid, from: last, sort: 'ASC', limit: 100 })
    assert.deepEqual(nothing.edges, [])
    await evaluate(pid, '2 + 2')
    const one = await ao.results({ process: pid, from: last, sort: 'ASC', limit: 100 })
    assert.deepEqual(one.edges.map((edge) => edge.node.Output.data), ['4'])
    const page = await ao.results({ process: pid, from: all.edges[0].cursor, sort: 'ASC', limit: 2 })
    assert.equal(page.edges.length, 2)
    assert.equal(page.edges[0].cursor, all.edges[1].cursor)
  },
  async dryrun () {
    await evaluate(pid, 'X = 1')
    const changed = await ao.dryrun({ process: pid, Owner: given.owner, data: 'X = 2 return X', tags: [{ name: 'Action', value: 'Eval' }] })
    assert.equal(changed.Output.data, '2')
    assert.equal(await peek(pid, 'X'), '1')
  },
  async monitor_and_unmonitor () {
    assert.match(await ao.monitor({ process: pid, signer }), /^[\w-]{43}$/)
    assert.match(await ao.monitor({ process: pid, signer }), /^[\w-]{43}$/)
    assert.match(await ao.unmonitor({ process: pid, signer }), /^[\w-]{43}$/)
  },
  async assign () {
    const other = await spawn('other')
    const id = await ao.assign({ process: other, message: first.message })
    assert.match(id, /^[\w-]{43}$/)
    const outcome = await ao.result({ process: other, message: first.message })
    assert.ok(outcome.Output !== undefined)
    const own = await ao.result({ process: pid, message: first.message })
    assert.equal(own.Output.data, '2')
  },
  async sign_then_send () {
    const signed = await ao.signMessage({ process: pid, data: 'return 40 + 2', tags: [{ name: 'Action', value: 'Eval' }], signer })
    const id = await ao.sendSignedMessage(signed)
    const outcome = await ao.result({ process: pid, message: signed.id ?? id })
    assert.equal(outcome.Output.data, '42')
  }
})
