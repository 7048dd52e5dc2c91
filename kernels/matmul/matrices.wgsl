// matmul / matrices — y[z] = a[z] b[z] of f16 operands on the matrix units: subgroup matrices of 16 x 16, sums in f32
//
// Operands, strides and z as in octets.wgsl; A_MODE and B_MODE are 1 (along m, n) or 2 (along k). m and n are multiples of 128, k and
// k_stretch of 16: only whole matrices are read and stored. Four subgroups of 32 threads make 64 x 64 each, four by four matrices, read
// straight from memory, where the cache has what neighbours read: staging them in workgroup memory was slower (docs/benchmarks.md).
// Grid: (m / 128, n / 128, batch splits). Needs Dawn's chromium_experimental_subgroup_matrix.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
// #include "../common/quad-f16.wgsl"
// #include "../common/product-operands.wgsl"
override A_MODE: u32;
override B_MODE: u32;
const THREADS: u32 = 128u;
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sum = subgroup_matrix_result<f32, 16, 16>;
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(subgroup_id) unit: u32) {
  let batch = id.z / p.splits;
  let first = (id.z % p.splits) * p.k_stretch;
  let end = min(p.k, first + p.k_stretch);
  let row = id.x * 128u + 64u * (unit / 2u);
  let column = id.y * 128u + 64u * (unit % 2u);
  // Offsets and strides in memory count quads.
  let a_base = (p.a_start + batch * p.a_batch + row * p.a_row) / 4u;
  let b_base = (p.b_start + batch * p.b_batch + column * p.b_col) / 4u;
  let a_pitch = select(p.a_col, p.a_row, A_MODE == 2u) / 4u;
  let b_pitch = select(p.b_row, p.b_col, B_MODE == 2u) / 4u;
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
  for (var l = first; l < end; l += 16u) {
    var a0 = Left();
    var a1 = Left();
    var a2 = Left();
    var a3 = Left();
    var b0 = Right();
    var b1 = Right();
    var b2 = Right();
    var b3 = Right();
    let a_at = a_base + l * p.a_col / 4u;
    let b_at = b_base + l * p.b_row / 4u;
    if (A_MODE == 2u) {
      a0 = subgroupMatrixLoad<Left, row_major>(&a, a_at + 0u * p.a_row, a_pitch);
      a1 = subgroupMatrixLoad<Left, row_major>(&a, a_at + 4u * p.a_row, a_pitch);
      a2 = subgroupMatrixLoad<Left, row_major>(&a, a_at + 8u * p.a_row, a_pitch);
      a3 = subgroupMatrixLoad<Left, row_major>(&a, a_at + 12u * p.a_row, a_pitch);
    } else {
      a0 = subgroupMatrixLoad<Left, col_major>(&a, a_at + 0u * p.a_row, a_pitch);
      a1 = subgroupMatrixLoad<Left, col_major>(&a, a_at + 4u * p.a_row, a_pitch);
      a2 = subgroupMatrixLoad<Left, col_major>(&a, a_at + 8u * p.a_row, a_pitch);
      a3 = subgroupMatrixLoad<Left, col_major>(&a, a_at + 12u * p.a_row, a_pitch);
    }
    if (B_MODE == 2u) {
      b0 = subgroupMatrixLoad<Right, col_major>(&b, b_at + 0u * p.b_col, b_pitch);
      b1 = subgroupMatrixLoad<Right, col_major>(&b, b_at + 4u * p.b_col, b_pitch);
      b2 = subgroupMatrixLoad<Right, col_major>(&b, b_at + 8u * p.b_col, b_pitch);
      b3 = subgroupMatrixLoad<Right, col_major>(&b, b_at + 12u * p.b_col, b_pitch);
    } else {
      b0 = subgroupMatrixLoad<Right, row_major>(&b, b_at + 0u * p.b_col, b_pitch);
      b1 = subgroupMatrixLoad<Right, row_major>(&b, b_at + 4u * p.b_col, b_pitch);
      b2 = subgroupMatrixLoad<Right, row_major>(&b, b_at + 8u * p.b_col, b_pitch);
      b3 = subgroupMatrixLoad<Right, row_major>(&b, b_at + 12u * p.b_col, b_pitch);
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
  let y_at = p.y_start + id.z * p.y_batch + row * p.y_row + column;
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
