// The first phase of attention: the largest score and the largest unit of values, by any number of workgroups.
@compute @workgroup_size(1)
fn main(here: Here) {
  let unit = query(here);
  let row = here.group.z * 4u;
  let count = batch[row + 3u] - batch[row + 2u];
  var top = 0u;
  var most = 0u;
  for (var i = here.group.x * WG + here.local.x; i < count; i += args.spans * WG) {
    let at = vector_at(here, batch[row + 2u] + i);
    top = max(top, key(score(at, unit)));
    most = max(most, u32(units[2u * at + 1u] + 1024));
  }
  top = group_max(here, top);
  most = group_max(here, most);
  if (here.local.x == 0u) {
    atomicMax(&sums[record(here)], top);
    atomicMax(&sums[record(here) + 1u], most);
  }
}
