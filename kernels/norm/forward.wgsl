// norm / forward — RMS and layer norm with residual: s = x + residual; y = (s - mean) / deviation * weight + bias; a workgroup a row
// stats [rows, 2]: mean (0 for RMS) and 1 / deviation, for the gradient
// #include "../common/grid.wgsl"
// #include "../common/tree.wgsl"
struct Params { rows: u32, width: u32, x_start: u32, x_pitch: u32, eps: f32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> residual: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> total: array<f32>;
@group(0) @binding(6) var<storage, read_write> stats: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override IS_LAYER: bool;
override HAS_RESIDUAL: bool;
override HAS_WEIGHT: bool;
override HAS_BIAS: bool;
fn value(row: u32, j: u32) -> f32 {
  var v = x[p.x_start + row * p.x_pitch + j];
  if (HAS_RESIDUAL) { v += residual[row * p.width + j]; }
  return v;
}
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = flat_group(id, groups);
  if (row >= p.rows) { return; }
  var mean = 0.0;
  if (IS_LAYER) {
    var sum = 0.0;
    for (var j = lid; j < p.width; j += THREADS) { sum += value(row, j); }
    mean = sum_of_all(sum, lid) / f32(p.width);
  }
  var square = 0.0;
  for (var j = lid; j < p.width; j += THREADS) {
    let v = value(row, j) - mean;
    square += v * v;
  }
  let scale = 1.0 / sqrt(sum_of_all(square, lid) / f32(p.width) + p.eps);
  for (var j = lid; j < p.width; j += THREADS) {
    let s = value(row, j);
    var v = (s - mean) * scale;
    if (HAS_WEIGHT) { v *= weight[j]; }
    if (HAS_BIAS) { v += bias[j]; }
    y[row * p.width + j] = v;
    if (HAS_RESIDUAL) { total[row * p.width + j] = s; }
  }
  if (lid == 0u) {
    stats[2u * row] = mean;
    stats[2u * row + 1u] = scale;
  }
}
