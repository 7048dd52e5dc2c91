/**
 * The one place that decides how a fused operation runs: by the backend's kernel where it supports the case, else by the
 * composition, which is made of primitives and lives here in core.
 */
import type { Backend, Buf, DType, FusedOp, FusedOps, Operand, Shape } from "@mamba-ts/backend";
import { cast } from "./ops/unary.js";
import { isRecording, record, touch, use, withoutRecording } from "./recorder.js";
import { commonBackend, denseCopy } from "./run.js";
import { scope } from "./scope.js";
import { vjp } from "./tape.js";
import { denseOperand, Tensor } from "./tensor.js";

/** Tensors by argument name; absent ones are undefined. */
export type TensorArgs<Name extends string = string> = { readonly [K in Name]?: Tensor | undefined };
export type TensorOutputs<Name extends string = string> = { readonly [K in Name]?: Tensor };

type AnyFusedOp = FusedOp<unknown, string, string, string>;
/** Names of the fused ops that have gradients. */
export type DifferentiableOp = {
  [K in keyof FusedOps]-?: NonNullable<FusedOps[K]> extends { supports(d: never): unknown; backward?: unknown }
    ? K
    : never;
}[keyof FusedOps];

/** What core knows of a fused op beside the kernels. */
export interface FusedDefinition<Descriptor, Name extends string, Output extends string> {
  readonly name: keyof FusedOps & string;
  /** Shapes and dtypes of the outputs this descriptor has. */
  outputs(descriptor: Descriptor): { readonly [K in Output]?: { readonly shape: Shape; readonly dtype: DType } };
  /** The definition in terms of other operations. */
  compose(args: TensorArgs<Name>, descriptor: Descriptor): TensorOutputs<Output>;
  /**
   * For compositions too large to be recorded step by step: the gradient, in bounded memory. `args` are the arguments, the result
   * has the gradients of those that `needs` names. The composition then counts as one operation.
   */
  composeBackward?(
    args: TensorArgs<Name>,
    descriptor: Descriptor,
    gradOutputs: TensorOutputs<Output>,
    needs: ReadonlySet<Name>,
  ): { readonly [K in Name]?: Tensor | undefined };
}

export interface DispatchEvent {
  readonly op: string;
  readonly direction: "forward" | "backward";
  readonly how: "fused" | "composed";
}
let listener: ((event: DispatchEvent) => void) | undefined;

/** Reports every fused op that `fn` runs and whether it ran fused or composed; `mamba bench` prints it. */
export function watchDispatch<T>(onEvent: (event: DispatchEvent) => void, fn: () => T): T {
  const outer = listener;
  listener = (event) => {
    onEvent(event);
    outer?.(event);
  };
  try {
    return fn();
  } finally {
    listener = outer;
  }
}

export function reportDispatch(op: string, direction: DispatchEvent["direction"], how: DispatchEvent["how"]): void {
  listener?.({ op, direction, how });
}

/** The backend's kernel for this case, with the arguments that may be slices; undefined if it has none. */
export function kernelFor(
  backend: Backend,
  name: keyof FusedOps,
  descriptor: unknown,
): { op: AnyFusedOp; strided: ReadonlySet<string> } | undefined {
  const op = backend.fused?.[name] as AnyFusedOp | undefined;
  const support = op?.supports(descriptor) ?? false;
  if (op === undefined || support === false) return undefined;
  return { op, strided: new Set(support === true ? [] : support.strided) };
}

