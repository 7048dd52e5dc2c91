// linear-cross-entropy / gradient — logits become their gradient in place: gloss (softmax - onehot), 0 for ignored rows; a thread an element
// #include "../common/grid.wgsl"
struct Params { count: u32, vocab: u32, first: u32 }
@group(0) @binding(0) var<storage, read> targets: array<i32>;
@group(0) @binding(1) var<storage, read> log_sums: array<f32>;
@group(0) @binding(2) var<storage, read> gloss: array<f32>;
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let row = p.first + i / p.vocab;
  let wanted = targets[row];
  if (wanted < 0) { logits[i] = 0.0; return; }
  let probability = exp(logits[i] - log_sums[row]);
  logits[i] = gloss[row] * (probability - select(0.0, 1.0, i32(i % p.vocab) == wanted));
}
