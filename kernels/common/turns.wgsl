// Complex numbers, and parts of a circle from a table: sin and cos of WGSL are not accurate enough.
fn times(a: vec2f, b: vec2f) -> vec2f { return vec2f(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x); }
// exp(-+ 2 pi i k / (2 length)) for k < 2 length, from a table of the first half circle.
fn directed(k: u32, length: u32, inverse: u32) -> vec2f {
  var turn = turns[select(k, 2u * length - k, k > length)];
  if ((k > length) != (inverse != 0u)) { turn.y = -turn.y; }
  return turn;
}
