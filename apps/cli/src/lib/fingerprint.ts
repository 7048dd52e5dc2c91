import { createHash } from "node:crypto";
import type { ByteSource } from "@mamba-ts/byte-io";
import type { TrainOptions } from "../commands/train.js";
import type { LabelledImages } from "./image-files.js";

/** The options that the numbers of a run depend on, besides the model's. */
const decisive = [
  "batch",
  "length",
  "accumulate",
  "steps",
  "lr",
  "finalLr",
  "warmup",
  "weightDecay",
  "clip",
  "seed",
  "carry",
] as const;

/** Everything the numbers of a run depend on; a checkpoint belongs to the run with the same one. */
export function fingerprintOf(options: TrainOptions, config: object, dataHash: string): string {
  const { dtype = "float32" } = options;
  return JSON.stringify({
    config,
    data: dataHash,
    ...Object.fromEntries(decisive.map((name) => [name, options[name]])),
    // Runs that were begun before there was a choice go on.
    ...(dtype === "float32" ? {} : { dtype }),
  });
}

/** Whether two runs differ in nothing but the learning rate's schedule. */
export function sameButSchedule(a: string, b: string): boolean {
  const rest = (fingerprint: string): string => {
    const { steps, lr, finalLr, warmup, ...others } = JSON.parse(fingerprint) as Record<string, unknown>;
    return JSON.stringify(others);
  };
  return rest(a) === rest(b);
}

/** A hash of the whole corpus, read in pieces. */
export async function hashOf(source: ByteSource): Promise<string> {
  const hash = createHash("sha256");
  const piece = 2 ** 22;
  for (let at = 0; at < source.size; at += piece) hash.update(await source.read(at, Math.min(piece, source.size - at)));
  return hash.digest("hex");
}

/** A hash of all images and labels. */
export function hashOfImages({ pixels, shape, labels }: LabelledImages): string {
  return createHash("sha256").update(pixels).update(labels).update(shape.join()).digest("hex");
}
