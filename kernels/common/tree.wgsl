// Sum over the THREADS of a workgroup, for all of them, with two barriers: sixteen at a time, then those sums.
const THREADS: u32 = 256u; // @specialize
var<workgroup> tree: array<f32, THREADS>;
var<workgroup> branches: array<f32, THREADS / 16u>;
fn sum_of_all(value: f32, lid: u32) -> f32 {
  tree[lid] = value;
  workgroupBarrier();
  if (lid < THREADS / 16u) {
    var sum = 0.0;
    for (var k = 0u; k < 16u; k++) { sum += tree[16u * lid + k]; }
    branches[lid] = sum;
  }
  workgroupBarrier();
  var total = 0.0;
  for (var k = 0u; k < THREADS / 16u; k++) { total += branches[k]; }
  return total;
}
