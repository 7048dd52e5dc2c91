// Operands, tiles and results of the matrix products; needs BM, BN, BK, THREADS.
struct Params {
  m: u32, n: u32, k: u32, k_stretch: u32, splits: u32,
  a_start: u32, a_row: u32, a_col: u32, a_batch: u32,
  b_start: u32, b_row: u32, b_col: u32, b_batch: u32,
  y_start: u32, y_row: u32, y_batch: u32,
}
@group(0) @binding(0) var<storage, read> a: array<vec4f>;
@group(0) @binding(1) var<storage, read> b: array<vec4f>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override HAS_BIAS: bool;
override ACCUMULATES: bool;
const A_PITCH: u32 = BM / 4u + 1u;
const B_PITCH: u32 = BN / 4u + 1u;
var<workgroup> a_tile: array<vec4f, BK * A_PITCH>;
var<workgroup> b_tile: array<vec4f, BK * B_PITCH>;

// How a tile is read: 0 element by element, whatever the strides; 1 as vec4 along m (n of b), 2 as vec4 along k and transposed in
// registers. For 1 and 2 what is walked along, and every stride and start, is a multiple of four.
override A_MODE: u32;
override B_MODE: u32;

fn a_at(i: u32, l: u32, base: u32, end: u32) -> f32 {
  if (i >= p.m || l >= end) { return 0.0; }
  let at = base + i * p.a_row + l * p.a_col;
  return a[at / 4u][at % 4u];
}
fn b_at(l: u32, j: u32, base: u32, end: u32) -> f32 {
  if (j >= p.n || l >= end) { return 0.0; }
  let at = base + l * p.b_row + j * p.b_col;
  return b[at / 4u][at % 4u];
}
fn a_quad(i: u32, l: u32, base: u32, end: u32) -> vec4f {
  if (i < p.m && l < end) { return a[(base + i * p.a_row + l * p.a_col) / 4u]; }
  return vec4f(0.0);
}
fn b_quad(l: u32, j: u32, base: u32, end: u32) -> vec4f {
  if (j < p.n && l < end) { return b[(base + l * p.b_row + j * p.b_col) / 4u]; }
  return vec4f(0.0);
}
fn load_a(lid: u32, m0: u32, l0: u32, base: u32, end: u32) {
  if (A_MODE == 1u) {
    for (var q = lid; q < BK * (BM / 4u); q += THREADS) {
      let l = q / (BM / 4u);
      let quad = q % (BM / 4u);
      a_tile[l * A_PITCH + quad] = a_quad(m0 + 4u * quad, l0 + l, base, end);
    }
  } else if (A_MODE == 2u) {
    for (var q = lid; q < (BK / 4u) * (BM / 4u); q += THREADS) {
      let l = 4u * (q / (BM / 4u));
      let quad = q % (BM / 4u);
      let i = m0 + 4u * quad;
      let v = transpose(mat4x4f(a_quad(i, l0 + l, base, end), a_quad(i + 1u, l0 + l, base, end),
        a_quad(i + 2u, l0 + l, base, end), a_quad(i + 3u, l0 + l, base, end)));
      a_tile[l * A_PITCH + quad] = v[0];
      a_tile[(l + 1u) * A_PITCH + quad] = v[1];
      a_tile[(l + 2u) * A_PITCH + quad] = v[2];
      a_tile[(l + 3u) * A_PITCH + quad] = v[3];
    }
  } else {
    for (var q = lid; q < BK * (BM / 4u); q += THREADS) {
      let l = select(q / (BM / 4u), q % BK, p.a_col == 1u);
      let quad = select(q % (BM / 4u), q / BK, p.a_col == 1u);
      let i = m0 + 4u * quad;
      let k = l0 + l;
      a_tile[l * A_PITCH + quad] =
        vec4f(a_at(i, k, base, end), a_at(i + 1u, k, base, end), a_at(i + 2u, k, base, end), a_at(i + 3u, k, base, end));
    }
  }
}
fn load_b(lid: u32, n0: u32, l0: u32, base: u32, end: u32) {
  if (B_MODE == 1u) {
    for (var q = lid; q < BK * (BN / 4u); q += THREADS) {
      let l = q / (BN / 4u);
      let quad = q % (BN / 4u);
      b_tile[l * B_PITCH + quad] = b_quad(l0 + l, n0 + 4u * quad, base, end);
    }
  } else if (B_MODE == 2u) {
    for (var q = lid; q < (BK / 4u) * (BN / 4u); q += THREADS) {
      let l = 4u * (q / (BN / 4u));
      let quad = q % (BN / 4u);
      let j = n0 + 4u * quad;
      let v = transpose(mat4x4f(b_quad(l0 + l, j, base, end), b_quad(l0 + l, j + 1u, base, end),
        b_quad(l0 + l, j + 2u, base, end), b_quad(l0 + l, j + 3u, base, end)));
      b_tile[l * B_PITCH + quad] = v[0];
      b_tile[(l + 1u) * B_PITCH + quad] = v[1];
      b_tile[(l + 2u) * B_PITCH + quad] = v[2];
      b_tile[(l + 3u) * B_PITCH + quad] = v[3];
    }
  } else {
    for (var q = lid; q < BK * (BN / 4u); q += THREADS) {
      let l = select(q / (BN / 4u), q % BK, p.b_row == 1u);
      let quad = select(q % (BN / 4u), q / BK, p.b_row == 1u);
      let j = n0 + 4u * quad;
      let k = l0 + l;
      b_tile[l * B_PITCH + quad] =
        vec4f(b_at(k, j, base, end), b_at(k, j + 1u, base, end), b_at(k, j + 2u, base, end), b_at(k, j + 3u, base, end));
    }
  }
}
// Rows of a and columns of b from l0 on; where a tile is few loads, other threads make b's than a's.
fn load_tiles(lid: u32, m0: u32, n0: u32, l0: u32, a_base: u32, b_base: u32, end: u32) {
  load_a(lid, m0, l0, a_base, end);
  load_b(THREADS - 1u - lid, n0, l0, b_base, end);
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
