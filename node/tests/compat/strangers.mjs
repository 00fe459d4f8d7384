// What arweave-js and arbundles can post to our gateway beyond the ordinary: every kind of signature, odd tags, bundles in
// bundles, chunks in any order, manifests, ranges over chunks, conditions, GraphQL by blocks and pages. Argument: a file
// with {"url", "wallet" (a file)} as JSON. Prints `ok ...` per thing shown.
import { readFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import assert from 'node:assert/strict';
import Arweave from 'arweave';
import {
  ArweaveSigner, EthereumSigner, HexSolanaSigner, SolanaSigner, TypedEthereumSigner, bundleAndSignData, createData,
} from '@dha-team/arbundles';

const given = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { hostname, port } = new URL(given.url);
const arweave = Arweave.init({ host: hostname, port, protocol: 'http' });
const jwk = JSON.parse(readFileSync(given.wallet, 'utf8'));
const address = await arweave.wallets.jwkToAddress(jwk);
const arweaveSigner = new ArweaveSigner(jwk);
const dataOf = (length, salt = 0) => Buffer.from(Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 9) + salt) & 255));
const at = (path, headers = {}, method = 'GET') => fetch(`${given.url}/${path}`, { headers, method, redirect: 'manual' });
const graphql = async (query, variables) => {
  const headers = { 'content-type': 'application/json' };
  const body = JSON.stringify({ query, variables });
  return (await fetch(`${given.url}/graphql`, { method: 'POST', headers, body })).json();
};
const search = async (query, variables) => {
  const answer = await graphql(query, variables);
  assert.equal(answer.errors, undefined, JSON.stringify(answer));
  return answer.data.transactions;
};
const nodes = (found) => found.edges.map(({ node }) => node);
const post = (item) => fetch(`${given.url}/tx`, {
  method: 'POST', headers: { 'content-type': 'application/octet-stream' }, body: item.getRaw(),
});
const make = async (data, options = {}, signer = arweaveSigner) => {
  const made = createData(data, signer, options);
  await made.sign(signer);
  return made;
};
const pairs = (tags) => Object.entries(tags).map(([name, value]) => ({ name, value }));
const send = async (transaction) => {
  await arweave.transactions.sign(transaction, jwk);
  const uploader = await arweave.transactions.getUploader(transaction);
  while (!uploader.isComplete) await uploader.uploadChunk();
};

// 1. Every kind of signature that arbundles writes.
const { default: bs58 } = await import('bs58');
const { default: nacl } = await import('tweetnacl');
const solanaKey = bs58.encode(Buffer.from(nacl.sign.keyPair.fromSeed(randomBytes(32)).secretKey));
const target = randomBytes(32).toString('base64url');
const ethereumKey = randomBytes(32).toString('hex');
const signers = {
  1: arweaveSigner,
  2: new SolanaSigner(solanaKey),
  3: new EthereumSigner(ethereumKey),
  4: new HexSolanaSigner(solanaKey),
  7: new TypedEthereumSigner(ethereumKey),
};
for (const [type, signer] of Object.entries(signers)) {
  const item = await make(`type ${type}`, { tags: pairs({ 'Content-Type': 'text/plain', Kind: `type-${type}` }), anchor: 'a'.repeat(32), target }, signer);
  assert.equal(item.signatureType, Number(type));
  const answer = await post(item);
  assert.equal(answer.status, 200, `type ${type}: ${await answer.clone().text()}`);
  assert.equal((await answer.json()).id, item.id);
  const back = await at(item.id);
  assert.equal(await back.text(), `type ${type}`);
  const [node] = nodes(await search(
    'query($ids: [ID!]) { transactions(ids: $ids) { edges { node { id recipient anchor signature owner { address key } tags { name value } } } } }', { ids: [item.id] }));
  assert.equal(node.recipient, target);
  assert.equal(node.owner.key, item.owner);
  assert.equal(node.signature, item.signature);
  assert.deepEqual(node.tags, item.tags);
  const forged = Buffer.from(item.getRaw());
  forged[forged.length - 1] ^= 1;
  assert.equal((await fetch(`${given.url}/tx`, { method: 'POST', body: forged })).status, 400);
}
console.log(`ok items signed by ${Object.keys(signers).length} kinds of keys`);

