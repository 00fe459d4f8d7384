// The end of attention: the weighted mean from its integer sums: spec/inference.md, "Attention".
var<private> WG: u32 = 0x57470001u;
struct Args { count: u32, dim: u32 }
@group(0) @binding(0) var<storage, read> sums: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
var<immediate> args: Args;

@compute @workgroup_size(1)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  for (var i = id.x; i < args.count; i += groups.x * WG) {
    let base = (i / args.dim) * (4u + 2u * args.dim);
    let at = base + 4u + 2u * (i % args.dim);
    let inverse = rcp(wide(0, sums[base + 2u]));
    y[i] = product(product(wide(i32(sums[at]), sums[at + 1u]), inverse), bitcast<f32>(sums[base + 1u]));
  }
}
