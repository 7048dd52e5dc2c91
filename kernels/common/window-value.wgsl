fn window_value(batch: u32, at: i32, c: u32) -> f32 {
  let carried = i32(p.width) - 1;
  if (at >= 0) { return x[p.x_start + (batch * p.length + u32(at)) * p.x_pitch + c]; }
  if (at < -carried || p.has_state == 0u) { return 0.0; }
  return state[(batch * u32(carried) + u32(carried + at)) * p.channels + c];
}
