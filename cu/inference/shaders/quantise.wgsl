// Activations to codes, one workgroup a row: spec/inference.md, "Activations".
// A 16-bit code is stored as high * 256 + low, both signed bytes, so that the packed dot product takes it.
var<private> WIDE: u32 = 0x57470005u; // 1 for A16
struct Args { blocks: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> high: array<u32>;
@group(0) @binding(2) var<storage, read_write> low: array<u32>;
// Per row: its unit, then the sum of codes and the shift of each block.
@group(0) @binding(3) var<storage, read_write> facts: array<i32>;
var<immediate> args: Args;

fn most_of(block: u32) -> u32 {
  var most = 0u;
  for (var k = 0u; k < 32u; k++) { most = max(most, size(x[block * 32u + k])); }
  return most;
}

// The sum of a block's codes before its shift.
fn put(block: u32, scale: f32) -> i32 {
  var sum = 0;
  for (var j = 0u; j < 8u; j++) {
    var h = 0u;
    var l = 0u;
    for (var k = 0u; k < 4u; k++) {
      let c = code(x[block * 32u + j * 4u + k], scale);
      sum += c;
      l |= (u32(c) & 255u) << (8u * k);
      h |= (u32((c + 128) >> 8u) & 255u) << (8u * k);
    }
    low[block * 8u + j] = l;
    if (WIDE == 1u) { high[block * 8u + j] = h; }
  }
  return sum;
}

@compute @workgroup_size(1)
fn main(here: Here) {
  let row = here.group.x;
  let first = row * args.blocks;
  var most = 0u;
  for (var b = here.local.x; b < args.blocks; b += WG) { most = max(most, most_of(first + b)); }
  most = group_max(here, most);
  var unit = unit16(most);
  if (WIDE == 0u) { unit = unit8(most) - 8; }
  let base = row * (1u + 2u * args.blocks);
  if (here.local.x == 0u) { facts[base] = unit; }
  for (var b = here.local.x; b < args.blocks; b += WG) {
    var shift = 0;
    if (WIDE == 0u) { shift = max(unit8(most_of(first + b)) - unit, 0); }
    facts[base + 1u + 2u * b] = put(first + b, pow2(-unit - shift)) << u32(shift);
    facts[base + 2u + 2u * b] = shift;
  }
}
