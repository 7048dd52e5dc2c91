import { cpus } from "node:os";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { type Backend, InvalidArgumentError } from "@mamba-ts/backend";
import type { Repeats, Row } from "./harness.js";

/** What a benchmark gets: where to run, how often, and where results go. */
export interface Context {
  readonly backend: Backend;
  /** As given on the command line, for child processes. */
  readonly backendName: string;
  readonly device: string;
  readonly repeats: Repeats;
  /** Where a benchmark that draws puts its plot. */
  readonly picture: string | undefined;
  /** A result: lines for people, or one JSON document. */
  emit(text: string, data: object): void;
  row(row: Row): void;
}

/** Loads a backend: one of ours by its short name, else a package, else a path to a module that exports createBackend(). */
export async function openBackend(name: string): Promise<Backend> {
  const ours = /^(cpu|wasm|webgpu|cuda)$/.test(name);
  const specifier = ours ? `@mamba-ts/backend-${name}` : /^[./]/.test(name) ? pathToFileURL(resolve(name)).href : name;
  let module: { createBackend?: () => Promise<Backend> };
  try {
    module = (await import(specifier)) as typeof module;
  } catch (cause) {
    throw new InvalidArgumentError(`backend ${name} cannot be loaded: ${(cause as Error).message}`, { cause });
  }
  if (typeof module.createBackend !== "function")
    throw new InvalidArgumentError(`backend ${name}: its module exports no createBackend()`);
  return module.createBackend();
}

/** What makes two rows comparable: the processor, the engine, and the backend's own device. */
export function deviceOf(backend: Backend): string {
  const all = cpus();
  return `${all[0]?.model.trim() ?? process.arch} x ${all.length}, ${process.platform}; ${backend.name}: ${backend.device}`;
}
