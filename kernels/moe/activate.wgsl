// moe / activate — inner = activation(gate) up, or activation(up) without a gate, over the slots that are used; a thread an element
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/activation.wgsl"
// #include "../common/experts.wgsl"
struct Params { count: u32, hidden: u32, experts: u32, blocks: u32 }
@group(0) @binding(0) var<storage, read> gate: array<f32>;
@group(0) @binding(1) var<storage, read> up: array<f32>;
@group(0) @binding(2) var<storage, read> plan: array<i32>;
@group(0) @binding(3) var<storage, read_write> inner: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override IS_GATED: bool;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  if (plan[block_expert_at() + i / p.hidden / BLOCK] < 0) { return; }
  if (IS_GATED) { inner[i] = activation(gate[i]) * up[i]; } else { inner[i] = activation(up[i]); }
}
