// What `argReduce` prefers: NaN, then the larger (or, with IS_MIN, the smaller) number, then the lower index. Needs math.wgsl.
override IS_MIN: bool;
override IS_INT: bool;
fn beats(u: u32, i: u32, v: u32, j: u32) -> bool {
  if (IS_INT) {
    let a = bitcast<i32>(u);
    let b = bitcast<i32>(v);
    return select(a > b, a < b, IS_MIN) || (a == b && i < j);
  }
  let a = bitcast<f32>(u);
  let b = bitcast<f32>(v);
  if (is_nan(a) || is_nan(b)) { return is_nan(a) && (!is_nan(b) || i < j); }
  return select(a > b, a < b, IS_MIN) || (a == b && i < j);
}
