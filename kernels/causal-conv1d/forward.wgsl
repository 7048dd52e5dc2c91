// causal-conv1d / forward — y[t, c] = activation(bias[c] + sum_k weight[c, k] window[k]); a thread an element
// GRADIENT: instead, g = gy activation'(…), what reaches every tap of the window. Padding gives 0.
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/window.wgsl"
struct Params { count: u32, length: u32, channels: u32, width: u32, x_start: u32, x_pitch: u32, has_bias: u32, has_state: u32, has_marks: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> state: array<f32>;
@group(0) @binding(4) var<storage, read> marks: array<i32>;
@group(0) @binding(5) var<storage, read> gy: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override HAS_SILU: bool;
override GRADIENT: bool;
// #include "../common/window-value.wgsl"
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let c = i % p.channels;
  let t = (i / p.channels) % p.length;
  let batch = i / p.channels / p.length;
  if (mark_of(batch, i32(t)) < 0) { y[i] = 0.0; return; }
  if (GRADIENT && !HAS_SILU) { y[i] = gy[i]; return; }
  var sum = 0.0;
  if (p.has_bias != 0u) { sum = bias[c]; }
  var at = i32(t);
  for (var k = p.width; k > 0u; k--) {
    sum += weight[c * p.width + k - 1u] * window_value(batch, at, c);
    at = before(batch, at);
  }
  if (GRADIENT) { y[i] = gy[i] * silu_gradient(sum); return; }
  if (HAS_SILU) { sum = silu(sum); }
  y[i] = sum;
}
