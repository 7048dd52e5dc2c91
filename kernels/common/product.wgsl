// The whole product of a row with the vector that `input_at` gives, staged piece by piece; uniform over a workgroup of 256. After fetch_ahead. Needs weight.wgsl.
fn row_dot(row: u32, rows: u32, k: u32, lane: u32, lanes: u32, lid: u32) -> f32 {
  var sum = 0.0;
  for (var first = 0u; first < k; first += STAGE) {
    let count = min(k - first, STAGE);
    if (first > 0u) { workgroupBarrier(); }
    for (var q = lid; 4u * q < count; q += 256u) {
      var v = vec4f(0.0);
      for (var i = 0u; i < 4u; i++) {
        if (4u * q + i < count) { v[i] = input_at(first + 4u * q + i); }
      }
      staged[q] = v;
    }
    workgroupBarrier();
    sum += staged_dot(row, rows, k, first, lane, lanes);
  }
  return sum;
}
