// copy / halves — y[start ... start + count) = x[0 ... count) of 16-bit elements, two to a word
// #include "../common/grid.wgsl"
struct Params { start: u32, count: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  let word = p.start / 2u + i;
  if (2u * word >= p.start + p.count) { return; }
  var v = y[word];
  for (var h = 0u; h < 2u; h++) {
    let e = 2u * word + h;
    if (e < p.start || e >= p.start + p.count) { continue; }
    let source = e - p.start;
    let bits = (x[source / 2u] >> (16u * (source % 2u))) & 0xffffu;
    v = (v & ~(0xffffu << (16u * h))) | (bits << (16u * h));
  }
  y[word] = v;
}
