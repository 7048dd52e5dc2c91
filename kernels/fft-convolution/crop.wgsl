// fft-convolution / crop — the first `length` samples of every row, side by side again: y[o, t, i] = x[(o, i), t]
// x [outer, inner, size], y [outer, length, inner]. A thread an element of y.
// #include "../common/grid.wgsl"
struct Params { count: u32, length: u32, inner: u32, size: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let at = flat_group(id, groups) * 256u + lid;
  if (at >= p.count) { return; }
  let inner = at % p.inner;
  let t = at / p.inner % p.length;
  let outer = at / p.inner / p.length;
  y[at] = x[(outer * p.inner + inner) * p.size + t];
}
