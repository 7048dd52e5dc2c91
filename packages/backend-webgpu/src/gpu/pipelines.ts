/** Compute pipelines, made once for each kernel and choice of constants. */
import { BackendError } from "@mamba-ts/backend";
import { kernels } from "../generated/kernels.js";
import type { Device } from "./types.js";

export type KernelName = keyof typeof kernels;
type Kernel<K extends KernelName> = (typeof kernels)[K];
export type BindingName<K extends KernelName> = Kernel<K>["bindings"][number]["name"];
export type ParamName<K extends KernelName> = Kernel<K>["params"][number]["name"];
export type ConstantName<K extends KernelName> = (
  | Kernel<K>["overrides"][number]
  | Kernel<K>["specialisations"][number]
) &
  string;
export type Constants<K extends KernelName> = { readonly [C in ConstantName<K>]?: number };

interface Field {
  readonly name: string;
  readonly kind: "u" | "i" | "f";
  /** In 32-bit words. */
  readonly at: number;
  readonly lanes: number;
}

/** A kernel as it is launched. */
export interface Pipeline {
  readonly name: string;
  readonly gpu: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  readonly layoutId: number;
  readonly bindings: readonly Binding[];
  readonly fields: readonly Field[];
  readonly paramBytes: number;
}

/** Every uniform binding is this large. */
export const PARAMS_BYTES = 256;

function fieldsOf(params: readonly { readonly name: string; readonly type: string }[]): Field[] {
  let at = 0;
  return params.map(({ name, type }) => {
    const lanes = type.startsWith("vec4") ? 4 : 1;
    at = Math.ceil(at / lanes) * lanes;
    const field = { name, kind: type.replace("vec4", "")[0] as Field["kind"], at, lanes };
    at += lanes;
    return field;
  });
}

function specialised(code: string, constant: string, value: number): string {
  const line = new RegExp(`^const ${constant}: u32 = \\d+u; // @specialize$`, "m");
  return code.replace(line, `const ${constant}: u32 = ${value}u;`);
}

function keyOf(name: string, constants: object, { f16 = false, without = [] }: Build): string {
  return `${name}${f16 ? " f16" : ""} ${Object.entries(constants).join(" ")}${without.map((w) => ` -${w}`).join("")}`;
}

type Described = Omit<Pipeline, "gpu"> & { readonly descriptor: GPUComputePipelineDescriptor };

/** A pipeline that a launch would have to wait for. */
export interface PendingPipeline {
  readonly name: string;
  readonly make: () => Promise<void>;
}

/** What may differ between pipelines of one kernel with the same constants. */
export interface Build {
  /** The build whose operands are f16, on a device with shader-f16. */
  readonly f16?: boolean;
  /** Operands that are not there and never read: their bindings are left out. */
  readonly without?: readonly string[];
}

interface Binding {
  readonly name: string;
  readonly writes: boolean;
}

/** The shader without the bindings of absent operands; what would read them names another operand, and is not reached. */
function leaveOut(code: string, absent: readonly string[]): string {
  let left = code;
  const declared = /@group\(0\) @binding\(\d+\) var<storage, read> (\w+): array<f32>;\n/g;
  const standIn = [...code.matchAll(declared)].find(([, name]) => !absent.includes(name!))?.[1];
  for (const name of absent) {
    left = left.replace(new RegExp(`@group\\(0\\) @binding\\(\\d+\\) var<storage, read> ${name}: array<f32>;\\n`), "");
    left = left.replace(new RegExp(`\\b${name}\\b`, "g"), standIn!);
  }
  let index = 0;
  return left.replace(/@group\(0\) @binding\(\d+\) var<storage/g, () => `@group(0) @binding(${index++}) var<storage`);
}

export class Pipelines {
  readonly #made = new Map<string, Pipeline>();
  readonly #pending = new Map<string, PendingPipeline>();
  readonly #layouts = new Map<string, { readonly id: number; readonly layout: GPUBindGroupLayout }>();

  /** @param subgroupSize - of all subgroups on this device; without it the kernels' plain builds are used */
  constructor(
    readonly device: Device,
    readonly subgroupSize?: number,
  ) {}

  get<K extends KernelName>(name: K, constants: Constants<K>, build: Build = {}): Pipeline {
    const key = keyOf(name, constants, build);
    const made = this.#made.get(key);
    if (made !== undefined) return made;
    const { descriptor, ...rest } = this.#describe(name, constants, build);
    const pipeline = { ...rest, gpu: this.device.createComputePipeline(descriptor) };
    this.#made.set(key, pipeline);
    return pipeline;
  }

