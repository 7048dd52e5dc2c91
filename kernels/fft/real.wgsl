// fft / real — between the spectrum of a real row of 2 length numbers and that of the row taken as `length` complex ones; a thread a bin
//
// z = even + i odd, so Z[k] = E[k] + i O[k] and X[k] = E[k] + w^k O[k], w = exp(-2 pi i / (2 length)), E and O the spectra of the even and odd ones:
// E = (Z[k] + conj Z[length - k]) / 2, i O = (Z[k] - conj Z[length - k]) / 2; with X in Z's place and O turned back, the same gives E and O from X.
// Forwards: x [rows, length], y [rows, length + 1]. Inverse: the reverse; imaginary parts of bins 0 and length do not count.
// Bytes: 16 per complex number. Grid: flat, a thread a number of y. Bindings: 3.
// #include "../common/grid.wgsl"
// #include "../common/turns.wgsl"
struct Params { count: u32, length: u32, inverse: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec2f>;
@group(0) @binding(1) var<storage, read> turns: array<vec2f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec2f>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let is_inverse = p.inverse != 0u;
  let bins = p.length + select(1u, 0u, is_inverse);
  let k = i % bins;
  let row = i / bins * (p.length + select(0u, 1u, is_inverse));
  var a = x[row + select(k % p.length, k, is_inverse)];
  var b = x[row + select((p.length - k) % p.length, p.length - k, is_inverse)];
  if (is_inverse && k == 0u) { a.y = 0.0; b.y = 0.0; }
  b.y = -b.y;
  let even = 0.5 * (a + b);
  let difference = 0.5 * (a - b);
  let turned = times(difference, directed(k, p.length, p.inverse));
  // Forwards i O lies in `difference`: O is -i times it. Inverse: `turned` is O, and i O joins.
  y[i] = even + select(vec2f(turned.y, -turned.x), vec2f(-turned.y, turned.x), is_inverse);
}
