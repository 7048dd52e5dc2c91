// mamba-step / advance — third dispatch: (norms of dt, B and C,) dt_proj, softplus, the state's step in place, C . h + D u, gate
// Four threads a channel, each with a quarter of its states. The result takes the gate's place in xz [batch, 2 dInner].
// Grid: (channels / 16, flat; batch in z). Bindings: 10.
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/weight.wgsl"
struct Params { d_inner: u32, d_state: u32, dt_rank: u32, inner_eps: f32 }
@group(0) @binding(0) var<storage, read> dbc: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<vec4u>;
@group(0) @binding(2) var<storage, read> dt_bias: array<f32>;
@group(0) @binding(3) var<storage, read> A_log: array<f32>;
@group(0) @binding(4) var<storage, read> D: array<f32>;
@group(0) @binding(5) var<storage, read> dt_norm: array<f32>;
@group(0) @binding(6) var<storage, read> b_norm: array<f32>;
@group(0) @binding(7) var<storage, read> c_norm: array<f32>;
@group(0) @binding(8) var<storage, read_write> ssm_state: array<f32>;
@group(0) @binding(9) var<storage, read_write> xz: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
// 0: no inner norms, 1: without weights, 2: with weights
override INNER_NORM: u32;
const WIDTH: u32 = 80u; // @specialize
const THREADS: u32 = 64u;
const LANES: u32 = 4u;
var<workgroup> row: array<f32, WIDTH>;
var<workgroup> sums: array<f32, THREADS>;
fn input_at(k: u32) -> f32 { return row[k]; }
fn scale_of(start: u32, count: u32) -> f32 {
  var square = 0.0;
  for (var k = start; k < start + count; k++) { square += row[k] * row[k]; }
  return 1.0 / sqrt(square / f32(count) + p.inner_eps);
}
fn sum_of_quad(value: f32, lid: u32) -> f32 {
  workgroupBarrier();
  sums[lid] = value;
  workgroupBarrier();
  let first = lid - lid % LANES;
  return sums[first] + sums[first + 1u] + sums[first + 2u] + sums[first + 3u];
}
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  for (var k = lid; k < WIDTH; k += THREADS) { row[k] = dbc[id.z * WIDTH + k]; }
  workgroupBarrier();
  if (INNER_NORM > 0u) {
    let scales = vec3f(scale_of(0u, p.dt_rank), scale_of(p.dt_rank, p.d_state), scale_of(p.dt_rank + p.d_state, p.d_state));
    workgroupBarrier();
    for (var k = lid; k < WIDTH; k += THREADS) {
      var v = row[k];
      if (k < p.dt_rank) {
        v *= scales.x;
        if (INNER_NORM == 2u) { v *= dt_norm[k]; }
      } else if (k < p.dt_rank + p.d_state) {
        v *= scales.y;
        if (INNER_NORM == 2u) { v *= b_norm[k - p.dt_rank]; }
      } else {
        v *= scales.z;
        if (INNER_NORM == 2u) { v *= c_norm[k - p.dt_rank - p.d_state]; }
      }
      row[k] = v;
    }
    workgroupBarrier();
  }
  let channel = flat_group(id, groups) * (THREADS / LANES) + lid / LANES;
  let is_active = channel < p.d_inner;
  let c = min(channel, p.d_inner - 1u);
  let lane = lid % LANES;
  let raw = sum_of_quad(row_dot(c, p.d_inner, p.dt_rank, lane, LANES), lid) + dt_bias[c];
  let step = softplus(raw);
  let at = id.z * 2u * p.d_inner + c;
  let u = xz[at];
  var sum = 0.0;
  for (var n = lane; n < p.d_state; n += LANES) {
    let own = (id.z * p.d_inner + c) * p.d_state + n;
    let h = exp(-step * exp(A_log[c * p.d_state + n])) * ssm_state[own] + step * u * row[p.dt_rank + n];
    if (is_active) { ssm_state[own] = h; }
    sum += h * row[p.dt_rank + p.d_state + n];
  }
  let y = sum_of_quad(sum, lid) + D[c] * u;
  if (is_active && lane == 0u) { xz[at + p.d_inner] = y * silu(xz[at + p.d_inner]); }
}
