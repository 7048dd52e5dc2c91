// argReduce / columns — index of the extreme element of each column of x [outer, n, inner]; a thread a column
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/champion.wgsl"
struct Params { count: u32, n: u32, inner: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let base = (i / p.inner) * p.n * p.inner + i % p.inner;
  var best = 0u;
  for (var k = 1u; k < p.n; k++) {
    if (beats(x[base + k * p.inner], k, x[base + best * p.inner], best)) { best = k; }
  }
  y[i] = best;
}
