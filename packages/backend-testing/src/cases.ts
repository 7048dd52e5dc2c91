/** The suite without vitest: cases to run one by one, in any runner or in a page. */
export { type BenchOptions, type BenchRow, benchBackend, formatBench } from "./bench.js";
export { type BenchCase, benchCases } from "./bench-cases.js";
export { checkCapture } from "./capture-checks.js";
export {
  type HostTensor,
  type HostTensors,
  type OpCase,
  type OracleResult,
  RandomInputs,
  type Tensors,
} from "./case.js";
export { allCases } from "./cases/index.js";
export { composedOnly, override } from "./composed-only.js";
export { type Mutant, mutants } from "./mutants.js";
export { centralDifferences } from "./reference.js";
export {
  type Failure,
  type Mode,
  type RunCaseOptions,
  relativeError,
  runCase,
  type Tolerance,
  tolerances,
} from "./run-case.js";
export { formatMatrix, type SupportRow, supportMatrix } from "./support-matrix.js";
export { survivors } from "./survivors.js";
export { tailMutants } from "./tail-mutants.js";
