import { record } from "../recorder.js";
import { commonDType, run } from "../run.js";
import { expectShape, resolveAxis } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { mul } from "./binary.js";
import { pad } from "./join.js";

/** h[t] = a[t] h[t-1] + b[t] along an axis, from 0; with `reverse` from the end. Its gradient is itself, reversed. */
export function linearScan(a: Tensor, b: Tensor, axisOrNegative: number, { reverse = false } = {}): Tensor {
  const axis = resolveAxis("linearScan", axisOrNegative, a.shape.length);
  expectShape("linearScan", "b", b.shape, a.shape);
  const dtype = commonDType("linearScan", [a, b]);
  const h = run("linearScan", [a, b], a.shape, dtype, (backend, [x, y]) => backend.linearScan(x!, y!, axis, reverse));
  // gb[t] = g[t] + a[t+1] gb[t+1] and ga[t] = gb[t] h[t-1]
  const shift = (x: Tensor, by: 1 | -1): Tensor => pad(x, axis, by, -by);
  record([a, b], [h], [a, h], ([g]) => {
    let once: Tensor | undefined;
    const gb = (): Tensor => (once ??= linearScan(shift(a, reverse ? 1 : -1), g!, axis, { reverse: !reverse }));
    return [() => mul(gb(), shift(h, reverse ? -1 : 1)), gb];
  });
  return h;
}
