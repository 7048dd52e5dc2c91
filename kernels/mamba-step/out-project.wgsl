// mamba-step / out-project — last dispatch: out = x + update + bias + out_proj y, y being the second half of xz [batch, 2 dInner]
// Grid: (outputs / OUTPUTS, flat; batch in z).
// #include "../common/grid.wgsl"
// #include "../common/weight.wgsl"
// #include "../common/product.wgsl"
// #include "../common/lanes.wgsl"
struct Params { d_model: u32, d_inner: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> residual: array<f32>;
@group(0) @binding(2) var<storage, read> xz: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<vec4u>;
@group(0) @binding(4) var<storage, read> out_bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override HAS_UPDATE: bool;
override HAS_BIAS: bool;
var<private> base: u32;
fn input_at(k: u32) -> f32 { return xz[base + k]; }
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = flat_group(id, groups) * OUTPUTS;
  base = (2u * id.z + 1u) * p.d_inner;
  let o = min(first + lid / LANES, p.d_model - 1u);
  fetch_ahead(o, p.d_model, p.d_inner, lid % LANES, LANES);
  var sum = sum_of_lanes(row_dot(o, p.d_model, p.d_inner, lid % LANES, LANES, lid), lid);
  if (lid >= OUTPUTS || first + lid >= p.d_model) { return; }
  let at = id.z * p.d_model + first + lid;
  sum += x[at];
  if (HAS_UPDATE) { sum += residual[at]; }
  if (HAS_BIAS) { sum += out_bias[first + lid]; }
  out[at] = sum;
}
