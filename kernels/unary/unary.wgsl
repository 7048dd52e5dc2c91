// unary — y[i] = f(x[i]); OP counts as `unaryOps` in primitives/elementwise.ts does, 16 and up on int32
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
struct Params { count: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
override OP: u32;
fn f(a: f32) -> f32 {
  switch OP {
    case 0u: { return -a; }
    case 1u: { return abs(a); }
    case 2u: { return sign(a); }
    case 3u: { return exp(a); }
    case 4u: { return log(a); }
    case 5u: { return sqrt(a); }
    case 6u: { return 1.0 / sqrt(a); }
    case 7u: { return 1.0 / a; }
    case 8u: { return sine(a, 0u); }
    case 9u: { return sine(a, 1u); }
    case 10u: { return tanh_accurate(a); }
    case 11u: { return sigmoid(a); }
    case 12u: { return softplus(a); }
    case 13u: { return erf(a); }
    default: { return floor(a); }
  }
}
fn g(a: i32) -> i32 {
  switch OP {
    case 16u: { return -a; }
    case 17u: { return abs(a); }
    default: { return sign(a); }
  }
}
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  if (OP >= 16u) { y[i] = bitcast<u32>(g(bitcast<i32>(x[i]))); return; }
  let a = bitcast<f32>(x[i]);
  // What is no number stays none, whatever the compiler makes of it.
  y[i] = select(bitcast<u32>(f(a)), x[i], is_nan(a));
}
