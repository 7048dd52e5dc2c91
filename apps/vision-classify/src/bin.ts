// Trains a Vision Mamba on pictures, and shows what it got wrong: see README.md.
import { mkdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { commitOf } from "@mamba-ts/app-figures";
import { isMambaError } from "@mamba-ts/backend";
import { createBackend } from "@mamba-ts/backend-wasm";
import { classify, confusion, normalisationOf, type Settings, trainClassifier } from "./classify.js";
import { atSize, mnistFolder, openDataset } from "./data.js";
import { confusionPicture, mistakesPicture, segmentationPicture } from "./pictures.js";
import { trainSegmentation } from "./segment.js";

const full: Settings = {
  dModel: 48,
  nLayer: 3,
  patchSize: 4,
  steps: 1500,
  batch: 32,
  lr: 6e-3,
  dropPath: 0,
  shift: 1,
  flip: false,
  seed: 1,
};
const quick: Settings = { ...full, dModel: 32, nLayer: 2, steps: 400, batch: 16, lr: 8e-3 };

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      data: { type: "string" },
      out: { type: "string", default: fileURLToPath(new URL("../results", import.meta.url)) },
      steps: { type: "string" },
      size: { type: "string", default: "28" },
      flip: { type: "boolean", default: false },
      quick: { type: "boolean", default: false },
    },
  });
  const base = { ...(values.quick ? quick : full), flip: values.flip };
  const settings = { ...base, ...(values.steps === undefined ? {} : { steps: Number(values.steps) }) };
  const size = Number(values.size);
  if (!(settings.steps >= 1) || !(size >= settings.patchSize))
    throw new RangeError("--steps is at least 1, --size at least a patch");
  const limits = values.quick ? { train: 4000, test: 500 } : { train: 60_000, test: 2000 };
  const data = await openDataset(values.data ?? mnistFolder(), limits);
  const [train, test] = [atSize(data.train, size), atSize(data.test, size)];
  console.error(
    `${train.pictures.length} pictures to train on, ${test.pictures.length} to test, ${data.classes.length} classes`,
  );
  using backend = await createBackend();
  const normalisation = normalisationOf(train.pictures);
  const commit = commitOf(fileURLToPath(new URL(".", import.meta.url)));
  const { model, losses } = await trainClassifier(
    settings,
    train,
    normalisation,
    data.classes.length,
    backend,
    console.error,
  );
  const said = await classify(model, test.pictures, normalisation);
  const counts = confusion(test.labels, said, data.classes.length);
  const right = counts.reduce((s, row, i) => s + row[i]!, 0);
  const accuracy = right / test.labels.length;
  console.log(
    `${(100 * accuracy).toFixed(2)} % of ${test.labels.length} test pictures right, ${model.parameterCount} parameters${data.isJpeg ? "; the pictures are JPEG files, so this is not a result on the original pixels" : ""}`,
  );
  const segmentation = await trainSegmentation(model, train.pictures, test.pictures.slice(0, 100), normalisation, {
    steps: values.quick ? 250 : 800,
    batch: 16,
    lr: 1e-2,
    seed: settings.seed,
  });
  console.log(
    `segmentation under noise: intersection over union ${segmentation.iou.toFixed(3)}, of calling everything the thing ${segmentation.baseline.toFixed(3)}`,
  );
  const record = {
    commit,
    settings,
    size,
    data: basename(data.name),
    sha256: data.sha256,
    isJpeg: data.isJpeg,
    parameters: model.parameterCount,
    accuracy,
    tested: test.labels.length,
    segmentation: { iou: segmentation.iou, baseline: segmentation.baseline },
    device: backend.device,
    losses: losses.map((x) => Number(x.toFixed(4))),
  };
  await mkdir(values.out, { recursive: true });
  await writeFile(join(values.out, "run.json"), `${JSON.stringify(record)}\n`);
  await writeFile(join(values.out, "confusion.svg"), confusionPicture(counts, data.classes));
  await writeFile(join(values.out, "mistakes.svg"), mistakesPicture(test.pictures, test.labels, said, data.classes));
  await writeFile(join(values.out, "segmentation.svg"), segmentationPicture(segmentation));
  model.dispose();
  return 0;
}

process.exitCode = await main().catch((error: unknown) => {
  const isKnown = isMambaError(error) || error instanceof RangeError || (error instanceof Error && "code" in error);
  console.error(isKnown ? `error: ${(error as Error).message}` : error);
  return 1;
});
