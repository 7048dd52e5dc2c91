// moe / spread — rows of tokens to the slots of their choices: y[slot] = x[token] (weights[choice]), 0 where a slot is empty; a thread an element
// #include "../common/grid.wgsl"
// #include "../common/experts.wgsl"
struct Params { count: u32, width: u32, top_k: u32, experts: u32, blocks: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> plan: array<i32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override IS_WEIGHTED: bool;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let slot = i / p.width;
  if (plan[block_expert_at() + slot / BLOCK] < 0) { return; }
  let pair = plan[slot_pair_at() + slot];
  var v = 0.0;
  if (pair >= 0) {
    v = x[(u32(pair) / p.top_k) * p.width + i % p.width];
    if (IS_WEIGHTED) { v *= weights[pair]; }
  }
  y[i] = v;
}
