// Windows of the causal convolution. Positions count tokens of one row; those before 0 are the carried state, newest at -1.
// Padding is stepped over; what lies before a start of a sequence is not there. Needs p.length, p.width, p.has_marks and marks.
const NOWHERE: i32 = -2147483647;
fn mark_of(batch: u32, at: i32) -> i32 {
  if (p.has_marks == 0u || at < 0) { return 0; }
  return marks[batch * p.length + u32(at)];
}
// The real token at or before a position.
fn real(batch: u32, from_at: i32) -> i32 {
  var at = from_at;
  while (at >= 0 && mark_of(batch, at) < 0) { at--; }
  return at;
}
fn before(batch: u32, at: i32) -> i32 {
  if (at == NOWHERE || mark_of(batch, at) > 0) { return NOWHERE; }
  return real(batch, at - 1);
}
