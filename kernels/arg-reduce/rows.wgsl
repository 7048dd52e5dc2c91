// argReduce / rows — index of the extreme element of each row of x [rows, n]; a workgroup a row
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/champion.wgsl"
struct Params { rows: u32, n: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
const THREADS: u32 = 256u; // @specialize
var<workgroup> champions: array<u32, THREADS>;
var<workgroup> branches: array<u32, THREADS / 16u>;
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = flat_group(id, groups);
  if (row >= p.rows) { return; }
  let base = row * p.n;
  var best = min(lid, p.n - 1u);
  for (var k = lid; k < p.n; k += THREADS) {
    if (beats(x[base + k], k, x[base + best], best)) { best = k; }
  }
  champions[lid] = best;
  workgroupBarrier();
  if (lid < THREADS / 16u) {
    for (var k = 0u; k < 16u; k++) {
      let other = champions[16u * lid + k];
      if (k == 0u || beats(x[base + other], other, x[base + best], best)) { best = other; }
    }
    branches[lid] = best;
  }
  workgroupBarrier();
  if (lid != 0u) { return; }
  for (var k = 1u; k < THREADS / 16u; k++) {
    let other = branches[k];
    if (beats(x[base + other], other, x[base + best], best)) { best = other; }
  }
  y[row] = best;
}
