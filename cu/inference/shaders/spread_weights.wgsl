// Weights of a slab as bytes, in tiles for `multiply.wgsl`: spec/inference.md, "Weights" and "Products".
// A weight of two bytes is 256 * high + (low + 128), one of three 65536 * top + 256 * (middle + 128) + (low + 128), all
// signed bytes: the bits of two's complement with the upper bit of each lower byte flipped. `finish.wgsl` adds the 128s.
// A tile's step is its bytes of the lowest unit, TILE_ROWS by STEP, then those of the next.
var<private> WG: u32 = 0x57470001u;
var<private> WIDTH: u32 = 0x57470004u;
var<private> TILE_ROWS: u32 = 0x57470007u;
var<private> STEP: u32 = 0x57470009u; // columns
var<private> BYTES: u32 = 0x5747000au; // of a weight: 2 or 3
// `rows` from row `first` of the slab; `count` words of four columns, those of rows that fill the last tile included.
struct Args { blocks: u32, rows: u32, first: u32, offsets: u32, count: u32 }
@group(0) @binding(0) var<storage, read> codes: array<u32>;
@group(0) @binding(1) var<storage, read> scales: array<u32>;
@group(0) @binding(2) var<storage, read_write> tiles: array<u32>;
var<immediate> args: Args;

// Signed 16-bit number i of a section that starts at a word.
fn half(word: u32, i: u32) -> i32 { return i32(scales[word + (i >> 1u)] << (16u - 16u * (i & 1u))) >> 16u; }

// Code k of word `word` of a block.
fn code(block: u32, word: u32, k: u32) -> i32 {
  if (WIDTH == 4u) {
    return i32((codes[block * 4u + (word & 3u)] >> (8u * k + 4u * (word >> 2u))) & 15u) - 8;
  }
  return i32(codes[block * 8u + word] << (24u - 8u * k)) >> 24u;
}

fn multiplier(block: u32, word: u32) -> i32 {
  if (WIDTH == 6u) { return half(0u, 2u * block + (word >> 2u)); }
  return half(0u, block);
}

@compute @workgroup_size(1)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let words = args.blocks * 8u;
  let stride = STEP / 4u;
  for (var i = id.x; i < args.count; i += groups.x * WG) {
    let row = i / words;
    let column = i % words;
    // Rows that only fill the last tile repeat the last row; nobody reads their sums.
    let block = (args.first + min(row, args.rows - 1u)) * args.blocks + column / 8u;
    let by = multiplier(block, column & 7u);
    var offset = 0;
    if (args.offsets != 0u) { offset = half(args.offsets, block); }
    var low = 0u;
    var middle = 0u;
    var top = 0u;
    for (var k = 0u; k < 4u; k++) {
      let w = u32(by * code(block, column & 7u, k) - offset);
      low |= (w & 255u) << (8u * k);
      middle |= ((w >> 8u) & 255u) << (8u * k);
      top |= ((w >> 16u) & 255u) << (8u * k);
    }
    let plane = TILE_ROWS * stride;
    let step = (row / TILE_ROWS) * (words / stride) + column / stride;
    let at = step * BYTES * plane + (row % TILE_ROWS) * stride + column % stride;
    tiles[at] = low ^ 0x80808080u;
    if (BYTES == 3u) {
      tiles[at + plane] = middle ^ 0x80808080u;
      tiles[at + 2u * plane] = top;
    } else {
      tiles[at + plane] = middle;
    }
  }
}
