// binary — y[i] = f(a[..], b[..]), broadcast over up to 4 axes; comparisons give 1 or 0
// OP counts as `binaryOps` and `compareOps` in primitives/elementwise.ts do: 0 arithmetic, 16 comparisons; 32 more on int32.
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
struct Params { shape: vec4u, a_strides: vec4u, b_strides: vec4u, count: u32 }
@group(0) @binding(0) var<storage, read> a: array<u32>;
@group(0) @binding(1) var<storage, read> b: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
override OP: u32;
override IS_DENSE: bool;
fn compared(order: i32, unordered: bool) -> u32 {
  switch OP & 31u {
    case 16u: { return select(0u, 1u, order == 0 && !unordered); }
    case 17u: { return select(0u, 1u, order != 0 || unordered); }
    case 18u: { return select(0u, 1u, order < 0 && !unordered); }
    case 19u: { return select(0u, 1u, order <= 0 && !unordered); }
    case 20u: { return select(0u, 1u, order > 0 && !unordered); }
    default: { return select(0u, 1u, order >= 0 && !unordered); }
  }
}
fn floats(u: f32, v: f32) -> u32 {
  if (OP >= 16u) {
    return compared(i32(u > v) - i32(u < v), is_nan(u) || is_nan(v));
  }
  switch OP {
    case 0u: { return bitcast<u32>(u + v); }
    case 1u: { return bitcast<u32>(u - v); }
    case 2u: { return bitcast<u32>(u * v); }
    case 3u: { return bitcast<u32>(u / v); }
    case 4u: { return bitcast<u32>(larger(u, v)); }
    case 5u: { return bitcast<u32>(smaller(u, v)); }
    default: { return bitcast<u32>(power(u, v)); }
  }
}
fn integers(u: i32, v: i32) -> u32 {
  if (OP >= 48u) { return compared(i32(u > v) - i32(u < v), false); }
  switch OP {
    case 32u: { return bitcast<u32>(u + v); }
    case 33u: { return bitcast<u32>(u - v); }
    case 34u: { return bitcast<u32>(u * v); }
    case 36u: { return bitcast<u32>(max(u, v)); }
    default: { return bitcast<u32>(min(u, v)); }
  }
}
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  var at_a = i;
  var at_b = i;
  if (!IS_DENSE) {
    var rest = i;
    at_a = 0u;
    at_b = 0u;
    for (var d = 3u; d < 4u; d--) {
      let k = rest % p.shape[d];
      rest /= p.shape[d];
      at_a += k * p.a_strides[d];
      at_b += k * p.b_strides[d];
    }
  }
  if (OP >= 32u) { y[i] = integers(bitcast<i32>(a[at_a]), bitcast<i32>(b[at_b])); }
  else { y[i] = floats(bitcast<f32>(a[at_a]), bitcast<f32>(b[at_b])); }
}