// 2. Tags at their limits.
const many = Array.from({ length: 128 }, (_, i) => ({ name: `N${i}`, value: `v${i}` }));
const cases = {
  many,
  long: [{ name: 'n'.repeat(1024), value: 'v'.repeat(3060) }],
  words: [{ name: 'Grüße', value: '日本語 🌍 "quoted" \\ \n line' }, { name: 'Content-Type', value: 'text/plain; charset=utf-8' }],
  twice: [{ name: 'Kind', value: 'one' }, { name: 'Kind', value: 'two' }, { name: 'content-type', value: 'image/gif' }, { name: 'Content-Type', value: 'image/png' }],
  none: [],
};
const made = {};
for (const [name, tags] of Object.entries(cases)) {
  made[name] = await make(name === 'none' ? '' : name, { tags });
  const answer = await post(made[name]);
  assert.equal(answer.status, 200, `${name}: ${await answer.clone().text()}`);
  const [node] = nodes(await search('query($ids: [ID!]) { transactions(ids: $ids) { edges { node { tags { name value } data { size type } } } } }', { ids: [made[name].id] }));
  assert.deepEqual(node.tags, tags, name);
}
assert.equal((await at(made.twice.id)).headers.get('content-type'), 'image/gif');
const empty = await at(made.none.id);
assert.deepEqual([empty.status, empty.headers.get('content-length'), empty.headers.get('content-type')], [200, '0', 'application/octet-stream']);
const found = nodes(await search('query($t: [TagFilter!]) { transactions(tags: $t) { edges { node { id } } } }', { t: [{ name: 'Grüße', values: ['x', cases.words[0].value] }] }));
assert.deepEqual(found.map(({ id }) => id), [made.words.id]);
for (const [kind, count] of [['one', 1], ['two', 1], ['three', 0]]) {
  const all = nodes(await search('query($k: String!, $ids: [ID!]) { transactions(ids: $ids, tags: [{ name: "Kind", values: [$k] }]) { edges { node { id } } } }', { k: kind, ids: [made.twice.id] }));
  assert.equal(all.length, count, kind);
}
console.log('ok tags at their limits');

// 3. Chunks in any order, some twice; a bundle whose header comes first and whose chunks come last to first.
const chunked = async (data, tags) => {
  const sent = await arweave.createTransaction({ data }, jwk);
  for (const { name, value } of pairs(tags)) sent.addTag(name, value);
  await arweave.transactions.sign(sent, jwk);
  const head = { ...sent.toJSON(), data: '' };
  assert.equal((await arweave.api.post('tx', head)).status, 200);
  assert.equal((await arweave.api.post('tx', head)).status, 208);
  const order = sent.chunks.chunks.map((_, i) => i).filter((i) => sent.chunks.chunks[i].maxByteRange > sent.chunks.chunks[i].minByteRange).reverse();
  const pending = await at(sent.id);
  assert.equal(pending.status, 404, 'no data yet');
  for (const i of order) {
    const chunk = sent.getChunk(i, data);
    for (const wrong of [{ ...chunk, chunk: Buffer.from('no').toString('base64url') }, { ...chunk, data_root: 'A'.repeat(43) }, { ...chunk, data_size: 7 }]) {
      assert.equal((await arweave.api.post('chunk', wrong)).status, 400);
    }
    assert.equal((await arweave.api.post('chunk', chunk)).status, 200);
    assert.equal((await arweave.api.post('chunk', chunk)).status, 200);
  }
  return sent;
};
const long = dataOf(5 * 256 * 1024 + 77);
const sent = await chunked(long, { 'Content-Type': 'video/mp4' });
assert.deepEqual(Buffer.from(await (await at(sent.id)).arrayBuffer()), long);
const boundary = 256 * 1024;
for (const [from, to] of [[boundary - 3, boundary + 3], [0, 0], [2 * boundary - 1, 4 * boundary + 1], [long.length - 1, long.length - 1]]) {
  const part = await at(sent.id, { range: `bytes=${from}-${to}` });
  assert.equal(part.status, 206);
  assert.equal(part.headers.get('content-range'), `bytes ${from}-${to}/${long.length}`);
  assert.deepEqual(Buffer.from(await part.arrayBuffer()), long.subarray(from, to + 1));
}
const suffix = await at(sent.id, { range: 'bytes=-5' });
assert.deepEqual(Buffer.from(await suffix.arrayBuffer()), long.subarray(-5));
const open = await at(sent.id, { range: `bytes=${long.length - 2}-` });
assert.deepEqual(Buffer.from(await open.arrayBuffer()), long.subarray(-2));
assert.equal((await at(sent.id, { range: `bytes=${long.length}-` })).status, 416);
assert.equal((await at(sent.id, { range: 'bytes=5-2' })).status, 400);
assert.deepEqual(Buffer.from(await arweave.chunks.downloadChunkedData(sent.id)), long);
const textual = await at(`tx/${sent.id}/data`);
assert.equal(await textual.text(), long.toString('base64url'));
const named = await at(`tx/${sent.id}/data.mp4`, { range: 'bytes=0-9' });
assert.deepEqual([named.status, named.headers.get('content-type')], [206, 'video/mp4']);
assert.deepEqual(Buffer.from(await named.arrayBuffer()), long.subarray(0, 10));
console.log('ok chunks in any order, ranges over them');

