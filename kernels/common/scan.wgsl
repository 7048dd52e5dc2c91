// What the kernels of the selective scan share. `small` holds, word for word: A log2(e) [dInner, dState], D [dInner],
// deltaBias [dInner], marks [batch, length], and for the gradient B and C [batch, length, groups dState].
const SOFTPLUS: u32 = 1u;
const HAS_D: u32 = 2u;
const HAS_Z: u32 = 4u;
const HAS_BIAS: u32 = 8u;
const HAS_MARKS: u32 = 16u;
const SAVES: u32 = 32u;
const HAS_GY: u32 = 64u;
// States are kept before every so many tokens.
const CHUNK: u32 = 8u; // @specialize
fn has(flag: u32) -> bool { return (p.flags & flag) != 0u; }
fn mark_of(row: u32) -> i32 {
  if (!has(HAS_MARKS)) { return 0; }
  return bitcast<i32>(small[p.marks_at + row]);
}
fn small_at(at: u32) -> f32 { return bitcast<f32>(small[at]); }
fn raw_step(row: u32, c: u32) -> f32 {
  var raw = delta[p.delta_start + row * p.delta_pitch + c];
  if (has(HAS_BIAS)) { raw += small_at(p.bias_at + c); }
  return raw;
}
fn step_of(raw: f32) -> f32 {
  if (has(SOFTPLUS)) { return softplus(raw); }
  return raw;
}

// Whether every thread's states are whole vectors. Components are named one by one: an index that a compiler cannot resolve puts what
// it is applied to into memory.
const IS_WHOLE: bool = D_STATE % (4u * LANES) == 0u;
fn is_state(n: u32) -> bool { return IS_WHOLE || n < D_STATE; }
// Four words of `small` from `at` on, of which the first is of state n; zero for states that there are not.
fn small_quad(at: u32, n: u32) -> vec4f {
  var v = vec4f(0.0);
  if (is_state(n)) { v.x = small_at(at); }
  if (is_state(n + 1u)) { v.y = small_at(at + 1u); }
  if (is_state(n + 2u)) { v.z = small_at(at + 2u); }
  if (is_state(n + 3u)) { v.w = small_at(at + 3u); }
  return v;
}
