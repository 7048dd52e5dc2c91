// argReduce / rows — index of the extreme element of each row of x [rows, n]; a workgroup a row
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/champion.wgsl"
struct Params { rows: u32, n: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
var<workgroup> champions: array<u32, 256>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = flat_group(id, groups);
  if (row >= p.rows) { return; }
  let base = row * p.n;
  var best = min(lid, p.n - 1u);
  for (var k = lid; k < p.n; k += 256u) {
    if (beats(x[base + k], k, x[base + best], best)) { best = k; }
  }
  champions[lid] = best;
  workgroupBarrier();
  for (var s = 128u; s > 0u; s /= 2u) {
    if (lid < s) {
      let other = champions[lid + s];
      if (beats(x[base + other], other, x[base + best], best)) { best = other; }
      champions[lid] = best;
    }
    workgroupBarrier();
  }
  if (lid == 0u) { y[row] = champions[0]; }
}
