// Gates, residuals, activations and the soft cap of logits: spec/inference.md, "Other operators" and "Numbers".
var<private> WG: u32 = 0x57470001u;
var<private> KIND: u32 = 0x57470004u; // 0 add, 1 silu, 2 gelu_tanh, 3 gelu_erf, 4 soft_cap; 8 and up: times y
struct Args { count: u32, cap: f32, inverse: f32 }
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
var<immediate> args: Args;

fn apply(v: f32) -> f32 {
  let f = KIND & 7u;
  if (f == 1u) { return silu(v); }
  if (f == 2u) { return gelu_tanh(v); }
  if (f == 3u) { return gelu_erf(v); }
  return soft_cap(v, args.cap, args.inverse);
}

@compute @workgroup_size(1)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  for (var i = id.x; i < args.count; i += groups.x * WG) {
    if (KIND == 0u) {
      x[i] = canon(add(x[i], y[i]));
    } else if (KIND >= 8u) {
      x[i] = product(apply(x[i]), y[i]);
    } else {
      x[i] = apply(x[i]);
    }
  }
}
