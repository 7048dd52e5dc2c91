// cast / quantize — float32 to q8_0, a block of 32 a thread: scale = max |x| / 127 rounded to f16's precision, quant = round(x / scale)
// y: quants, 8 words a block, for all blocks; then the scales as float32
// #include "../common/grid.wgsl"
// #include "../common/half.wgsl"
struct Params { blocks: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.blocks) { return; }
  var largest = 0.0;
  for (var j = 0u; j < 32u; j++) { largest = max(largest, abs(x[32u * i + j])); }
  let scale = largest / 127.0;
  let inverse = select(1.0 / scale, 0.0, scale == 0.0);
  for (var w = 0u; w < 8u; w++) {
    var word = 0u;
    for (var b = 0u; b < 4u; b++) {
      let q = x[32u * i + 4u * w + b] * inverse;
      // Ties away from zero, as C's roundf.
      let rounded = i32(sign(q) * floor(abs(q) + 0.5));
      word |= (u32(clamp(rounded, -127, 127)) & 0xffu) << (8u * b);
    }
    y[8u * i + w] = word;
  }
  y[8u * p.blocks + i] = bitcast<u32>(f16_to_f32(f32_to_f16(scale)));
}
