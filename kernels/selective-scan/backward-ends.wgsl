// selective-scan / backward-ends — the gradient that each stretch hands to the state before it, with none coming in from later ones
//   gh[t-1] = exp(d[t] A) (gh[t] + C[t] g[t]),  g = gy silu(z)
// carry: slots of [batch, dInner, dState], slot `split` written; sums [splits, batch, dInner] as in forward.wgsl. carries.wgsl follows.
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/scan.wgsl"
struct Params {
  batch: u32, length: u32, d_inner: u32, groups: u32, per_group: u32, splits: u32, stretch: u32, flags: u32,
  bias_at: u32, marks_at: u32, c_at: u32, delta_start: u32, delta_pitch: u32, z_start: u32, z_pitch: u32,
}
@group(0) @binding(0) var<storage, read> delta: array<f32>;
@group(0) @binding(1) var<storage, read> z: array<f32>;
@group(0) @binding(2) var<storage, read> gy: array<f32>;
@group(0) @binding(3) var<storage, read> small: array<u32>;
@group(0) @binding(4) var<storage, read_write> carry: array<f32>;
@group(0) @binding(5) var<storage, read_write> sums: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
const D_STATE: u32 = 16u; // @specialize
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 64u + lid;
  if (i >= p.batch * p.d_inner) { return; }
  let batch = i / p.d_inner;
  let c = i % p.d_inner;
  let split = id.z;
  let start = split * p.stretch;
  let end = min(p.length, start + p.stretch);
  let n0 = (c / p.per_group) * D_STATE;
  var a: array<f32, D_STATE>;
  var gh: array<f32, D_STATE>;
  for (var n = 0u; n < D_STATE; n++) { a[n] = small_at(c * D_STATE + n); }
  var total = 0.0;
  var is_cleared = false;
  for (var t = end; t > start; t--) {
    let row = batch * p.length + t - 1u;
    let mark = mark_of(row);
    if (mark < 0) { continue; }
    let step = step_of(raw_step(row, c));
    var g = 0.0;
    if (has(HAS_GY)) {
      g = gy[row * p.d_inner + c];
      if (has(HAS_Z)) { g *= silu(z[p.z_start + row * p.z_pitch + c]); }
    }
    total += step;
    is_cleared = is_cleared || mark > 0;
    let at = p.c_at + row * p.groups * D_STATE + n0;
    for (var n = 0u; n < D_STATE; n++) {
      gh[n] = select(exp2(step * a[n]) * (gh[n] + small_at(at + n) * g), 0.0, mark > 0);
    }
  }
  for (var n = 0u; n < D_STATE; n++) { carry[(split * p.batch * p.d_inner + i) * D_STATE + n] = gh[n]; }
  sums[split * p.batch * p.d_inner + i] = select(total, not_a_number(), is_cleared);
}
