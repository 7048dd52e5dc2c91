// The experts' activations and their derivatives. ACTIVATION: 0 relu, 1 silu, 2 gelu (by erf). Needs math.wgsl.
override ACTIVATION: u32;
fn activation(v: f32) -> f32 {
  switch ACTIVATION {
    case 0u: { return max(v, 0.0); }
    case 1u: { return silu(v); }
    default: { return 0.5 * v * (1.0 + erf(v * 0.70710678)); }
  }
}
fn activation_gradient(v: f32) -> f32 {
  switch ACTIVATION {
    case 0u: { return select(0.0, 1.0, v > 0.0); }
    case 1u: { return silu_gradient(v); }
    default: { return 0.5 * (1.0 + erf(v * 0.70710678)) + v * 0.39894228 * exp(-0.5 * v * v); }
  }
}
