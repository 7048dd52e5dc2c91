// moe / count — how many choices fall on each expert; a workgroup an expert
// #include "../common/grid.wgsl"
// #include "../common/experts.wgsl"
struct Params { pairs: u32, experts: u32, blocks: u32 }
@group(0) @binding(0) var<storage, read> indices: array<i32>;
@group(0) @binding(1) var<storage, read_write> plan: array<i32>;
@group(1) @binding(0) var<uniform> p: Params;
var<workgroup> sums: array<i32, 256>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let expert = flat_group(id, groups);
  if (expert >= p.experts) { return; }
  var count = 0;
  for (var i = lid; i < p.pairs; i += 256u) { count += select(0, 1, indices[i] == i32(expert)); }
  sums[lid] = count;
  workgroupBarrier();
  if (lid != 0u) { return; }
  for (var l = 1u; l < 256u; l++) { count += sums[l]; }
  plan[counts_at() + expert] = count;
}
