// attention / backward-keys — gv[j] = sum_i w gy[i], gk[j] = scale sum_i ds q[i], over the queries and the heads that share the key; a workgroup a key
// 64 queries at a time: a thread finds one query's w and ds, then threads take elements of headDim. WANTS_V: gv, else gk.
// Grid: batch keys kvHeads workgroups, flat. Bindings: 8.
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
@group(0) @binding(7) var<storage, read_write> gkey: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override WANTS_V: bool;
const HEAD_DIM: u32 = 64u; // @specialize
const TILE: u32 = 64u;
var<workgroup> key: array<f32, HEAD_DIM>;
var<workgroup> value: array<f32, HEAD_DIM>;
var<workgroup> factors: array<f32, TILE>;
@compute @workgroup_size(TILE)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = flat_group(id, groups);
  if (row >= p.batch * p.keys * p.kv_heads) { return; }
  let kv = row % p.kv_heads;
  let j = (row / p.kv_heads) % p.keys;
  let b = row / p.kv_heads / p.keys;
  let shared_by = p.heads / p.kv_heads;
  let rows = p.batch * p.queries * p.heads;
  for (var d = lid; d < HEAD_DIM; d += TILE) {
    key[d] = k[row * HEAD_DIM + d] * p.scale;
    value[d] = v[row * HEAD_DIM + d];
  }
  var acc: array<f32, (HEAD_DIM + TILE - 1u) / TILE>;
  let pairs = p.queries * shared_by;
  for (var s0 = 0u; s0 < pairs; s0 += TILE) {
    let s = s0 + lid;
    workgroupBarrier();
    var factor = 0.0;
    if (s < pairs && sees(b, s / shared_by, j)) {
      let from_row = (b * p.queries + s / shared_by) * p.heads + kv * shared_by + s % shared_by;
      var score = 0.0;
      var gain = 0.0;
      for (var d = 0u; d < HEAD_DIM; d++) {
        score += q[from_row * HEAD_DIM + d] * key[d];
        if (!WANTS_V) { gain += gy[from_row * HEAD_DIM + d] * value[d]; }
      }
      factor = exp(score - saved[from_row]);
      if (!WANTS_V) { factor *= (gain - saved[rows + from_row]) * p.scale; }
    }
    factors[lid] = factor;
    workgroupBarrier();
    for (var l = 0u; l < min(TILE, pairs - s0); l++) {
      let from_s = s0 + l;
      let from_row = (b * p.queries + from_s / shared_by) * p.heads + kv * shared_by + from_s % shared_by;
      if (factors[l] == 0.0) { continue; }
      for (var n = 0u; n < (HEAD_DIM + TILE - 1u) / TILE; n++) {
        let d = n * TILE + lid;
        if (d < HEAD_DIM) {
          if (WANTS_V) { acc[n] += factors[l] * gy[from_row * HEAD_DIM + d]; }
          else { acc[n] += factors[l] * q[from_row * HEAD_DIM + d]; }
        }
      }
    }
  }
  for (var n = 0u; n < (HEAD_DIM + TILE - 1u) / TILE; n++) {
    let d = n * TILE + lid;
    if (d < HEAD_DIM) { gkey[row * HEAD_DIM + d] = acc[n]; }
  }
}
