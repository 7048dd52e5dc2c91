import { expect, it } from "vitest";
import { page } from "../src/page.js";
import { continuousStep } from "../src/steps/continuous.js";
import { discretizationStep } from "../src/steps/discretization.js";
import { memoryStep } from "../src/steps/memory.js";
import { selectionStep } from "../src/steps/selection.js";
import { threeFormsStep } from "../src/steps/three-forms.js";

it("makes one page of all steps, with every figure drawn and no value missing", () => {
  const steps = [continuousStep(), discretizationStep(), threeFormsStep(), memoryStep(true), selectionStep()];
  const html = page(steps);
  expect(html.match(/<svg /g)).toHaveLength(steps.reduce((n, s) => n + s.figures.length, 0));
  expect(html.match(/<h2>/g)).toHaveLength(5);
  expect(html).not.toMatch(/NaN|undefined|Infinity/);
});

it("finds that the three forms are one", () => {
  for (const [form, difference] of threeFormsStep().table!.slice(1))
    expect(Number(difference), form).toBeLessThan(1e-12);
});
