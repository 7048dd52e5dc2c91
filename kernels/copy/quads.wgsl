// copy / quads — place.wgsl by four words: starts and pitches are counted in fours; of the last quad of a row a part may be copied
// A thread moves EACH quads, a workgroup's width apart, so that several are in flight.
// #include "../common/grid.wgsl"
struct Params { count: u32, per_row: u32, run: u32, x_start: u32, x_pitch: u32, y_start: u32, y_pitch: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4u>;
@group(1) @binding(0) var<uniform> p: Params;
const EACH: u32 = 4u; // @specialize
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let first = flat_group(id, groups) * 256u * EACH + lid;
  for (var e = 0u; e < EACH; e++) {
    let i = first + 256u * e;
    if (i >= p.count) { return; }
    let r = i / p.per_row;
    let j = i % p.per_row;
    let v = x[p.x_start + r * p.x_pitch + j];
    let at = p.y_start + r * p.y_pitch + j;
    if (4u * j + 4u <= p.run) { y[at] = v; continue; }
    for (var l = 0u; l < p.run - 4u * j; l++) { y[at][l] = v[l]; }
  }
}
