// Integer sums and maxima over a workgroup by halving in shared memory. The order cannot matter: they are integers.
// A team is the run of LANES invocations that works on one output.
var<private> WG: u32 = 0x57470001u;
var<private> LANES: u32 = 0x57470002u;
var<workgroup> pool: array<u32, 1024>;

struct Here {
  @builtin(local_invocation_id) local: vec3<u32>,
  @builtin(workgroup_id) group: vec3<u32>,
}

fn lane(here: Here) -> u32 { return here.local.x & (LANES - 1u); }
fn lanes(here: Here) -> u32 { return LANES; }
fn row_of(here: Here) -> u32 { return (here.group.x * WG + here.local.x) / LANES; }

fn team_sum(here: Here, v: i32) -> i32 {
  let at = here.local.x;
  workgroupBarrier();
  pool[at] = u32(v);
  workgroupBarrier();
  for (var s = LANES; s > 1u;) {
    s = s >> 1u;
    if (lane(here) < s) { pool[at] = pool[at] + pool[at + s]; }
    workgroupBarrier();
  }
  return i32(pool[at - lane(here)]);
}

fn group_sum(here: Here, v: u32) -> u32 {
  let at = here.local.x;
  workgroupBarrier();
  pool[at] = v;
  workgroupBarrier();
  for (var s = WG; s > 1u;) {
    s = s >> 1u;
    if (at < s) { pool[at] = pool[at] + pool[at + s]; }
    workgroupBarrier();
  }
  return pool[0];
}

fn group_max(here: Here, v: u32) -> u32 {
  let at = here.local.x;
  workgroupBarrier();
  pool[at] = v;
  workgroupBarrier();
  for (var s = WG; s > 1u;) {
    s = s >> 1u;
    if (at < s) { pool[at] = max(pool[at], pool[at + s]); }
    workgroupBarrier();
  }
  return pool[0];
}
