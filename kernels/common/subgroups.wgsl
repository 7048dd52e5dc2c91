// The size of every subgroup on this device.
const SUBGROUP: u32 = 4u; // @specialize
