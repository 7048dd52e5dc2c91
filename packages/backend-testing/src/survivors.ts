import type { Backend } from "@mamba-ts/backend";
import type { OpCase } from "./case.js";
import { type Mutant, mutants } from "./mutants.js";
import { runCase } from "./run-case.js";
import { tailMutants } from "./tail-mutants.js";

/**
 * The mutants no case rejects, among those that change the backend at all; `tried` counts them. What a mutant leaves behind is put
 * right, so that afterwards the backend holds no buffer more than before.
 * @param among - the written mutants and those made for what this backend has, by default
 */
export async function survivors(
  backend: Backend,
  cases: readonly OpCase[],
  dtype: "float32" | "float64" = "float32",
  among: readonly Mutant[] = [...mutants, ...tailMutants(backend, cases)],
): Promise<{ readonly survivors: readonly string[]; readonly tried: number }> {
  const alive: string[] = [];
  let tried = 0;
  for (const mutant of among) {
    const repairs: (() => void)[] = [];
    const broken = mutant.mutate(backend, (repair) => repairs.push(repair));
    if (broken === backend) continue;
    tried++;
    let rejected = false;
    for (const opCase of cases) {
      if (rejected || !mutant.ops.includes(opCase.op)) continue;
      rejected = (await runCase(opCase, broken, { dtype })).length > 0;
    }
    for (const repair of repairs) repair();
    if (!rejected) alive.push(mutant.name);
  }
  return { survivors: alive, tried };
}
