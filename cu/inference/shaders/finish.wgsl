// Outputs from the sums of `multiply.wgsl`: spec/inference.md, "Products".
var<private> WG: u32 = 0x57470001u;
var<private> TILE_ROWS: u32 = 0x57470007u;
var<private> TILE_TOKENS: u32 = 0x57470008u;
var<private> BYTES: u32 = 0x5747000au; // of a weight: 2 or 3
// `rows` from row `first` of a slab, of whose `columns` outputs `column` is the first; `stride` words of facts per token.
struct Args {
  rows: u32, tokens: u32, columns: u32, column: u32,
  exponents: u32, biased: u32, stride: u32, row_tiles: u32,
}
@group(0) @binding(0) var<storage, read> sums: array<i32>;
@group(0) @binding(1) var<storage, read> totals: array<i32>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;
@group(0) @binding(3) var<storage, read> facts: array<i32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
var<immediate> args: Args;

// The exact sum of weights times numbers as upper * 2^24 + lower.
fn exact(row: u32, token: u32) -> vec2<i32> {
  let size = TILE_ROWS * TILE_TOKENS;
  let tile = (token / TILE_TOKENS) * args.row_tiles + row / TILE_ROWS;
  let at = tile * 4u * size + (token % TILE_TOKENS) * TILE_ROWS + row % TILE_ROWS;
  // A carry is below 2^23, which 2^16 * (128 * 128 + 128 * 127) leaves room for.
  let ones = sums[at];
  let middle = sums[at + size] + (ones >> 8u);
  let high = sums[at + 2u * size] + (middle >> 8u);
  var upper = sums[at + 3u * size] + (high >> 8u);
  var lower = (ones & 255) | ((middle & 255) << 8u) | ((high & 255) << 16u);
  // 128 too little in the lowest byte of each weight, and in the middle one of three.
  let total = totals[token];
  upper += total >> 17u;
  lower += (total & 0x1ffff) << 7u;
  if (BYTES == 3u) {
    upper += total >> 9u;
    lower += (total & 0x1ff) << 15u;
  }
  return vec2<i32>(upper + (lower >> 24u), lower & 0xffffff);
}

@compute @workgroup_size(1)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  for (var i = id.x; i < args.rows * args.tokens; i += groups.x * WG) {
    let row = i % args.rows;
    let token = i / args.rows;
    let sum = exact(row, token);
    let unit = facts[token * args.stride] + i32(scales[args.exponents + row]);
    var v = product(add(mul(real(sum.x), 16777216.0), real(sum.y)), pow2(unit));
    let column = args.column + row;
    if (args.biased == 1u) { v = canon(add(v, bias[column])); }
    y[token * args.columns + column] = v;
  }
}
