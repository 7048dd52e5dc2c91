// selective-scan / backward-ends — the gradient that each stretch hands to the state before it, with none coming in from later ones
//   gh[t-1] = exp(d[t] A) (gh[t] + C[t] g[t]),  g = gy silu(z)
// carry: slots of [batch, dInner, dState], slot `split` written; sums [splits, batch, dInner] as in forward.wgsl. carries.wgsl follows.
// Threads, tiles and staging as in forward.wgsl, from the end. Grid: (tiles of 32 channels within a group x batch, flat; splits).
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/scan.wgsl"
struct Params {
  batch: u32, length: u32, d_inner: u32, groups: u32, per_group: u32, tiles: u32, splits: u32, stretch: u32, flags: u32,
  first: u32, last: u32, bias_at: u32, marks_at: u32, c_at: u32, delta_start: u32, delta_pitch: u32, z_start: u32, z_pitch: u32,
}
@group(0) @binding(0) var<storage, read> delta: array<f32>;
@group(0) @binding(1) var<storage, read> z: array<f32>;
@group(0) @binding(2) var<storage, read> gy: array<f32>;
@group(0) @binding(3) var<storage, read> small: array<u32>;
@group(0) @binding(4) var<storage, read_write> carry: array<f32>;
@group(0) @binding(5) var<storage, read_write> sums: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
const D_STATE: u32 = 16u; // @specialize
const LANES: u32 = 4u; // @specialize
const TILE: u32 = 16u; // @specialize
const QUADS: u32 = (D_STATE + 4u * LANES - 1u) / (4u * LANES);
const PER_TOKEN: u32 = LANES * QUADS;
const EACH: u32 = TILE / LANES;
const THREADS: u32 = 32u * LANES;
const C_PIECES: u32 = TILE * PER_TOKEN;
const PIECES: u32 = (C_PIECES + THREADS - 1u) / THREADS;
var<workgroup> steps: array<vec2f, TILE * 32u>;
var<workgroup> c_tile: array<vec4f, C_PIECES>;
var<workgroup> marks: array<i32, TILE>;
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
  let n0 = lane * 4u * QUADS;
  let row0 = batch * p.length;
  let start = p.first + split * p.stretch;
  let end = min(p.last, start + p.stretch);
  var a: array<vec4f, QUADS>;
  var gh: array<vec4f, QUADS>;
  for (var q = 0u; q < QUADS; q++) { a[q] = small_quad(c * D_STATE + n0 + 4u * q, n0 + 4u * q); }
  var total = 0.0;
  var is_cleared = false;
  var next_raw: array<f32, EACH>;
  var next_z: array<f32, EACH>;
  var next_gy: array<f32, EACH>;
  var next_mark: array<i32, EACH>;
  var next_c: array<vec4f, PIECES>;
  let count = (end - min(start, end) + TILE - 1u) / TILE;
  for (var left = count + 1u; left > 0u; left--) {
    if (left <= count) {
      for (var e = 0u; e < EACH; e++) {
        let t = lane + LANES * e;
        var step = vec2f(0.0);
        if (next_mark[e] >= 0) {
          step.x = step_of(next_raw[e]);
          if (has(HAS_GY)) {
            step.y = next_gy[e];
            if (has(HAS_Z)) { step.y *= silu(next_z[e]); }
          }
        }
        steps[t * 32u + k] = step;
        if (k == 0u) { marks[t] = next_mark[e]; }
      }
      for (var i = 0u; i < PIECES; i++) {
        let at = lid + i * THREADS;
        if (at < C_PIECES) { c_tile[at] = next_c[i]; }
      }
    }
    workgroupBarrier();
    if (left > 1u) {
      let t0 = start + (left - 2u) * TILE;
      for (var e = 0u; e < EACH; e++) {
        let t = t0 + lane + LANES * e;
        let row = row0 + t;
        next_mark[e] = -1;
        if (t < end) {
          next_mark[e] = mark_of(row);
          next_raw[e] = raw_step(row, c);
          if (has(HAS_Z)) { next_z[e] = z[p.z_start + row * p.z_pitch + c]; }
          if (has(HAS_GY)) { next_gy[e] = gy[row * p.d_inner + c]; }
        }
      }
      for (var i = 0u; i < PIECES; i++) {
        let at = lid + i * THREADS;
        let row = row0 + t0 + at / PER_TOKEN;
        let n = 4u * (at % PER_TOKEN);
        var v = vec4f(0.0);
        if (at < C_PIECES && t0 + at / PER_TOKEN < end && mark_of(row) >= 0) {
          v = small_quad(p.c_at + (row * p.groups + group) * D_STATE + n, n);
        }
        next_c[i] = v;
      }
    }
    if (left <= count) {
      for (var t = TILE; t > 0u; t--) {
        let step = steps[(t - 1u) * 32u + k];
        total += step.x;
        for (var q = 0u; q < QUADS; q++) {
          gh[q] = exp2(step.x * a[q]) * (gh[q] + c_tile[(t - 1u) * PER_TOKEN + lane * QUADS + q] * step.y);
        }
        if (has(HAS_MARKS) && marks[t - 1u] > 0) {
          is_cleared = true;
          for (var q = 0u; q < QUADS; q++) { gh[q] = vec4f(0.0); }
        }
      }
    }
    workgroupBarrier();
  }
  if (!is_active) { return; }
  let own = ((split * p.batch + batch) * p.d_inner + c) * D_STATE;
  for (var q = 0u; q < QUADS; q++) {
    let n = n0 + 4u * q;
    if (is_state(n)) { carry[own + n] = gh[q].x; }
    if (is_state(n + 1u)) { carry[own + n + 1u] = gh[q].y; }
    if (is_state(n + 2u)) { carry[own + n + 2u] = gh[q].z; }
    if (is_state(n + 3u)) { carry[own + n + 3u] = gh[q].w; }
  }
  if (lane == 0u) { sums[(split * p.batch + batch) * p.d_inner + c] = select(total, not_a_number(), is_cleared); }
}
