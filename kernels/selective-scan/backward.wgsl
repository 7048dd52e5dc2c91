// selective-scan / backward — all gradients of the selective scan; four threads a channel, each with a quarter of its states
//
//   g = gy silu(z);  gh[t] = C[t] g + exp(d[t+1] A) gh[t+1];  past[t] = exp(d[t] A) h[t-1]
//   gC += g h, gB += gh d x (over channels), gx = D g + d sum_n gh B, gd = sum_n gh (A past + B x), gA += gh d past (over tokens)
//
// A workgroup takes CHANNELS channels of one group and one stretch of tokens, from the end. The states before every CHUNK tokens were
// kept by the forward pass; those of SUB tokens at a time are computed again and kept in `history`. Sums over states and over channels
// go through workgroup memory, ROUND tokens to a barrier pair.
// carry: slots of [batch, dInner, dState]; slot split + 1 is the gradient of the state after the stretch.
// grads, one buffer with the parts of `*_at`: gx, gdelta, gz [batch, length, dInner]; gB and gC of each tile of channels
// [batch, length, tiles, 2, dState]; gA [splits, batch, dInner, dState], gD and gbias [splits, batch, dInner].
// Grid: (tiles x batch, flat; splits). Bindings: 8, WebGPU's default limit. Workgroup memory: below 16 KiB.
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/scan.wgsl"
struct Params {
  batch: u32, length: u32, d_inner: u32, groups: u32, per_group: u32, tiles: u32, splits: u32, stretch: u32, flags: u32,
  saved_splits: u32, d_at: u32, bias_at: u32, marks_at: u32, b_at: u32, c_at: u32,
  x_start: u32, x_pitch: u32, delta_start: u32, delta_pitch: u32, z_start: u32, z_pitch: u32,
  gx_at: u32, gdelta_at: u32, gz_at: u32, gbc_at: u32, ga_at: u32, gd_at: u32, gbias_at: u32,
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
const CHANNELS: u32 = 32u; // @specialize
const SUB: u32 = 16u; // @specialize
const LANES: u32 = 4u;
const ROUND: u32 = 2u;
const OWN: u32 = (D_STATE + LANES - 1u) / LANES;
const PADDED: u32 = OWN * LANES;
const THREADS: u32 = CHANNELS * LANES;
var<workgroup> b_tile: array<f32, SUB * PADDED>;
var<workgroup> c_tile: array<f32, SUB * PADDED>;
var<workgroup> by_state: array<f32, ROUND * CHANNELS * 2u * PADDED>;
var<workgroup> by_lane: array<f32, ROUND * THREADS * 3u>;

struct Token { mark: i32, step: f32, x: f32, g: f32 }
fn token_of(row: u32, c: u32, is_inside: bool) -> Token {
  if (!is_inside) { return Token(-1, 0.0, 0.0, 0.0); }
  let mark = mark_of(row);
  if (mark < 0) { return Token(mark, 0.0, 0.0, 0.0); }
  var g = 0.0;
  if (has(HAS_GY)) {
    g = gy[row * p.d_inner + c];
    if (has(HAS_Z)) { g *= silu(z[p.z_start + row * p.z_pitch + c]); }
  }
  return Token(mark, step_of(raw_step(row, c)), x[p.x_start + row * p.x_pitch + c], g);
}
fn b_of(row: u32, group: u32, n: u32, mark: i32) -> f32 {
  if (mark < 0 || n >= D_STATE) { return 0.0; }
  return small_at(p.b_at + (row * p.groups + group) * D_STATE + n);
}
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let tile = flat_group(id, groups) % (p.groups * p.tiles);
  let batch = flat_group(id, groups) / (p.groups * p.tiles);
  if (batch >= p.batch) { return; }
  let split = id.z;
  let group = tile / p.tiles;
  let first = (tile % p.tiles) * CHANNELS;
  let lane = lid % LANES;
  let k = lid / LANES;
  let is_active = first + k < p.per_group;
  let c = group * p.per_group + min(first + k, p.per_group - 1u);
  let n0 = lane * OWN;
  let slot = p.batch * p.d_inner * D_STATE;
  let own = (batch * p.d_inner + c) * D_STATE;
  let row0 = batch * p.length;
  let start = split * p.stretch;
  let end = min(p.length, start + p.stretch);
  var a: array<f32, OWN>;
  var gh: array<f32, OWN>;
  var ga: array<f32, OWN>;
  for (var i = 0u; i < OWN; i++) {
    if (n0 + i < D_STATE) {
      a[i] = small_at(c * D_STATE + n0 + i);
      gh[i] = carry[(split + 1u) * slot + own + n0 + i];
    }
  }
  // This thread's token and channel of a round, when sums over states are finished.
  let sum_r = lid / CHANNELS;
  let sum_k = lid % CHANNELS;
  let sum_c = group * p.per_group + min(first + sum_k, p.per_group - 1u);
  let sums_channel = sum_r < ROUND && first + sum_k < p.per_group;
  var skip = 0.0;
  if (has(HAS_D)) { skip = small_at(p.d_at + sum_c); }
  var g_skip = 0.0;
  var g_bias = 0.0;
  var history: array<f32, SUB * OWN>;

