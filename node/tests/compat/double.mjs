// arweave-js against the double: posts transactions whole and chunk by chunk, mines, reads status and data back, and
// is refused what a node refuses. Argument: {"url", "wallet" (a file)} as JSON. Prints `ok ...` per thing shown.
import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import Arweave from 'arweave';

const given = JSON.parse(process.argv[2]);
const { hostname, port } = new URL(given.url);
const arweave = Arweave.init({ host: hostname, port, protocol: 'http' });
const jwk = JSON.parse(readFileSync(given.wallet, 'utf8'));
const address = await arweave.wallets.jwkToAddress(jwk);
const get = async (path) => (await fetch(`${given.url}/${path}`)).text();

await get(`mint/${address}/1000000000000`);
assert.ok(BigInt(await arweave.wallets.getBalance(address)) >= 1000000000000n);
assert.equal((await (await fetch(`${given.url}/peers`)).json()).length, 3);
console.log('ok accounts and peers');

const dataOf = (length) => Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 9)) & 255);
for (const length of [10, 256 * 1024, 700 * 1024]) {
  const sent = await arweave.createTransaction({ data: dataOf(length) }, jwk);
  sent.addTag('Content-Type', 'text/plain');
  await arweave.transactions.sign(sent, jwk);
  const uploader = await arweave.transactions.getUploader(sent);
  while (!uploader.isComplete) await uploader.uploadChunk();
  assert.equal((await arweave.api.post('tx', sent)).status, 208);
  await get('mine/2');
  const { status, confirmed } = await arweave.transactions.getStatus(sent.id);
  assert.equal(status, 200);
  assert.ok(confirmed.number_of_confirmations >= 1);
  assert.deepEqual(await arweave.transactions.getData(sent.id, { decode: true }), dataOf(length));
  const read = await arweave.transactions.get(sent.id);
  assert.ok(await arweave.transactions.verify(read));
  assert.equal(await arweave.wallets.getLastTransactionID(address), sent.id);
  console.log(`ok ${length} bytes up and down`);
}

const refused = async (change) => {
  const bad = await arweave.createTransaction({ data: 'x', ...change }, jwk);
  await arweave.transactions.sign(bad, jwk);
  return (await arweave.transactions.post(bad)).status;
};
assert.equal(await refused({ reward: '1' }), 400);
assert.equal(await refused({ last_tx: 'A'.repeat(64) }), 400);
console.log('ok a low reward and a foreign anchor are refused');
