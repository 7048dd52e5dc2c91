// attention / dots — saved [2, rows]: the log sums of forward.wgsl, then gy . y of each query and head, both 0 where it sees nothing; a thread a row
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
struct Params { rows: u32, head_dim: u32 }
@group(0) @binding(0) var<storage, read> log_sums: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> gy: array<f32>;
@group(0) @binding(3) var<storage, read_write> saved: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = flat_group(id, groups) * 256u + lid;
  if (row >= p.rows) { return; }
  var along = 0.0;
  for (var d = 0u; d < p.head_dim; d++) { along += y[row * p.head_dim + d] * gy[row * p.head_dim + d]; }
  let log_sum = log_sums[row];
  saved[row] = select(log_sum, 0.0, is_nan(log_sum));
  saved[p.rows + row] = along;
}
