// Who sees whom in attention: query i sees key j iff, with `causal`, j <= i + keys - queries, and their segments agree and are not negative.
struct Params {
  batch: u32, queries: u32, keys: u32, heads: u32, kv_heads: u32, causal: u32, has_segments: u32, scale: f32,
}
fn keys_seen_by(i: u32) -> u32 { return select(p.keys, i + 1u + p.keys - p.queries, p.causal != 0u); }
fn sees(b: u32, i: u32, j: u32) -> bool {
  if (j >= keys_seen_by(i)) { return false; }
  if (p.has_segments == 0u) { return true; }
  let segment = query_segments[b * p.queries + i];
  return segment >= 0 && segment == key_segments[b * p.keys + j];
}
