// The largest of the values that the TILE threads of a workgroup have, for all of them: of each subgroup first, then of those.
// #include "../common/subgroups.wgsl"
const PEAKS: u32 = max(1u, TILE / SUBGROUP);
var<workgroup> peaks: array<f32, PEAKS>;
fn peak_of_all(value: f32, lid: u32) -> f32 {
  let own = subgroupMax(value);
  workgroupBarrier();
  if (lid % SUBGROUP == 0u) { peaks[lid / SUBGROUP] = own; }
  workgroupBarrier();
  var top = peaks[0];
  for (var l = 1u; l < PEAKS; l++) { top = max(top, peaks[l]); }
  return top;
}
