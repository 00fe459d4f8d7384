// Rotary positions, an invocation a pair: spec/inference.md, "Rotary positions". The table was made by the CPU.
var<private> WG: u32 = 0x57470001u;
struct Args { count: u32, cols: u32, dim: u32, turned: u32, adjacent: u32 }
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read> angles: array<f32>;
// Four words a row: sequence, position, from, to.
@group(0) @binding(2) var<storage, read> batch: array<u32>;
var<immediate> args: Args;

fn turn(i: u32) {
  let half = args.turned >> 1u;
  let pair = i % half;
  let heads = args.cols / args.dim;
  let row = i / half / heads;
  let head = row * args.cols + (i / half % heads) * args.dim;
  var a = head + pair;
  var b = a + half;
  if (args.adjacent == 1u) { a = head + 2u * pair; b = a + 1u; }
  let angle = batch[row * 4u + 1u] * args.turned + 2u * pair;
  let cosine = angles[angle];
  let sine = angles[angle + 1u];
  let p = x[a];
  let q = x[b];
  x[a] = canon(sub(product(p, cosine), product(q, sine)));
  x[b] = canon(add(product(p, sine), product(q, cosine)));
}

@compute @workgroup_size(1)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  for (var i = id.x; i < args.count; i += groups.x * WG) { turn(i); }
}
