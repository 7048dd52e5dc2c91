// causal-conv1d / final-state — the last width - 1 real inputs of each row, oldest first, 0 where there are none; a thread an element
// #include "../common/grid.wgsl"
// #include "../common/window.wgsl"
struct Params { count: u32, length: u32, channels: u32, width: u32, x_start: u32, x_pitch: u32, has_state: u32, has_marks: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> state: array<f32>;
@group(0) @binding(2) var<storage, read> marks: array<i32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
// #include "../common/window-value.wgsl"
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let carried = p.width - 1u;
  let slot = (i / p.channels) % carried;
  let batch = i / p.channels / carried;
  var at = real(batch, i32(p.length) - 1);
  for (var k = slot + 1u; k < carried; k++) { at = before(batch, at); }
  y[i] = window_value(batch, at, i % p.channels);
}
