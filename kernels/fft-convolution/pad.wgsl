// fft-convolution / pad — sequences side by side as rows of their own: y[(o, i), t] = x[o, t, i] for t < length, and zero up to `size`
// x [outer, length, inner], y [outer, inner, size]. A thread an element of y; what is read stays in the cache for the next rows.
// #include "../common/grid.wgsl"
struct Params { count: u32, length: u32, inner: u32, size: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let at = flat_group(id, groups) * 256u + lid;
  if (at >= p.count) { return; }
  let t = at % p.size;
  let row = at / p.size;
  let outer = row / p.inner;
  var v = 0.0;
  if (t < p.length) { v = x[(outer * p.length + t) * p.inner + row % p.inner]; }
  y[at] = v;
}
