// moe / assign — every choice to a slot of its expert, in the order of the tokens; the same on every run. A workgroup an expert
// #include "../common/grid.wgsl"
// #include "../common/experts.wgsl"
struct Params { pairs: u32, experts: u32, blocks: u32 }
@group(0) @binding(0) var<storage, read> indices: array<i32>;
@group(0) @binding(1) var<storage, read_write> plan: array<i32>;
@group(1) @binding(0) var<uniform> p: Params;
var<workgroup> sums: array<u32, 256>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let expert = flat_group(id, groups);
  if (expert >= p.experts) { return; }
  var block = 0u;
  for (var e = 0u; e < expert; e++) { block += (u32(plan[counts_at() + e]) + BLOCK - 1u) / BLOCK; }
  let count = u32(plan[counts_at() + expert]);
  let end_block = block + (count + BLOCK - 1u) / BLOCK;
  // Each thread has a stretch of the choices.
  let stretch = (p.pairs + 255u) / 256u;
  let first = min(lid * stretch, p.pairs);
  let end = min(first + stretch, p.pairs);
  var own = 0u;
  for (var i = first; i < end; i++) {
    own += select(0u, 1u, indices[i] == i32(expert));
    if (expert == 0u && (indices[i] < 0 || indices[i] >= i32(p.experts))) { plan[pair_slot_at() + i] = -1; }
  }
  sums[lid] = own;
  workgroupBarrier();
  var slot = block * BLOCK;
  for (var l = 0u; l < lid; l++) { slot += sums[l]; }
  for (var i = first; i < end; i++) {
    if (indices[i] == i32(expert)) {
      plan[slot_pair_at() + slot] = i32(i);
      plan[pair_slot_at() + i] = i32(slot);
      slot++;
    }
  }
  for (var s = block * BLOCK + count + lid; s < end_block * BLOCK; s += 256u) { plan[slot_pair_at() + s] = -1; }
  for (var b = block + lid; b < end_block; b += 256u) { plan[block_expert_at() + b] = i32(expert); }
  if (expert == p.experts - 1u) {
    for (var b = end_block + lid; b < p.blocks; b += 256u) { plan[block_expert_at() + b] = -1; }
  }
  if (lid == 0u) { plan[starts_at() + expert] = i32(block * BLOCK); }
}
