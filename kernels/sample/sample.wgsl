// sample — draws one token a row: temperature, then top-k, top-p and min-p, then the largest of score + Gumbel noise; a workgroup a row
//
// The thresholds of top-k and top-p are found by search over the bits of the scores, ordered as integers: exact, without sorting.
// Noise: Philox4x32-10 (Salmon et al., SC 2011) with counter (index / 4, counter) and key seed, as the host makes it.
// in_place: each row has its own counter, which goes up by one, so that a replayed draw goes on.
// #include "../common/grid.wgsl"
// #include "../common/math.wgsl"
// #include "../common/tree.wgsl"
struct Params {
  batch: u32, vocab: u32, top_k: u32, seed_low: u32, seed_high: u32, counter_low: u32, counter_high: u32, in_place: u32,
  temperature: f32, top_p: f32, min_p: f32,
}
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read_write> token: array<u32>;
@group(0) @binding(2) var<storage, read_write> logprob: array<f32>;
@group(0) @binding(3) var<storage, read_write> counters: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
var<workgroup> champions: array<vec2u, THREADS>;
var<workgroup> finalists: array<vec2u, THREADS / 16u>;
var<workgroup> drawn: vec2u;
var<workgroup> tree4: array<vec4f, THREADS>;
var<workgroup> branches4: array<vec4f, THREADS / 16u>;

