// Quantised rows as bytes, in pairs of tiles for `multiply.wgsl`, one workgroup a row: spec/inference.md, "Activations".
// A number is 256 * high + low, both signed bytes. A pair's step is the low bytes of its first tile, TILE_TOKENS by STEP, then
// the high ones, then the same of its second tile.
var<private> WIDE: u32 = 0x57470005u; // 1 for A16
var<private> TILE_TOKENS: u32 = 0x57470008u;
var<private> STEP: u32 = 0x57470009u; // columns
struct Args { blocks: u32, tokens: u32 }
@group(0) @binding(0) var<storage, read> high: array<u32>;
@group(0) @binding(1) var<storage, read> low: array<u32>;
@group(0) @binding(2) var<storage, read> facts: array<i32>;
@group(0) @binding(3) var<storage, read_write> tiles: array<u32>;
// The sum of each row's numbers: below 2^31, for they are at most 2^16 and each at most 32639.
@group(0) @binding(4) var<storage, read_write> totals: array<u32>;
var<immediate> args: Args;

@compute @workgroup_size(1)
fn main(here: Here) {
  let row = here.group.x;
  // Rows that only fill the last pair repeat the last row; nobody reads their sums.
  let token = min(row, args.tokens - 1u);
  let base = token * (1u + 2u * args.blocks) + 1u;
  let words = args.blocks * 8u;
  let stride = STEP / 4u;
  let plane = TILE_TOKENS * stride;
  for (var i = here.local.x; i < words; i += WG) {
    var l = low[token * words + i];
    var h = 0u;
    if (WIDE == 1u) {
      h = high[token * words + i];
    } else {
      let shift = u32(facts[base + 2u * (i / 8u) + 1u]);
      let codes = l;
      l = 0u;
      for (var k = 0u; k < 4u; k++) {
        let c = (i32(codes << (24u - 8u * k)) >> 24u) << shift;
        l |= (u32(c) & 255u) << (8u * k);
        h |= (u32((c + 128) >> 8u) & 255u) << (8u * k);
      }
    }
    let tile = row / TILE_TOKENS;
    let step = (tile / 2u) * (words / stride) + i / stride;
    let at = (step * 4u + (tile % 2u) * 2u) * plane + (row % TILE_TOKENS) * stride + i % stride;
    tiles[at] = l;
    tiles[at + plane] = h;
  }
  var sum = 0u;
  for (var b = here.local.x; b < args.blocks; b += WG) { sum += u32(facts[base + 2u * b]); }
  sum = group_sum(here, sum);
  if (here.local.x == 0u) { totals[row] = sum; }
}
