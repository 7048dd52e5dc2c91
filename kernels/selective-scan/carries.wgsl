// selective-scan / carries — from what each stretch makes of zero to what it makes of what comes in: in place over the slots of `states`
// Forwards slot s + 1 becomes exp(A sum d[s]) slot[s] + slot[s + 1]; with IS_REVERSED slot s becomes exp(A sum d[s]) slot[s + 1] + slot[s].
// A sum that is NaN stands for a stretch that clears the state. A thread an element of [batch, dInner, dState].
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
struct Params { count: u32, channels: u32, d_state: u32, splits: u32, d_inner: u32 }
@group(0) @binding(0) var<storage, read> small: array<f32>;
@group(0) @binding(1) var<storage, read> sums: array<f32>;
@group(0) @binding(2) var<storage, read_write> states: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override IS_REVERSED: bool;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let channel = i / p.d_state;
  let a = small[(channel % p.d_inner) * p.d_state + i % p.d_state];
  var h = states[select(0u, p.splits, IS_REVERSED) * p.count + i];
  for (var k = 0u; k < p.splits; k++) {
    let s = select(k, p.splits - 1u - k, IS_REVERSED);
    let total = sums[s * p.channels + channel];
    var carried = 0.0;
    if (!is_nan(total)) { carried = exp2(a * total) * h; }
    let slot = select(s + 1u, s, IS_REVERSED) * p.count + i;
    h = carried + states[slot];
    states[slot] = h;
  }
}
