// fft / pass — one pass of Stockham's self-sorting transform of `length` complex numbers a row; a thread a butterfly of RADIX of them
//
// After passes whose radices multiply to `done`, thread j of a row takes x[j + r length / RADIX], turns them by r (j mod done) / (done RADIX) of a
// circle, transforms them, and puts them done apart. turns[k] = exp(-2 pi i k / (2 length)), k <= length: see ../common/turns.wgsl.
// Bytes: 16 per complex number and pass. Grid: flat, a thread a butterfly. Bindings: 3.
// #include "../common/grid.wgsl"
// #include "../common/turns.wgsl"
struct Params { count: u32, length: u32, done: u32, inverse: u32, scale: f32 }
@group(0) @binding(0) var<storage, read> x: array<vec2f>;
@group(0) @binding(1) var<storage, read> turns: array<vec2f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec2f>;
@group(1) @binding(0) var<uniform> p: Params;
const RADIX: u32 = 4u; // @specialize
var<workgroup> roots: array<vec2f, RADIX>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  if (lid < RADIX) { roots[lid] = directed(lid * 2u * (p.length / RADIX), p.length, p.inverse); }
  workgroupBarrier();
  let thread = flat_group(id, groups) * 256u + lid;
  if (thread >= p.count) { return; }
  let stride = p.length / RADIX;
  let row = thread / stride * p.length;
  let j = thread % stride;
  let k = j % p.done;
  var v: array<vec2f, RADIX>;
  for (var r = 0u; r < RADIX; r++) {
    v[r] = times(x[row + j + r * stride], directed(2u * r * k * (stride / p.done), p.length, p.inverse));
  }
  let at = row + (j - k) * RADIX + k;
  for (var s = 0u; s < RADIX; s++) {
    var sum = v[0];
    for (var r = 1u; r < RADIX; r++) { sum += times(v[r], roots[(r * s) % RADIX]); }
    y[at + s * p.done] = sum * p.scale;
  }
}
