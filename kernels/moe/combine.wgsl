// moe / combine — y[token] = sum over its choices of (weights[choice]) rows[slot], in order; a thread an element
// #include "../common/grid.wgsl"
// #include "../common/experts.wgsl"
struct Params { count: u32, width: u32, top_k: u32, experts: u32, blocks: u32 }
@group(0) @binding(0) var<storage, read> rows: array<f32>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> plan: array<i32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override IS_WEIGHTED: bool;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let token = i / p.width;
  var sum = 0.0;
  for (var j = 0u; j < p.top_k; j++) {
    let slot = plan[pair_slot_at() + token * p.top_k + j];
    if (slot < 0) { continue; }
    let v = rows[u32(slot) * p.width + i % p.width];
    if (IS_WEIGHTED) { sum += weights[token * p.top_k + j] * v; } else { sum += v; }
  }
  y[i] = sum;
}
