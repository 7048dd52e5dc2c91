/** Recording and replaying; a part of its own, which a program that does not replay leaves out. */
export { type CapturedFunction, capture } from "./captured.js";
export { canSampleInto, type DrawState, sampleInto } from "./ops/sample-into.js";
