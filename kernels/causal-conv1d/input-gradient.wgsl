// causal-conv1d / input-gradient — gx and gstate: each input collects weight g from the windows that it stands in, and the final state's gradient
// A thread an element of [batch, width - 1 + length, channels]: state first.
// #include "../common/grid.wgsl"
struct Params { count: u32, length: u32, channels: u32, width: u32, has_g: u32, has_final: u32, has_marks: u32 }
@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read> marks: array<i32>;
@group(0) @binding(2) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read> gfinal: array<f32>;
@group(0) @binding(4) var<storage, read_write> gx: array<f32>;
@group(0) @binding(5) var<storage, read_write> gstate: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
fn mark_of(row: u32) -> i32 {
  if (p.has_marks == 0u) { return 0; }
  return marks[row];
}
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let carried = p.width - 1u;
  let c = i % p.channels;
  let place = (i / p.channels) % (carried + p.length);
  let batch = i / p.channels / (carried + p.length);
  let row0 = batch * p.length;
  let is_state = place < carried;
  // The window of the token in hand holds this input at tap k - 1; of each later real token, one tap earlier.
  var k = select(p.width, place + 1u, is_state);
  var t = select(place - carried, 0u, is_state);
  var sum = 0.0;
  if (!is_state) {
    if (mark_of(row0 + t) < 0) { gx[(row0 + t) * p.channels + c] = 0.0; return; }
    if (p.has_g != 0u) { sum = weight[c * p.width + k - 1u] * g[(row0 + t) * p.channels + c]; }
    k--;
    t++;
  }
  var is_cut = false;
  while (k > 0u && t < p.length) {
    let mark = mark_of(row0 + t);
    if (mark > 0) { is_cut = true; break; }
    if (mark == 0) {
      if (p.has_g != 0u) { sum += weight[c * p.width + k - 1u] * g[(row0 + t) * p.channels + c]; }
      k--;
    }
    t++;
  }
  // Nothing came after: it is still in the final state.
  if (!is_cut && k > 0u && p.has_final != 0u) {
    // A state that was not pushed out lies k - 1 from the start, a token likewise.
    sum += gfinal[(batch * carried + k - 1u) * p.channels + c];
  }
  if (is_state) { gstate[(batch * carried + place) * p.channels + c] = sum; }
  else { gx[(row0 + place - carried) * p.channels + c] = sum; }
}
