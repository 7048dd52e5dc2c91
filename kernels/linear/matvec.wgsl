// linear / matvec — y[r, o] = bias[o] + weight[o] . x[r] for few rows; LANES threads an output, the weight read once a row; the row itself lies in workgroup memory
// Grid: (outputs / OUTPUTS, flat over x and y; rows in z). Reads the weight in the format that it is stored in.
// #include "../common/grid.wgsl"
// #include "../common/weight.wgsl"
// #include "../common/product.wgsl"
// #include "../common/lanes.wgsl"
struct Params { k: u32, n: u32, x_start: u32, x_pitch: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<vec4u>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override HAS_BIAS: bool;
var<private> x_base: u32;
fn input_at(k: u32) -> f32 { return x[x_base + k]; }
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = flat_group(id, groups) * OUTPUTS;
  x_base = p.x_start + id.z * p.x_pitch;
  let o = min(first + lid / LANES, p.n - 1u);
  fetch_ahead(o, p.n, p.k, lid % LANES, LANES);
  var sum = sum_of_lanes(row_dot(o, p.n, p.k, lid % LANES, LANES, lid), lid);
  if (lid >= OUTPUTS || first + lid >= p.n) { return; }
  if (HAS_BIAS) { sum += bias[first + lid]; }
  y[id.z * p.n + first + lid] = sum;
}
