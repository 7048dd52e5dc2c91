// Sums over neighbouring LANES threads, 8 at least, of a workgroup of 256: within subgroups by shuffles, then through workgroup memory.
const LANES: u32 = 32u; // @specialize
// #include "../common/subgroups.wgsl"
const OUTPUTS: u32 = 256u / LANES;
const UNIT: u32 = min(LANES, SUBGROUP);
var<workgroup> unit_sums: array<f32, 256u / UNIT>;
// For the first OUTPUTS threads: the sum of output `lid`.
fn sum_of_lanes(value: f32, lid: u32) -> f32 {
  var part = value;
  for (var mask = 1u; mask < UNIT; mask *= 2u) { part += subgroupShuffleXor(part, mask); }
  if (lid % UNIT == 0u) { unit_sums[lid / UNIT] = part; }
  workgroupBarrier();
  var sum = 0.0;
  if (lid < OUTPUTS) {
    for (var l = 0u; l < LANES / UNIT; l++) { sum += unit_sums[lid * (LANES / UNIT) + l]; }
  }
  return sum;
}
