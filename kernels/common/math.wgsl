// Functions that WGSL has not, or whose accuracy it leaves open. NaN is told by its bits: compilers may assume there is none.
fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
fn of_bits(bits: u32) -> f32 { var b = bits; return bitcast<f32>(b); }
fn infinity() -> f32 { return of_bits(0x7f800000u); }
fn not_a_number() -> f32 { return of_bits(0x7fc00000u); }

fn sigmoid(x: f32) -> f32 {
  let e = exp(-abs(x));
  return select(e, 1.0, x >= 0.0) / (1.0 + e);
}
fn silu(x: f32) -> f32 { return x * sigmoid(x); }
fn silu_gradient(x: f32) -> f32 {
  let s = sigmoid(x);
  return s * (1.0 + x * (1.0 - s));
}
// The identity above 20, and accurate below: log(1 + e) loses the digits of a small e, its series does not.
fn softplus(x: f32) -> f32 {
  let e = exp(min(x, 20.0));
  let series = e * (1.0 - e * (0.5 - e * (0.33333334 - e * (0.25 - e * (0.2 - e * 0.16666667)))));
  return select(select(log(1.0 + e), series, e < 0.1), x, x > 20.0);
}
fn tanh_accurate(x: f32) -> f32 {
  let a = abs(x);
  let t = exp(-2.0 * a);
  let s = x * x;
  let series = x * (1.0 - s * (0.33333334 - s * (0.13333334 - s * 0.053968254)));
  return select(sign(x) * (1.0 - t) / (1.0 + t), series, a < 0.1);
}
// Abramowitz and Stegun 7.1.26, to 2e-7.
fn erf(x: f32) -> f32 {
  let t = 1.0 / (1.0 + 0.3275911 * abs(x));
  let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return sign(x) * (1.0 - p * exp(-x * x));
}
// Sine after reduction to [-pi/4, pi/4] by multiples of pi/2 in two parts; `quarter` 1 makes it the cosine.
fn sine(x: f32, quarter: u32) -> f32 {
  let k = round(x * 0.63661975);
  let r = ((x - k * 1.5703125) - k * 4.8375130e-4) - k * 7.5497900e-8;
  let s = r * r;
  let sin_r = r * (1.0 - s * (0.16666667 - s * (8.3333333e-3 - s * 1.9841270e-4)));
  let cos_r = 1.0 - s * (0.5 - s * (4.1666667e-2 - s * (1.3888889e-3 - s * 2.4801587e-5)));
  let q = (u32(i32(k)) + quarter) & 3u;
  let y = select(sin_r, cos_r, (q & 1u) == 1u);
  return select(y, -y, q >= 2u);
}
fn power(a: f32, b: f32) -> f32 {
  if (b == 0.0) { return 1.0; }
  let m = select(exp2(b * log2(abs(a))), select(infinity(), 0.0, b > 0.0), a == 0.0);
  if (a >= 0.0 || is_nan(a)) { return m; }
  if (floor(b) != b) { return not_a_number(); }
  return select(m, -m, fract(abs(b) * 0.5) != 0.0);
}
// NaN is passed on.
fn larger(a: f32, b: f32) -> f32 {
  if (is_nan(a)) { return a; }
  if (is_nan(b)) { return b; }
  return max(a, b);
}
fn smaller(a: f32, b: f32) -> f32 {
  if (is_nan(a)) { return a; }
  if (is_nan(b)) { return b; }
  return min(a, b);
}
