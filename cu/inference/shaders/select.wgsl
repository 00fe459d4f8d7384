// A copy of some rows; no arithmetic.
var<private> WG: u32 = 0x57470001u;
struct Args { count: u32, cols: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> which: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
var<immediate> args: Args;

@compute @workgroup_size(1)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  for (var i = id.x; i < args.count; i += groups.x * WG) {
    out[i] = x[which[i / args.cols] * args.cols + i % args.cols];
  }
}
