// Sums over neighbouring 16 threads of a workgroup of 256, for all of them, through workgroup memory: two barriers.
const TEAM: u32 = 16u;
var<workgroup> team_sums: array<f32, 256>;
fn sum_of_team(value: f32, lid: u32) -> f32 {
  workgroupBarrier();
  team_sums[lid] = value;
  workgroupBarrier();
  let first = lid - lid % TEAM;
  var sum = 0.0;
  for (var l = 0u; l < TEAM; l++) { sum += team_sums[first + l]; }
  return sum;
}