/** Runs a fused op: kernel or composition, recorded if a tape is open. */
export function dispatch<D, Name extends string, Output extends string>(
  definition: FusedDefinition<D, Name, Output>,
  args: TensorArgs<Name>,
  descriptor: D,
): TensorOutputs<Output> {
  const names = (Object.keys(args) as Name[]).filter((name) => args[name] !== undefined);
  const inputs = names.map((name) => args[name] as Tensor);
  const backend = commonBackend(definition.name, inputs);
  for (const t of inputs) touch(t);
  const kernel = kernelFor(backend, definition.name, descriptor);
  reportDispatch(definition.name, "forward", kernel === undefined ? "composed" : "fused");
  if (kernel !== undefined) return runKernel(definition, kernel, backend, names, inputs, args, descriptor);
  if (definition.composeBackward === undefined || !isRecording(inputs))
    return scope((() => definition.compose(args, descriptor)) as () => never) as TensorOutputs<Output>;
  const outputs = withoutRecording(() =>
    scope((() => definition.compose(args, descriptor)) as () => never),
  ) as TensorOutputs<Output>;
  const outputNames = Object.keys(outputs) as Output[];
  record(
    inputs,
    outputNames.map((name) => outputs[name]!),
    inputs,
    (gs, needs) =>
      lazily(names, () => {
        reportDispatch(definition.name, "backward", "composed");
        const wanted = names.filter((_, i) => needs[i]!);
        return composedGradients(definition, args, descriptor, pairs(outputNames, gs), wanted);
      }),
  );
  return outputs;
}

function runKernel<D, Name extends string, Output extends string>(
  definition: FusedDefinition<D, Name, Output>,
  { op, strided }: { op: AnyFusedOp; strided: ReadonlySet<string> },
  backend: Backend,
  names: readonly Name[],
  inputs: readonly Tensor[],
  args: TensorArgs<Name>,
  descriptor: D,
): TensorOutputs<Output> {
  const save = isRecording(inputs);
  const declared = definition.outputs(descriptor);
  const result = withNamedOperands(names, inputs, strided, (operands) =>
    op.forward(operands as never, descriptor, { save }),
  );
  const outputs = wrap(backend, result.outputs as { readonly [K in Output]?: Buf }, declared);
  const outputNames = Object.keys(outputs) as Output[];
  const made = outputNames.map((name) => outputs[name]!);
  const saved = result.saved.map((buf) => Tensor.fromBuffer(backend, buf, [buf.count]));
  const fused = op.backward !== undefined && (op.supportsBackward?.(descriptor) ?? true);
  const reads = fused ? op.backwardReads?.(descriptor) : undefined;
  const isRead = (name: string): boolean => reads?.includes(name) ?? true;
  const [readNames, readOutputs] = [names.filter(isRead), outputNames.filter(isRead)];
  const readInputs = readNames.map((name) => args[name] as Tensor);
  const readMade = readOutputs.map((name) => outputs[name]!);
  record(inputs, made, [...readInputs, ...readMade, ...saved], (gs, needs) =>
    lazily(names, () => {
      const gradOutputs = pairs(outputNames, gs);
      const wanted = names.filter((_, i) => needs[i]!);
      reportDispatch(definition.name, "backward", fused ? "fused" : "composed");
      if (!fused) return composedGradients(definition, args, descriptor, gradOutputs, wanted);
      const gradNames = Object.keys(gradOutputs) as Output[];
      const grads = withNamedOperands(readNames, readInputs, strided, (operands) =>
        withNamedOperands(
          gradNames,
          gradNames.map((n) => gradOutputs[n]!),
          new Set(),
          (gradOperands) =>
            op.backward!(
              operands as never,
              descriptor,
              named(readOutputs, readMade.map(denseOperand)),
              result.saved,
              gradOperands,
              new Set(wanted),
            ),
        ),
      );
      return named(
        wanted,
        wanted.map((name) => {
          const buf = grads[name];
          const x = args[name] as Tensor;
          return buf === undefined ? undefined : cast(Tensor.fromBuffer(backend, buf, x.shape), x.dtype);
        }),
      );
    }),
  );
  // The tape holds what backward needs; without one the saved buffers go at once.
  for (const t of saved) t.dispose();
  return outputs;
}

