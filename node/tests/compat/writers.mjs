// arweave-js and arbundles write to our gateway, and everything is read back from it: types, ranges, manifests,
// GraphQL. Argument: a file with {"url", "wallet" (a file)} as JSON. Prints `ok ...` per thing shown.
import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import Arweave from 'arweave';
import { ArweaveSigner, bundleAndSignData, createData } from '@dha-team/arbundles';

const given = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { hostname, port } = new URL(given.url);
const arweave = Arweave.init({ host: hostname, port, protocol: 'http' });
const jwk = JSON.parse(readFileSync(given.wallet, 'utf8'));
const address = await arweave.wallets.jwkToAddress(jwk);
const dataOf = (length) => Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 9)) & 255);
const at = (path, headers = {}) => fetch(`${given.url}/${path}`, { headers });
const search = async (query, variables) => {
  const headers = { 'content-type': 'application/json' };
  const body = JSON.stringify({ query, variables });
  const answer = await (await fetch(`${given.url}/graphql`, { method: 'POST', headers, body })).json();
  assert.equal(answer.errors, undefined, JSON.stringify(answer));
  return answer.data.transactions.edges.map(({ node }) => node);
};
const send = async (transaction) => {
  await arweave.transactions.sign(transaction, jwk);
  const uploader = await arweave.transactions.getUploader(transaction);
  while (!uploader.isComplete) await uploader.uploadChunk();
};

assert.equal(await arweave.wallets.getBalance(address), '0');
assert.equal(await arweave.wallets.getLastTransactionID(address), '');
for (const length of [10, 256 * 1024, 256 * 1024 + 1, 700 * 1024]) {
  const sent = await arweave.createTransaction({ data: dataOf(length) }, jwk);
  sent.addTag('Content-Type', 'image/png');
  await send(sent);
  assert.equal((await arweave.transactions.getStatus(sent.id)).status, 200);
  assert.deepEqual(await arweave.transactions.getData(sent.id, { decode: true }), dataOf(length));
  const read = await arweave.transactions.get(sent.id);
  assert.ok(await arweave.transactions.verify(read));
  assert.equal(await arweave.wallets.getLastTransactionID(address), sent.id);
  const part = await at(sent.id, { range: 'bytes=2-5' });
  assert.equal(part.status, 206);
  assert.equal(part.headers.get('content-type'), 'image/png');
  assert.deepEqual(new Uint8Array(await part.arrayBuffer()), dataOf(length).slice(2, 6));
  const [node] = await search('query($ids: [ID!]) { transactions(ids: $ids) { edges { node { id owner { address } data { size type } block { height } bundledIn { id } } } } }', { ids: [sent.id] });
  assert.deepEqual(node, { id: sent.id, owner: { address }, data: { size: `${length}`, type: 'image/png' }, block: node.block, bundledIn: null });
  console.log(`ok ${length} bytes by arweave-js`);
}

const signer = new ArweaveSigner(jwk);
const item = async (data, tags) => {
  const made = createData(data, signer, { tags: Object.entries(tags).map(([name, value]) => ({ name, value })) });
  await made.sign(signer);
  return made;
};
const page = await item('<p>hello</p>', { 'Content-Type': 'text/html', Kind: 'page' });
const inner = await bundleAndSignData([page], signer);
const nested = await item(inner.getRaw(), { 'Bundle-Format': 'binary', 'Bundle-Version': '2.0.0' });
const paths = { 'index.html': { id: page.id } };
const manifest = await item(
  JSON.stringify({ manifest: 'arweave/paths', version: '0.2.0', index: { path: 'index.html' }, fallback: { id: page.id }, paths }),
  { 'Content-Type': 'application/x.arweave-manifest+json' },
);
const big = await item(Buffer.from(dataOf(300 * 1024)), { 'Content-Type': 'application/x-big' });
const bundle = await bundleAndSignData([nested, manifest, big], signer);
const carrier = await bundle.toTransaction({}, arweave, jwk);
await send(carrier);
for (const path of [page.id, manifest.id, `${manifest.id}/index.html`, `${manifest.id}/elsewhere`]) {
  const answer = await at(path);
  assert.equal(answer.status, 200, path);
  assert.equal(answer.headers.get('content-type'), 'text/html');
  assert.equal(await answer.text(), '<p>hello</p>');
}
assert.equal((await at(`raw/${manifest.id}`)).headers.get('content-type'), 'application/x.arweave-manifest+json');
const part = await at(big.id, { range: 'bytes=1000-1003,2000-2001' });
assert.equal(part.status, 206);
assert.ok(part.headers.get('content-type').startsWith('multipart/byteranges'));
console.log('ok items of a bundle by arbundles, one nested, a manifest, ranges');

const fields = 'edges { node { id bundledIn { id } parent { id } } }';
const within = async (ids) => (await search(`query($in: [ID!]) { transactions(bundledIn: $in, first: 50) { ${fields} } }`, { in: ids }));
assert.deepEqual((await within([carrier.id])).map(({ id }) => id).sort(), [nested.id, manifest.id, big.id].sort());
assert.deepEqual(await within([nested.id]), [{ id: page.id, bundledIn: { id: nested.id }, parent: { id: nested.id } }]);
const [kind] = await search(`{ transactions(tags: [{ name: "Kind", values: ["page"] }], owners: ["${address}"]) { ${fields} } }`);
assert.equal(kind.id, page.id);
console.log('ok GraphQL says what lies where');

const forged = await arweave.createTransaction({ data: 'x' }, jwk);
await arweave.transactions.sign(forged, jwk);
forged.reward = '7';
assert.equal((await arweave.api.post('tx', forged)).status, 400);
assert.equal((await at(`tx/${forged.id}`)).status, 404);
console.log('ok a forged transaction is refused');
