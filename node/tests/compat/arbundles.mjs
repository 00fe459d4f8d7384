// arbundles as judge of data items: standard input is a sequence of (length u32 LE, bytes); for each, one line:
// the id if it accepts the item, `-` and a reason if not.
import { readFileSync, writeSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { DataItem } from '@dha-team/arbundles';

// It explains each refusal of a key at length.
console.warn = () => {};
const input = readFileSync(0);
let lines = [];
const flush = () => {
  writeSync(1, lines.join(''));
  lines = [];
};

const judge = async (bytes) => {
  try {
    if (!(await DataItem.verify(bytes))) return '- false';
    return createHash('sha256').update(new DataItem(bytes).rawSignature).digest('base64url');
  } catch (error) {
    return `- ${String(error.message).split('\n')[0]}`;
  }
};

for (let at = 0; at < input.length; ) {
  const length = input.readUInt32LE(at);
  lines.push(`${await judge(input.subarray(at + 4, at + 4 + length))}\n`);
  at += 4 + length;
  if (lines.length >= 1000) flush();
}
flush();
