// norm / backward — gs, the gradient of s = x + residual: with v = (s - mean) scale and w = weight gy,
//   gs = scale (w - mean(w) - v mean(w v)) + gsum, without mean(w) for RMS; a workgroup a row
// #include "../common/grid.wgsl"
// #include "../common/tree.wgsl"
struct Params { rows: u32, width: u32, s_start: u32, s_pitch: u32 }
@group(0) @binding(0) var<storage, read> s: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> gy: array<f32>;
@group(0) @binding(3) var<storage, read> gsum: array<f32>;
@group(0) @binding(4) var<storage, read> stats: array<f32>;
@group(0) @binding(5) var<storage, read_write> gs: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override IS_LAYER: bool;
override HAS_WEIGHT: bool;
override HAS_GY: bool;
override HAS_GSUM: bool;
fn w_of(row: u32, j: u32) -> f32 {
  if (!HAS_GY) { return 0.0; }
  var w = gy[row * p.width + j];
  if (HAS_WEIGHT) { w *= weight[j]; }
  return w;
}
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = flat_group(id, groups);
  if (row >= p.rows) { return; }
  let mean = stats[2u * row];
  let scale = stats[2u * row + 1u];
  var along = 0.0;
  var offset = 0.0;
  for (var j = lid; j < p.width; j += THREADS) {
    let w = w_of(row, j);
    along += w * (s[p.s_start + row * p.s_pitch + j] - mean) * scale;
    offset += w;
  }
  along = sum_of_all(along, lid) / f32(p.width);
  if (IS_LAYER) { offset = sum_of_all(offset, lid) / f32(p.width); } else { offset = 0.0; }
  for (var j = lid; j < p.width; j += THREADS) {
    let v = (s[p.s_start + row * p.s_pitch + j] - mean) * scale;
    var g = scale * (w_of(row, j) - offset - v * along);
    if (HAS_GSUM) { g += gsum[row * p.width + j]; }
    gs[row * p.width + j] = g;
  }
}
