// fill — every 32-bit word of y from `start` on is `word`
// #include "../common/grid.wgsl"
struct Params { start: u32, count: u32, word: u32 }
@group(0) @binding(0) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i < p.count) { y[p.start + i] = p.word; }
}
