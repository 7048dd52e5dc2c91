// gather — y[o, k, j] = x[o, indices[k], j], zeros where the index is outside [0, n); a word of y a thread
// FORMAT: 0 words, 1 two 16-bit elements to a word, 2 q8_0, decoded
// #include "../common/grid.wgsl"
struct Params { count: u32, n: u32, inner: u32, picks: u32, x_count: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> indices: array<i32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
override FORMAT: u32;
fn pick(i: u32) -> u32 {
  let j = i % p.inner;
  let k = (i / p.inner) % p.picks;
  let o = i / p.inner / p.picks;
  let index = indices[k];
  if (index < 0 || index >= i32(p.n)) { return 0u; }
  let source = (o * p.n + u32(index)) * p.inner + j;
  switch FORMAT {
    case 0u: { return x[source]; }
    case 1u: { return (x[source / 2u] >> (16u * (source % 2u))) & 0xffffu; }
    default: {
      let quant = (bitcast<i32>(x[source / 4u]) << (24u - 8u * (source % 4u))) >> 24u;
      return bitcast<u32>(f32(quant) * bitcast<f32>(x[p.x_count / 4u + source / 32u]));
    }
  }
}
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (FORMAT != 1u) {
    if (i < p.count) { y[i] = pick(i); }
    return;
  }
  if (2u * i >= p.count) { return; }
  var high = 0u;
  if (2u * i + 1u < p.count) { high = pick(2u * i + 1u); }
  y[i] = pick(2u * i) | (high << 16u);
}
