// Streams a continuation and saves the state, or goes on from a saved state: see README.md.
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { isMambaError } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { openSession, say } from "./session.js";

const usage = `usage: node dist/bin.js start    --state FILE [--model DIR] [--prompt TEXT] [--max-tokens N]
       node dist/bin.js continue --state FILE [--model DIR] [--max-tokens N]`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      model: { type: "string", default: fileURLToPath(new URL("../../cli/model", import.meta.url)) },
      prompt: { type: "string", default: "It was a bright cold morning, and " },
      state: { type: "string" },
      "max-tokens": { type: "string", default: "200" },
    },
  });
  const { model, prompt, state } = values;
  const isStart = positionals[0] === "start";
  const maxTokens = Number(values["max-tokens"]);
  if (state === undefined || !(isStart || positionals[0] === "continue") || !(maxTokens >= 1)) {
    console.error(usage);
    return 2;
  }
  const session = await openSession(model, createCpuBackend());
  if (isStart) process.stdout.write(prompt);
  const options = { maxTokens, temperature: 0.7, seed: isStart ? 1 : 2 };
  const write = ({ text }: { text: string }) => void process.stdout.write(text);
  const saved = await say(session, isStart ? prompt : await readFile(state), options, write);
  await writeFile(state, saved);
  console.error(`\n\n${saved.length} bytes in ${state}: all that the model remembers`);
  return 0;
}

process.exitCode = await main().catch((error: unknown) => {
  const isKnown = isMambaError(error) || (error instanceof Error && "code" in error);
  console.error(isKnown ? `error: ${(error as Error).message}` : error);
  return 1;
});
