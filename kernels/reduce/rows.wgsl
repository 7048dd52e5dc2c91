// reduce / rows — each workgroup reduces a stretch of one row: y[row, split] = op over x[row, split's stretch]
// OP: 0 sum, 1 max of float32; 2 sum, 3 max of int32
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
struct Params { rows: u32, n: u32, splits: u32, stretch: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
override OP: u32;
const THREADS: u32 = 256u; // @specialize
var<workgroup> partial: array<u32, THREADS>;
var<workgroup> branches: array<u32, THREADS / 16u>;
// #include "../common/combine.wgsl"
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let group = flat_group(id, groups);
  if (group >= p.rows * p.splits) { return; }
  let row = group / p.splits;
  let start = (group % p.splits) * p.stretch;
  let end = min(p.n, start + p.stretch);
  var value = nothing();
  for (var k = start + lid; k < end; k += THREADS) { value = combine(value, x[row * p.n + k]); }
  partial[lid] = value;
  workgroupBarrier();
  if (lid < THREADS / 16u) {
    value = partial[16u * lid];
    for (var k = 1u; k < 16u; k++) { value = combine(value, partial[16u * lid + k]); }
    branches[lid] = value;
  }
  workgroupBarrier();
  if (lid != 0u) { return; }
  for (var k = 1u; k < THREADS / 16u; k++) { value = combine(value, branches[k]); }
  y[group] = value;
}
