/** Compute pipelines, made once for each kernel and choice of constants. */
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
  readonly bindings: readonly { readonly name: string; readonly writes: boolean }[];
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

function keyOf(name: string, constants: object, f16: boolean): string {
  return `${name}${f16 ? " f16" : ""} ${Object.entries(constants).join(" ")}`;
}

export class Pipelines {
  readonly #made = new Map<string, Pipeline>();
  readonly #layouts = new Map<string, { readonly id: number; readonly layout: GPUBindGroupLayout }>();

  /** @param subgroupSize - of all subgroups on this device; without it the kernels' plain builds are used */
  constructor(
    readonly device: Device,
    readonly subgroupSize?: number,
  ) {}

  /** @param f16 - the build whose operands are f16, on a device with shader-f16 */
  get<K extends KernelName>(name: K, constants: Constants<K>, f16 = false): Pipeline {
    const key = keyOf(name, constants, f16);
    const made = this.#made.get(key);
    if (made !== undefined) return made;
    const { descriptor, ...rest } = this.#describe(name, constants, f16);
    const pipeline = { ...rest, gpu: this.device.createComputePipeline(descriptor) };
    this.#made.set(key, pipeline);
    return pipeline;
  }

  /** As `get`, without blocking: the driver compiles on another thread. */
  async prepare<K extends KernelName>(name: K, constants: Constants<K>, f16 = false): Promise<void> {
    const key = keyOf(name, constants, f16);
    if (this.#made.has(key)) return;
    const { descriptor, ...rest } = this.#describe(name, constants, f16);
    const gpu = await this.device.createComputePipelineAsync(descriptor);
    if (!this.#made.has(key)) this.#made.set(key, { ...rest, gpu });
  }

  #describe<K extends KernelName>(name: K, constants: Constants<K>, f16: boolean) {
    const { bindings, params, specialisations, overrides, ...sources } = kernels[name] as {
      readonly bindings: readonly { readonly name: string; readonly writes: boolean }[];
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
