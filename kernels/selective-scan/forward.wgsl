// selective-scan / forward — Mamba-1 selective scan; a thread a channel and stretch of tokens, its states in registers
//
//   h[t] = exp(d A) h[t-1] + d B[t] x[t],  d = softplus(delta + deltaBias)     arXiv:2312.00752, Alg. 2
//   y[t] = (C[t] . h[t] + D x[t]) silu(z[t])
//
// PHASE 0: y, from the state before each stretch (states, slot `split`); also keeps the states before every CHUNK tokens.
// PHASE 1, where a sequence is split: only what each stretch makes of a zero state (slot split + 1) and its sum of d (y
//   [splits, batch, dInner], NaN where a mark clears the state): the product of its exp(d A) is exp(A sum d). carries.wgsl follows.
// states: slots of [batch, dInner, dState]: before each stretch, after the last, then, if kept, before each chunk.
// B and C of TILE tokens lie in workgroup memory, with one barrier pair a tile.
// Grid: (tiles of 64 channels within a group x batch, flat over x and y; splits). Bindings: 8, WebGPU's default limit.
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/scan.wgsl"
struct Params {
  batch: u32, length: u32, d_inner: u32, groups: u32, per_group: u32, tiles: u32, splits: u32, stretch: u32, flags: u32,
  d_at: u32, bias_at: u32, marks_at: u32,
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
const TILE: u32 = 16u;
const THREADS: u32 = 64u;
var<workgroup> b_tile: array<f32, TILE * D_STATE>;
var<workgroup> c_tile: array<f32, TILE * D_STATE>;
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let tile = flat_group(id, groups) % (p.groups * p.tiles);
  let batch = flat_group(id, groups) / (p.groups * p.tiles);
  if (batch >= p.batch) { return; }
  let split = id.z;
  let group = tile / p.tiles;
  let within = (tile % p.tiles) * THREADS + lid;
  let is_active = within < p.per_group;
  let c = group * p.per_group + min(within, p.per_group - 1u);
  let slot = p.batch * p.d_inner * D_STATE;
  let own = (batch * p.d_inner + c) * D_STATE;
  let start = split * p.stretch;
  let end = min(p.length, start + p.stretch);
  var a: array<f32, D_STATE>;
  var h: array<f32, D_STATE>;
  for (var n = 0u; n < D_STATE; n++) {
    a[n] = small_at(c * D_STATE + n);
    if (PHASE == 0u) { h[n] = states[split * slot + own + n]; }
  }
  var skip = 0.0;
  if (has(HAS_D)) { skip = small_at(p.d_at + c); }
  var total = 0.0;
  var is_cleared = false;
  for (var t0 = start; t0 < end; t0 += TILE) {
    workgroupBarrier();
    for (var q = lid; q < TILE * D_STATE; q += THREADS) {
      let row = batch * p.length + t0 + q / D_STATE;
      let n = group * D_STATE + q % D_STATE;
      var bn = 0.0;
      var cn = 0.0;
      if (t0 + q / D_STATE < end && mark_of(row) >= 0) {
        bn = B[p.b_start + row * p.b_pitch + n];
        cn = C[p.c_start + row * p.c_pitch + n];
      }
      b_tile[q] = bn;
      c_tile[q] = cn;
    }
    workgroupBarrier();
    for (var t = t0; t < min(end, t0 + TILE); t++) {
      let row = batch * p.length + t;
      let mark = mark_of(row);
      if (PHASE == 0u && has(SAVES) && t % CHUNK == 0u && is_active) {
        let kept = (p.splits + 1u + t / CHUNK) * slot + own;
        for (var n = 0u; n < D_STATE; n++) { states[kept + n] = h[n]; }
      }
      // Padding has no step: the state stays as it is, whatever lies in its inputs.
      var step = 0.0;
      var xv = 0.0;
      if (mark >= 0) {
        step = step_of(raw_step(row, c));
        xv = x[p.x_start + row * p.x_pitch + c];
      }
      if (mark > 0) {
        is_cleared = true;
        for (var n = 0u; n < D_STATE; n++) { h[n] = 0.0; }
      }
      total += step;
      let dx = step * xv;
      let at = (t - t0) * D_STATE;
      var sum = skip * xv;
      for (var n = 0u; n < D_STATE; n++) {
        h[n] = exp2(step * a[n]) * h[n] + dx * b_tile[at + n];
        sum += c_tile[at + n] * h[n];
      }
      if (PHASE == 0u && is_active) {
        if (has(HAS_Z) && mark >= 0) { sum *= silu(z[p.z_start + row * p.z_pitch + c]); }
        y[row * p.d_inner + c] = select(sum, 0.0, mark < 0);
      }
    }
  }
  if (!is_active) { return; }
  if (PHASE == 1u) {
    for (var n = 0u; n < D_STATE; n++) { states[(split + 1u) * slot + own + n] = h[n]; }
    y[(split * p.batch + batch) * p.d_inner + c] = select(total, not_a_number(), is_cleared);
  } else if (split == p.splits - 1u) {
    for (var n = 0u; n < D_STATE; n++) { states[p.splits * slot + own + n] = h[n]; }
  }
}
