// RMS norm and layer norm, one workgroup a vector: spec/inference.md, "RMS norm", "Layer norm".
var<private> LAYER: u32 = 0x57470006u;
struct Args { count: u32, eps: f32, inverse: f32, vectors: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> gain: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
var<immediate> args: Args;

fn centred(at: u32, mean: f32) -> f32 {
  if (LAYER == 0u) { return x[at]; }
  return canon(sub(x[at], mean));
}

fn exponent(here: Here, base: u32, mean: f32) -> i32 {
  var most = 0u;
  for (var i = here.local.x; i < args.count; i += WG) { most = max(most, size(centred(base + i, mean))); }
  return clamp(i32(group_max(here, most) >> 23u) - 127, -40, 60);
}

fn mean_of(here: Here, base: u32) -> f32 {
  let e = exponent(here, base, 0.0);
  var sum = 0;
  for (var i = here.local.x; i < args.count; i += WG) { sum += code(x[base + i], pow2(14 - e)); }
  return product(product(real(i32(group_sum(here, u32(sum)))), args.inverse), pow2(e - 14));
}

@compute @workgroup_size(1)
fn main(here: Here) {
  // Groups beyond the last vector repeat it, so that everybody meets at the barriers.
  let base = min(here.group.x + 32768u * here.group.y, args.vectors - 1u) * args.count;
  var mean = 0.0;
  if (LAYER == 1u) { mean = mean_of(here, base); }
  let scale = pow2(14 - exponent(here, base, mean));
  var high = 0u;
  var low = 0u;
  for (var i = here.local.x; i < args.count; i += WG) {
    let q = code(centred(base + i, mean), scale);
    let square = u32(q * q);
    high += square >> 15u;
    low += square & 0x7fffu;
  }
  high = group_sum(here, high);
  low = group_sum(here, low);
  let square = mul(wide(i32(high), low), args.inverse);
  let inverse = rsqrt(add(square, product(product(args.eps, scale), scale)));
  for (var i = here.local.x; i < args.count; i += WG) {
    let v = product(product(product(centred(base + i, mean), scale), inverse), gain[i]);
    if (LAYER == 1u) { y[base + i] = canon(add(v, bias[i])); } else { y[base + i] = v; }
  }
}
