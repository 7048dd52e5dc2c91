// selective-scan / forward — selective scan: LANES threads a channel, their states in registers, tokens in tiles
//
// h[t] = exp(d A) h[t-1] + d B[t] x[t];  y[t] = (C[t] . h[t] + D x) silu(z), d = softplus?(delta + deltaBias)
//
// PHASE 0: from the state before each stretch of tokens to y; with SAVES the states before every CHUNK tokens are kept.
// PHASE 1: what a stretch makes of a zero state, and the sum of its steps (NaN where it clears the state), for carries.wgsl: y is then
// those sums [splits, batch, dInner].
// One launch takes the tokens from `first` to `last` of every sequence, whose kept states fit into one buffer.
// states: slots of [batch, dInner, dState]: slot 0 what comes in; slot split + 1 after each stretch; slot splits + 1 + chunk the kept ones.
// A workgroup has 32 channels. What depends on channel and token alone (softplus, gate) is computed once, while a tile is staged; the next
// tile is fetched meanwhile. The threads of a channel lie 32 apart, so that neighbours read one B and C. Their sums meet in `parts`.
// Grid: (tiles of 32 channels within a group x batch, flat over x and y; splits). Bindings: 8, WebGPU's default limit. Workgroup memory: 14 KiB at 16 states, never more than 16.
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/scan.wgsl"
struct Params {
  batch: u32, length: u32, d_inner: u32, groups: u32, per_group: u32, tiles: u32, splits: u32, stretch: u32, flags: u32,
  first: u32, last: u32, d_at: u32, bias_at: u32, marks_at: u32,
  x_start: u32, x_pitch: u32, delta_start: u32, delta_pitch: u32, b_start: u32, b_pitch: u32,
  c_start: u32, c_pitch: u32, z_start: u32, z_pitch: u32,
}
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> delta: array<f32>;
@group(0) @binding(2) var<storage, read> B: array<f32>;
@group(0) @binding(3) var<storage, read> C: array<f32>;
@group(0) @binding(4) var<storage, read> z: array<f32>;
@group(0) @binding(5) var<storage, read> small: array<u32>;
@group(0) @binding(6) var<storage, read_write> states: array<f32>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override PHASE: u32;
const D_STATE: u32 = 16u; // @specialize
const LANES: u32 = 4u; // @specialize
const TILE: u32 = 16u; // @specialize
const QUADS: u32 = (D_STATE + 4u * LANES - 1u) / (4u * LANES);
const PER_TOKEN: u32 = LANES * QUADS;
const EACH: u32 = TILE / LANES;
const THREADS: u32 = 32u * LANES;
const BC_PIECES: u32 = 2u * TILE * PER_TOKEN;
const PIECES: u32 = (BC_PIECES + THREADS - 1u) / THREADS;
var<workgroup> steps: array<vec2f, TILE * 32u>;
var<workgroup> bc_tile: array<vec4f, BC_PIECES>;
var<workgroup> parts: array<f32, LANES * TILE * 32u>;
var<workgroup> marks: array<i32, TILE>;
fn state_quad(at: u32, n: u32) -> vec4f {
  var v = vec4f(0.0);
  if (is_state(n)) { v.x = states[at]; }
  if (is_state(n + 1u)) { v.y = states[at + 1u]; }
  if (is_state(n + 2u)) { v.z = states[at + 2u]; }
  if (is_state(n + 3u)) { v.w = states[at + 3u]; }
  return v;
}
fn put_state_quad(at: u32, n: u32, v: vec4f) {
  if (is_state(n)) { states[at] = v.x; }
  if (is_state(n + 1u)) { states[at + 1u] = v.y; }
  if (is_state(n + 2u)) { states[at + 2u] = v.z; }
  if (is_state(n + 3u)) { states[at + 3u] = v.w; }
}
fn b_quad(at: u32, n: u32) -> vec4f {
  var v = vec4f(0.0);
  if (n < D_STATE) { v.x = B[at]; }
  if (n + 1u < D_STATE) { v.y = B[at + 1u]; }
  if (n + 2u < D_STATE) { v.z = B[at + 2u]; }
  if (n + 3u < D_STATE) { v.w = B[at + 3u]; }
  return v;
}
fn c_quad(at: u32, n: u32) -> vec4f {
  var v = vec4f(0.0);
  if (n < D_STATE) { v.x = C[at]; }
  if (n + 1u < D_STATE) { v.y = C[at + 1u]; }
  if (n + 2u < D_STATE) { v.z = C[at + 2u]; }
  if (n + 3u < D_STATE) { v.w = C[at + 3u]; }
  return v;
}
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let tile = flat_group(id, groups) % (p.groups * p.tiles);
  let batch = flat_group(id, groups) / (p.groups * p.tiles);
  if (batch >= p.batch) { return; }
  let split = id.z;
  let group = tile / p.tiles;
  let k = lid % 32u;
  let lane = lid / 32u;
  let within = (tile % p.tiles) * 32u + k;
  let is_active = within < p.per_group;
  let c = group * p.per_group + min(within, p.per_group - 1u);
  let slot = p.batch * p.d_inner * D_STATE;
  let own = (batch * p.d_inner + c) * D_STATE;
  let n0 = lane * 4u * QUADS;
  let row0 = batch * p.length;
  let start = p.first + split * p.stretch;
  let end = min(p.last, start + p.stretch);
  var a: array<vec4f, QUADS>;
  var h: array<vec4f, QUADS>;
  for (var q = 0u; q < QUADS; q++) {
    let n = n0 + 4u * q;
    a[q] = small_quad(c * D_STATE + n, n);
    if (PHASE == 0u) { h[q] = state_quad(split * slot + own + n, n); }
  }
  var skip = 0.0;
  if (has(HAS_D)) { skip = small_at(p.d_at + c); }
  var total = 0.0;
  var is_cleared = false;
  // This thread's tokens of the next tile: lane, lane + LANES, …; and its pieces of B and C.
  var next_x: array<f32, EACH>;
  var next_delta: array<f32, EACH>;
  var next_z: array<f32, EACH>;
  var next_mark: array<i32, EACH>;
  var next_bc: array<vec4f, PIECES>;
  for (var t0 = start; t0 < end + TILE; t0 += TILE) {
    // The tile that was fetched in the last round goes into workgroup memory, and its inputs are kept for the end of this one.
    let now_x = next_x;
    let now_z = next_z;
    let now_mark = next_mark;
    if (t0 > start) {
      for (var e = 0u; e < EACH; e++) {
        let t = lane + LANES * e;
        var step = vec2f(0.0);
        if (now_mark[e] >= 0) {
          let d = step_of(next_delta[e]);
          step = vec2f(d, d * now_x[e]);
        }
        steps[t * 32u + k] = step;
        if (k == 0u) { marks[t] = now_mark[e]; }
      }
      for (var i = 0u; i < PIECES; i++) {
        let at = lid + i * THREADS;
        if (at < BC_PIECES) { bc_tile[at] = next_bc[i]; }
      }
    }
    workgroupBarrier();
    for (var e = 0u; e < EACH; e++) {
      let t = t0 + lane + LANES * e;
      let row = row0 + t;
      next_mark[e] = -1;
      if (t < end) {
        next_mark[e] = mark_of(row);
        next_x[e] = x[p.x_start + row * p.x_pitch + c];
        next_delta[e] = raw_step(row, c);
        if (PHASE == 0u && has(HAS_Z)) { next_z[e] = z[p.z_start + row * p.z_pitch + c]; }
      }
    }
    for (var i = 0u; i < PIECES; i++) {
      let at = lid + i * THREADS;
      let token = at / PER_TOKEN % TILE;
      let n = 4u * (at % PER_TOKEN);
      let row = row0 + t0 + token;
      var v = vec4f(0.0);
      if (at < BC_PIECES && t0 + token < end && mark_of(row) >= 0) {
        if (at < TILE * PER_TOKEN) { v = b_quad(p.b_start + row * p.b_pitch + group * D_STATE + n, n); }
        else { v = c_quad(p.c_start + row * p.c_pitch + group * D_STATE + n, n); }
      }
      next_bc[i] = v;
    }
    if (t0 == start) { continue; }
    let first = t0 - TILE;
    for (var t = 0u; t < TILE; t++) {
      if (PHASE == 0u && has(SAVES) && t % CHUNK == 0u && first + t < end && is_active) {
        let kept = (p.splits + 1u + (first + t - p.first) / CHUNK) * slot + own;
        for (var q = 0u; q < QUADS; q++) { put_state_quad(kept + n0 + 4u * q, n0 + 4u * q, h[q]); }
      }
      if (has(HAS_MARKS) && marks[t] > 0) {
        is_cleared = true;
        for (var q = 0u; q < QUADS; q++) { h[q] = vec4f(0.0); }
      }
      let step = steps[t * 32u + k];
      total += step.x;
      var sum = 0.0;
      for (var q = 0u; q < QUADS; q++) {
        let at = t * PER_TOKEN + lane * QUADS + q;
        h[q] = exp2(step.x * a[q]) * h[q] + step.y * bc_tile[at];
        sum += dot(bc_tile[TILE * PER_TOKEN + at], h[q]);
      }
      if (PHASE == 0u) { parts[(lane * TILE + t) * 32u + k] = sum; }
    }
    workgroupBarrier();
    if (PHASE == 0u && is_active) {
      for (var e = 0u; e < EACH; e++) {
        let t = lane + LANES * e;
        if (first + t < end) {
          var sum = skip * now_x[e];
          for (var l = 0u; l < LANES; l++) { sum += parts[(l * TILE + t) * 32u + k]; }
          if (has(HAS_Z)) { sum *= silu(now_z[e]); }
          y[(row0 + first + t) * p.d_inner + c] = select(sum, 0.0, now_mark[e] < 0);
        }
      }
    }
  }
  if (!is_active) { return; }
  if (PHASE == 1u || split == p.splits - 1u) {
    for (var q = 0u; q < QUADS; q++) { put_state_quad((split + 1u) * slot + own + n0 + 4u * q, n0 + 4u * q, h[q]); }
  }
  if (PHASE == 1u && lane == 0u) { y[(split * p.batch + batch) * p.d_inner + c] = select(total, not_a_number(), is_cleared); }
}
