// selective-scan / backward — all gradients of the selective scan; LANES threads a channel, each with a part of its states
//
//   g = gy silu(z);  gh[t] = C[t] g + exp(d[t+1] A) gh[t+1];  past[t] = exp(d[t] A) h[t-1]
//   gC += g h, gB += gh d x (over channels), gx = D g + d sum_n gh B, gd = sum_n gh (A past + B x), gA += gh d past (over tokens)
//
// A workgroup takes CHANNELS channels of one group and one stretch of tokens, from the end, CHUNK tokens at a time: the state before them
// was kept by the forward pass, theirs are computed again and kept in `history`. The tile before is fetched meanwhile. What ROUND tokens
// give to sums over channels (`by_state`) and over states (`by_lane`) meets in workgroup memory; the latter take the tokens' own place in
// `steps` and `gs`, where the threads that fetched them finish them.
// carry: slots of [batch, dInner, dState]; slot split + 1 is the gradient of the state after the stretch.
// grads, one buffer with the parts of `*_at`: gx, gdelta, gz [batch, length, dInner]; gB and gC of each tile of channels
// [batch, length, tiles, 2, dState], `length` being that from `first` to `last`, the tokens of this launch; gA [splits, batch, dInner, dState], gD and gbias [splits, batch, dInner]; gh [batch, dInner, dState],
// of the state before the first stretch.
// Grid: (tiles x batch, flat; splits). Bindings: 8, WebGPU's default limit. Workgroup memory: below 16 KiB.
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/scan.wgsl"
struct Params {
  batch: u32, length: u32, d_inner: u32, groups: u32, per_group: u32, tiles: u32, splits: u32, stretch: u32, flags: u32,
  first: u32, last: u32, saved_splits: u32, d_at: u32, bias_at: u32, marks_at: u32, b_at: u32, c_at: u32,
  x_start: u32, x_pitch: u32, delta_start: u32, delta_pitch: u32, z_start: u32, z_pitch: u32,
  gx_at: u32, gdelta_at: u32, gz_at: u32, gbc_at: u32, ga_at: u32, gd_at: u32, gbias_at: u32, gh_at: u32,
}
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> delta: array<f32>;
@group(0) @binding(2) var<storage, read> z: array<f32>;
@group(0) @binding(3) var<storage, read> gy: array<f32>;
@group(0) @binding(4) var<storage, read> small: array<u32>;
@group(0) @binding(5) var<storage, read> states: array<f32>;
@group(0) @binding(6) var<storage, read> carry: array<f32>;
@group(0) @binding(7) var<storage, read_write> grads: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
const D_STATE: u32 = 16u; // @specialize
const LANES: u32 = 4u; // @specialize
const CHANNELS: u32 = 32u; // @specialize
const ROUND: u32 = 2u; // @specialize
const QUADS: u32 = (D_STATE + 4u * LANES - 1u) / (4u * LANES);
const PER_TOKEN: u32 = LANES * QUADS;
const PADDED: u32 = 4u * PER_TOKEN;
const EACH: u32 = CHUNK / LANES;
const THREADS: u32 = CHANNELS * LANES;
const BC_PIECES: u32 = 2u * CHUNK * PER_TOKEN;
const PIECES: u32 = (BC_PIECES + THREADS - 1u) / THREADS;
const PITCH: u32 = CHANNELS + 1u;
var<workgroup> steps: array<vec2f, CHUNK * CHANNELS>;
var<workgroup> gs: array<f32, CHUNK * CHANNELS>;
var<workgroup> bc_tile: array<vec4f, BC_PIECES>;
var<workgroup> marks: array<i32, CHUNK>;
var<workgroup> by_state: array<f32, ROUND * 2u * PADDED * PITCH>;
var<workgroup> by_lane: array<f32, ROUND * THREADS * 3u>;
fn carry_quad(at: u32, n: u32) -> vec4f {
  var v = vec4f(0.0);
  if (is_state(n)) { v.x = carry[at]; }
  if (is_state(n + 1u)) { v.y = carry[at + 1u]; }
  if (is_state(n + 2u)) { v.z = carry[at + 2u]; }
  if (is_state(n + 3u)) { v.w = carry[at + 3u]; }
  return v;
}
fn state_quad(at: u32, n: u32) -> vec4f {
  var v = vec4f(0.0);
  if (is_state(n)) { v.x = states[at]; }
  if (is_state(n + 1u)) { v.y = states[at + 1u]; }
  if (is_state(n + 2u)) { v.z = states[at + 2u]; }
  if (is_state(n + 3u)) { v.w = states[at + 3u]; }
  return v;
}
fn put_grad_quad(at: u32, n: u32, v: vec4f) {
  if (is_state(n)) { grads[at] = v.x; }
  if (is_state(n + 1u)) { grads[at + 1u] = v.y; }
  if (is_state(n + 2u)) { grads[at + 2u] = v.z; }
  if (is_state(n + 3u)) { grads[at + 3u] = v.w; }
}
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let tile = flat_group(id, groups) % (p.groups * p.tiles);
  let batch = flat_group(id, groups) / (p.groups * p.tiles);
  if (batch >= p.batch) { return; }
  let split = id.z;
  let group = tile / p.tiles;
  let first = (tile % p.tiles) * CHANNELS;
  let k = lid % CHANNELS;
  let lane = lid / CHANNELS;
  let is_active = first + k < p.per_group;
  let c = group * p.per_group + min(first + k, p.per_group - 1u);
  let n0 = lane * 4u * QUADS;
  let slot = p.batch * p.d_inner * D_STATE;
  let own = (batch * p.d_inner + c) * D_STATE;
  let row0 = batch * p.length;
  // The gradients' rows are those of this launch alone.
  let out0 = batch * (p.last - p.first) - p.first;
  let start = p.first + split * p.stretch;
  let end = min(p.last, start + p.stretch);
  var a: array<vec4f, QUADS>;
  var gh: array<vec4f, QUADS>;
  var ga: array<vec4f, QUADS>;
  for (var q = 0u; q < QUADS; q++) {
    let n = n0 + 4u * q;
    if (is_active) {
      a[q] = small_quad(c * D_STATE + n, n);
      gh[q] = carry_quad((split + 1u) * slot + own + n, n);
    }
  }
  var skip = 0.0;
  if (has(HAS_D)) { skip = small_at(p.d_at + c); }
  var g_skip = 0.0;
  var g_bias = 0.0;
  // This thread's tokens of the next tile: lane, lane + LANES, …; its pieces of B and C; its states before that tile.
  var next_x: array<f32, EACH>;
  var next_raw: array<f32, EACH>;
  var next_z: array<f32, EACH>;
  var next_gy: array<f32, EACH>;
  var next_mark: array<i32, EACH>;
  var next_bc: array<vec4f, PIECES>;
  var next_h: array<vec4f, QUADS>;
  let count = (end - min(start, end) + CHUNK - 1u) / CHUNK;
  for (var left = count + 1u; left > 0u; left--) {
    // Tile left - 1 is at hand, from the second round on; the one before it is fetched.
    let now_x = next_x;
    let now_raw = next_raw;
    let now_z = next_z;
    let now_gy = next_gy;
    let now_mark = next_mark;
    var h = next_h;
    if (left <= count) {
      for (var e = 0u; e < EACH; e++) {
        let t = lane + LANES * e;
        var step = vec2f(0.0);
        var g = 0.0;
        if (now_mark[e] >= 0 && is_active) {
          step = vec2f(step_of(now_raw[e]), now_x[e]);
          if (has(HAS_GY)) {
            g = now_gy[e];
            if (has(HAS_Z)) { g *= silu(now_z[e]); }
          }
        }
        steps[t * CHANNELS + k] = step;
        gs[t * CHANNELS + k] = g;
        if (k == 0u) { marks[t] = now_mark[e]; }
      }
      for (var i = 0u; i < PIECES; i++) {
        let at = lid + i * THREADS;
        if (at < BC_PIECES) { bc_tile[at] = next_bc[i]; }
      }
    }
    workgroupBarrier();
    if (left > 1u) {
      let t0 = start + (left - 2u) * CHUNK;
      for (var e = 0u; e < EACH; e++) {
        let t = t0 + lane + LANES * e;
        let row = row0 + t;
        next_mark[e] = -1;
        if (t < end) {
          next_mark[e] = mark_of(row);
          next_x[e] = x[p.x_start + row * p.x_pitch + c];
          next_raw[e] = raw_step(row, c);
          if (has(HAS_Z)) { next_z[e] = z[p.z_start + row * p.z_pitch + c]; }
          if (has(HAS_GY)) { next_gy[e] = gy[row * p.d_inner + c]; }
        }
      }
      for (var i = 0u; i < PIECES; i++) {
        let at = lid + i * THREADS;
        let token = at / PER_TOKEN % CHUNK;
        let n = 4u * (at % PER_TOKEN);
        let row = row0 + t0 + token;
        var v = vec4f(0.0);
        if (at < BC_PIECES && t0 + token < end && mark_of(row) >= 0) {
          let bc_at = select(p.c_at, p.b_at, at < CHUNK * PER_TOKEN) + (row * p.groups + group) * D_STATE + n;
          v = small_quad(bc_at, n);
        }
        next_bc[i] = v;
      }
      let kept = (p.saved_splits + 1u + (t0 - p.first) / CHUNK) * slot + own;
      if (is_active) {
        for (var q = 0u; q < QUADS; q++) { next_h[q] = state_quad(kept + n0 + 4u * q, n0 + 4u * q); }
      }
    }
    if (left > count) { continue; }
    let t_tile = start + (left - 1u) * CHUNK;
    var history: array<vec4f, CHUNK * QUADS>;
    for (var j = 0u; j < CHUNK; j++) {
      let step = steps[j * CHANNELS + k];
      for (var q = 0u; q < QUADS; q++) {
        var before = h[q];
        if (has(HAS_MARKS) && marks[j] > 0) { before = vec4f(0.0); }
        history[j * QUADS + q] = before;
        h[q] = exp2(step.x * a[q]) * before + step.x * step.y * bc_tile[j * PER_TOKEN + lane * QUADS + q];
      }
    }
    for (var round = CHUNK / ROUND; round > 0u; round--) {
      let j_round = (round - 1u) * ROUND;
      for (var r = ROUND; r > 0u; r--) {
        let j = j_round + r - 1u;
        let step = steps[j * CHANNELS + k];
        let g = gs[j * CHANNELS + k];
        var parts = vec3f(0.0);
        for (var q = 0u; q < QUADS; q++) {
          let bn = bc_tile[j * PER_TOKEN + lane * QUADS + q];
          let cn = bc_tile[(CHUNK + j) * PER_TOKEN + lane * QUADS + q];
          let decay = exp2(step.x * a[q]);
          let past = decay * history[j * QUADS + q];
          let now = past + step.x * step.y * bn;
          let gn = gh[q] + cn * g;
          let gb = gn * step.x * step.y;
          let gc = g * now;
          let at = ((r - 1u) * 2u * PADDED + n0 + 4u * q) * PITCH + k;
          by_state[at] = gb.x;
          by_state[at + PITCH] = gb.y;
          by_state[at + 2u * PITCH] = gb.z;
          by_state[at + 3u * PITCH] = gb.w;
          by_state[at + PADDED * PITCH] = gc.x;
          by_state[at + (PADDED + 1u) * PITCH] = gc.y;
          by_state[at + (PADDED + 2u) * PITCH] = gc.z;
          by_state[at + (PADDED + 3u) * PITCH] = gc.w;
          let gp = gn * past;
          parts += vec3f(dot(gn, bn), dot(gp, a[q]) * 0.69314718 + dot(gn, bn) * step.y, dot(cn, now));
          ga[q] += gp * step.x;
          gh[q] = decay * gn;
          if (has(HAS_MARKS) && marks[j] > 0) { gh[q] = vec4f(0.0); }
        }
        let at = (r - 1u) * 3u * THREADS + lid;
        by_lane[at] = parts.x;
        by_lane[at + THREADS] = parts.y;
        by_lane[at + 2u * THREADS] = parts.z;
      }
      workgroupBarrier();
      for (var q = lid; q < ROUND * CHANNELS; q += THREADS) {
        let r = q / CHANNELS;
        var sums = vec3f(0.0);
        for (var l = 0u; l < LANES; l++) {
          let at = r * 3u * THREADS + l * CHANNELS + q % CHANNELS;
          sums += vec3f(by_lane[at], by_lane[at + THREADS], by_lane[at + 2u * THREADS]);
        }
        let at = (j_round + r) * CHANNELS + q % CHANNELS;
        steps[at] = sums.xy;
        gs[at] = sums.z;
      }
      for (var q = THREADS - 1u - lid; q < ROUND * 2u * PADDED; q += THREADS) {
        let t = t_tile + j_round + q / (2u * PADDED);
        let n = q % PADDED;
        if (t < end && n < D_STATE) {
          var sum = 0.0;
          for (var l = 0u; l < CHANNELS; l++) { sum += by_state[q * PITCH + l]; }
          let which = q / PADDED % 2u;
          grads[p.gbc_at + (((out0 + t) * p.groups * p.tiles + tile) * 2u + which) * D_STATE + n] = sum;
        }
      }
      workgroupBarrier();
    }
    for (var e = 0u; e < EACH; e++) {
      let j = lane + LANES * e;
      if (t_tile + j < end && is_active) {
        let out = (out0 + t_tile + j) * p.d_inner + c;
        let sums = steps[j * CHANNELS + k];
        var gx = 0.0;
        var gdelta = 0.0;
        var gz = 0.0;
        if (now_mark[e] >= 0) {
          var g = 0.0;
          if (has(HAS_GY)) {
            g = now_gy[e];
            if (has(HAS_Z)) {
              gz = g * (gs[j * CHANNELS + k] + skip * now_x[e]) * silu_gradient(now_z[e]);
              g *= silu(now_z[e]);
            }
          }
          gx = step_of(now_raw[e]) * sums.x + skip * g;
          gdelta = sums.y;
          if (has(SOFTPLUS)) { gdelta *= sigmoid(now_raw[e]); }
          g_skip += g * now_x[e];
          g_bias += gdelta;
        }
        grads[p.gx_at + out] = gx;
        grads[p.gdelta_at + out] = gdelta;
        if (has(HAS_Z)) { grads[p.gz_at + out] = gz; }
      }
    }
  }
  let part = split * p.batch * p.d_inner;
  if (is_active) {
    for (var q = 0u; q < QUADS; q++) {
      let n = n0 + 4u * q;
      put_grad_quad(p.ga_at + part * D_STATE + own + n, n, ga[q]);
      if (split == 0u) { put_grad_quad(p.gh_at + own + n, n, gh[q]); }
    }
  }
  by_lane[lid] = g_skip;
  by_lane[THREADS + lid] = g_bias;
  workgroupBarrier();
  if (lane == 0u && is_active) {
    var sums = vec2f(0.0);
    for (var l = 0u; l < LANES; l++) { sums += vec2f(by_lane[l * CHANNELS + k], by_lane[THREADS + l * CHANNELS + k]); }
    grads[p.gd_at + part + batch * p.d_inner + c] = sums.x;
    grads[p.gbias_at + part + batch * p.d_inner + c] = sums.y;
  }
}
