// adamw — one step of AdamW on one parameter, in place (arXiv:1711.05101); a thread an element
// #include "../common/grid.wgsl"
struct Params { count: u32, lr: f32, beta1: f32, beta2: f32, eps: f32, correct1: f32, correct2: f32, decay: f32, grad_scale: f32 }
@group(0) @binding(0) var<storage, read> grad: array<f32>;
@group(0) @binding(1) var<storage, read_write> param: array<f32>;
@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = flat_group(id, groups) * 256u + lid;
  if (i >= p.count) { return; }
  let g = grad[i] * p.grad_scale;
  let first = p.beta1 * m[i] + (1.0 - p.beta1) * g;
  let second = p.beta2 * v[i] + (1.0 - p.beta2) * g * g;
  m[i] = first;
  v[i] = second;
  param[i] -= p.lr * (first * p.correct1 / (sqrt(second * p.correct2) + p.eps) + p.decay * param[i]);
}
