// where — cond != 0 ? a : b, broadcast over up to 4 axes; words are moved, never computed with
// #include "../common/grid.wgsl"
struct Params { shape: vec4u, c_strides: vec4u, a_strides: vec4u, b_strides: vec4u, count: u32 }
@group(0) @binding(0) var<storage, read> cond: array<i32>;
@group(0) @binding(1) var<storage, read> a: array<u32>;
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  var rest = i;
  var at = vec3u(0u);
  for (var d = 3u; d < 4u; d--) {
    let k = rest % p.shape[d];
    rest /= p.shape[d];
    at += k * vec3u(p.c_strides[d], p.a_strides[d], p.b_strides[d]);
  }
  if (cond[at.x] != 0) { y[i] = a[at.y]; } else { y[i] = b[at.z]; }
}
