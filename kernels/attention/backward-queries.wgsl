// attention / backward-queries — gq = scale sum_j ds[j] k[j], ds = w (gy . v[j] - gy . y), w = exp(score - log_sum); a workgroup a query and head
// saved: what dots.wgsl makes. Grid: batch queries heads workgroups, flat. Bindings: 8.
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/attention.wgsl"
@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> query_segments: array<i32>;
@group(0) @binding(4) var<storage, read> key_segments: array<i32>;
@group(0) @binding(5) var<storage, read> gy: array<f32>;
@group(0) @binding(6) var<storage, read> saved: array<f32>;
@group(0) @binding(7) var<storage, read_write> gq: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
const HEAD_DIM: u32 = 64u; // @specialize
const TILE: u32 = 64u;
var<workgroup> query: array<f32, HEAD_DIM>;
var<workgroup> g: array<f32, HEAD_DIM>;
var<workgroup> slopes: array<f32, TILE>;
@compute @workgroup_size(TILE)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let rows = p.batch * p.queries * p.heads;
  let row = flat_group(id, groups);
  if (row >= rows) { return; }
  let h = row % p.heads;
  let i = (row / p.heads) % p.queries;
  let b = row / p.heads / p.queries;
  let kv = h / (p.heads / p.kv_heads);
  for (var d = lid; d < HEAD_DIM; d += TILE) {
    query[d] = q[row * HEAD_DIM + d] * p.scale;
    g[d] = gy[row * HEAD_DIM + d];
  }
  let log_sum = saved[row];
  let along = saved[rows + row];
  var acc: array<f32, (HEAD_DIM + TILE - 1u) / TILE>;
  let end = keys_seen_by(i);
  for (var j0 = 0u; j0 < end; j0 += TILE) {
    let j = j0 + lid;
    workgroupBarrier();
    var slope = 0.0;
    if (j < end && sees(b, i, j)) {
      let at = ((b * p.keys + j) * p.kv_heads + kv) * HEAD_DIM;
      var score = 0.0;
      var gain = 0.0;
      for (var d = 0u; d < HEAD_DIM; d++) {
        score += query[d] * k[at + d];
        gain += g[d] * v[at + d];
      }
      slope = exp(score - log_sum) * (gain - along);
    }
    slopes[lid] = slope;
    workgroupBarrier();
    for (var l = 0u; l < min(TILE, end - j0); l++) {
      let at = ((b * p.keys + j0 + l) * p.kv_heads + kv) * HEAD_DIM;
      for (var n = 0u; n < (HEAD_DIM + TILE - 1u) / TILE; n++) {
        let d = n * TILE + lid;
        if (d < HEAD_DIM) { acc[n] += slopes[l] * k[at + d]; }
      }
    }
  }
  for (var n = 0u; n < (HEAD_DIM + TILE - 1u) / TILE; n++) {
    let d = n * TILE + lid;
    if (d < HEAD_DIM) { gq[row * HEAD_DIM + d] = acc[n] * p.scale; }
  }
}
