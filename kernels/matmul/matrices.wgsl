// matmul / matrices — y[z] = a[z] b[z] of f16 operands on the matrix units: subgroup matrices of 16 x 16, sums in f32
//
// Operands, strides and z as in octets.wgsl; A_MODE and B_MODE are 1 or 2. m and n are multiples of 128: whole tiles alone are stored.
// Four subgroups of 32 threads make 64 x 64 each. BK columns of a and rows of b lie in workgroup memory as they lie in memory, along k or
// along m and n, in rows that are padded against bank conflicts; the matrix units take either.
// Grid: (m / 128, n / 128, batch splits). Workgroup memory: 12 KiB. Needs Dawn's chromium_experimental_subgroup_matrix.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
// #include "../common/quad-f16.wgsl"
// #include "../common/product-operands.wgsl"
override A_MODE: u32;
override B_MODE: u32;
const TILE: u32 = 128u;
const BK: u32 = 16u; // @specialize
const THREADS: u32 = 128u;
// In quads: rows along k, and rows along m or n.
const K_PITCH: u32 = BK / 4u + 2u;
const TILE_PITCH: u32 = TILE / 4u + 2u;
// What offsets and strides of a matrix in memory count: quads, of UNIT elements each.
const UNIT: u32 = 1u; // @specialize
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sum = subgroup_matrix_result<f32, 16, 16>;
const TILE_SIZE: u32 = max(TILE * K_PITCH, BK * TILE_PITCH);
var<workgroup> a_tile: array<Quad, TILE_SIZE>;
var<workgroup> b_tile: array<Quad, TILE_SIZE>;
fn stage(lid: u32, m0: u32, n0: u32, l0: u32, a_base: u32, b_base: u32, end: u32) {
  for (var q = lid; q < TILE * BK / 4u; q += THREADS) {
    let along_k = vec2u(q / (BK / 4u), q % (BK / 4u));
    let across = vec2u(q / (TILE / 4u), q % (TILE / 4u));
    var va = Quad(0.0);
    if (A_MODE == 2u) {
      let l = l0 + 4u * along_k.y;
      if (l < end) { va = a[(a_base + (m0 + along_k.x) * p.a_row + l * p.a_col) / 4u]; }
      a_tile[along_k.x * K_PITCH + along_k.y] = va;
    } else {
      let l = l0 + across.x;
      if (l < end) { va = a[(a_base + (m0 + 4u * across.y) * p.a_row + l * p.a_col) / 4u]; }
      a_tile[across.x * TILE_PITCH + across.y] = va;
    }
    var vb = Quad(0.0);
    if (B_MODE == 2u) {
      let l = l0 + 4u * along_k.y;
      if (l < end) { vb = b[(b_base + l * p.b_row + (n0 + along_k.x) * p.b_col) / 4u]; }
      b_tile[along_k.x * K_PITCH + along_k.y] = vb;
    } else {
      let l = l0 + across.x;
      if (l < end) { vb = b[(b_base + l * p.b_row + (n0 + 4u * across.y) * p.b_col) / 4u]; }
      b_tile[across.x * TILE_PITCH + across.y] = vb;
    }
  }
}
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lid: u32, @builtin(subgroup_id) unit: u32) {
  let m0 = id.x * TILE;
  let n0 = id.y * TILE;
  let batch = id.z / p.splits;
  let first = (id.z % p.splits) * p.k_stretch;
  let end = min(p.k, first + p.k_stretch);
  let a_base = p.a_start + batch * p.a_batch;
  let b_base = p.b_start + batch * p.b_batch;
  let row = 64u * (unit / 2u);
  let column = 64u * (unit % 2u);
  var s00 = Sum();
  var s01 = Sum();
  var s02 = Sum();
  var s03 = Sum();
  var s10 = Sum();
  var s11 = Sum();
  var s12 = Sum();
  var s13 = Sum();
  var s20 = Sum();
  var s21 = Sum();
  var s22 = Sum();
  var s23 = Sum();
  var s30 = Sum();
  var s31 = Sum();
  var s32 = Sum();
  var s33 = Sum();
  for (var l0 = first; l0 < end; l0 += BK) {
    stage(lid, m0, n0, l0, a_base, b_base, end);
    workgroupBarrier();
    for (var l = 0u; l < BK / 4u; l += 4u) {
      var a0 = Left();
      var a1 = Left();
      var a2 = Left();
      var a3 = Left();
      var b0 = Right();
      var b1 = Right();
      var b2 = Right();
      var b3 = Right();
      if (A_MODE == 2u) {
        a0 = subgroupMatrixLoad<Left, row_major>(&a_tile, UNIT * ((row + 0u) * K_PITCH + l), UNIT * K_PITCH);
        a1 = subgroupMatrixLoad<Left, row_major>(&a_tile, UNIT * ((row + 16u) * K_PITCH + l), UNIT * K_PITCH);
        a2 = subgroupMatrixLoad<Left, row_major>(&a_tile, UNIT * ((row + 32u) * K_PITCH + l), UNIT * K_PITCH);
        a3 = subgroupMatrixLoad<Left, row_major>(&a_tile, UNIT * ((row + 48u) * K_PITCH + l), UNIT * K_PITCH);
      } else {
        a0 = subgroupMatrixLoad<Left, col_major>(&a_tile, UNIT * (4u * l * TILE_PITCH + (row + 0u) / 4u), UNIT * TILE_PITCH);
        a1 = subgroupMatrixLoad<Left, col_major>(&a_tile, UNIT * (4u * l * TILE_PITCH + (row + 16u) / 4u), UNIT * TILE_PITCH);
        a2 = subgroupMatrixLoad<Left, col_major>(&a_tile, UNIT * (4u * l * TILE_PITCH + (row + 32u) / 4u), UNIT * TILE_PITCH);
        a3 = subgroupMatrixLoad<Left, col_major>(&a_tile, UNIT * (4u * l * TILE_PITCH + (row + 48u) / 4u), UNIT * TILE_PITCH);
      }
      if (B_MODE == 2u) {
        b0 = subgroupMatrixLoad<Right, col_major>(&b_tile, UNIT * ((column + 0u) * K_PITCH + l), UNIT * K_PITCH);
        b1 = subgroupMatrixLoad<Right, col_major>(&b_tile, UNIT * ((column + 16u) * K_PITCH + l), UNIT * K_PITCH);
        b2 = subgroupMatrixLoad<Right, col_major>(&b_tile, UNIT * ((column + 32u) * K_PITCH + l), UNIT * K_PITCH);
        b3 = subgroupMatrixLoad<Right, col_major>(&b_tile, UNIT * ((column + 48u) * K_PITCH + l), UNIT * K_PITCH);
      } else {
        b0 = subgroupMatrixLoad<Right, row_major>(&b_tile, UNIT * (4u * l * TILE_PITCH + (column + 0u) / 4u), UNIT * TILE_PITCH);
        b1 = subgroupMatrixLoad<Right, row_major>(&b_tile, UNIT * (4u * l * TILE_PITCH + (column + 16u) / 4u), UNIT * TILE_PITCH);
        b2 = subgroupMatrixLoad<Right, row_major>(&b_tile, UNIT * (4u * l * TILE_PITCH + (column + 32u) / 4u), UNIT * TILE_PITCH);
        b3 = subgroupMatrixLoad<Right, row_major>(&b_tile, UNIT * (4u * l * TILE_PITCH + (column + 48u) / 4u), UNIT * TILE_PITCH);
      }
      s00 = subgroupMatrixMultiplyAccumulate(a0, b0, s00);
      s01 = subgroupMatrixMultiplyAccumulate(a0, b1, s01);
      s02 = subgroupMatrixMultiplyAccumulate(a0, b2, s02);
      s03 = subgroupMatrixMultiplyAccumulate(a0, b3, s03);
      s10 = subgroupMatrixMultiplyAccumulate(a1, b0, s10);
      s11 = subgroupMatrixMultiplyAccumulate(a1, b1, s11);
      s12 = subgroupMatrixMultiplyAccumulate(a1, b2, s12);
      s13 = subgroupMatrixMultiplyAccumulate(a1, b3, s13);
      s20 = subgroupMatrixMultiplyAccumulate(a2, b0, s20);
      s21 = subgroupMatrixMultiplyAccumulate(a2, b1, s21);
      s22 = subgroupMatrixMultiplyAccumulate(a2, b2, s22);
      s23 = subgroupMatrixMultiplyAccumulate(a2, b3, s23);
      s30 = subgroupMatrixMultiplyAccumulate(a3, b0, s30);
      s31 = subgroupMatrixMultiplyAccumulate(a3, b1, s31);
      s32 = subgroupMatrixMultiplyAccumulate(a3, b2, s32);
      s33 = subgroupMatrixMultiplyAccumulate(a3, b3, s33);
    }
    workgroupBarrier();
  }
  let y_at = p.y_start + id.z * p.y_batch + (m0 + row) * p.y_row + n0 + column;
  subgroupMatrixStore<row_major>(&y, y_at + 0u * p.y_row + 0u, s00, p.y_row);
  subgroupMatrixStore<row_major>(&y, y_at + 0u * p.y_row + 16u, s01, p.y_row);
  subgroupMatrixStore<row_major>(&y, y_at + 0u * p.y_row + 32u, s02, p.y_row);
  subgroupMatrixStore<row_major>(&y, y_at + 0u * p.y_row + 48u, s03, p.y_row);
  subgroupMatrixStore<row_major>(&y, y_at + 16u * p.y_row + 0u, s10, p.y_row);
  subgroupMatrixStore<row_major>(&y, y_at + 16u * p.y_row + 16u, s11, p.y_row);
  subgroupMatrixStore<row_major>(&y, y_at + 16u * p.y_row + 32u, s12, p.y_row);
  subgroupMatrixStore<row_major>(&y, y_at + 16u * p.y_row + 48u, s13, p.y_row);
  subgroupMatrixStore<row_major>(&y, y_at + 32u * p.y_row + 0u, s20, p.y_row);
  subgroupMatrixStore<row_major>(&y, y_at + 32u * p.y_row + 16u, s21, p.y_row);
  subgroupMatrixStore<row_major>(&y, y_at + 32u * p.y_row + 32u, s22, p.y_row);
  subgroupMatrixStore<row_major>(&y, y_at + 32u * p.y_row + 48u, s23, p.y_row);
  subgroupMatrixStore<row_major>(&y, y_at + 48u * p.y_row + 0u, s30, p.y_row);
  subgroupMatrixStore<row_major>(&y, y_at + 48u * p.y_row + 16u, s31, p.y_row);
  subgroupMatrixStore<row_major>(&y, y_at + 48u * p.y_row + 32u, s32, p.y_row);
  subgroupMatrixStore<row_major>(&y, y_at + 48u * p.y_row + 48u, s33, p.y_row);
}
