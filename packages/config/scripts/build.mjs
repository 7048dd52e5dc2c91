// Builds what is out of date, with all output on standard error: standard output belongs to the command that comes next.
// `--no-types` leaves out the declarations, most of the time it takes, where only the code is to run. Other arguments go
// to turbo, as `--filter=mamba-ts...`. To be run by a pnpm script, which has looked after the dependencies.
import { runTool } from "./lib/run.mjs";

const given = process.argv.slice(2);
const args = given.filter((argument) => argument !== "--no-types");
const { code } = await runTool("turbo", ["run", "build", "--output-logs=errors-only", ...args], {
  output: "stderr",
  env: {
    BUILD_TYPES: args.length < given.length ? "0" : "1",
    TURBO_TELEMETRY_DISABLED: "1",
    TURBO_NO_UPDATE_NOTIFIER: "1",
  },
});
process.exitCode = code;
