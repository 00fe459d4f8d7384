// What both phases of attention share: the query's codes, where a position is, its score: spec/inference.md, "Attention".
var<private> WIDE: u32 = 0x57470005u; // 1 for A16
struct Args {
  heads: u32, group: u32, dim: u32, pages: u32, stride: u32, spans: u32,
  scale: f32, cap: f32, inverse: f32,
}
@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> scales: array<f32>;
@group(0) @binding(3) var<storage, read> batch: array<u32>;
// Per row and head: key of the top score, bits of the largest scale of values, sum of weights, spare; then the sums of
// weighted values as a high and a low word for each number.
@group(0) @binding(4) var<storage, read_write> sums: array<atomic<u32>>;
var<immediate> args: Args;
var<workgroup> high: array<u32, 128>;
var<workgroup> low: array<u32, 128>;

fn words() -> u32 { return (args.dim + 3u) >> 2u; }

fn record(here: Here) -> u32 { return (here.group.z * args.heads + here.group.y) * (4u + 2u * args.dim); }

// Quantises this head's query into shared memory and gives what one of its units counts in scores.
fn query(here: Here) -> f32 {
  let base = (here.group.z * args.heads + here.group.y) * args.dim;
  var most = 0u;
  for (var i = here.local.x; i < args.dim; i += WG) { most = max(most, size(q[base + i])); }
  most = group_max(here, most);
  var unit = unit8(most);
  if (WIDE == 1u) { unit = unit16(most); }
  for (var i = here.local.x; i < words(); i += WG) {
    var h = 0u;
    var l = 0u;
    for (var k = 0u; k < 4u && i * 4u + k < args.dim; k++) {
      let c = code(q[base + i * 4u + k], pow2(-unit));
      l |= (u32(c) & 255u) << (8u * k);
      h |= (u32((c + 128) >> 8u) & 255u) << (8u * k);
    }
    high[i] = h;
    low[i] = l;
  }
  workgroupBarrier();
  return product(pow2(unit), args.scale);
}

// The index of the cached vector of a position.
fn vector_at(here: Here, position: u32) -> u32 {
  let page = batch[args.pages + batch[here.group.z * 4u] * args.stride + (position >> 5u)];
  return (page * (args.heads / args.group) + here.group.y / args.group) * 32u + (position & 31u);
}

fn score(at: u32, step: f32) -> f32 {
  var sum = 0;
  for (var i = 0u; i < words(); i++) {
    let k = keys[at * words() + i];
    sum += dot4I8Packed(low[i], k);
    if (WIDE == 1u) { sum += 256 * dot4I8Packed(high[i], k); }
  }
  let s = product(product(real(sum), scales[2u * at]), step);
  if (args.cap == 0.0) { return s; }
  return soft_cap(s, args.cap, args.inverse);
}
