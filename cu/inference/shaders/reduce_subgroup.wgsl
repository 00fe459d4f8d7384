// Integer sums and maxima over a workgroup by subgroup operations. The order cannot matter: they are integers.
// A team is the subgroup that works on one output.
var<private> WG: u32 = 0x57470001u;
var<workgroup> pool: array<u32, 1024>;

struct Here {
  @builtin(local_invocation_id) local: vec3<u32>,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(subgroup_id) team: u32,
  @builtin(num_subgroups) teams: u32,
  @builtin(subgroup_invocation_id) lane: u32,
  @builtin(subgroup_size) lanes: u32,
}

fn lane(here: Here) -> u32 { return here.lane; }
fn lanes(here: Here) -> u32 { return here.lanes; }
fn row_of(here: Here) -> u32 { return here.group.x * here.teams + here.team; }

fn team_sum(here: Here, v: i32) -> i32 { return subgroupAdd(v); }

fn group_sum(here: Here, v: u32) -> u32 {
  let part = subgroupAdd(v);
  workgroupBarrier();
  if (here.lane == 0u) { pool[here.team] = part; }
  workgroupBarrier();
  var sum = 0u;
  for (var i = 0u; i < here.teams; i++) { sum = sum + pool[i]; }
  return sum;
}

fn group_max(here: Here, v: u32) -> u32 {
  let part = subgroupMax(v);
  workgroupBarrier();
  if (here.lane == 0u) { pool[here.team] = part; }
  workgroupBarrier();
  var most = 0u;
  for (var i = 0u; i < here.teams; i++) { most = max(most, pool[i]); }
  return most;
}
