// Matrix times quantised rows, a team for each matrix row and tile of TOKENS rows: spec/inference.md, "Products".
var<private> TOKENS: u32 = 0x57470003u; // to 8
var<private> WIDTH: u32 = 0x57470004u;
var<private> WIDE: u32 = 0x57470005u; // 1 for A16
// `rows` of this slab of the matrix, of whose `columns` outputs `column` is the first; `offsets` and `exponents` are word
// indices into scales, `offsets` 0 where there are none.
struct Args {
  blocks: u32, rows: u32, tokens: u32, columns: u32, column: u32,
  offsets: u32, exponents: u32, exponent: i32, biased: u32,
}
@group(0) @binding(0) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> scales: array<u32>;
@group(0) @binding(2) var<storage, read> high: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> low: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> facts: array<i32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
var<immediate> args: Args;

struct Block { a: vec4<u32>, b: vec4<u32>, m: i32, n: i32, offset: i32 }

fn dot16(w: vec4<u32>, x: vec4<u32>) -> i32 {
  return dot4I8Packed(w.x, x.x) + dot4I8Packed(w.y, x.y) + dot4I8Packed(w.z, x.z) + dot4I8Packed(w.w, x.w);
}

// Signed 16-bit number i of a section that starts at a word.
fn half(word: u32, i: u32) -> i32 { return i32(scales[word + (i >> 1u)] << (16u - 16u * (i & 1u))) >> 16u; }

fn rounded(n: i32) -> i32 {
  if (WIDE == 0u) { return n; }
  if (WIDTH == 8u) { return (n + 128) >> 8u; }
  if (WIDTH == 6u) { return (n + 64) >> 7u; }
  if (WIDTH == 5u) { return (n + 32) >> 6u; }
  return (n + 16) >> 5u;
}

fn load(block: u32) -> Block {
  var w: Block;
  if (WIDTH == 4u) {
    let n = codes[block];
    w.a = n & vec4<u32>(0x0f0f0f0fu);
    w.b = (n >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu);
  } else {
    w.a = codes[2u * block];
    w.b = codes[2u * block + 1u];
  }
  if (WIDTH == 6u) {
    w.m = half(0u, 2u * block);
    w.n = half(0u, 2u * block + 1u);
  } else {
    w.m = half(0u, block);
  }
  if (args.offsets != 0u) { w.offset = half(args.offsets, block); }
  return w;
}

fn term(w: Block, x: u32, sum: i32) -> i32 {
  var c = dot16(w.a, low[2u * x]);
  var d = dot16(w.b, low[2u * x + 1u]);
  if (WIDE == 1u) {
    c += 256 * dot16(w.a, high[2u * x]);
    d += 256 * dot16(w.b, high[2u * x + 1u]);
  }
  if (WIDTH == 6u) { return rounded(c) * w.m + rounded(d) * w.n; }
  var all = c + d;
  if (WIDTH == 4u) { all -= 8 * sum; }
  var t = rounded(all) * w.m;
  if (args.offsets != 0u) { t -= rounded(sum) * w.offset; }
  return t;
}

@compute @workgroup_size(1)
fn main(here: Here) {
  // Rows and tokens beyond the end repeat the last, so that everybody meets at the barriers.
  let row = min(row_of(here), args.rows - 1u);
  let first = here.group.y * TOKENS;
  let stride = 1u + 2u * args.blocks;
  var sums: array<i32, 8>;
  for (var b = lane(here); b < args.blocks; b += lanes(here)) {
    let w = load(row * args.blocks + b);
    for (var t = 0u; t < TOKENS; t++) {
      let token = min(first + t, args.tokens - 1u);
      let fact = token * stride + 1u + 2u * b;
      sums[t] += term(w, token * args.blocks + b, facts[fact]) >> u32(facts[fact + 1u]);
    }
  }
  for (var t = 0u; t < TOKENS; t++) {
    let sum = team_sum(here, sums[t]) + i32(args.blocks >> 1u);
    let token = min(first + t, args.tokens - 1u);
    if (lane(here) == 0u) {
      let unit = args.exponent + facts[token * stride] + i32(scales[args.exponents + row]);
      var v = product(real(sum), pow2(unit));
      if (args.biased == 1u) { v = canon(add(v, bias[args.column + row])); }
      y[token * args.columns + args.column + row] = v;
    }
  }
}
