// Sums over neighbouring 16 threads of a workgroup of 256, for all of them: by shuffles, and through workgroup memory where subgroups are smaller.
const TEAM: u32 = 16u;
// #include "../common/subgroups.wgsl"
const TEAM_UNIT: u32 = min(TEAM, SUBGROUP);
var<workgroup> team_sums: array<f32, 256u / TEAM_UNIT>;
fn sum_of_team(value: f32, lid: u32) -> f32 {
  var part = value;
  for (var mask = 1u; mask < TEAM_UNIT; mask *= 2u) { part += subgroupShuffleXor(part, mask); }
  if (TEAM_UNIT == TEAM) { return part; }
  workgroupBarrier();
  if (lid % TEAM_UNIT == 0u) { team_sums[lid / TEAM_UNIT] = part; }
  workgroupBarrier();
  let first = (lid - lid % TEAM) / TEAM_UNIT;
  var sum = 0.0;
  for (var l = 0u; l < TEAM / TEAM_UNIT; l++) { sum += team_sums[first + l]; }
  return sum;
}
