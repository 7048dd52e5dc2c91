// Rows of a weight [out, in] in any format against a vector that `input_at(k)` gives: a lane's share of the dot product.
// WEIGHT: 0 float32, 1 f16, 2 bf16, 3 q8_0 (all quants, then all scales). Rows that are whole vec4 of words are read so.
override WEIGHT: u32;
fn input4(k: u32) -> vec4f { return vec4f(input_at(k), input_at(k + 1u), input_at(k + 2u), input_at(k + 3u)); }
fn word_at(i: u32) -> u32 { return weight[i / 4u][i % 4u]; }
fn signed_bytes(w: u32) -> vec4f {
  let v = vec4i(vec4u(w << 24u, w << 16u, w << 8u, w)) >> vec4u(24u);
  return vec4f(v);
}
fn halves(w: u32) -> vec2f {
  if (WEIGHT == 1u) { return unpack2x16float(w); }
  return vec2f(bitcast<f32>(w << 16u), bitcast<f32>(w & 0xffff0000u));
}
fn element(i: u32, count: u32) -> f32 {
  switch WEIGHT {
    case 0u: { return bitcast<f32>(word_at(i)); }
    case 1u, 2u: {
      let pair = halves(word_at(i / 2u));
      return select(pair.x, pair.y, i % 2u == 1u);
    }
    default: { return signed_bytes(word_at(i / 4u))[i % 4u] * bitcast<f32>(word_at(count / 4u + i / 32u)); }
  }
}
// @param row - of `rows`, each of k elements
fn row_dot(row: u32, rows: u32, k: u32, lane: u32, lanes: u32) -> f32 {
  var sum = 0.0;
  var per = 4u;
  if (WEIGHT == 1u || WEIGHT == 2u) { per = 8u; }
  if (WEIGHT == 3u) { per = 16u; }
  if (k % per != 0u) {
    for (var j = lane; j < k; j += lanes) { sum += element(row * k + j, rows * k) * input_at(j); }
    return sum;
  }
  let n = k / per;
  let base = row * n;
  for (var j = lane; j < n; j += lanes) {
    let w = weight[base + j];
    let at = j * per;
    switch WEIGHT {
      case 0u: { sum += dot(bitcast<vec4f>(w), input4(at)); }
      case 1u, 2u: {
        sum += dot(vec4f(halves(w.x), halves(w.y)), input4(at)) + dot(vec4f(halves(w.z), halves(w.w)), input4(at + 4u));
      }
      default: {
        let scale = bitcast<f32>(word_at((rows * k) / 4u + (row * k + at) / 32u));
        sum += scale * (dot(signed_bytes(w.x), input4(at)) + dot(signed_bytes(w.y), input4(at + 4u))
          + dot(signed_bytes(w.z), input4(at + 8u)) + dot(signed_bytes(w.w), input4(at + 12u)));
      }
    }
  }
  return sum;
}