// 4. HEAD and conditions.
const head = await at(sent.id, {}, 'HEAD');
assert.deepEqual([head.status, head.headers.get('content-length'), head.headers.get('content-type'), (await head.arrayBuffer()).byteLength],
  [200, `${long.length}`, 'video/mp4', 0]);
const etag = head.headers.get('etag');
assert.ok(etag);
assert.equal((await at(sent.id, { 'if-none-match': etag })).status, 304);
assert.equal((await at(sent.id, { 'if-none-match': '"other"' })).status, 200);
assert.equal((await at(sent.id, { range: 'bytes=0-1', 'if-range': etag })).status, 206);
assert.equal((await at(sent.id, { range: 'bytes=0-1', 'if-range': '"other"' })).status, 200);
assert.equal((await at(`raw/${sent.id}`, {}, 'HEAD')).status, 200);
assert.equal((await at('A'.repeat(43), {}, 'HEAD')).status, 404);
console.log('ok HEAD and conditions');

// 5. Bundles in bundles in bundles; a broken item among good ones.
const leaf = await make('leaf', { tags: pairs({ Kind: 'leaf', 'Content-Type': 'text/plain' }) });
let wrapped = leaf;
const levels = [];
for (let level = 0; level < 3; level++) {
  const bundle = await bundleAndSignData([wrapped, await make(`beside ${level}`)], arweaveSigner);
  wrapped = await make(bundle.getRaw(), { tags: pairs({ 'Bundle-Format': 'binary', 'Bundle-Version': '2.0.0' }) });
  levels.push(wrapped.id);
}
const whole = await bundleAndSignData([wrapped], arweaveSigner);
const carrier = await chunked(Buffer.concat([whole.getRaw()]), { 'Bundle-Format': 'binary', 'Bundle-Version': '2.0.0' });
assert.equal(await (await at(leaf.id)).text(), 'leaf');
const inBundle = async (id) => nodes(await search('query($ids: [ID!]) { transactions(ids: $ids) { edges { node { id bundledIn { id } } } } }', { ids: [id] }))[0].bundledIn;
assert.deepEqual(await inBundle(leaf.id), { id: levels[0] });
assert.deepEqual(await inBundle(levels[0]), { id: levels[1] });
assert.deepEqual(await inBundle(levels[2]), { id: carrier.id });
const good = await make('good', { tags: pairs({ Kind: 'good' }) });
const bad = await make('bad', { tags: pairs({ Kind: 'bad' }) });
const mixed = Buffer.from((await bundleAndSignData([good, bad], arweaveSigner)).getRaw());
mixed[mixed.length - 1] ^= 1;
await chunked(mixed, { 'Bundle-Format': 'binary', 'Bundle-Version': '2.0.0' });
assert.equal((await at(bad.id)).status, 404, 'a broken item is not served');
assert.equal((await at(good.id)).status, 200, 'the good one beside it is');
const rubbish = await chunked(dataOf(900), { 'Bundle-Format': 'binary', 'Bundle-Version': '2.0.0' });
assert.equal((await at(rubbish.id)).status, 200, 'what calls itself a bundle and is none is data');
console.log('ok bundles in bundles, broken ones');

