import { expect, it } from "vitest";
import { causalConv1d } from "./causal-conv1d.js";
import { discretize } from "./discretization.js";
import { SsmError } from "./errors.js";

/** What a call throws. */
function thrownBy(call: () => unknown): SsmError {
  try {
    call();
  } catch (error) {
    if (error instanceof SsmError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

it("carries the marker and a code, so that it is known without this package", () => {
  const shape = thrownBy(() =>
    causalConv1d({ batch: 1, length: 2, channels: 3, width: 4, x: new Float64Array(6), weight: new Float64Array(11) }),
  );
  expect(shape).toBeInstanceOf(Error);
  expect(Symbol.for("mamba-ts.error") in shape).toBe(true);
  expect(shape.name).toBe("SsmError");
  expect(shape.code).toBe("shape");
  expect(shape.message).toBe("causalConv1d: weight has 11 elements, not [3, 4]");
  expect(thrownBy(() => discretize("zoh", -1, 1, -1)).code).toBe("invalid-argument");
});

it("prints a hint on a line of its own", () => {
  const error = new SsmError("shape", "op: a differs", "pass b");
  expect(error.message).toBe("op: a differs\nHint: pass b");
  expect(error.hint).toBe("pass b");
});
