// cast — one word of y a thread: one element of float32 or int32, two of f16 or bf16. q8_0 comes decoded; quantize.wgsl makes it.
// FROM, TO: 0 float32, 1 int32, 2 f16, 3 bf16, 4 q8_0 (from only)
// #include "../common/grid.wgsl"
// #include "../common/half.wgsl"
struct Params { count: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
override FROM: u32;
override TO: u32;
fn load(i: u32) -> f32 {
  switch FROM {
    case 0u: { return bitcast<f32>(x[i]); }
    case 1u: { return f32(bitcast<i32>(x[i])); }
    case 2u: { return f16_to_f32((x[i / 2u] >> (16u * (i % 2u))) & 0xffffu); }
    case 3u: { return bf16_to_f32((x[i / 2u] >> (16u * (i % 2u))) & 0xffffu); }
    default: {
      let quant = (bitcast<i32>(x[i / 4u]) << (24u - 8u * (i % 4u))) >> 24u;
      return f32(quant) * bitcast<f32>(x[p.count / 4u + i / 32u]);
    }
  }
}
fn encode(v: f32) -> u32 { return select(f32_to_f16(v), f32_to_bf16(v), TO == 3u); }
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  switch TO {
    case 0u: { if (i < p.count) { y[i] = bitcast<u32>(load(i)); } }
    case 1u: { if (i < p.count) { y[i] = bitcast<u32>(i32(load(i))); } }
    default: {
      let e = 2u * i;
      if (e >= p.count) { return; }
      var high = 0u;
      if (e + 1u < p.count) { high = encode(load(e + 1u)); }
      y[i] = encode(load(e)) | (high << 16u);
    }
  }
}
