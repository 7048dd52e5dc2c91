// moe / products — y[slot] (+)= a[slot] W[expert]^T, or a[slot] W[expert] with IS_TRANSPOSED: each block of slots with its own expert's matrix
// W [experts, n, k], or [experts, k, n] with IS_TRANSPOSED. A workgroup makes 32 slots x 64 of y, a thread 4 x 4.
// Grid: (blocks x tiles of n, flat).
// #include "../common/grid.wgsl"
// #include "../common/experts.wgsl"
struct Params { n: u32, k: u32, experts: u32, blocks: u32 }
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> plan: array<i32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override IS_TRANSPOSED: bool;
override ACCUMULATES: bool;
const BN: u32 = 64u;
const BK: u32 = 16u;
const THREADS: u32 = 128u;
var<workgroup> a_tile: array<f32, BK * (BLOCK + 1u)>;
var<workgroup> w_tile: array<f32, BK * (BN + 1u)>;
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let tiles = (p.n + BN - 1u) / BN;
  let block = flat_group(id, groups) / tiles;
  if (block >= p.blocks) { return; }
  let expert = plan[block_expert_at() + block];
  if (expert < 0) { return; }
  let n0 = (flat_group(id, groups) % tiles) * BN;
  let base = u32(expert) * p.n * p.k;
  // Rows row, row + 8, … and columns column, column + 16, …
  let row = lid / 16u;
  let column = lid % 16u;
  var sums: array<vec4f, 4>;
  for (var l0 = 0u; l0 < p.k; l0 += BK) {
    for (var q = lid; q < BK * BLOCK; q += THREADS) {
      let l = q % BK;
      var v = 0.0;
      if (l0 + l < p.k) { v = a[(block * BLOCK + q / BK) * p.k + l0 + l]; }
      a_tile[l * (BLOCK + 1u) + q / BK] = v;
    }
    for (var q = lid; q < BK * BN; q += THREADS) {
      let l = select(q % BK, q / BN, IS_TRANSPOSED);
      let j = select(q / BK, q % BN, IS_TRANSPOSED);
      var v = 0.0;
      if (l0 + l < p.k && n0 + j < p.n) {
        v = weight[base + select((n0 + j) * p.k + l0 + l, (l0 + l) * p.n + n0 + j, IS_TRANSPOSED)];
      }
      w_tile[l * (BN + 1u) + j] = v;
    }
    workgroupBarrier();
    for (var l = 0u; l < BK; l++) {
      let w_at = l * (BN + 1u) + column;
      let w = vec4f(w_tile[w_at], w_tile[w_at + 16u], w_tile[w_at + 32u], w_tile[w_at + 48u]);
      for (var i = 0u; i < 4u; i++) { sums[i] += a_tile[l * (BLOCK + 1u) + row + 8u * i] * w; }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < 4u; i++) {
    for (var j = 0u; j < 4u; j++) {
      let n = n0 + column + 16u * j;
      if (n < p.n) {
        let at = (block * BLOCK + row + 8u * i) * p.n + n;
        if (ACCUMULATES) { y[at] += sums[i][j]; } else { y[at] = sums[i][j]; }
      }
    }
  }
}
