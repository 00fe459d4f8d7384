// The second phase of attention: integer weights under the known top, and integer sums that arrive in any order.
@group(0) @binding(5) var<storage, read> values: array<u32>;
var<workgroup> weight: array<i32, 256>;
var<workgroup> place: array<u32, 256>;

// floor(e + 0.5), floor(e * share + 0.5)
fn weigh(s: f32, top: f32, share: f32) -> vec2<i32> {
  let e = mul(exponential(canon(sub(s, top))), 32767.0);
  return vec2<i32>(whole(add(e, 0.5)), whole(add(product(e, share), 0.5)));
}

// One word of four numbers over every so many positions of the tile; at most 256, so that a sum stays inside i32.
fn gather(out: u32, word: u32, first: u32, every: u32, tile: u32) {
  var sum = vec4<i32>(0);
  for (var j = first; j < tile; j += every) {
    let v = values[place[j] * words() + word];
    sum += weight[j] * (vec4<i32>(vec4<u32>(v << 24u, v << 16u, v << 8u, v)) >> vec4<u32>(24u));
  }
  for (var k = 0u; k < 4u && word * 4u + k < args.dim; k++) {
    atomicAdd(&sums[out + 2u * (word * 4u + k)], u32(sum[k] >> 15u));
    atomicAdd(&sums[out + 2u * (word * 4u + k) + 1u], u32(sum[k]) & 0x7fffu);
  }
}

@compute @workgroup_size(1)
fn main(here: Here) {
  let step = query(here);
  let out = record(here);
  let row = here.group.z * 4u;
  let count = batch[row + 3u] - batch[row + 2u];
  let top = unkey(atomicLoad(&sums[out]));
  let inverse = rcp(bitcast<f32>(atomicLoad(&sums[out + 1u])));
  let parts = max(1u, WG / words());
  var total = 0u;
  for (var base = here.group.x * WG; base < count; base += args.spans * WG) {
    if (base + here.local.x < count) {
      let at = vector_at(here, batch[row + 2u] + base + here.local.x);
      let w = weigh(score(at, step), top, product(scales[2u * at + 1u], inverse));
      total += u32(w.x);
      weight[here.local.x] = w.y;
      place[here.local.x] = at;
    }
    workgroupBarrier();
    for (var i = here.local.x; i < words() * parts; i += WG) {
      gather(out + 4u, i % words(), i / words(), parts, min(count - base, WG));
    }
    workgroupBarrier();
  }
  total = group_sum(here, total);
  if (here.local.x == 0u) { atomicAdd(&sums[out + 2u], total); }
}
