// Every call of the unmodified client in mainnet mode, with only the node's URL set; and what may
// go wrong with hands of its own: no body, rubbish in paths, another's slot.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { connect, createSigner } from '@permaweb/aoconnect'

const given = JSON.parse(process.argv[2])
const { run } = await import('./world.mjs')
const signer = createSigner(JSON.parse(readFileSync(given.wallet, 'utf8')))
const url = given.url
const address = await (await fetch(`${url}/~meta@1.0/info/address`)).text()
const ao = connect({ MODE: 'mainnet', URL: url, signer })
const foreign = connect({ MODE: 'mainnet', URL: url, signer, SCHEDULER: 'n_XZJhUnmldNFo4dhajoPZWhBXuJk-OcQr5JQ49c4Zo' })
const evalTags = [{ name: 'Action', value: 'Eval' }]
const json = async (path, init) => (await fetch(`${url}${path}`, init)).json()

let pid, slot

await run({
  async address () {
    assert.equal(address, given.mu_address)
    const info = await json('/~meta@1.0/info')
    assert.equal(info.address, address)
    assert.equal(info.scheduler, given.su_address)
  },
  async spawn_with_the_nodes_address () {
    pid = await ao.spawn({ module: given.module, tags: [{ name: 'Name', value: 'main' }] })
    assert.match(pid, /^[\w-]{43}$/)
    const slot0 = await json(`/su/${pid}/latest`)
    const tags = Object.fromEntries(slot0.assignment.tags.map((tag) => [tag.name, tag.value]))
    assert.equal(tags['Adopted-From'], undefined)
  },
  async message () {
    slot = await ao.message({ process: pid, data: '1 + 1', tags: evalTags })
    assert.equal(slot, 1)
    const id = await ao.message({ process: pid, data: '2 + 2', tags: evalTags, returnMessageId: true })
    assert.match(id, /^[\w-]{43}$/)
    const both = await ao.message({ process: pid, data: '3 + 3', tags: evalTags, returnMessageId: true, returnAssignmentSlot: true })
    assert.equal(both.slot, 3)
    const full = await ao.message({ process: pid, data: '4 + 4', tags: evalTags, opts: { fullResponse: true } })
    assert.equal(full.Output.data, '8')
    assert.equal((await ao.result({ process: pid, message: id })).Output.data, '4')
  },
  async result_honours_the_slot () {
    for (const [at, wanted] of [[1, '2'], [2, '4'], [3, '6'], [4, '8'], [1, '2']]) {
      assert.equal((await ao.result({ process: pid, slot: at })).Output.data, wanted)
    }
    assert.deepEqual((await ao.result({ process: pid, slot: 0 })).Messages, [])
    await assert.rejects(ao.result({ process: pid, slot: 99 }))
  },
  async results () {
    const { edges } = await ao.results({ process: pid })
    assert.equal(edges.length, 1)
    assert.equal(edges[0].cursor, '4')
    assert.equal(edges[0].node.Output.data, '8')
  },
  async dryrun () {
    const { Output } = await ao.dryrun({ process: pid, data: 'X = 2 return Owner', tags: evalTags })
    assert.equal(Output.data, given.owner)
    assert.equal((await ao.dryrun({ process: pid, data: 'return tostring(X)', tags: evalTags })).Output.data, 'nil')
    assert.equal((await ao.results({ process: pid })).edges[0].cursor, '4')
  },
  async messages_reach_other_processes () {
    const other = await ao.spawn({ module: given.module, tags: [{ name: 'Name', value: 'other' }] })
    await ao.message({ process: other, data: 'Handlers.add("hi", "Hi", function (m) m.reply({ Data = "you are " .. m.From }) end)', tags: evalTags })
    await ao.message({ process: pid, data: `Send({ Target = "${other}", Action = "Hi" })`, tags: evalTags })
    for (let tries = 0; tries < 200; tries++) {
      const inbox = await ao.dryrun({ process: pid, data: 'return tostring(#Inbox > 0 and Inbox[#Inbox].Data)', tags: evalTags })
      if (inbox.Output.data === `you are ${pid}`) return
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    assert.fail('the reply never came')
  },
  async a_foreign_scheduler_is_adopted () {
    const adopted = await foreign.spawn({ module: given.module, authority: address, tags: [{ name: 'Name', value: 'adopted' }, { name: 'Storage', value: 'permanent' }] })
    const slot0 = await json(`/su/${adopted}/latest`)
    const tags = Object.fromEntries(slot0.assignment.tags.map((tag) => [tag.name, tag.value]))
    assert.equal(tags['Adopted-From'], 'n_XZJhUnmldNFo4dhajoPZWhBXuJk-OcQr5JQ49c4Zo')
    assert.equal(tags.Storage, 'local')
    assert.equal(await foreign.message({ process: adopted, data: '1', tags: evalTags }), 1)
  },
  async a_message_that_cannot_be_evaluated_has_its_slot () {
    const broken = await ao.spawn({ module: 'B'.repeat(42) + 'A', tags: [] })
    assert.equal(await ao.message({ process: broken, data: '1', tags: evalTags }), 1)
    await assert.rejects(ao.result({ process: broken, slot: 1 }))
  },
  async without_a_body () {
    const last = await (await fetch(`${url}/${pid}/slot/current`)).text()
    assert.match(last, /^\d+$/)
    assert.equal(await (await fetch(`${url}/${pid}~process@1.0/slot/current`, { method: 'POST' })).text(), last)
    assert.equal((await json(`/${pid}/compute/results=1`)).raw.Output.data, '2')
    assert.equal((await json(`/${pid}/compute=2`)).raw.Output.data, '4')
    assert.equal((await json(`/${pid}~process@1.0/compute&slot=3/serialize~json@1.0`)).raw.Output.data, '6')
    assert.equal((await json(`/${pid}/now`)).slot, Number(last))
    const dry = await json(`/${pid}~process@1.0/as=execution/compute&Action=Info`, { method: 'POST' })
    assert.ok(dry.raw.Output !== undefined)
  },
  async refusals_say_what_to_do () {
    const refused = async (status, text, path, init) => {
      const response = await fetch(`${url}${path}`, init)
      assert.equal(response.status, status, path)
      assert.match((await response.json()).error, text)
    }
    const nobody = 'A'.repeat(43)
    await refused(404, /not scheduled here|nothing|not found|unknown/i, `/${nobody}/slot/current`)
    await refused(404, /no slot 77/, `/${pid}/compute/results=77`)
    await refused(400, /neither a slot nor/, `/${pid}/compute/results=undefined`)
    await refused(404, /dry run/, `/${pid}/now/balances`)
    await refused(400, /no body/, '/push', { method: 'POST' })
    await refused(400, /cut off|type/, '/push', { method: 'POST', body: 'rubbish' })
    await refused(405, /POST/, `/${pid}/push`)
    await refused(404, /no route/, '/rubbish/push', { method: 'POST' })
  }
})
