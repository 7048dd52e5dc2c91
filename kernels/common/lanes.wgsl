// Sums over neighbouring LANES threads, 8 at least, of a workgroup of 256, through workgroup memory: eight at a time, then those sums.
const LANES: u32 = 32u; // @specialize
const OUTPUTS: u32 = 256u / LANES;
var<workgroup> lane_sums: array<f32, 256>;
var<workgroup> eighths: array<f32, 32>;
// For the first OUTPUTS threads: the sum of output `lid`.
fn sum_of_lanes(value: f32, lid: u32) -> f32 {
  lane_sums[lid] = value;
  workgroupBarrier();
  if (lid < 32u) {
    var sum = 0.0;
    for (var l = 0u; l < 8u; l++) { sum += lane_sums[8u * lid + l]; }
    eighths[lid] = sum;
  }
  workgroupBarrier();
  var sum = 0.0;
  if (lid < OUTPUTS) {
    for (var l = 0u; l < LANES / 8u; l++) { sum += eighths[lid * (LANES / 8u) + l]; }
  }
  return sum;
}