fn multiply_high(a: u32, b: u32) -> u32 {
  let a_low = a & 0xffffu;
  let a_high = a >> 16u;
  let b_low = b & 0xffffu;
  let b_high = b >> 16u;
  let cross = a_high * b_low + ((a_low * b_low) >> 16u);
  return a_high * b_high + (cross >> 16u) + ((a_low * b_high + (cross & 0xffffu)) >> 16u);
}
fn random_word(index: u32, counter: vec2u) -> u32 {
  var c = vec4u(index / 4u, 0u, counter);
  var k = vec2u(p.seed_low, p.seed_high);
  for (var round = 0u; round < 10u; round++) {
    let high0 = multiply_high(0xd2511f53u, c.x);
    let low0 = 0xd2511f53u * c.x;
    let high1 = multiply_high(0xcd9e8d57u, c.z);
    let low1 = 0xcd9e8d57u * c.z;
    c = vec4u(high1 ^ c.y ^ k.x, low1, high0 ^ c.w ^ k.y, low0);
    k += vec2u(0x9e3779b9u, 0xbb67ae85u);
  }
  return c[index % 4u];
}
// -log(-log(u)), u = (word + 1/2) / 2^32. Near 1, log(u) is taken from 1 - u, which a float32 still tells apart.
fn gumbel(word: u32) -> f32 {
  let u = (f32(word) + 0.5) * 2.3283064e-10;
  let rest = (f32(0xffffffffu - word) + 0.5) * 2.3283064e-10;
  let series = -rest * (1.0 + rest * (0.5 + rest * (0.33333334 + rest * (0.25 + rest * 0.2))));
  return -log(-select(log(u), series, rest < 0.05));
}
// Floats in order as unsigned integers; NaN counts as largest, as in argReduce.
fn order(x: f32) -> u32 {
  if (is_nan(x)) { return 0xffffffffu; }
  let u = bitcast<u32>(x);
  return select(u | 0x80000000u, ~u, (u & 0x80000000u) != 0u);
}
fn better(a: vec2u, b: vec2u) -> vec2u {
  if (b.x > a.x || (b.x == a.x && b.y < a.y)) { return b; }
  return a;
}
fn best_of_all(own: vec2u, lid: u32) -> vec2u {
  champions[lid] = own;
  workgroupBarrier();
  if (lid < THREADS / 16u) {
    var best = champions[16u * lid];
    for (var k = 1u; k < 16u; k++) { best = better(best, champions[16u * lid + k]); }
    finalists[lid] = best;
  }
  workgroupBarrier();
  var best = finalists[0];
  for (var k = 1u; k < THREADS / 16u; k++) { best = better(best, finalists[k]); }
  return best;
}
// Eight of a thread's logits, on their way at once: a workgroup alone has nothing else to wait with. Beyond the last one they repeat it.
fn eight(base: u32, v: u32) -> array<f32, 8> {
  var x: array<f32, 8>;
  for (var k = 0u; k < 8u; k++) { x[k] = logits[base + min(v + k * THREADS, p.vocab - 1u)]; }
  return x;
}
// What the probabilities over the largest one's of a thread's logits with a key of at least `least` come to.
fn mass_from(least: u32, largest: f32, temperature: f32, base: u32, lid: u32) -> f32 {
  var mass = 0.0;
  for (var v = lid; v < p.vocab; v += 8u * THREADS) {
    let x = eight(base, v);
    for (var k = 0u; k < 8u; k++) {
      if (v + k * THREADS < p.vocab && order(x[k]) >= least) { mass += exp((x[k] - largest) / temperature); }
    }
  }
  return mass;
}
// As sum_of_all.
fn sums_of_all(value: vec4f, lid: u32) -> vec4f {
  tree4[lid] = value;
  workgroupBarrier();
  if (lid < THREADS / 16u) {
    var sum = vec4f(0.0);
    for (var k = 0u; k < 16u; k++) { sum += tree4[16u * lid + k]; }
    branches4[lid] = sum;
  }
  workgroupBarrier();
  var total = vec4f(0.0);
  for (var k = 0u; k < THREADS / 16u; k++) { total += branches4[k]; }
  return total;
}
// The largest key in [from_key, to_key] from which on the logits are worth `wanted`, in number or in mass; those from `from_key` on are. Seven keys
// between are tried in one pass.
fn search(from_key: u32, to_key: u32, wanted: f32, largest: f32, is_mass: bool, base: u32, lid: u32) -> u32 {
  var low = from_key;
  var high = to_key;
  for (var round = 0u; round < 11u; round++) {
    let range = high - low;
    let stride = range / 8u + 1u;
    let near = stride * vec4u(1u, 2u, 3u, 4u);
    let far = stride * vec4u(5u, 6u, 7u, 7u);
    var own_near = vec4f(0.0);
    var own_far = vec4f(0.0);
    for (var v = lid; v < p.vocab; v += 8u * THREADS) {
      let x = eight(base, v);
      for (var k = 0u; k < 8u; k++) {
        let key = order(x[k]);
        if (v + k * THREADS >= p.vocab || key < low) { continue; }
        let own = vec4f(select(1.0, exp((x[k] - largest) / p.temperature), is_mass));
        own_near += select(vec4f(0.0), own, vec4u(key - low) >= near);
        own_far += select(vec4f(0.0), own, vec4u(key - low) >= far);
      }
    }
    let is_near = (sums_of_all(own_near, lid) >= vec4f(wanted)) & (near <= vec4u(range));
    let is_far = (sums_of_all(own_far, lid) >= vec4f(wanted)) & (far <= vec4u(range));
    let reached = dot(vec4u(is_near), vec4u(1u)) + dot(vec4u(is_far), vec4u(1u, 1u, 1u, 0u));
    low += reached * stride;
    high = min(high, low + stride - 1u);
  }
  return low;
}
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = flat_group(id, groups);
  if (row >= p.batch) { return; }
  let base = row * p.vocab;
  if (lid == 0u) {
    drawn = vec2u(p.counter_low, p.counter_high);
    if (p.in_place != 0u) {
      drawn = vec2u(counters[row], 0u);
      counters[row] = drawn.x + 1u;
    }
  }
  var own = vec2u(0u, 0xffffffffu);
  for (var v = lid; v < p.vocab; v += 8u * THREADS) {
    let x = eight(base, v);
    for (var k = 0u; k < 8u; k++) {
      let key = order(x[k]);
      if (v + k * THREADS < p.vocab && (key > own.x || own.y == 0xffffffffu)) { own = vec2u(key, v + k * THREADS); }
    }
  }
  let top = best_of_all(own, lid);
  let largest = logits[base + top.y];
  let log_sum = largest + log(sum_of_all(mass_from(0u, largest, 1.0, base, lid), lid));
  var chosen = top.y;
  if (p.temperature > 0.0) {
    // The least key that stays; scores are ordered as logits are.
    var least = 0u;
    if (p.top_k > 0u) { least = search(0u, top.x, f32(p.top_k), largest, false, base, lid); }
    if (p.top_p < 1.0) {
      let wanted = p.top_p * sum_of_all(mass_from(least, largest, p.temperature, base, lid), lid);
      least = search(least, top.x, wanted, largest, true, base, lid);
    }
    own = vec2u(0u, 0xffffffffu);
    for (var v = lid; v < p.vocab; v += 8u * THREADS) {
      let x = eight(base, v);
      for (var k = 0u; k < 8u; k++) {
        let at = v + k * THREADS;
        if (at >= p.vocab || order(x[k]) < least || exp((x[k] - largest) / p.temperature) < p.min_p) { continue; }
        let key = order(x[k] / p.temperature + gumbel(random_word(base + at, drawn)));
        if (key > own.x || own.y == 0xffffffffu) { own = vec2u(key, at); }
      }
    }
    chosen = best_of_all(own, lid).y;
  }
  if (lid == 0u) {
    token[row] = chosen;
    logprob[row] = logits[base + chosen] - log_sum;
  }
}
