// reduce / columns — a thread reduces one stretch of one column: y[outer, split, inner] = op over x[outer, split's stretch, inner]
// OP: 0 sum, 1 max of float32; 2 sum, 3 max of int32
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
struct Params { count: u32, n: u32, inner: u32, splits: u32, stretch: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
override OP: u32;
// #include "../common/combine.wgsl"
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let j = i % p.inner;
  let split = (i / p.inner) % p.splits;
  let o = i / p.inner / p.splits;
  let start = split * p.stretch;
  let end = min(p.n, start + p.stretch);
  var value = nothing();
  for (var k = start; k < end; k++) { value = combine(value, x[(o * p.n + k) * p.inner + j]); }
  y[i] = value;
}
