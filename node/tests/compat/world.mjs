// What every script here starts from: the node under test, a wallet, a client, and checks.
//
// The node's ready line, the wallet's path and the module's id come in as one JSON argument.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { connect, createDataItemSigner } from '@permaweb/aoconnect'

export const given = JSON.parse(process.argv[2])
export const wallet = JSON.parse(readFileSync(given.wallet, 'utf8'))
export const signer = createDataItemSigner(wallet)
export const ao = connect({
  MODE: 'legacy',
  GATEWAY_URL: given.gateway,
  MU_URL: given.mu,
  CU_URL: given.cu
})

/** Spawns a process that trusts the node's messenger. */
export const spawn = (name) => ao.spawn({
  module: given.module,
  scheduler: given.su_address,
  signer,
  tags: [{ name: 'Name', value: name }, { name: 'Authority', value: given.mu_address }]
})

/** Sends a message and waits for its outcome. */
export async function send (process, tags, data) {
  const message = await ao.message({ process, signer, data, tags: Object.entries(tags).map(([name, value]) => ({ name, value })) })
  return { message, ...await ao.result({ process, message }) }
}

/** Evaluates Lua in an aos process and waits for its outcome. */
export const evaluate = (process, code) => send(process, { Action: 'Eval' }, code)

/** Evaluates a Lua expression without a slot; only a process's owner may. */
export async function peek (process, expression, owner = given.owner) {
  const outcome = await ao.dryrun({ process, Owner: owner, data: `return ${expression}`, tags: [{ name: 'Action', value: 'Eval' }] })
  assert.equal(outcome.Error, undefined, JSON.stringify(outcome.Error))
  return outcome.Output.data
}

/** Waits until a Lua expression has a value. */
export async function until (process, expression, wanted, owner) {
  let seen
  for (let tries = 0; tries < 200; tries++) {
    seen = await peek(process, expression, owner)
    if (seen === wanted) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  assert.fail(`${expression} stayed ${seen}, wanted ${wanted}`)
}

/** Runs named checks in order, one line each. */
export async function run (checks) {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check()
      console.log(`ok ${name}`)
    } catch (error) {
      console.log(`not ok ${name}: ${error.stack}`)
      process.exit(1)
    }
  }
  process.exit(0)
}
