// arweave-js and arbundles read back, from ArLocal, the bundles that a node of ours posted there. Argument: a file with {"url",
// "items": [{"id", "data", "tags"}]} as JSON. Prints `ok ...` per thing shown.
import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import Arweave from 'arweave';
import { unbundleData } from '@dha-team/arbundles';

const given = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { hostname, port } = new URL(given.url);
const arweave = Arweave.init({ host: hostname, port, protocol: 'http' });
const search = async (query, variables) => {
  const headers = { 'content-type': 'application/json' };
  const body = JSON.stringify({ query, variables });
  const answer = await (await fetch(`${given.url}/graphql`, { method: 'POST', headers, body })).json();
  assert.equal(answer.errors, undefined, JSON.stringify(answer));
  return answer.data.transactions.edges.map(({ node }) => node);
};

const carriers = await search(`{ transactions(first: 100, tags: [
  { name: "Data-Protocol", values: ["Weft"] }, { name: "Type", values: ["Carrier"] } ]) {
  edges { node { id tags { name value } } } } }`);
assert.ok(carriers.length > 0);
const found = new Map();
for (const { id } of carriers) {
  const transaction = await arweave.transactions.get(id);
  assert.ok(await arweave.transactions.verify(transaction), `${id} verifies`);
  const bundle = unbundleData(Buffer.from(await arweave.transactions.getData(id, { decode: true })));
  assert.ok(await bundle.verify(), `the bundle in ${id} verifies`);
  for (const item of bundle.items) {
    assert.ok(await item.isValid(), `${item.id} verifies`);
    found.set(item.id, item);
  }
}
console.log(`ok ${carriers.length} carriers verify, with ${found.size} items`);

for (const { id, data, tags } of given.items) {
  const item = found.get(id);
  assert.ok(item, `${id} lies in a bundle`);
  assert.equal(item.rawData.toString(), data);
  assert.deepEqual(item.tags.filter(({ name }) => tags[name]).map(({ name, value }) => [name, value]), Object.entries(tags));
}
console.log(`ok ${given.items.length} items are what was sent`);

for (const { id, data } of given.items) {
  const answer = await fetch(`${given.url}/${id}`);
  assert.equal(answer.status, 200, id);
  assert.equal(await answer.text(), data);
}
const ids = given.items.map(({ id }) => id).slice(0, 50);
const listed = await search('query($ids: [ID!]) { transactions(ids: $ids, first: 100) { edges { node { id owner { address } } } } }', { ids });
assert.deepEqual(listed.map(({ id }) => id).sort(), [...ids].sort());
console.log(`ok ${given.items.length} items are served and listed one by one`);
