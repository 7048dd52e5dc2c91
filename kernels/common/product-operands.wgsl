// What every matrix product is given; needs quad.wgsl.
struct Params {
  m: u32, n: u32, k: u32, k_stretch: u32, splits: u32,
  a_start: u32, a_row: u32, a_col: u32, a_batch: u32,
  b_start: u32, b_row: u32, b_col: u32, b_batch: u32,
  y_start: u32, y_row: u32, y_batch: u32,
}
@group(0) @binding(0) var<storage, read> a: array<Quad>;
@group(0) @binding(1) var<storage, read> b: array<Quad>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
