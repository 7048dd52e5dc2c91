/** The suite without vitest: cases to run one by one, in any runner or in a page. */
export {
  type HostTensor,
  type HostTensors,
  type OpCase,
  type OracleResult,
  RandomInputs,
  type Tensors,
} from "./case.js";
export { allCases } from "./cases/index.js";
export { composedOnly } from "./composed-only.js";
export { type Mutant, mutants, survivors } from "./mutants.js";
export { centralDifferences, type Failure, relativeError, runCase, type Tolerance, tolerances } from "./run-case.js";
export { formatMatrix, type SupportRow, supportMatrix } from "./support-matrix.js";
