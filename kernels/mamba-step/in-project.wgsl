// mamba-step / in-project — first of four dispatches of a block at length 1: norm of s = x + update, in_proj, convolution with SiLU
// OUTPUTS of the 2 dInner outputs to a workgroup: the first half goes through the convolution, whose state moves on by one in place,
// the second half is the gate. xz [batch, 2 dInner]. Every workgroup finds the norm's statistics itself. Grid: (outputs / OUTPUTS, flat; batch in z).
// Bindings: 10, more than WebGPU's default limit of 8; where an adapter has no more, those of absent operands are left out.
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/tree.wgsl"
// #include "../common/weight.wgsl"
// #include "../common/product.wgsl"
// #include "../common/lanes.wgsl"
struct Params { d_model: u32, d_inner: u32, d_conv: u32, eps: f32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> residual: array<f32>;
@group(0) @binding(2) var<storage, read> norm_weight: array<f32>;
@group(0) @binding(3) var<storage, read> norm_bias: array<f32>;
@group(0) @binding(4) var<storage, read> weight: array<vec4u>;
@group(0) @binding(5) var<storage, read> in_bias: array<f32>;
@group(0) @binding(6) var<storage, read> conv_weight: array<f32>;
@group(0) @binding(7) var<storage, read> conv_bias: array<f32>;
@group(0) @binding(8) var<storage, read_write> conv_state: array<f32>;
@group(0) @binding(9) var<storage, read_write> xz: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override HAS_UPDATE: bool;
override IS_LAYER: bool;
override HAS_IN_BIAS: bool;
override HAS_CONV_BIAS: bool;
var<private> base: u32;
var<private> mean: f32;
var<private> scale: f32;
fn stream_at(k: u32) -> f32 {
  if (HAS_UPDATE) { return x[base + k] + residual[base + k]; }
  return x[base + k];
}
fn input_at(k: u32) -> f32 {
  let v = (stream_at(k) - mean) * scale * norm_weight[k];
  if (IS_LAYER) { return v + norm_bias[k]; }
  return v;
}
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = flat_group(id, groups) * OUTPUTS;
  let o = min(first + lid / LANES, 2u * p.d_inner - 1u);
  // The weight is on its way while the norm is found.
  fetch_ahead(o, 2u * p.d_inner, p.d_model, lid % LANES, LANES);
  base = id.z * p.d_model;
  if (IS_LAYER) {
    var sum = 0.0;
    for (var k = lid; k < p.d_model; k += 256u) { sum += stream_at(k); }
    mean = sum_of_all(sum, lid) / f32(p.d_model);
  }
  var square = 0.0;
  for (var k = lid; k < p.d_model; k += 256u) {
    let v = stream_at(k) - mean;
    square += v * v;
  }
  scale = 1.0 / sqrt(sum_of_all(square, lid) / f32(p.d_model) + p.eps);
  var sum = sum_of_lanes(row_dot(o, 2u * p.d_inner, p.d_model, lid % LANES, LANES, lid), lid);
  let c = first + lid;
  if (lid >= OUTPUTS || c >= 2u * p.d_inner) { return; }
  if (HAS_IN_BIAS) { sum += in_bias[c]; }
  if (c < p.d_inner) {
    let carried = p.d_conv - 1u;
    var u = conv_weight[c * p.d_conv + carried] * sum;
    if (HAS_CONV_BIAS) { u += conv_bias[c]; }
    for (var k = 0u; k < carried; k++) {
      let at = (id.z * carried + k) * p.d_inner + c;
      u += conv_weight[c * p.d_conv + k] * conv_state[at];
      conv_state[at] = sum;
      if (k + 1u < carried) { conv_state[at] = conv_state[at + p.d_inner]; }
    }
    sum = silu(u);
  }
  xz[id.z * 2u * p.d_inner + c] = sum;
}
