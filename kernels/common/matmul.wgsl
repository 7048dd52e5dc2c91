// Operands, tiles and results of the matrix products; needs BM, BN, BK, THREADS.
// #include "quad.wgsl"
// #include "product-operands.wgsl"
override HAS_BIAS: bool;
override ACCUMULATES: bool;
const A_PITCH: u32 = BM / 4u;
const B_PITCH: u32 = BN / 4u;
// Two tiles of each: one is multiplied while the next is written.
var<workgroup> a_tile: array<Quad, 2u * BK * A_PITCH>;
var<workgroup> b_tile: array<Quad, 2u * BK * B_PITCH>;

// How a tile is read: 0 element by element, whatever the strides; 1 as quads along m (n of b), 2 as quads along k. For 1 and 2 what is
// walked along, and every stride and start, is a multiple of four. A thread reads one quad of each operand, or two.
override A_MODE: u32;
override B_MODE: u32;
const A_PIECES: u32 = BK * A_PITCH / THREADS;
const B_PIECES: u32 = BK * B_PITCH / THREADS;
var<private> a_ahead0: Quad;
var<private> a_ahead1: Quad;
var<private> b_ahead0: Quad;
var<private> b_ahead1: Quad;

fn a_at(i: u32, l: u32, base: u32, end: u32) -> Element {
  if (i >= p.m || l >= end) { return Element(0.0); }
  let at = base + i * p.a_row + l * p.a_col;
  return a[at / 4u][at % 4u];
}
fn b_at(l: u32, j: u32, base: u32, end: u32) -> Element {
  if (j >= p.n || l >= end) { return Element(0.0); }
  let at = base + l * p.b_row + j * p.b_col;
  return b[at / 4u][at % 4u];
}
fn a_goes_along_k() -> bool { return A_MODE == 2u || (A_MODE == 0u && p.a_col == 1u); }
fn b_goes_along_k() -> bool { return B_MODE == 2u || (B_MODE == 0u && p.b_row == 1u); }
fn a_piece(q: u32, m0: u32, l0: u32, base: u32, end: u32) -> Quad {
  let along_k = a_goes_along_k();
  let i = m0 + select(4u * (q % A_PITCH), q / (BK / 4u), along_k);
  let l = l0 + select(q / A_PITCH, 4u * (q % (BK / 4u)), along_k);
  if (A_MODE == 0u) {
    let di = select(1u, 0u, along_k);
    let dl = 1u - di;
    return Quad(a_at(i, l, base, end), a_at(i + di, l + dl, base, end),
      a_at(i + 2u * di, l + 2u * dl, base, end), a_at(i + 3u * di, l + 3u * dl, base, end));
  }
  if (i < p.m && l < end) { return a[(base + i * p.a_row + l * p.a_col) / 4u]; }
  return Quad(0.0);
}
fn b_piece(q: u32, n0: u32, l0: u32, base: u32, end: u32) -> Quad {
  let along_k = b_goes_along_k();
  let j = n0 + select(4u * (q % B_PITCH), q / (BK / 4u), along_k);
  let l = l0 + select(q / B_PITCH, 4u * (q % (BK / 4u)), along_k);
  if (B_MODE == 0u) {
    let dj = select(1u, 0u, along_k);
    let dl = 1u - dj;
    return Quad(b_at(l, j, base, end), b_at(l + dl, j + dj, base, end),
      b_at(l + 2u * dl, j + 2u * dj, base, end), b_at(l + 3u * dl, j + 3u * dj, base, end));
  }
  if (j < p.n && l < end) { return b[(base + l * p.b_row + j * p.b_col) / 4u]; }
  return Quad(0.0);
}
// Reads this thread's part of the tiles from l0 on into registers; beyond `end` it is zero.
fn fetch_tiles(lid: u32, m0: u32, n0: u32, l0: u32, a_base: u32, b_base: u32, end: u32) {
  a_ahead0 = a_piece(lid, m0, l0, a_base, end);
  if (A_PIECES > 1u) { a_ahead1 = a_piece(lid + THREADS, m0, l0, a_base, end); }
  b_ahead0 = b_piece(lid, n0, l0, b_base, end);
  if (B_PIECES > 1u) { b_ahead1 = b_piece(lid + THREADS, n0, l0, b_base, end); }
}
fn put_a(q: u32, v: Quad, half: u32) {
  let tile = half * BK * A_PITCH;
  if (!a_goes_along_k()) { a_tile[tile + q] = v; return; }
  let i = q / (BK / 4u);
  let at = tile + 4u * (q % (BK / 4u)) * A_PITCH + i / 4u;
  for (var x = 0u; x < 4u; x++) { a_tile[at + x * A_PITCH][i % 4u] = v[x]; }
}
fn put_b(q: u32, v: Quad, half: u32) {
  let tile = half * BK * B_PITCH;
  if (!b_goes_along_k()) { b_tile[tile + q] = v; return; }
  let j = q / (BK / 4u);
  let at = tile + 4u * (q % (BK / 4u)) * B_PITCH + j / 4u;
  for (var x = 0u; x < 4u; x++) { b_tile[at + x * B_PITCH][j % 4u] = v[x]; }
}
// What was fetched, into one half of the tiles.
fn put_tiles(lid: u32, half: u32) {
  put_a(lid, a_ahead0, half);
  if (A_PIECES > 1u) { put_a(lid + THREADS, a_ahead1, half); }
  put_b(lid, b_ahead0, half);
  if (B_PIECES > 1u) { put_b(lid + THREADS, b_ahead1, half); }
}
fn put(i: u32, j: u32, y_base: u32, product: f32) {
  if (j >= p.n) { return; }
  let at = y_base + i * p.y_row + j;
  var value = product;
  if (HAS_BIAS) { value += bias[j]; }
  if (ACCUMULATES) { value += y[at]; }
  y[at] = value;
}
fn put4(i: u32, j: u32, y_base: u32, products: vec4f) {
  if (i >= p.m) { return; }
  put(i, j, y_base, products.x);
  put(i, j + 1u, y_base, products.y);
  put(i, j + 2u, y_base, products.z);
  put(i, j + 3u, y_base, products.w);
}