/** Wraps the buffers a kernel returned. */
export function wrap<Output extends string>(
  backend: Backend,
  bufs: { readonly [K in Output]?: Buf },
  declared: { readonly [K in Output]?: { readonly shape: Shape; readonly dtype: DType } },
): TensorOutputs<Output> {
  const names = Object.keys(declared) as Output[];
  return named(
    names,
    names.map((name) => Tensor.fromBuffer(backend, bufs[name]!, declared[name]!.shape, declared[name]!.dtype)),
  );
}

function composedGradients<D, Name extends string, Output extends string>(
  definition: FusedDefinition<D, Name, Output>,
  args: TensorArgs<Name>,
  descriptor: D,
  gradOutputs: TensorOutputs<Output>,
  wanted: readonly Name[],
): { readonly [K in Name]?: Tensor | undefined } {
  if (definition.composeBackward !== undefined)
    return definition.composeBackward(args, descriptor, gradOutputs, new Set(wanted));
  const outputNames = Object.keys(gradOutputs) as Output[];
  const inputs = wanted.map((name) => args[name] as Tensor);
  const gradients = vjp(
    () => {
      const outputs = definition.compose(args, descriptor);
      return outputNames.map((name) => outputs[name]);
    },
    inputs,
    outputNames.map((name) => gradOutputs[name]),
  );
  return named(wanted, gradients);
}

/** One thunk per name, all sharing one computation. */
function lazily<Name extends string>(
  names: readonly Name[],
  compute: () => { readonly [K in Name]?: Tensor | undefined },
) {
  let all: { readonly [K in Name]?: Tensor | undefined } | undefined;
  return names.map((name) => () => (all ??= compute())[name]);
}

function pairs<Name extends string>(
  names: readonly Name[],
  values: readonly (Tensor | undefined)[],
): TensorOutputs<Name> {
  return Object.fromEntries(
    names.flatMap((name, i) => (values[i] === undefined ? [] : [[name, values[i]]])),
  ) as TensorOutputs<Name>;
}

function named<Name extends string, T>(
  names: readonly Name[],
  values: readonly T[],
): { [K in Name]: Exclude<T, undefined> } {
  return Object.fromEntries(names.map((name, i) => [name, values[i]])) as never;
}

/** Gives `fn` operands by name: slices of the last axis where `strided` allows, dense ones (copied if need be) elsewhere. */
export function withNamedOperands<T>(
  names: readonly string[],
  tensors: readonly Tensor[],
  strided: ReadonlySet<string>,
  fn: (operands: { readonly [name: string]: Operand }) => T,
): T {
  const copies: Tensor[] = [];
  const operand = (t: Tensor, name: string): Operand => {
    use(t);
    if (t.isDense) return denseOperand(t);
    const rowStride = strided.has(name) ? rowStrideOf(t) : undefined;
    if (rowStride !== undefined) return { buf: t.buf, offset: t.offset, rowStride, shape: t.shape, dtype: t.dtype };
    const copy = denseCopy(t);
    copies.push(copy);
    return denseOperand(copy);
  };
  try {
    return fn(Object.fromEntries(tensors.map((t, i) => [names[i]!, operand(t, names[i]!)])));
  } finally {
    for (const copy of copies) copy.dispose();
  }
}

/** The distance between rows if `t` is a slice of the last axis of something dense, else undefined. */
function rowStrideOf(t: Tensor): number | undefined {
  const rank = t.shape.length;
  if (rank < 2 || (t.strides[rank - 1] !== 1 && t.shape[rank - 1] !== 1)) return undefined;
  const rowStride = t.strides[rank - 2]!;
  if (rowStride < t.shape[rank - 1]!) return undefined;
  let stride = rowStride;
  for (let i = rank - 2; i >= 0; i--) {
    if (t.shape[i] !== 1 && t.strides[i] !== stride) return undefined;
    stride *= t.shape[i]!;
  }
  return rowStride;
}
