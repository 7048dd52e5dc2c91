// copy / place — rows of `run` words from one pitch to another: y[y_start + r y_pitch + j] = x[x_start + r x_pitch + j]
// #include "../common/grid.wgsl"
struct Params { count: u32, run: u32, x_start: u32, x_pitch: u32, y_start: u32, y_pitch: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let r = i / p.run;
  let j = i % p.run;
  y[p.y_start + r * p.y_pitch + j] = x[p.x_start + r * p.x_pitch + j];
}
