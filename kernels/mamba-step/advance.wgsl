// mamba-step / advance — third dispatch: (norms of dt, B and C,) dt_proj, softplus, the state's step in place, C . h + D u, gate
// Sixteen threads a channel, each with a sixteenth of its states; all that memory holds is asked for before the first barrier.
// The result takes the gate's place in xz [batch, 2 dInner].
// Grid: (channels / 16, flat; batch in z). Bindings: 10.
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/weight.wgsl"
// #include "../common/team.wgsl"
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
const THREADS: u32 = 256u;
fn at(k: u32) -> f32 { return staged[k / 4u][k % 4u]; }
fn scale_of(start: u32, count: u32) -> f32 {
  var square = 0.0;
  for (var k = start; k < start + count; k++) { square += at(k) * at(k); }
  return 1.0 / sqrt(square / f32(count) + p.inner_eps);
}
// What an element of dt, B or C is multiplied by.
fn norm_of(k: u32, scales: vec3f) -> f32 {
  let ends = vec2u(p.dt_rank, p.dt_rank + p.d_state);
  var weight_of = 1.0;
  if (INNER_NORM == 2u && k < ends.y + p.d_state) {
    if (k < ends.x) { weight_of = dt_norm[k]; } else if (k < ends.y) { weight_of = b_norm[k - ends.x]; } else { weight_of = c_norm[k - ends.y]; }
  }
  return weight_of * select(select(scales.z, scales.y, k < ends.y), scales.x, k < ends.x);
}
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let channel = flat_group(id, groups) * (THREADS / TEAM) + lid / TEAM;
  let is_active = channel < p.d_inner;
  let c = min(channel, p.d_inner - 1u);
  let lane = lid % TEAM;
  fetch_ahead(c, p.d_inner, p.dt_rank, lane, TEAM);
  let own = (id.z * p.d_inner + c) * p.d_state;
  let n0 = min(lane, p.d_state - 1u);
  var h = ssm_state[own + n0];
  var a = A_log[c * p.d_state + n0];
  let in_xz = id.z * 2u * p.d_inner + c;
  let u = xz[in_xz];
  let gate = xz[in_xz + p.d_inner];
  let bias = dt_bias[c];
  let skip = D[c];
  let width = p.dt_rank + 2u * p.d_state;
  for (var q = lid; 4u * q < width; q += THREADS) {
    var v = vec4f(0.0);
    for (var i = 0u; i < 4u; i++) {
      if (4u * q + i < width) { v[i] = dbc[id.z * width + 4u * q + i]; }
    }
    staged[q] = v;
  }
  workgroupBarrier();
  if (INNER_NORM > 0u) {
    let scales = vec3f(scale_of(0u, p.dt_rank), scale_of(p.dt_rank, p.d_state), scale_of(p.dt_rank + p.d_state, p.d_state));
    workgroupBarrier();
    for (var q = lid; 4u * q < width; q += THREADS) {
      var v = staged[q];
      for (var i = 0u; i < 4u; i++) { v[i] *= norm_of(4u * q + i, scales); }
      staged[q] = v;
    }
    workgroupBarrier();
  }
  let step = softplus(sum_of_team(staged_dot(c, p.d_inner, p.dt_rank, 0u, lane, TEAM), lid) + bias);
  var sum = 0.0;
  for (var n = lane; n < p.d_state; n += TEAM) {
    if (n != lane) {
      h = ssm_state[own + n];
      a = A_log[c * p.d_state + n];
    }
    h = exp(-step * exp(a)) * h + step * u * at(p.dt_rank + n);
    if (is_active) { ssm_state[own + n] = h; }
    sum += h * at(p.dt_rank + p.d_state + n);
  }
  let y = sum_of_team(sum, lid) + skip * u;
  if (is_active && lane == 0u) { xz[in_xz + p.d_inner] = y * silu(gate); }
}
