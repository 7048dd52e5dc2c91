// moe / router-gradient — gweights[choice] = gy[token] . rows[slot], 0 for a choice that was dropped; a workgroup a choice
// #include "../common/grid.wgsl"
// #include "../common/tree.wgsl"
// #include "../common/experts.wgsl"
struct Params { pairs: u32, width: u32, top_k: u32, experts: u32, blocks: u32 }
@group(0) @binding(0) var<storage, read> gy: array<f32>;
@group(0) @binding(1) var<storage, read> rows: array<f32>;
@group(0) @binding(2) var<storage, read> plan: array<i32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let pair = flat_group(id, groups);
  if (pair >= p.pairs) { return; }
  let slot = plan[pair_slot_at() + pair];
  var sum = 0.0;
  if (slot >= 0) {
    for (var j = lid; j < p.width; j += THREADS) { sum += gy[(pair / p.top_k) * p.width + j] * rows[u32(slot) * p.width + j]; }
  }
  sum = sum_of_all(sum, lid);
  if (lid == 0u) { y[pair] = sum; }
}
