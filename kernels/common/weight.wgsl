// Rows of a weight [out, in] in any format against a vector, of which STAGE elements at a time lie in workgroup memory.
// WEIGHT: 0 float32, 1 f16, 2 bf16, 3 q8_0 (all quants, then all scales). Rows that are whole pieces (a vec4 of words) are read so,
// several of them in flight: `fetch_ahead` starts on the first while the vector is still being made.
override WEIGHT: u32;
const STAGE: u32 = 2048u; // @specialize
var<workgroup> staged: array<vec4f, STAGE / 4u>;
struct Piece { words: vec4u, scale: f32 }
var<private> ahead0: Piece;
var<private> ahead1: Piece;
var<private> ahead2: Piece;
var<private> ahead3: Piece;

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
// Elements of a piece.
fn per_piece() -> u32 {
  switch WEIGHT {
    case 0u: { return 4u; }
    case 1u, 2u: { return 8u; }
    default: { return 16u; }
  }
}
fn piece(row: u32, rows: u32, k: u32, j: u32) -> Piece {
  var scale = 1.0;
  if (WEIGHT == 3u) { scale = bitcast<f32>(word_at((rows * k) / 4u + (row * k + 16u * j) / 32u)); }
  return Piece(weight[row * (k / per_piece()) + j], scale);
}
// @param at - the element of `staged` that the piece begins at
fn piece_dot(q: Piece, at: u32) -> f32 {
  let w = q.words;
  let i = at / 4u;
  switch WEIGHT {
    case 0u: { return dot(bitcast<vec4f>(w), staged[i]); }
    case 1u, 2u: {
      return dot(vec4f(halves(w.x), halves(w.y)), staged[i]) + dot(vec4f(halves(w.z), halves(w.w)), staged[i + 1u]);
    }
    default: {
      return q.scale * (dot(signed_bytes(w.x), staged[i]) + dot(signed_bytes(w.y), staged[i + 1u])
        + dot(signed_bytes(w.z), staged[i + 2u]) + dot(signed_bytes(w.w), staged[i + 3u]));
    }
  }
}
// The pieces that a lane takes next: `from`, and up to three more, `lanes` apart; beyond the staged ones they are zero.
fn fetch_ahead(row: u32, rows: u32, k: u32, from_piece: u32, lanes: u32) {
  let per = per_piece();
  if (k % per != 0u) { return; }
  let end = min(k, (from_piece * per / STAGE + 1u) * STAGE) / per;
  ahead0 = Piece();
  ahead1 = Piece();
  ahead2 = Piece();
  ahead3 = Piece();
  if (from_piece < end) { ahead0 = piece(row, rows, k, from_piece); }
  if (from_piece + lanes < end) { ahead1 = piece(row, rows, k, from_piece + lanes); }
  if (from_piece + 2u * lanes < end) { ahead2 = piece(row, rows, k, from_piece + 2u * lanes); }
  if (from_piece + 3u * lanes < end) { ahead3 = piece(row, rows, k, from_piece + 3u * lanes); }
}
// A lane's share of the dot product of a row, of `rows` with k elements, with the staged elements `first` to first + STAGE.
// Before it with first 0: fetch_ahead from piece `lane`, and a barrier after staging.
fn staged_dot(row: u32, rows: u32, k: u32, first: u32, lane: u32, lanes: u32) -> f32 {
  var sum = 0.0;
  let per = per_piece();
  let count = min(k - first, STAGE);
  if (k % per != 0u) {
    for (var j = lane; j < count; j += lanes) { sum += element(row * k + first + j, rows * k) * staged[j / 4u][j % 4u]; }
    return sum;
  }
  let n = count / per;
  for (var j = lane; j < n; j += 4u * lanes) {
    if (first > 0u || j != lane) { fetch_ahead(row, rows, k, first / per + j, lanes); }
    // Pieces that are not there are zero; what they are multiplied by must only be within the stage.
    sum += piece_dot(ahead0, j * per);
    sum += piece_dot(ahead1, min(j + lanes, n - 1u) * per);
    sum += piece_dot(ahead2, min(j + 2u * lanes, n - 1u) * per);
    sum += piece_dot(ahead3, min(j + 3u * lanes, n - 1u) * per);
  }
  return sum;
}
