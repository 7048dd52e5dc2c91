// Sum over the 256 threads of a workgroup, for all of them.
var<workgroup> tree: array<f32, 256>;
fn sum_of_all(value: f32, lid: u32) -> f32 {
  tree[lid] = value;
  workgroupBarrier();
  for (var s = 128u; s > 0u; s /= 2u) {
    if (lid < s) { tree[lid] += tree[lid + s]; }
    workgroupBarrier();
  }
  let total = tree[0];
  workgroupBarrier();
  return total;
}
