// A tile of weights times a pair of tiles of tokens by cooperative matrices, one subgroup each: the sums over all columns of
// products of bytes, in units of 1, 2^8, 2^16 and 2^24.
//
// WGSL's cooperative matrices are floats of 8 by 8 or 16 by 16. These stand for signed bytes (A and B) and signed words (C, and
// the words of `sums`), of TILE_ROWS, TILE_TOKENS and STEP: `tests/shaders/cooperative.rs` says so in the module.
// No sum leaves 32 bits: at most 2^16 columns, each of a product of up to 128 * 128 and one of up to 128 * 127, for the high
// byte of a number to 32639 is above -128.
enable wgpu_cooperative_matrix;

var<private> TILE_ROWS: u32 = 0x57470007u;
var<private> TILE_TOKENS: u32 = 0x57470008u;
var<private> STEP: u32 = 0x57470009u; // columns
// `bytes` of a weight: 2 or 3. An argument, for only then naga knows that all of a subgroup go the same way.
struct Args { steps: u32, row_tiles: u32, bytes: u32 }
// As `spread_weights.wgsl` and `spread_tokens.wgsl` leave them.
@group(0) @binding(0) var<storage, read> weights: array<u32>;
@group(0) @binding(1) var<storage, read> tokens: array<u32>;
// Per tile of tokens and tile of rows, per unit: tokens of TILE_ROWS sums.
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;
var<immediate> args: Args;

// A function, for naga wants what it stores named.
fn put(c: coop_mat8x8<f32, C>, at: u32, stride: u32) { coopStore(c, &sums[at], stride); }

@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) group: vec3<u32>) {
  let stride = STEP / 4u;
  let row_plane = TILE_ROWS * stride;
  let token_plane = TILE_TOKENS * stride;
  var w = group.x * args.steps * args.bytes * row_plane;
  var x = group.y * args.steps * 4u * token_plane;
  // Two tiles of tokens, in units of 1, 2^8, 2^16, 2^24.
  var a0: coop_mat8x8<f32, C>;
  var a1: coop_mat8x8<f32, C>;
  var a2: coop_mat8x8<f32, C>;
  var a3: coop_mat8x8<f32, C>;
  var b0: coop_mat8x8<f32, C>;
  var b1: coop_mat8x8<f32, C>;
  var b2: coop_mat8x8<f32, C>;
  var b3: coop_mat8x8<f32, C>;
  for (var step = 0u; step < args.steps; step++) {
    let a_low = coopLoad<coop_mat8x8<f32, B>>(&tokens[x], stride);
    let a_high = coopLoad<coop_mat8x8<f32, B>>(&tokens[x + token_plane], stride);
    let b_low = coopLoad<coop_mat8x8<f32, B>>(&tokens[x + 2u * token_plane], stride);
    let b_high = coopLoad<coop_mat8x8<f32, B>>(&tokens[x + 3u * token_plane], stride);
    let low = coopLoadT<coop_mat8x8<f32, A>>(&weights[w], stride);
    a0 = coopMultiplyAdd(low, a_low, a0);
    b0 = coopMultiplyAdd(low, b_low, b0);
    a1 = coopMultiplyAdd(low, a_high, a1);
    b1 = coopMultiplyAdd(low, b_high, b1);
    let middle = coopLoadT<coop_mat8x8<f32, A>>(&weights[w + row_plane], stride);
    a1 = coopMultiplyAdd(middle, a_low, a1);
    b1 = coopMultiplyAdd(middle, b_low, b1);
    a2 = coopMultiplyAdd(middle, a_high, a2);
    b2 = coopMultiplyAdd(middle, b_high, b2);
    if (args.bytes == 3u) {
      let top = coopLoadT<coop_mat8x8<f32, A>>(&weights[w + 2u * row_plane], stride);
      a2 = coopMultiplyAdd(top, a_low, a2);
      b2 = coopMultiplyAdd(top, b_low, b2);
      a3 = coopMultiplyAdd(top, a_high, a3);
      b3 = coopMultiplyAdd(top, b_high, b3);
    }
    w += args.bytes * row_plane;
    x += 4u * token_plane;
  }
  let down = TILE_ROWS;
  let size = down * TILE_TOKENS;
  let a = (2u * group.y * args.row_tiles + group.x) * 4u * size;
  let b = a + args.row_tiles * 4u * size;
  put(a0, a, down);
  put(a1, a + size, down);
  put(a2, a + 2u * size, down);
  put(a3, a + 3u * size, down);
  put(b0, b, down);
  put(b1, b + size, down);
  put(b2, b + 2u * size, down);
  put(b3, b + 3u * size, down);
  // Never: there are steps. vulkano learns from ordinary loads and stores which buffers a kernel reads and writes, and
  // sets barriers by that; it does not see those of cooperative matrices.
  if (args.steps == 0u) { sums[weights[0] + tokens[0]] = 0.0; }
}
