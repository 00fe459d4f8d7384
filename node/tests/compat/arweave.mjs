// arweave-js as reader and writer of base-layer transactions: trees and proofs for many sizes, one signed
// transaction of its own, and its word on one of ours (argument 2, a file). Prints one JSON line per result.
import { readFileSync } from 'node:fs';
import Arweave from 'arweave';
import { generateTransactionChunks } from 'arweave/node/lib/merkle.js';

const [jwkFile, oursFile] = process.argv.slice(2);
const arweave = Arweave.init({});
const jwk = JSON.parse(readFileSync(jwkFile, 'utf8'));
const print = (value) => console.log(JSON.stringify(value));
const hex = (bytes) => Buffer.from(bytes).toString('hex');

const dataOf = (length) => {
  const data = new Uint8Array(length);
  for (let i = 0; i < length; i += 1) data[i] = (i * 31 + (i >> 9)) & 255;
  return data;
};

const KIB = 1024;
const sizes = new Set([0, 1, 2 * 1024 * KIB]);
for (let chunk = 1; chunk <= 8; chunk += 1) {
  for (const around of [0, 32 * KIB, -32 * KIB, 16 * KIB]) {
    for (const step of [-1, 0, 1]) sizes.add(chunk * 256 * KIB + around + step);
  }
}
for (const length of sizes) {
  const { data_root: root, proofs } = await generateTransactionChunks(dataOf(length));
  print({
    length,
    root: hex(root),
    proofs: proofs.map(({ offset, proof }) => ({ offset, proof: hex(proof) })),
  });
}

const signed = await arweave.createTransaction({ data: dataOf(300 * KIB), last_tx: 'AAAA', reward: '12345' }, jwk);
signed.addTag('Content-Type', 'text/plain');
signed.addTag('Ünï', '');
await arweave.transactions.sign(signed, jwk);
print({ signed: signed.toJSON() });

const ours = arweave.transactions.fromRaw(JSON.parse(readFileSync(oursFile, 'utf8')));
print({ verified: await arweave.transactions.verify(ours) });
