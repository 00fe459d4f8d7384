// Keys or values into the cache, one workgroup a head and row: spec/inference.md, "Attention".
struct Args { heads: u32, dim: u32, cols: u32, pages: u32, stride: u32, which: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
// Words of four codes: page, head, place in the page.
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
// Scales: that of the key, that of the value, in the same order.
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;
// Places of rows, then at `pages` the page tables, `stride` words each.
@group(0) @binding(3) var<storage, read> batch: array<u32>;
var<immediate> args: Args;

fn put(base: u32, word: u32, inverse: f32) -> u32 {
  var packed = 0u;
  for (var k = 0u; k < 4u; k++) {
    let d = word * 4u + k;
    if (d < args.dim) { packed |= (u32(code(x[base + d], inverse)) & 255u) << (8u * k); }
  }
  return packed;
}

@compute @workgroup_size(1)
fn main(here: Here) {
  let head = here.group.x;
  let row = here.group.y;
  let base = row * args.cols + head * args.dim;
  var most = 0u;
  for (var i = here.local.x; i < args.dim; i += WG) { most = max(most, size(x[base + i])); }
  let scale = cache_scale(group_max(here, most));
  let inverse = rcp(scale);
  let position = batch[row * 4u + 1u];
  let page = batch[args.pages + batch[row * 4u] * args.stride + (position >> 5u)];
  let at = (page * args.heads + head) * 32u + (position & 31u);
  let words = (args.dim + 3u) >> 2u;
  if (here.local.x == 0u) { scales[at * 2u + args.which] = scale; }
  for (var i = here.local.x; i < words; i += WG) { codes[at * words + i] = put(base, i, inverse); }
}
