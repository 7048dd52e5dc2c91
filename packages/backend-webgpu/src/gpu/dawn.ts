/** WebGPU itself: a browser's, or in Node Dawn's. */
import { UnsupportedError } from "@mamba-ts/backend";

/** Toggles of Dawn by name, as its own sources list them. */
export interface DawnOptions {
  /** For instance "vulkan_enable_f16_on_nvidia": NVIDIA's Vulkan drivers have shader-f16, which Dawn hides. */
  readonly enable?: readonly string[];
  readonly disable?: readonly string[];
}

/** The process' Dawn instances by their switches, kept for good: Dawn aborts the process when one is collected while a device lives. */
const instancesKey = Symbol.for("mamba-ts.dawn");

/** No kernel reads workgroup memory before it has written it; zeroing it makes a software adapter compile ten times as long. */
const alwaysEnabled = ["disable_workgroup_init"];

/** @throws UnsupportedError where there is no WebGPU */
export async function findGpu({ enable = [], disable = [] }: DawnOptions): Promise<GPU> {
  const ofBrowser = globalThis.navigator?.gpu;
  if (ofBrowser !== undefined) return ofBrowser;
  const { process } = globalThis as { process?: { versions?: { node?: string } } };
  if (process?.versions?.node === undefined)
    throw new UnsupportedError("webgpu: this browser has no WebGPU", {
      hint: "use a current Chrome, Edge, Safari or Firefox, or @mamba-ts/backend-cpu",
    });
  const enabled = [...new Set([...alwaysEnabled, ...enable])];
  const options = [`enable-dawn-features=${enabled.join(",")}`];
  if (disable.length > 0) options.push(`disable-dawn-features=${disable.join(",")}`);
  const key = options.join(" ");
  const global = globalThis as { [instancesKey]?: Map<string, GPU> };
  const instances = (global[instancesKey] ??= new Map());
  const known = instances.get(key);
  if (known !== undefined) return known;
  // A name that no bundler follows: Dawn is for Node alone, and optional there.
  const dawn = "webgpu";
  let module: { create(options: string[]): GPU; globals: object };
  try {
    module = (await import(/* @vite-ignore */ /* webpackIgnore: true */ dawn)) as typeof module;
  } catch (cause) {
    throw new UnsupportedError("webgpu: in Node this backend needs the package webgpu, which cannot be loaded", {
      hint: "npm install webgpu",
      cause,
    });
  }
  Object.assign(globalThis, module.globals);
  const made = module.create(options);
  instances.set(key, made);
  return made;
}
