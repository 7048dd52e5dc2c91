// How choices are grouped by expert; `plan`, int32, holds one part behind the other:
//   starts [experts]: the first slot of each expert, a multiple of BLOCK; counts [experts]: how many of its slots are taken;
//   block_expert [blocks]: whose slots a block of BLOCK holds, -1 for blocks that are not used;
//   slot_pair [blocks BLOCK]: which of the tokens topK choices sits in a slot, -1 for none; pair_slot [tokens topK]: the reverse, -1 for none
const BLOCK: u32 = 32u;
fn starts_at() -> u32 { return 0u; }
fn counts_at() -> u32 { return p.experts; }
fn block_expert_at() -> u32 { return 2u * p.experts; }
fn slot_pair_at() -> u32 { return 2u * p.experts + p.blocks; }
fn pair_slot_at() -> u32 { return 2u * p.experts + p.blocks * (1u + BLOCK); }
