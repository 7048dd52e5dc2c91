// Workgroups beyond 65,535 go into the grid's second dimension.
fn flat_group(id: vec3u, groups: vec3u) -> u32 { return id.x + id.y * groups.x; }
