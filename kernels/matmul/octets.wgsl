// matmul / octets — y[z] = a[z] b[z] (+ bias, + y) for strided matrices; register tiles over workgroup tiles
//
// a(i, l) = a[a_start + z a_batch + i a_row + l a_col], b(l, j) likewise with b_row, b_col; y[y_start + z y_batch + i y_row + j].
// z counts batches, or, with splits > 1, stretches of k whose partial products the caller adds up.
// A workgroup makes BM x BN of y; BK columns of a and rows of b at a time lie in workgroup memory, as vec4 along m and n, twice. Accumulators
// are variables, not an array, so that no compiler puts them into memory. Bindings: a, b, bias [n] (read where HAS_BIAS), y.
// Grid: (m / BM, n / BN, batch splits). Precision: f32 throughout.
// A thread makes 8 x 8, in quads that lie BM / 2 (BN / 2) apart, so that neighbours read neighbouring banks.
const BM: u32 = 128u; // @specialize
const BN: u32 = 128u; // @specialize
const BK: u32 = 8u; // @specialize
const COLUMNS: u32 = BN / 8u;
const THREADS: u32 = (BM / 8u) * COLUMNS;
// #include "../common/matmul.wgsl"
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lid: u32) {
  let m0 = id.x * BM;
  let n0 = id.y * BN;
  let batch = id.z / p.splits;
  let first = (id.z % p.splits) * p.k_stretch;
  let end = min(p.k, first + p.k_stretch);
  let a_base = p.a_start + batch * p.a_batch;
  let b_base = p.b_start + batch * p.b_batch;
  let y_base = p.y_start + id.z * p.y_batch;
  let row = lid / COLUMNS;
  let column = lid % COLUMNS;
  var acc00 = vec4f(0.0);
  var acc01 = vec4f(0.0);
  var acc10 = vec4f(0.0);
  var acc11 = vec4f(0.0);
  var acc20 = vec4f(0.0);
  var acc21 = vec4f(0.0);
  var acc30 = vec4f(0.0);
  var acc31 = vec4f(0.0);
  var acc40 = vec4f(0.0);
  var acc41 = vec4f(0.0);
  var acc50 = vec4f(0.0);
  var acc51 = vec4f(0.0);
  var acc60 = vec4f(0.0);
  var acc61 = vec4f(0.0);
  var acc70 = vec4f(0.0);
  var acc71 = vec4f(0.0);
  var half = 0u;
  fetch_tiles(lid, m0, n0, first, a_base, b_base, end);
  put_tiles(lid, half);
  for (var l0 = first; l0 < end; l0 += BK) {
    workgroupBarrier();
    // The next tile is on its way while this one is multiplied.
    fetch_tiles(lid, m0, n0, l0 + BK, a_base, b_base, end);
    let a_half = half * BK * A_PITCH;
    let b_half = half * BK * B_PITCH;
    for (var l = 0u; l < BK; l++) {
      let a0 = vec4f(a_tile[a_half + l * A_PITCH + 0u * (BM / 8u) + row]);
      let a1 = vec4f(a_tile[a_half + l * A_PITCH + 1u * (BM / 8u) + row]);
      let b0 = vec4f(b_tile[b_half + l * B_PITCH + 0u * COLUMNS + column]);
      let b1 = vec4f(b_tile[b_half + l * B_PITCH + 1u * COLUMNS + column]);
      acc00 += a0.x * b0;
      acc01 += a0.x * b1;
      acc10 += a0.y * b0;
      acc11 += a0.y * b1;
      acc20 += a0.z * b0;
      acc21 += a0.z * b1;
      acc30 += a0.w * b0;
      acc31 += a0.w * b1;
      acc40 += a1.x * b0;
      acc41 += a1.x * b1;
      acc50 += a1.y * b0;
      acc51 += a1.y * b1;
      acc60 += a1.z * b0;
      acc61 += a1.z * b1;
      acc70 += a1.w * b0;
      acc71 += a1.w * b1;
    }
    half = 1u - half;
    put_tiles(lid, half);
  }
  put4(m0 + 0u * (BM / 2u) + 4u * row + 0u, n0 + 0u * (BN / 2u) + 4u * column, y_base, acc00);
  put4(m0 + 0u * (BM / 2u) + 4u * row + 0u, n0 + 1u * (BN / 2u) + 4u * column, y_base, acc01);
  put4(m0 + 0u * (BM / 2u) + 4u * row + 1u, n0 + 0u * (BN / 2u) + 4u * column, y_base, acc10);
  put4(m0 + 0u * (BM / 2u) + 4u * row + 1u, n0 + 1u * (BN / 2u) + 4u * column, y_base, acc11);
  put4(m0 + 0u * (BM / 2u) + 4u * row + 2u, n0 + 0u * (BN / 2u) + 4u * column, y_base, acc20);
  put4(m0 + 0u * (BM / 2u) + 4u * row + 2u, n0 + 1u * (BN / 2u) + 4u * column, y_base, acc21);
  put4(m0 + 0u * (BM / 2u) + 4u * row + 3u, n0 + 0u * (BN / 2u) + 4u * column, y_base, acc30);
  put4(m0 + 0u * (BM / 2u) + 4u * row + 3u, n0 + 1u * (BN / 2u) + 4u * column, y_base, acc31);
  put4(m0 + 1u * (BM / 2u) + 4u * row + 0u, n0 + 0u * (BN / 2u) + 4u * column, y_base, acc40);
  put4(m0 + 1u * (BM / 2u) + 4u * row + 0u, n0 + 1u * (BN / 2u) + 4u * column, y_base, acc41);
  put4(m0 + 1u * (BM / 2u) + 4u * row + 1u, n0 + 0u * (BN / 2u) + 4u * column, y_base, acc50);
  put4(m0 + 1u * (BM / 2u) + 4u * row + 1u, n0 + 1u * (BN / 2u) + 4u * column, y_base, acc51);
  put4(m0 + 1u * (BM / 2u) + 4u * row + 2u, n0 + 0u * (BN / 2u) + 4u * column, y_base, acc60);
  put4(m0 + 1u * (BM / 2u) + 4u * row + 2u, n0 + 1u * (BN / 2u) + 4u * column, y_base, acc61);
  put4(m0 + 1u * (BM / 2u) + 4u * row + 3u, n0 + 0u * (BN / 2u) + 4u * column, y_base, acc70);
  put4(m0 + 1u * (BM / 2u) + 4u * row + 3u, n0 + 1u * (BN / 2u) + 4u * column, y_base, acc71);
}
