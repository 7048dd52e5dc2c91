// What `reduce` does to two words, and what an empty axis gives; needs OP and math.wgsl.
fn nothing() -> u32 {
  switch OP {
    case 1u: { return 0xff800000u; }
    case 3u: { return 0x80000000u; }
    default: { return 0u; }
  }
}
fn combine(u: u32, v: u32) -> u32 {
  switch OP {
    case 0u: { return bitcast<u32>(bitcast<f32>(u) + bitcast<f32>(v)); }
    case 1u: { return bitcast<u32>(larger(bitcast<f32>(u), bitcast<f32>(v))); }
    case 2u: { return u + v; }
    default: { return bitcast<u32>(max(bitcast<i32>(u), bitcast<i32>(v))); }
  }
}