// 6. Manifests.
const pages = await Promise.all(['index', 'other', 'lost', 'space'].map((data) => make(`<p>${data}</p>`, { tags: pairs({ 'Content-Type': 'text/html' }) })));
for (const page of pages) assert.equal((await post(page)).status, 200);
const [index, other, lost, space] = pages.map(({ id }) => ({ id }));
const publish = async (content) => {
  const item = await make(typeof content === 'string' ? content : JSON.stringify({ manifest: 'arweave/paths', ...content }), { tags: pairs({ 'Content-Type': 'application/x.arweave-manifest+json' }) });
  assert.equal((await post(item)).status, 200);
  return item.id;
};
const expect = async (path, data) => {
  const answer = await at(path);
  const got = await answer.text();
  if (data === null) return assert.equal(answer.status, 404, `${path}: ${got}`);
  assert.equal(answer.status, 200, `${path}: ${got}`);
  assert.equal(answer.headers.get('content-type'), 'text/html');
  assert.equal(got, `<p>${data}</p>`);
};
const paths = { 'index.html': index, 'a/b/other.html': other, 'with space/ü.html': space, 'dir': other };
const full = await publish({ version: '0.2.0', index: { path: 'index.html' }, fallback: lost, paths });
await expect(full, 'index');
await expect(`${full}/`, 'index');
await expect(`${full}/index.html`, 'index');
await expect(`${full}/a/b/other.html`, 'other');
await expect(`${full}/a/b/other.html/`, 'other');
await expect(`${full}/with%20space/%C3%BC.html`, 'space');
await expect(`${full}/dir/`, 'other');
await expect(`${full}/nowhere`, 'lost');
const old = await publish({ version: '0.1.0', index: { path: 'index.html' }, paths });
await expect(old, 'index');
await expect(`${old}/nowhere`, null);
const byId = await publish({ version: '0.2.0', index: { id: other.id }, paths: {} });
await expect(byId, 'other');
const bare = await publish({ version: '0.2.0', paths: { 'index.html': index } });
await expect(`${bare}/index.html`, 'index');
await expect(bare, null);
const dangling = await publish({ version: '0.2.0', index: { path: 'x' }, paths: { x: { id: 'A'.repeat(43) } } });
await expect(dangling, null);
for (const broken of ['{', '[]', '{"manifest":"arweave/paths"}', '{"manifest":"other","version":"0.2.0","paths":{}}', 'null']) {
  const id = await publish(broken);
  assert.equal((await at(id)).status, 404, broken);
  assert.equal(await (await at(`raw/${id}`)).text(), broken);
}
const partOfPage = await at(`${full}/index.html`, { range: 'bytes=3-7' });
assert.equal(await partOfPage.text(), 'index');
const pageHead = await at(`${full}/index.html`, {}, 'HEAD');
assert.deepEqual([pageHead.status, pageHead.headers.get('content-length')], [200, '12']);
const asTransaction = await arweave.createTransaction({ data: JSON.stringify({ manifest: 'arweave/paths', version: '0.2.0', index: { path: 'index.html' }, paths }) }, jwk);
asTransaction.addTag('Content-Type', 'application/x.arweave-manifest+json');
await send(asTransaction);
await expect(asTransaction.id, 'index');
await expect(`${asTransaction.id}/a/b/other.html`, 'other');
console.log('ok manifests with index, fallback, odd paths; broken ones');

