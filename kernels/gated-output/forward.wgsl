// gated-output / forward — out = (y + D x) silu(z); a thread an element
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
struct Params { count: u32, channels: u32, y_start: u32, y_pitch: u32, x_start: u32, x_pitch: u32, z_start: u32, z_pitch: u32 }
@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> D: array<f32>;
@group(0) @binding(3) var<storage, read> z: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override HAS_D: bool;
override HAS_Z: bool;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let row = i / p.channels;
  let c = i % p.channels;
  var v = y[p.y_start + row * p.y_pitch + c];
  if (HAS_D) { v += D[c] * x[p.x_start + row * p.x_pitch + c]; }
  if (HAS_Z) { v *= silu(z[p.z_start + row * p.z_pitch + c]); }
  out[i] = v;
}
