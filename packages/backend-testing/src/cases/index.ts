import type { OpCase } from "../case.js";
import { elementwiseCases } from "./elementwise.js";
import { inPlaceCases } from "./in-place.js";
import { layerCases } from "./layers.js";
import { mambaStepCases } from "./mamba-step.js";
import { matmulCases } from "./matmul.js";
import { shapeCases } from "./shapes.js";
import { stateSpaceCases } from "./state-space.js";

/** Every operation of the interface, primitive and fused. */
export const allCases: readonly OpCase[] = [
  ...elementwiseCases,
  ...shapeCases,
  ...matmulCases,
  ...stateSpaceCases,
  ...layerCases,
  ...inPlaceCases,
  ...mambaStepCases,
];
