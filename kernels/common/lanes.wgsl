// Sums over neighbouring LANES threads of a workgroup of 256, through workgroup memory: one barrier.
const LANES: u32 = 32u; // @specialize
const OUTPUTS: u32 = 256u / LANES;
var<workgroup> lane_sums: array<f32, 256>;
// For the first OUTPUTS threads: the sum of output `lid`.
fn sum_of_lanes(value: f32, lid: u32) -> f32 {
  lane_sums[lid] = value;
  workgroupBarrier();
  var sum = 0.0;
  if (lid < OUTPUTS) {
    for (var l = 0u; l < LANES; l++) { sum += lane_sums[lid * LANES + l]; }
  }
  return sum;
}
