// Learns to read digits pixel by pixel: see README.md.
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { linePlot } from "@mamba-ts/app-figures";
import { isMambaError } from "@mamba-ts/backend";
import { createBackend } from "@mamba-ts/backend-wasm";
import { saveSafetensors } from "@mamba-ts/checkpoint/node";
import { s4Tensors } from "@mamba-ts/s4/load";
import { type Digits, mnist } from "./data.js";
import { type Point, trainDigits } from "./run.js";

const usage = `usage: node dist/bin.js [--quick] [--picture FILE] [--save FILE] [--checkpoint FILE] [--minutes N] [--steps N]

  --quick            14 x 14 pixels instead of 28 x 28, a small model, a minute and a half
  --picture FILE     the curve, as SVG
  --save FILE        the model, as safetensors with state-spaces/s4's names
  --checkpoint FILE  saves the run there at every point of the curve; goes on from there if the file exists
  --minutes N        the longest to train, 60 by default; the learning rate falls over this time
  --steps N          updates at most, over which the learning rate falls instead
  --help`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      quick: { type: "boolean", default: false },
      picture: { type: "string" },
      save: { type: "string" },
      minutes: { type: "string" },
      steps: { type: "string" },
      checkpoint: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  const { quick } = values;
  const minutes = Number(values.minutes ?? (quick ? 1.4 : 60));
  const steps = values.steps === undefined ? undefined : Number(values.steps);
  if (!(minutes > 0) || (steps !== undefined && !(Number.isInteger(steps) && steps > 0))) {
    console.error(usage);
    return 2;
  }
  const [train, whole] = await Promise.all([mnist("train"), mnist("t10k")]);
  const test: Digits = quick ? { ...whole, count: 500 } : whole;
  using backend = await createBackend();
  console.log(backend.device);
  const report = ({ step, loss, accuracy, images, minutes: time, cpuMinutes }: Point): void =>
    console.log(
      `step ${step}, ${time.toFixed(1)} min (${cpuMinutes.toFixed(1)} of processor time): loss ${loss.toFixed(3)}, ` +
        `${(100 * accuracy).toFixed(1)} % of ${images} test images`,
    );
  const { checkpoint } = values;
  const resume = checkpoint !== undefined && existsSync(checkpoint);
  if (resume) console.log(`resumed from ${checkpoint}`);
  const size = quick ? { dModel: 16, nLayer: 2, batch: 16 } : { dModel: 64, nLayer: 3, batch: 32 };
  const { model, points } = await trainDigits({
    backend,
    train,
    test,
    ...size,
    steps,
    minutes,
    halved: quick,
    probe: quick ? 500 : 1000,
    points: quick ? 12 : 20,
    checkpoint,
    resume,
    report,
  });
  using _model = model;
  const last = points.at(-1)!;
  console.log(
    `${model.parameterCount} parameters read ${(100 * last.accuracy).toFixed(2)} % of ${last.images} test images, ${quick ? 196 : 784} pixels each.` +
      ` Published for S4 at 784 pixels: 99.55 %, a gap of ${(99.55 - 100 * last.accuracy).toFixed(2)} points.`,
  );
  if (values.picture !== undefined) await writeFile(values.picture, curve(points, quick));
  if (values.save !== undefined) await saveSafetensors(values.save, s4Tensors(model));
  return 0;
}

function curve(points: readonly Point[], quick: boolean): string {
  const x = points.map((p) => p.step);
  return linePlot({
    title: `MNIST, ${quick ? "14 x 14" : "28 x 28"} pixels one after the other`,
    xLabel: "updates",
    yLabel: "share",
    series: [
      { name: "test images read rightly", x, y: points.map((p) => p.accuracy) },
      { name: "training loss / log 10", x, y: points.map((p) => p.loss / Math.LN10), style: "dashed" },
      { name: "published: 99.55 %", x: [x[0]!, x.at(-1)!], y: [0.9955, 0.9955], style: "dashed" },
    ],
  });
}

process.exitCode = await main().catch((error: unknown) => {
  const isUsage = (error as { code?: string }).code?.startsWith("ERR_PARSE_ARGS");
  const isKnown = isUsage || isMambaError(error) || (error instanceof Error && "code" in error);
  console.error(isKnown ? `error: ${(error as Error).message}` : error);
  return isUsage ? 2 : 1;
});
