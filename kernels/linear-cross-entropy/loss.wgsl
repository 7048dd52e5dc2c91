// linear-cross-entropy / loss — from logits of a few rows: logsumexp and the loss; a workgroup a row, in one pass
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
struct Params { rows: u32, vocab: u32, first: u32 }
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<i32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> log_sums: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
const THREADS: u32 = 256u; // @specialize
var<workgroup> parts: array<vec2f, THREADS>;
var<workgroup> joined: array<vec2f, THREADS / 16u>;
// Maximum and sum of exp(logit - maximum) of two sets.
fn join(a: vec2f, b: vec2f) -> vec2f {
  let top = max(a.x, b.x);
  return vec2f(top, a.y * exp(a.x - top) + b.y * exp(b.x - top));
}
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = flat_group(id, groups);
  if (row >= p.rows) { return; }
  let base = row * p.vocab;
  var own = vec2f(-3.0e38, 0.0);
  for (var v = lid; v < p.vocab; v += THREADS) { own = join(own, vec2f(logits[base + v], 1.0)); }
  parts[lid] = own;
  workgroupBarrier();
  if (lid < THREADS / 16u) {
    for (var k = 1u; k < 16u; k++) { parts[16u * lid] = join(parts[16u * lid], parts[16u * lid + k]); }
    joined[lid] = parts[16u * lid];
  }
  workgroupBarrier();
  if (lid != 0u) { return; }
  var all = joined[0];
  for (var k = 1u; k < THREADS / 16u; k++) { all = join(all, joined[k]); }
  let log_sum = all.x + log(all.y);
  log_sums[p.first + row] = log_sum;
  let wanted = targets[p.first + row];
  var logit = 0.0;
  if (wanted >= 0 && wanted < i32(p.vocab)) { logit = logits[base + u32(wanted)]; }
  loss[p.first + row] = select(log_sum - logit, 0.0, wanted < 0);
}
