// Matrix times quantised rows, a team for each matrix row and tile of TOKENS rows: spec/inference.md, "Products".
var<private> TOKENS: u32 = 0x57470003u; // to 8
var<private> WIDTH: u32 = 0x57470004u;
var<private> WIDE: u32 = 0x57470005u; // 1 for A16
// `rows` of this slab of the matrix, of whose `columns` outputs `column` is the first; `offsets` and `exponents` are word
// indices into scales, `offsets` 0 where there are none.
struct Args {
  blocks: u32, rows: u32, tokens: u32, columns: u32, column: u32,
  offsets: u32, exponents: u32, biased: u32,
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

// high * 2^20 + low, with 0 <= low < 2^20.
struct Sum { high: i32, low: i32 }

// The sum and a * b, for |a| < 2^27 and |b| < 2^15.
fn plus(s: Sum, a: i32, b: i32) -> Sum {
  let upper = (a >> 12u) * b;
  let low = s.low + (a & 4095) * b + ((upper & 255) << 12u);
  return Sum(s.high + (upper >> 8u) + (low >> 20u), low & 0xfffff);
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

// The sum and a block's term; `fact` is where its activations' sum and shift stand.
fn term(s: Sum, w: Block, x: u32, fact: u32) -> Sum {
  var c = dot16(w.a, low[2u * x]);
  var d = dot16(w.b, low[2u * x + 1u]);
  if (WIDE == 1u) {
    c += 256 * dot16(w.a, high[2u * x]);
    d += 256 * dot16(w.b, high[2u * x + 1u]);
  } else {
    let shift = u32(facts[fact + 1u]);
    c = c << shift;
    d = d << shift;
  }
  if (WIDTH == 6u) { return plus(plus(s, c, w.m), d, w.n); }
  var all = c + d;
  if (WIDTH == 4u) { all -= 8 * facts[fact]; }
  let t = plus(s, all, w.m);
  if (args.offsets == 0u) { return t; }
  return plus(t, -facts[fact], w.offset);
}

@compute @workgroup_size(1)
fn main(here: Here) {
  // Rows and tokens beyond the end repeat the last, so that everybody meets at the barriers.
  let row = min(row_of(here), args.rows - 1u);
  let first = here.group.y * TOKENS;
  let stride = 1u + 2u * args.blocks;
  var sums: array<Sum, 8>;
  for (var b = lane(here); b < args.blocks; b += lanes(here)) {
    let w = load(row * args.blocks + b);
    for (var t = 0u; t < TOKENS; t++) {
      let token = min(first + t, args.tokens - 1u);
      sums[t] = term(sums[t], w, token * args.blocks + b, token * stride + 1u + 2u * b);
    }
  }
  for (var t = 0u; t < TOKENS; t++) {
    let low = team_sum(here, sums[t].low);
    let high = team_sum(here, sums[t].high) + (low >> 20u);
    let token = min(first + t, args.tokens - 1u);
    if (lane(here) == 0u) {
      let unit = facts[token * stride] + i32(scales[args.exponents + row]);
      let lower = ((high & 15) << 20u) | (low & 0xfffff);
      var v = product(add(mul(real(high >> 4u), 16777216.0), real(lower)), pow2(unit));
      if (args.biased == 1u) { v = canon(add(v, bias[args.column + row])); }
      y[token * args.columns + args.column + row] = v;
    }
  }
}
