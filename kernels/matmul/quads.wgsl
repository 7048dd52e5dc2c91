// matmul / quads — y[z] = a[z] b[z] (+ bias, + y) for strided matrices; register tiles over workgroup tiles
//
// a(i, l) = a[a_start + z a_batch + i a_row + l a_col], b(l, j) likewise with b_row, b_col; y[y_start + z y_batch + i y_row + j].
// z counts batches, or, with splits > 1, stretches of k whose partial products the caller adds up.
// A workgroup makes BM x BN of y; BK columns of a and rows of b at a time lie in workgroup memory, as vec4 along m and n, twice. Accumulators
// are variables, not an array, so that no compiler puts them into memory. Bindings: a, b, bias [n] (read where HAS_BIAS), y.
// Grid: (m / BM, n / BN, batch splits). Precision: f32 throughout.
// A thread makes 4 x 4.
const BM: u32 = 64u; // @specialize
const BN: u32 = 64u; // @specialize
const BK: u32 = 16u; // @specialize
const COLUMNS: u32 = BN / 4u;
const THREADS: u32 = (BM / 4u) * COLUMNS;
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
  var acc10 = vec4f(0.0);
  var acc20 = vec4f(0.0);
  var acc30 = vec4f(0.0);
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
      let a0 = vec4f(a_tile[a_half + l * A_PITCH + row]);
      let b0 = vec4f(b_tile[b_half + l * B_PITCH + column]);
      acc00 += a0.x * b0;
      acc10 += a0.y * b0;
      acc20 += a0.z * b0;
      acc30 += a0.w * b0;
    }
    half = 1u - half;
    put_tiles(lid, half);
  }
  put4(m0 + 4u * row + 0u, n0 + 4u * column, y_base, acc00);
  put4(m0 + 4u * row + 1u, n0 + 4u * column, y_base, acc10);
  put4(m0 + 4u * row + 2u, n0 + 4u * column, y_base, acc20);
  put4(m0 + 4u * row + 3u, n0 + 4u * column, y_base, acc30);
}
