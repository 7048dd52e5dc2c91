// norm / weight-gradient — sums over a stretch of rows of gy v (weight) and gy (bias); a thread a column. y [splits, 2, width]
struct Params { rows: u32, width: u32, s_start: u32, s_pitch: u32, stretch: u32 }
@group(0) @binding(0) var<storage, read> s: array<f32>;
@group(0) @binding(1) var<storage, read> gy: array<f32>;
@group(0) @binding(2) var<storage, read> stats: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lid: u32) {
  let j = id.x * 64u + lid;
  if (j >= p.width) { return; }
  var sums = vec2f(0.0);
  let start = id.y * p.stretch;
  for (var row = start; row < min(p.rows, start + p.stretch); row++) {
    let g = gy[row * p.width + j];
    let v = (s[p.s_start + row * p.s_pitch + j] - stats[2u * row]) * stats[2u * row + 1u];
    sums += g * vec2f(v, 1.0);
  }
  y[2u * id.y * p.width + j] = sums.x;
  y[(2u * id.y + 1u) * p.width + j] = sums.y;
}
