// Not DIN-1: a dot product that adds floats in whatever order the lanes come. Its answer must differ from the same
// sum in order, or the conformance suite could not see an order at all.
struct Args { count: u32 }
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
var<immediate> args: Args;
var<workgroup> parts: array<f32, 1024>;

@compute @workgroup_size(1)
fn main(here: Here) {
  var sum = 0.0;
  for (var i = here.local.x; i < args.count; i += WG) { sum += a[here.group.x * args.count + i] * b[i]; }
  parts[here.local.x] = sum;
  workgroupBarrier();
  for (var s = WG; s > 1u;) {
    s = s >> 1u;
    if (here.local.x < s) { parts[here.local.x] += parts[here.local.x + s]; }
    workgroupBarrier();
  }
  if (here.local.x == 0u) { y[here.group.x] = parts[0]; }
}
