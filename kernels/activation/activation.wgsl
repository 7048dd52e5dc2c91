// activation — gelu or glu of the rows of x, or with IS_GRADIENT the gradient of x (dense) from gy; a thread an element of y
// KIND 0: x Phi(x), x [rows, width]; 1: a sigmoid(b) with a = x[:, :width], b = x[:, width:], x [rows, 2 width]
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
struct Params { count: u32, width: u32, x_start: u32, x_pitch: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> gy: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override KIND: u32;
override IS_GRADIENT: bool;
fn normal_cdf(v: f32) -> f32 { return 0.5 * (1.0 + erf(v * 0.70710678)); }
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let row = i / p.width;
  let column = i % p.width;
  let at = p.x_start + row * p.x_pitch + column;
  let a = x[at];
  if (KIND == 0u) {
    if (IS_GRADIENT) { y[i] = gy[i] * (normal_cdf(a) + a * 0.39894228 * exp(-0.5 * a * a)); } else { y[i] = a * normal_cdf(a); }
    return;
  }
  let s = sigmoid(x[at + p.width]);
  if (IS_GRADIENT) {
    let out = 2u * row * p.width + column;
    y[out] = gy[i] * s;
    y[out + p.width] = gy[i] * a * s * (1.0 - s);
  } else {
    y[i] = a * s;
  }
}
