// attention / forward — y = softmax(scale q k^T + mask) v with an online softmax; a workgroup a query and head
//
// 64 keys at a time: a thread scores one key, the tile's maximum and sum join the running ones, then threads take elements of headDim.
// log_sums [batch, queries, heads]: logsumexp of the scores, for the gradient; a query that sees nothing has NaN there, and zeros in y.
// Grid: batch queries heads workgroups, flat. Bindings: 7.
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/attention.wgsl"
@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> query_segments: array<i32>;
@group(0) @binding(4) var<storage, read> key_segments: array<i32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read_write> log_sums: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
const HEAD_DIM: u32 = 64u; // @specialize
const TILE: u32 = 64u;
// #include "../common/peak.wgsl"
var<workgroup> query: array<f32, HEAD_DIM>;
var<workgroup> weights: array<f32, TILE>;
@compute @workgroup_size(TILE)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = flat_group(id, groups);
  if (row >= p.batch * p.queries * p.heads) { return; }
  let h = row % p.heads;
  let i = (row / p.heads) % p.queries;
  let b = row / p.heads / p.queries;
  let kv = h / (p.heads / p.kv_heads);
  for (var d = lid; d < HEAD_DIM; d += TILE) { query[d] = q[row * HEAD_DIM + d] * p.scale; }
  var acc: array<f32, (HEAD_DIM + TILE - 1u) / TILE>;
  var top = -3.0e38;
  var total = 0.0;
  let end = keys_seen_by(i);
  for (var j0 = 0u; j0 < end; j0 += TILE) {
    let j = j0 + lid;
    var score = -3.0e38;
    // Before the first tile the query is not there for all yet, before others their weights are still in use.
    workgroupBarrier();
    if (j < end && sees(b, i, j)) {
      score = 0.0;
      let at = ((b * p.keys + j) * p.kv_heads + kv) * HEAD_DIM;
      for (var d = 0u; d < HEAD_DIM; d++) { score += query[d] * k[at + d]; }
    }
    let tile_top = max(top, peak_of_all(score, lid));
    // An exponential a key, not one for each thread that uses it.
    weights[lid] = select(exp(score - tile_top), 0.0, score < -2.9e38);
    workgroupBarrier();
    let shrink = exp(top - tile_top);
    top = tile_top;
    total *= shrink;
    for (var n = 0u; n < (HEAD_DIM + TILE - 1u) / TILE; n++) { acc[n] *= shrink; }
    for (var l = 0u; l < min(TILE, end - j0); l++) {
      let w = weights[l];
      // What is masked may be anything, NaN too.
      if (w == 0.0) { continue; }
      total += w;
      let at = ((b * p.keys + j0 + l) * p.kv_heads + kv) * HEAD_DIM;
      for (var n = 0u; n < (HEAD_DIM + TILE - 1u) / TILE; n++) {
        let d = n * TILE + lid;
        if (d < HEAD_DIM) { acc[n] += w * v[at + d]; }
      }
    }
  }
  for (var n = 0u; n < (HEAD_DIM + TILE - 1u) / TILE; n++) {
    let d = n * TILE + lid;
    if (d < HEAD_DIM) { y[row * HEAD_DIM + d] = select(acc[n] / total, 0.0, total == 0.0); }
  }
  if (lid == 0u) { log_sums[row] = select(top + log(total), not_a_number(), total == 0.0); }
}