  let chunks = (end - min(start, end) + CHUNK - 1u) / CHUNK;
  for (var chunk = chunks; chunk > 0u; chunk--) {
    let t_chunk = start + (chunk - 1u) * CHUNK;
    for (var s = CHUNK / SUB; s > 0u; s--) {
      let t_sub = t_chunk + (s - 1u) * SUB;
      if (t_sub >= end) { continue; }
      // From the kept state to the first of these tokens.
      var h: array<f32, OWN>;
      for (var i = 0u; i < OWN; i++) {
        if (n0 + i < D_STATE) { h[i] = states[(p.saved_splits + 1u + t_chunk / CHUNK) * slot + own + n0 + i]; }
      }
      for (var t = t_chunk; t < t_sub; t++) {
        let token = token_of(row0 + t, c, true);
        for (var i = 0u; i < OWN; i++) {
          let before = select(h[i], 0.0, token.mark > 0);
          h[i] = exp2(token.step * a[i]) * before + token.step * token.x * b_of(row0 + t, group, n0 + i, token.mark);
        }
      }
      workgroupBarrier();
      for (var q = lid; q < SUB * PADDED; q += THREADS) {
        let t = t_sub + q / PADDED;
        let n = q % PADDED;
        var bn = 0.0;
        var cn = 0.0;
        if (t < end && n < D_STATE && mark_of(row0 + t) >= 0) {
          bn = small_at(p.b_at + ((row0 + t) * p.groups + group) * D_STATE + n);
          cn = small_at(p.c_at + ((row0 + t) * p.groups + group) * D_STATE + n);
        }
        b_tile[q] = bn;
        c_tile[q] = cn;
      }
      workgroupBarrier();
      for (var j = 0u; j < SUB; j++) {
        let token = token_of(row0 + t_sub + j, c, t_sub + j < end);
        for (var i = 0u; i < OWN; i++) {
          let before = select(h[i], 0.0, token.mark > 0);
          history[j * OWN + i] = before;
          h[i] = exp2(token.step * a[i]) * before + token.step * token.x * b_tile[j * PADDED + n0 + i];
        }
      }
      for (var round = SUB / ROUND; round > 0u; round--) {
        let j_round = (round - 1u) * ROUND;
        for (var r = ROUND; r > 0u; r--) {
          let j = j_round + r - 1u;
          let token = token_of(row0 + t_sub + j, c, t_sub + j < end);
          var gx = 0.0;
          var gstep = 0.0;
          var yv = 0.0;
          for (var i = 0u; i < OWN; i++) {
            let bn = b_tile[j * PADDED + n0 + i];
            let cn = c_tile[j * PADDED + n0 + i];
            let decay = exp2(token.step * a[i]);
            let past = decay * history[j * OWN + i];
            let now = past + token.step * token.x * bn;
            let g = gh[i] + cn * token.g;
            let at = ((r - 1u) * CHANNELS + k) * 2u * PADDED + n0 + i;
            by_state[at] = select(0.0, g * token.step * token.x, is_active);
            by_state[at + PADDED] = select(0.0, token.g * now, is_active);
            gx += g * bn;
            gstep += g * (a[i] * 0.69314718 * past + bn * token.x);
            yv += cn * now;
            ga[i] += g * token.step * past;
            gh[i] = select(decay * g, 0.0, token.mark > 0);
          }
          let at = ((r - 1u) * THREADS + lid) * 3u;
          by_lane[at] = gx;
          by_lane[at + 1u] = gstep;
          by_lane[at + 2u] = yv;
        }
        workgroupBarrier();
        let t_own = t_sub + j_round + sum_r;
        if (sums_channel && t_own < end) {
          let row = row0 + t_own;
          let out = row * p.d_inner + sum_c;
          let mark = mark_of(row);
          var gx = 0.0;
          var gdelta = 0.0;
          var gz = 0.0;
          if (mark >= 0) {
            var parts = vec3f(0.0);
            for (var l = 0u; l < LANES; l++) {
              let at = (sum_r * THREADS + sum_k * LANES + l) * 3u;
              parts += vec3f(by_lane[at], by_lane[at + 1u], by_lane[at + 2u]);
            }
            let xv = x[p.x_start + row * p.x_pitch + sum_c];
            let raw = raw_step(row, sum_c);
            var g = 0.0;
            if (has(HAS_GY)) {
              g = gy[out];
              if (has(HAS_Z)) {
                let gate = z[p.z_start + row * p.z_pitch + sum_c];
                gz = g * (parts.z + skip * xv) * silu_gradient(gate);
                g *= silu(gate);
              }
            }
            gx = step_of(raw) * parts.x + skip * g;
            gdelta = parts.y;
            if (has(SOFTPLUS)) { gdelta *= sigmoid(raw); }
            g_skip += g * xv;
            g_bias += gdelta;
          }
          grads[p.gx_at + out] = gx;
          grads[p.gdelta_at + out] = gdelta;
          if (has(HAS_Z)) { grads[p.gz_at + out] = gz; }
        }
        for (var q = THREADS - 1u - lid; q < ROUND * 2u * D_STATE; q += THREADS) {
          let r = q / (2u * D_STATE);
          let which = (q / D_STATE) % 2u;
          let n = q % D_STATE;
          let t = t_sub + j_round + r;
          if (t >= end) { continue; }
          var sum = 0.0;
          for (var l = 0u; l < CHANNELS; l++) { sum += by_state[((r * CHANNELS + l) * 2u + which) * PADDED + n]; }
          grads[p.gbc_at + (((row0 + t) * p.groups * p.tiles + tile) * 2u + which) * D_STATE + n] = sum;
        }
        workgroupBarrier();
      }
    }
  }
  let part = split * p.batch * p.d_inner;
  if (is_active) {
    for (var i = 0u; i < OWN; i++) {
      if (n0 + i < D_STATE) { grads[p.ga_at + part * D_STATE + own + n0 + i] = ga[i]; }
    }
  }
  by_lane[lid] = g_skip;
  by_lane[THREADS + lid] = g_bias;
  workgroupBarrier();
  if (lid < CHANNELS && first + lid < p.per_group) {
    let at = part + batch * p.d_inner + sum_c;
    grads[p.gd_at + at] = by_lane[lid] + by_lane[CHANNELS + lid];
    grads[p.gbias_at + at] = by_lane[THREADS + lid] + by_lane[THREADS + CHANNELS + lid];
  }
}
