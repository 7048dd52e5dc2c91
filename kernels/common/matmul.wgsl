// Operands, tiles and results of the matrix products; needs BM, BN, BK, THREADS.
struct Params {
  m: u32, n: u32, k: u32, k_stretch: u32, splits: u32,
  a_start: u32, a_row: u32, a_col: u32, a_batch: u32,
  b_start: u32, b_row: u32, b_col: u32, b_batch: u32,
  y_start: u32, y_row: u32, y_batch: u32,
}
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override HAS_BIAS: bool;
override ACCUMULATES: bool;
const A_PITCH: u32 = BM / 4u + 1u;
const B_PITCH: u32 = BN / 4u + 1u;
var<workgroup> a_tile: array<vec4f, BK * A_PITCH>;
var<workgroup> b_tile: array<vec4f, BK * B_PITCH>;

fn a_at(i: u32, l: u32, base: u32, end: u32) -> f32 {
  if (i < p.m && l < end) { return a[base + i * p.a_row + l * p.a_col]; }
  return 0.0;
}
fn b_at(l: u32, j: u32, base: u32, end: u32) -> f32 {
  if (j < p.n && l < end) { return b[base + l * p.b_row + j * p.b_col]; }
  return 0.0;
}
// Columns l0 ... l0 + BK of a's rows and of b's columns; neighbouring threads read what lies side by side in memory.
fn load_tiles(lid: u32, m0: u32, n0: u32, l0: u32, a_base: u32, b_base: u32, end: u32) {
  for (var q = lid; q < BK * (BM / 4u); q += THREADS) {
    let l = select(q / (BM / 4u), q % BK, p.a_col == 1u);
    let quad = select(q % (BM / 4u), q / BK, p.a_col == 1u);
    let i = m0 + 4u * quad;
    let k = l0 + l;
    a_tile[l * A_PITCH + quad] =
      vec4f(a_at(i, k, a_base, end), a_at(i + 1u, k, a_base, end), a_at(i + 2u, k, a_base, end), a_at(i + 3u, k, a_base, end));
  }
  for (var q = lid; q < BK * (BN / 4u); q += THREADS) {
    let l = select(q / (BN / 4u), q % BK, p.b_row == 1u);
    let quad = select(q % (BN / 4u), q / BK, p.b_row == 1u);
    let j = n0 + 4u * quad;
    let k = l0 + l;
    b_tile[l * B_PITCH + quad] =
      vec4f(b_at(k, j, b_base, end), b_at(k, j + 1u, b_base, end), b_at(k, j + 2u, b_base, end), b_at(k, j + 3u, b_base, end));
  }
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
