// causal-conv1d / weight-gradient — sums over tokens of g window (weight) and g (bias); a thread a channel and stretch of rows
// y [splits, channels width + channels]
// #include "../common/window.wgsl"
struct Params { rows: u32, length: u32, channels: u32, width: u32, x_start: u32, x_pitch: u32, has_state: u32, has_marks: u32, stretch: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> state: array<f32>;
@group(0) @binding(2) var<storage, read> marks: array<i32>;
@group(0) @binding(3) var<storage, read> g: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
const WIDTH: u32 = 4u; // @specialize
// #include "../common/window-value.wgsl"
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lid: u32) {
  let c = id.x * 64u + lid;
  if (c >= p.channels) { return; }
  var sums: array<f32, WIDTH>;
  var bias = 0.0;
  let start = id.y * p.stretch;
  for (var row = start; row < min(p.rows, start + p.stretch); row++) {
    let batch = row / p.length;
    var at = i32(row % p.length);
    if (mark_of(batch, at) < 0) { continue; }
    let gv = g[row * p.channels + c];
    bias += gv;
    for (var k = WIDTH; k > 0u; k--) {
      sums[k - 1u] += gv * window_value(batch, at, c);
      at = before(batch, at);
    }
  }
  let base = id.y * p.channels * (WIDTH + 1u);
  for (var k = 0u; k < WIDTH; k++) { y[base + c * WIDTH + k] = sums[k]; }
  y[base + p.channels * WIDTH + c] = bias;
}
