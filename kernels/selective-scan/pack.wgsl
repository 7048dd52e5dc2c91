// selective-scan / pack — the small operands in one buffer, so that the scan needs no more than 8 bindings; A is multiplied by log2(e)
// #include "../common/grid.wgsl"
struct Params { a_count: u32, d_count: u32, bias_count: u32, marks_count: u32 }
@group(0) @binding(0) var<storage, read> A: array<f32>;
@group(0) @binding(1) var<storage, read> D: array<u32>;
@group(0) @binding(2) var<storage, read> bias: array<u32>;
@group(0) @binding(3) var<storage, read> marks: array<u32>;
@group(0) @binding(4) var<storage, read_write> small: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  var j = i;
  if (j < p.a_count) { small[i] = bitcast<u32>(A[j] * 1.44269504); return; }
  j -= p.a_count;
  if (j < p.d_count) { small[i] = D[j]; return; }
  j -= p.d_count;
  if (j < p.bias_count) { small[i] = bias[j]; return; }
  j -= p.bias_count;
  if (j < p.marks_count) { small[i] = marks[j]; }
}
