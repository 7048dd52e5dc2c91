// matmul / tiled — y[z] = a[z] b[z] (+ bias, + y) for strided matrices; register tiles over workgroup tiles
//
// a(i, l) = a[a_start + z a_batch + i a_row + l a_col], b(l, j) likewise with b_row, b_col; y[y_start + z y_batch + i y_row + j].
// z counts batches, or, with splits > 1, stretches of k whose partial products the caller adds up.
// A workgroup makes BM x BN of y; BK columns of a and rows of b at a time lie in workgroup memory, as vec4 along m and n.
// A thread makes TM x TN, in quads that lie BM / 2 (BN / 2) apart where it has two, so that neighbours read neighbouring banks.
// Bindings: a, b, bias [n] (read where HAS_BIAS), y. Precision: f32 throughout.
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
const BM: u32 = 64u; // @specialize
const BN: u32 = 64u; // @specialize
const BK: u32 = 16u; // @specialize
const TM: u32 = 4u; // @specialize
const TN: u32 = 4u; // @specialize
const QM: u32 = TM / 4u;
const QN: u32 = TN / 4u;
const COLUMNS: u32 = BN / TN;
const THREADS: u32 = (BM / TM) * COLUMNS;
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
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lid: u32) {
  let m0 = id.x * BM;
  let n0 = id.y * BN;
  let batch = id.z / p.splits;
  let split = id.z % p.splits;
  let k0 = split * p.k_stretch;
  let k_end = min(p.k, k0 + p.k_stretch);
  let a_base = p.a_start + batch * p.a_batch;
  let b_base = p.b_start + batch * p.b_batch;
  let row = lid / COLUMNS;
  let column = lid % COLUMNS;
  var acc: array<array<vec4f, QN>, TM>;
  for (var l0 = k0; l0 < k_end; l0 += BK) {
    for (var q = lid; q < BK * (BM / 4u); q += THREADS) {
      // Neighbouring threads read what lies side by side in memory.
      let l = select(q / (BM / 4u), q % BK, p.a_col == 1u);
      let quad = select(q % (BM / 4u), q / BK, p.a_col == 1u);
      let i = m0 + 4u * quad;
      a_tile[l * A_PITCH + quad] = vec4f(a_at(i, l0 + l, a_base, k_end), a_at(i + 1u, l0 + l, a_base, k_end), a_at(i + 2u, l0 + l, a_base, k_end), a_at(i + 3u, l0 + l, a_base, k_end));
    }
    for (var q = lid; q < BK * (BN / 4u); q += THREADS) {
      let l = select(q / (BN / 4u), q % BK, p.b_row == 1u);
      let quad = select(q % (BN / 4u), q / BK, p.b_row == 1u);
      let j = n0 + 4u * quad;
      b_tile[l * B_PITCH + quad] = vec4f(b_at(l0 + l, j, b_base, k_end), b_at(l0 + l, j + 1u, b_base, k_end), b_at(l0 + l, j + 2u, b_base, k_end), b_at(l0 + l, j + 3u, b_base, k_end));
    }
    workgroupBarrier();
    for (var l = 0u; l < BK; l++) {
      var bs: array<vec4f, QN>;
      for (var q = 0u; q < QN; q++) { bs[q] = b_tile[l * B_PITCH + q * COLUMNS + column]; }
      for (var r = 0u; r < QM; r++) {
        let as4 = a_tile[l * A_PITCH + r * (BM / TM) + row];
        for (var q = 0u; q < QN; q++) {
          acc[4u * r][q] = fma(vec4f(as4.x), bs[q], acc[4u * r][q]);
          acc[4u * r + 1u][q] = fma(vec4f(as4.y), bs[q], acc[4u * r + 1u][q]);
          acc[4u * r + 2u][q] = fma(vec4f(as4.z), bs[q], acc[4u * r + 2u][q]);
          acc[4u * r + 3u][q] = fma(vec4f(as4.w), bs[q], acc[4u * r + 3u][q]);
        }
      }
    }
    workgroupBarrier();
  }
  let y_base = p.y_start + id.z * p.y_batch;
  for (var t = 0u; t < TM; t++) {
    let i = m0 + (t / 4u) * (BM / QM) + 4u * row + t % 4u;
    if (i >= p.m) { continue; }
    for (var q = 0u; q < QN; q++) {
      let j0 = n0 + q * (BN / QN) + 4u * column;
      for (var c = 0u; c < 4u; c++) {
        let j = j0 + c;
        if (j >= p.n) { continue; }
        let at = y_base + i * p.y_row + j;
        var value = acc[t][q][c];
        if (HAS_BIAS) { value += bias[j]; }
        if (ACCUMULATES) { value += y[at]; }
        y[at] = value;
      }
    }
  }
}
