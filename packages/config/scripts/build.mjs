// Builds what is out of date, with all output on standard error: standard output belongs to the command that comes next.
// Arguments go to turbo, as `--filter=mamba-ts...`. To be run by a pnpm script, which has looked after the dependencies.
import { runTool } from "./lib/run.mjs";

const { code } = await runTool("turbo", ["run", "build", "--output-logs=errors-only", ...process.argv.slice(2)], {
  output: "stderr",
  env: { TURBO_TELEMETRY_DISABLED: "1", TURBO_NO_UPDATE_NOTIFIER: "1" },
});
process.exitCode = code;