// 7. GraphQL: pages, order, blocks, directives, aliases, fragments.
const group = [];
for (let i = 0; i < 7; i++) {
  const item = await make(`page ${i}`, { tags: pairs({ Group: 'pages', Number: `${i}`, Even: `${i % 2 === 0}` }) });
  assert.equal((await post(item)).status, 200);
  group.push(item.id);
}
const walk = async (sort, first) => {
  const seen = [];
  for (let after = null, more = true; more;) {
    const page = await search(`query($first: Int, $after: String) { transactions(tags: [{ name: "Group", values: ["pages"] }], sort: ${sort}, first: $first, after: $after) { pageInfo { hasNextPage } edges { cursor node { id } } } }`, { first, after });
    seen.push(...nodes(page).map(({ id }) => id));
    more = page.pageInfo.hasNextPage;
    after = page.edges.at(-1)?.cursor;
  }
  return seen;
};
for (const first of [1, 2, 3, 7, 100]) {
  assert.deepEqual(await walk('HEIGHT_ASC', first), group, `first ${first}`);
  assert.deepEqual(await walk('HEIGHT_DESC', first), group.toReversed(), `first ${first}`);
}
const count = async (conditions) => nodes(await search(`{ transactions(first: 100, ${conditions}) { edges { node { id } } } }`)).length;
const tag = 'tags: [{ name: "Group", values: ["pages"] }, { name: "Even", values: ["true"] }]';
assert.equal(await count(tag), 4);
assert.equal(await count('tags: [{ name: "Group", values: ["pages"] }, { name: "Number", values: ["1", "2", "99"] }]'), 2);
assert.equal(await count(`owners: ["${address}"], ${tag}`), 4);
assert.equal(await count(`owners: ["${'A'.repeat(43)}"], ${tag}`), 0);
assert.equal(await count(`recipients: ["${target}"]`), Object.keys(signers).length);
const { height } = nodes(await search('query($ids: [ID!]) { transactions(ids: $ids) { edges { node { block { height } } } } }', { ids: [group[0]] }))[0].block;
assert.equal(await count(`block: { min: ${height} }, ${tag}`) >= 1, true);
assert.equal(await count(`block: { max: ${height - 1} }, ${tag}`), 0);
assert.equal(await count(`block: { min: 0, max: 1000000 }, ${tag}`), 4);
const answer = await graphql(`query($short: Boolean!, $ids: [ID!]) {
  a: transactions(ids: $ids) { edges { node { ...facts } } }
  b: transaction(id: "${group[1]}") { id tags { name value } }
  c: transaction(id: "${'A'.repeat(43)}") { id }
}
fragment facts on Transaction { id owner @skip(if: $short) { address } data @include(if: $short) { size } }`, { short: true, ids: [group[0]] });
assert.equal(answer.errors, undefined, JSON.stringify(answer));
assert.deepEqual(answer.data.a.edges, [{ node: { id: group[0], data: { size: '6' } } }]);
assert.equal(answer.data.b.id, group[1]);
assert.equal(answer.data.c, null);
assert.ok((await graphql('{ transactions(first: 1, after: "rubbish") { edges { cursor } } }')).errors);
assert.ok((await graphql('{ nonsense }')).errors);
console.log('ok GraphQL by pages, order, blocks, directives');

// 8. What arweave-js asks of any node.
const info = await arweave.network.getInfo();
const block = await arweave.blocks.getCurrent();
assert.ok(block.height <= info.height + 1 && block.indep_hash);
assert.equal((await arweave.blocks.getByHeight(1)).height, 1);
assert.equal((await arweave.blocks.get((await arweave.blocks.getByHeight(1)).indep_hash)).height, 1);
assert.ok(Array.isArray((await arweave.api.get('peers')).data));
assert.equal((await arweave.api.get('price/abc')).status, 400);
assert.equal((await arweave.api.get('wallet/abc/balance')).status, 400);
assert.equal(await arweave.transactions.getPrice(1000), '0');
console.log('ok what arweave-js asks of a node');