  /** A pipeline that is to be made; undefined where it has been. The same one is the same object. */
  needs<K extends KernelName>(name: K, constants: Constants<K>, build: Build = {}): PendingPipeline | undefined {
    const key = keyOf(name, constants, build);
    if (this.#made.has(key)) return undefined;
    let pending = this.#pending.get(key);
    if (pending === undefined) {
      pending = { name, make: () => this.#makeAsync(key, this.#describe(name, constants, build)) };
      this.#pending.set(key, pending);
    }
    return pending;
  }

  /** As `get`, without blocking: the driver compiles on another thread. Throws BackendError if it cannot. */
  async prepare<K extends KernelName>(name: K, constants: Constants<K>, build: Build = {}): Promise<void> {
    await this.needs(name, constants, build)?.make();
  }

  async #makeAsync(key: string, { descriptor, ...rest }: Described): Promise<void> {
    let gpu: GPUComputePipeline;
    try {
      gpu = await this.device.createComputePipelineAsync(descriptor);
    } catch (cause) {
      throw new BackendError(`webgpu: ${rest.name} cannot be compiled: ${(cause as Error).message}`, { cause });
    } finally {
      this.#pending.delete(key);
    }
    if (!this.#made.has(key)) this.#made.set(key, { ...rest, gpu });
  }

  /** The operands of a kernel, in order. */
  bindingsOf(name: KernelName): readonly Binding[] {
    return kernels[name].bindings;
  }

  #describe<K extends KernelName>(name: K, constants: Constants<K>, { f16 = false, without = [] }: Build): Described {
    const { params, specialisations, overrides, ...sources } = kernels[name] as {
      readonly params: readonly { readonly name: string; readonly type: string }[];
      readonly overrides: readonly string[];
      readonly specialisations: readonly string[];
      readonly source: string;
      readonly subgroups?: string;
      readonly f16?: string;
    };
    const given = constants as { readonly [name: string]: number };
    const { subgroupSize } = this;
    let code = (f16 ? sources.f16 : subgroupSize !== undefined ? sources.subgroups : undefined) ?? sources.source;
    if (subgroupSize !== undefined) code = specialised(code, "SUBGROUP", subgroupSize);
    for (const constant of specialisations)
      if (given[constant] !== undefined) code = specialised(code, constant, given[constant]);
    if (without.length > 0) code = leaveOut(code, without);
    const bindings = this.bindingsOf(name).filter((binding) => !without.includes(binding.name));
    const { id, layout } = this.#layout(bindings.map(({ writes }) => writes));
    // One group a launch: the parameters come behind the buffers.
    code = code.replace("@group(1) @binding(0) var<uniform>", `@group(0) @binding(${bindings.length}) var<uniform>`);
    const title = f16 ? `${name} (f16)` : name;
    const label = Object.keys(given).length === 0 ? title : `${title} ${JSON.stringify(given)}`;
    const descriptor: GPUComputePipelineDescriptor = {
      label,
      layout: this.device.createPipelineLayout({ label, bindGroupLayouts: [layout] }),
      compute: {
        module: this.device.createShaderModule({ label, code }),
        entryPoint: "main",
        constants: Object.fromEntries(
          overrides.flatMap((o) => (given[o] === undefined ? [] : [[o, given[o]] as const])),
        ),
      },
    };
    const fields = fieldsOf(params);
    const words = fields.reduce((end, { at, lanes }) => Math.max(end, at + lanes), 0);
    return { name: label, descriptor, layout, layoutId: id, bindings, fields, paramBytes: Math.ceil(words / 4) * 16 };
  }

  #layout(writes: readonly boolean[]) {
    const key = writes.map(Number).join("");
    let found = this.#layouts.get(key);
    if (found === undefined) {
      const buffers = writes.map((written) => ({
        type: written ? ("storage" as const) : ("read-only-storage" as const),
      }));
      const layout = this.device.createBindGroupLayout({
        label: `storage ${key}`,
        entries: [...buffers, { type: "uniform" as const, hasDynamicOffset: true }].map((buffer, binding) => ({
          binding,
          visibility: GPUShaderStage.COMPUTE,
          buffer,
        })),
      });
      this.#layouts.set(key, (found = { id: this.#layouts.size, layout }));
    }
    return found;
  }
}
