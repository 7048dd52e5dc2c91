// 16-bit formats by their bits: exact, subnormals included, and without shader-f16.
fn f16_to_f32(h: u32) -> f32 {
  let s = (h & 0x8000u) << 16u;
  let e = (h >> 10u) & 31u;
  let m = h & 0x3ffu;
  if (e == 0u) {
    let v = f32(m) * 5.9604645e-8;
    return select(v, -v, s != 0u);
  }
  var bits = s | ((e + 112u) << 23u) | (m << 13u);
  if (e == 31u) { bits = s | 0x7f800000u | (m << 13u); }
  return bitcast<f32>(bits);
}
fn bf16_to_f32(h: u32) -> f32 {
  var bits = h << 16u;
  return bitcast<f32>(bits);
}
// Rounds to nearest even.
fn f32_to_f16(x: f32) -> u32 {
  let u = bitcast<u32>(x);
  let s = (u >> 16u) & 0x8000u;
  let m = u & 0x7fffffffu;
  if (m > 0x7f800000u) { return s | 0x7e00u; }
  if (m >= 0x477ff000u) { return s | 0x7c00u; }
  if (m < 0x38800000u) {
    // Below 2^-14: a whole number of 2^-24, rounded to even.
    let shift = min(126u - (m >> 23u), 31u);
    let fraction = (m & 0x7fffffu) | 0x800000u;
    if (shift >= 25u) { return s; }
    let kept = fraction >> shift;
    let rest = fraction & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    return s | (kept + select(0u, 1u, rest > half || (rest == half && (kept & 1u) == 1u)));
  }
  return s | ((m - 0x38000000u + 0xfffu + ((m >> 13u) & 1u)) >> 13u);
}
fn f32_to_bf16(x: f32) -> u32 {
  let u = bitcast<u32>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) { return (u >> 16u) | 0x40u; }
  return ((u + 0x7fffu + ((u >> 16u) & 1u)) >> 16u) & 0xffffu;
}
