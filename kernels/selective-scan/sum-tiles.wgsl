// selective-scan / sum-tiles — gB and gC [batch, length, groups dState] from those of the tiles of channels; a thread a row, group and state
// Of every sequence the parts cover `run` numbers, from `start` on of its `pitch`.
// #include "../common/grid.wgsl"
struct Params { count: u32, groups: u32, tiles: u32, d_state: u32, run: u32, start: u32, pitch: u32 }
@group(0) @binding(0) var<storage, read> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> gB: array<f32>;
@group(0) @binding(2) var<storage, read_write> gC: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let n = i % p.d_state;
  let base = (i / p.d_state) * p.tiles * 2u * p.d_state + n;
  var sum = vec2f(0.0);
  for (var k = 0u; k < p.tiles; k++) {
    let at = base + k * 2u * p.d_state;
    sum += vec2f(parts[at], parts[at + p.d_state]);
  }
  let out = p.start + (i / p.run) * p.pitch + i % p.run;
  gB[out] = sum.x;
  gC[out] = sum.y;
}
