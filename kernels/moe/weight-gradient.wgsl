// moe / weight-gradient — gW[expert] = sum over its slots of g[slot]^T a[slot], [n, k]; zero for an expert that nobody chose
// A workgroup makes 32 x 64 of one expert's, a thread 4 x 4. Grid: (experts x tiles of n x tiles of k, flat).
// #include "../common/grid.wgsl"
// #include "../common/experts.wgsl"
struct Params { n: u32, k: u32, experts: u32, blocks: u32 }
@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> plan: array<i32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
const BM: u32 = 32u;
const BN: u32 = 64u;
const DEPTH: u32 = 16u;
const THREADS: u32 = 128u;
var<workgroup> g_tile: array<f32, DEPTH * BM>;
var<workgroup> a_tile: array<f32, DEPTH * BN>;
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let across = (p.k + BN - 1u) / BN;
  let down = (p.n + BM - 1u) / BM;
  let expert = flat_group(id, groups) / (across * down);
  if (expert >= p.experts) { return; }
  let m0 = (flat_group(id, groups) / across % down) * BM;
  let n0 = (flat_group(id, groups) % across) * BN;
  let first = u32(plan[starts_at() + expert]);
  let end = first + u32(plan[counts_at() + expert]);
  let row = lid / 16u;
  let column = lid % 16u;
  var sums: array<vec4f, 4>;
  for (var s0 = first; s0 < end; s0 += DEPTH) {
    for (var q = lid; q < DEPTH * BM; q += THREADS) {
      var v = 0.0;
      if (s0 + q / BM < end && m0 + q % BM < p.n) { v = g[(s0 + q / BM) * p.n + m0 + q % BM]; }
      g_tile[q] = v;
    }
    for (var q = lid; q < DEPTH * BN; q += THREADS) {
      var v = 0.0;
      if (s0 + q / BN < end && n0 + q % BN < p.k) { v = a[(s0 + q / BN) * p.k + n0 + q % BN]; }
      a_tile[q] = v;
    }
    workgroupBarrier();
    for (var s = 0u; s < DEPTH; s++) {
      let at = s * BN + column;
      let v = vec4f(a_tile[at], a_tile[at + 16u], a_tile[at + 32u], a_tile[at + 48u]);
      for (var i = 0u; i < 4u; i++) { sums[i] += g_tile[s * BM + row + 8u * i] * v; }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < 4u; i++) {
    let m = m0 + row + 8u * i;
    for (var j = 0u; j < 4u; j++) {
      let n = n0 + column + 16u * j;
      if (m < p.n && n < p.k) { y[(expert * p.n + m) * p.k + n] = sums[i][j]; }
    }
  }
}
