// copy / strided — a general strided view of 32-bit words, made dense: up to 8 axes, strides of any sign
// #include "../common/grid.wgsl"
struct Params {
  shape_a: vec4u, shape_b: vec4u, strides_a: vec4i, strides_b: vec4i,
  count: u32, offset: i32,
}
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  var rest = i;
  var at = p.offset;
  for (var d = 3u; d < 4u; d--) {
    at += i32(rest % p.shape_b[d]) * p.strides_b[d];
    rest /= p.shape_b[d];
  }
  for (var d = 3u; d < 4u; d--) {
    at += i32(rest % p.shape_a[d]) * p.strides_a[d];
    rest /= p.shape_a[d];
  }
  y[i] = x[at];
}
