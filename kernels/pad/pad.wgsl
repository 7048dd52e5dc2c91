// pad — y[o, k, j] = x[o, k - before, j] where that exists, else 0; words are moved
// #include "../common/grid.wgsl"
struct Params { count: u32, n: u32, length: u32, inner: u32, before: i32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let j = i % p.inner;
  let k = i32((i / p.inner) % p.length) - p.before;
  let o = i / p.inner / p.length;
  var word = 0u;
  if (k >= 0 && k < i32(p.n)) { word = x[(o * p.n + u32(k)) * p.inner + j]; }
  y[i] = word;
}
