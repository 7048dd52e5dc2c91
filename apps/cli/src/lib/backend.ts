import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { type Backend, InvalidArgumentError, isMambaError, UnsupportedError } from "@mamba-ts/backend";

/** Our own, the fastest first. */
export const knownBackends = ["cuda", "webgpu", "wasm", "cpu"] as const;

/** A device that a backend could run on. */
export interface AdapterStatus {
  readonly name: string;
  readonly preferences: readonly string[];
  /** The one that the backend takes unless told otherwise. */
  readonly isChosen: boolean;
  readonly features: readonly string[];
  readonly limits: { readonly [name: string]: number };
}

interface BackendModule {
  createBackend(): Promise<Backend>;
  /** Of a backend that finds several devices. */
  listAdapters?(): Promise<readonly AdapterStatus[]>;
}

function specifier(name: string): string {
  if ((knownBackends as readonly string[]).includes(name)) return `@mamba-ts/backend-${name}`;
  if (/^[./]|^file:|\.[cm]?js$/.test(name)) return name.startsWith("file:") ? name : pathToFileURL(resolve(name)).href;
  return name;
}

async function loadBackend(name: string): Promise<BackendModule> {
  let module: Partial<BackendModule>;
  try {
    module = (await import(specifier(name))) as Partial<BackendModule>;
  } catch (cause) {
    throw new InvalidArgumentError(`backend ${name} cannot be loaded: ${(cause as Error).message.split("\n")[0]}`, {
      hint: "give cpu, or a package or a path to a module that exports createBackend()",
      cause,
    });
  }
  if (typeof module.createBackend !== "function")
    throw new UnsupportedError(`backend ${name}: its module exports no createBackend()`);
  return module as BackendModule;
}

/** Loads a backend by our name for it, by package, or by path. */
export async function openBackend(name: string): Promise<Backend> {
  return (await loadBackend(name)).createBackend();
}

export interface BackendStatus {
  readonly name: string;
  readonly available: boolean;
  readonly device?: string;
  readonly dtypes?: readonly string[];
  /** What the device allows, in bytes. */
  readonly limits?: Backend["limits"];
  readonly fused?: readonly string[];
  /** All devices that it finds, where it can choose among several. */
  readonly adapters?: readonly AdapterStatus[];
  readonly reason?: string;
}

/** Tries every known backend. */
export async function listBackends(): Promise<BackendStatus[]> {
  const found: BackendStatus[] = [];
  for (const name of knownBackends) {
    try {
      const module = await loadBackend(name);
      const backend = await module.createBackend();
      const adapters = await module.listAdapters?.();
      found.push({
        name,
        available: true,
        device: backend.device,
        dtypes: [...backend.dtypes],
        limits: backend.limits,
        fused: Object.keys(backend.fused ?? {}),
        ...(adapters === undefined ? {} : { adapters }),
      });
      backend[Symbol.dispose]();
    } catch (error) {
      const missing = isMambaError(error, "invalid-argument");
      found.push({ name, available: false, reason: missing ? "not installed" : (error as Error).message });
    }
  }
  return found;
}

/** The named backend, or the best one that works here. */
export async function chooseBackend(name: string | undefined): Promise<Backend> {
  if (name !== undefined && name !== "auto") return openBackend(name);
  let software: Backend | undefined;
  for (const known of knownBackends) {
    if (known === "webgpu" && !mayHaveGraphics()) continue;
    try {
      const backend = await openBackend(known);
      // A graphics driver that computes on the processor is slower than a backend made for it.
      if (!backend.device.endsWith("(software)")) {
        software?.[Symbol.dispose]();
        return backend;
      }
      software = backend;
    } catch (error) {
      // Not installed, or not for this machine: `mamba backends` says which and why.
      if (!isMambaError(error)) throw error;
    }
  }
  if (software !== undefined) return software;
  throw new UnsupportedError("no backend works here", { hint: "install @mamba-ts/backend-cpu" });
}

/** Whether there may be a graphics driver: where there is none, asking for one prints warnings that are nobody's concern. */
function mayHaveGraphics(): boolean {
  if (process.platform !== "linux") return true;
  const named = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES"].some((name) => process.env[name]);
  return named || existsSync("/dev/dri") || existsSync("/dev/nvidiactl");
}
