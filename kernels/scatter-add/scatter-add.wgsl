// scatterAdd — y[o, r, j] = sum of updates[o, k, j] over the k with indices[k] = r, in the order of k: no atomics, the same bits every time
// A workgroup owns up to 256 elements of one result row; it goes over the indices 256 at a time and adds what hits.
// #include "../common/grid.wgsl"
struct Params { groups: u32, n: u32, inner: u32, picks: u32, tiles: u32 }
@group(0) @binding(0) var<storage, read> indices: array<i32>;
@group(0) @binding(1) var<storage, read> updates: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
override IS_INT: bool;
var<workgroup> hits: array<atomic<u32>, 8>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let group = flat_group(id, groups);
  if (group >= p.groups) { return; }
  let j = (group % p.tiles) * 256u + lid;
  let r = (group / p.tiles) % p.n;
  let o = group / p.tiles / p.n;
  var sum = 0.0;
  var count = 0u;
  for (var k0 = 0u; k0 < p.picks; k0 += 256u) {
    if (lid < 8u) { atomicStore(&hits[lid], 0u); }
    workgroupBarrier();
    if (k0 + lid < p.picks && indices[k0 + lid] == i32(r)) { atomicOr(&hits[lid / 32u], 1u << (lid % 32u)); }
    workgroupBarrier();
    if (j < p.inner) {
      for (var w = 0u; w < 8u; w++) {
        var bits = atomicLoad(&hits[w]);
        while (bits != 0u) {
          let k = k0 + 32u * w + firstTrailingBit(bits);
          bits &= bits - 1u;
          let word = updates[(o * p.picks + k) * p.inner + j];
          if (IS_INT) { count += word; } else { sum += bitcast<f32>(word); }
        }
      }
    }
    workgroupBarrier();
  }
  if (j < p.inner) { y[(o * p.n + r) * p.inner + j] = select(bitcast<u32>(sum), count, IS_INT); }
}
