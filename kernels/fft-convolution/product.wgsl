// fft-convolution / product — products of spectra, summed: y[i, j, h] = sum_s a[i, j, s, h] b[i, j, s, h], or of conj(a) and b: correlation
// Rows are `bins` complex numbers; that of a stands at i a_i + j a_j + s a_s + h, b likewise. A thread a bin of y. Grid: flat. Bindings: 3.
// #include "../common/grid.wgsl"
struct Params {
  count: u32, bins: u32, heads: u32, columns: u32, sums: u32, conjugate: u32,
  a_i: u32, a_j: u32, a_s: u32, b_i: u32, b_j: u32, b_s: u32,
}
@group(0) @binding(0) var<storage, read> a: array<vec2f>;
@group(0) @binding(1) var<storage, read> b: array<vec2f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec2f>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let at = flat_group(id, groups) * 256u + lid;
  if (at >= p.count) { return; }
  let bin = at % p.bins;
  let row = at / p.bins;
  let h = row % p.heads;
  let j = row / p.heads % p.columns;
  let i = row / p.heads / p.columns;
  var sum = vec2f(0.0);
  for (var s = 0u; s < p.sums; s++) {
    var u = a[(i * p.a_i + j * p.a_j + s * p.a_s + h) * p.bins + bin];
    let v = b[(i * p.b_i + j * p.b_j + s * p.b_s + h) * p.bins + bin];
    if (p.conjugate != 0u) { u.y = -u.y; }
    sum += vec2f(u.x * v.x - u.y * v.y, u.x * v.y + u.y * v.x);
  }
  y[at] = sum;
}
