// linearScan — h[t] = a[t] h[t-1] + b[t] along the middle axis of [outer, n, inner]; a thread a stretch of a sequence
// PHASE 0: the whole result of each stretch, from `carry` [outer, splits, inner] on (0 where splits is 1)
// PHASE 1: only the stretch's product of a (carry) and its last h from 0 (y [outer, splits, inner])
// #include "../common/grid.wgsl"
struct Params { count: u32, n: u32, inner: u32, splits: u32, stretch: u32 }
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> carry: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
override PHASE: u32;
override IS_REVERSED: bool;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let j = i % p.inner;
  let split = (i / p.inner) % p.splits;
  let o = i / p.inner / p.splits;
  let start = split * p.stretch;
  let end = min(p.n, start + p.stretch);
  var h = 0.0;
  var product = 1.0;
  var before = p.splits > 1u && PHASE == 0u;
  if (before) { h = carry[i]; }
  for (var k = start; k < end; k++) {
    let at = (o * p.n + select(k, p.n - 1u - k, IS_REVERSED)) * p.inner + j;
    // The first element has nothing before it, which an infinite a must not turn into NaN.
    h = select(a[at] * h + b[at], b[at], k == 0u || (k == start && PHASE == 1u));
    if (PHASE == 1u) { product *= a[at]; } else { y[at] = h; }
  }
  if (PHASE == 1u) { carry[i] = product; y[i] = h; }
}
