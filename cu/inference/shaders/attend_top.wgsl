// The first phase of attention: the largest score and the largest scale of values, by any number of workgroups.
@compute @workgroup_size(1)
fn main(here: Here) {
  let step = query(here);
  let row = here.group.z * 4u;
  let count = batch[row + 3u] - batch[row + 2u];
  var top = 0u;
  var most = 0u;
  for (var i = here.group.x * WG + here.local.x; i < count; i += args.spans * WG) {
    let at = vector_at(here, batch[row + 2u] + i);
    top = max(top, key(score(at, step)));
    most = max(most, bitcast<u32>(scales[2u * at + 1u]));
  }
  top = group_max(here, top);
  most = group_max(here, most);
  if (here.local.x == 0u) {
    atomicMax(&sums[record(here)], top);
    atomicMax(&sums[record(here) + 1u], most);
  }
}
