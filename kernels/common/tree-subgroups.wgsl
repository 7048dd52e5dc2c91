// Sum over the THREADS of a workgroup, for all of them: subgroups first, then their sums.
const THREADS: u32 = 256u; // @specialize
// #include "../common/subgroups.wgsl"
var<workgroup> branches: array<f32, THREADS / SUBGROUP>;
fn sum_of_all(value: f32, lid: u32) -> f32 {
  let sum = subgroupAdd(value);
  workgroupBarrier();
  if (lid % SUBGROUP == 0u) { branches[lid / SUBGROUP] = sum; }
  workgroupBarrier();
  var total = 0.0;
  for (var k = 0u; k < THREADS / SUBGROUP; k++) { total += branches[k]; }
  return total;
}
