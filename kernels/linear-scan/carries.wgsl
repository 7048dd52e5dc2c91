// linearScan / carries — what each stretch starts from: in place, carry[s] = h before stretch s, from the products in carry and the ends in last
// #include "../common/grid.wgsl"
struct Params { count: u32, inner: u32, splits: u32 }
@group(0) @binding(0) var<storage, read> last: array<f32>;
@group(0) @binding(1) var<storage, read_write> carry: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let base = (i / p.inner) * p.splits * p.inner + i % p.inner;
  var h = 0.0;
  for (var s = 0u; s < p.splits; s++) {
    let at = base + s * p.inner;
    let product = carry[at];
    carry[at] = h;
    h = select(product * h, 0.0, h == 0.0) + last[at];
  }
}
