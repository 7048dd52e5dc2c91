// The largest of the values that the TILE threads of a workgroup have, for all of them, through workgroup memory: two barriers.
var<workgroup> peaks: array<f32, TILE>;
fn peak_of_all(value: f32, lid: u32) -> f32 {
  workgroupBarrier();
  peaks[lid] = value;
  workgroupBarrier();
  var top = peaks[0];
  for (var l = 1u; l < TILE; l++) { top = max(top, peaks[l]); }
  return top;
}
