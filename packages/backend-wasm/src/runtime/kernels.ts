/** What the module exports: kernels/<op>/<name>.cc. Addresses and counts are numbers; a call that traps throws BackendError. */
import { BackendError } from "@mamba-ts/backend";

type Call<Names extends readonly string[]> = (...args: { [K in keyof Names]: number }) => void;
type Elementwise = Call<["y", "x", "n"]>;
type Broadcast = Call<["y", "a", "b", "rank", "spec", "op"]>;
type Move = Call<["y", "x", "rank", "spec"]>;
type Reduce = Call<["y", "x", "outer", "n", "inner"]>;
type Indexed = Call<["y", "x", "outer", "n", "inner", "indices", "count"]>;

export interface Kernels {
  /** Of a module with threads only. */
  readonly set_threads: Call<["count", "canWait"]>;
  readonly stop: Call<[]>;
  readonly unary: Call<["y", "x", "n", "op"]>;
  readonly unary_int: Call<["y", "x", "n", "op"]>;
  readonly binary: Broadcast;
  readonly binary_int: Broadcast;
  readonly compare: Broadcast;
  readonly compare_int: Broadcast;
  readonly where: Call<["y", "cond", "a", "b", "rank", "spec"]>;
  readonly fill32: Call<["y", "n", "word"]>;
  readonly fill16: Call<["y", "n", "word"]>;
  readonly copy32: Move;
  readonly copy16: Move;
  readonly copy8: Move;
  readonly int_to_float: Elementwise;
  readonly float_to_int: Elementwise;
  readonly bf16_to_float: Elementwise;
  readonly f16_to_float: Elementwise;
  readonly q8_to_float: Elementwise;
  readonly float_to_bf16: Elementwise;
  readonly float_to_f16: Elementwise;
  readonly float_to_q8: Elementwise;
  readonly reduce_sum: Reduce;
  readonly reduce_sum_int: Reduce;
  readonly reduce_max: Reduce;
  readonly reduce_max_int: Reduce;
  readonly arg_reduce: Call<["y", "x", "outer", "n", "inner", "largest"]>;
  readonly arg_reduce_int: Call<["y", "x", "outer", "n", "inner", "largest"]>;
  readonly gather32: Indexed;
  readonly gather16: Indexed;
  readonly gather_q8: Indexed;
  readonly scatter_add: Indexed;
  readonly scatter_add_int: Indexed;
  readonly linear_scan: Call<["h", "a", "b", "outer", "n", "inner", "reverse"]>;
  /** Formats of b: those of `weightFormats`. */
  readonly gemm: Call<
    [
      ...["a", "aRow", "aColumn", "b", "bRow", "bColumn", "bFormat", "c", "ldc"],
      ...["m", "n", "k", "accumulate", "bias"],
    ]
  >;
  readonly selective_scan: Call<["y", "final", "kept", "words", "logarithmic"]>;
  readonly selective_scan_backward: Call<["words"]>;
  readonly causal_conv1d: Call<["y", "final", "words"]>;
  readonly causal_conv1d_backward: Call<["gx", "gState", "gWeight", "gBias", "gy", "gFinal", "words"]>;
  readonly norm: Call<["y", "sum", "x", "residual", "weight", "bias", "rows", "width", "eps", "centred"]>;
  readonly norm_backward: Call<
    [...["gs", "gWeight", "gBias", "s", "weight", "gy", "gSum", "moments"], ...["rows", "width", "eps", "centred"]]
  >;
  readonly gated_output: Call<["out", "y", "x", "D", "z", "zStride", "rows", "channels"]>;
  readonly gated_output_backward: Call<
    [...["gy", "gx", "gz", "gD", "g", "y", "x", "D", "z", "zStride"], ...["rows", "channels"]]
  >;
  readonly activation: Call<["y", "x", "stride", "rows", "width", "kind"]>;
  readonly activation_backward: Call<["gx", "gy", "x", "stride", "rows", "width", "kind"]>;
  readonly cross_entropy: Call<["loss", "logSums", "logits", "targets", "rows", "vocab"]>;
  readonly cross_entropy_backward: Call<["logits", "targets", "g", "logSums", "rows", "vocab"]>;
  readonly adamw: Call<
    [
      ...["p", "grad", "m", "v", "n", "lr", "beta1", "beta2", "rest1", "rest2"],
      ...["eps", "correct1", "correct2", "decay", "gradScale"],
    ]
  >;
  readonly attention: Call<["y", "logSums", "words", "scale"]>;
  readonly attention_backward: Call<["gq", "gk", "gv", "gy", "y", "logSums", "words", "scale"]>;
  readonly fft: Call<["y", "x", "words", "edge", "inner"]>;
  readonly fft_convolution: Call<["y", "words"]>;
  readonly fft_convolution_backward: Call<["gu", "gKernel", "gy", "words"]>;
  readonly moe: Call<["y", "words"]>;
  readonly moe_backward: Call<["words"]>;
  readonly sample: Call<["token", "logprob", "counters", "logits", "scratch", "words", "temperature", "topP", "minP"]>;
}

/** The order of gemm.cc's `Format`. */
export const weightFormats = ["float32", "bf16", "f16", "q8_0"] as const;

/** The module's functions, those that trap turned into typed errors. After one nothing runs any more: other threads may be in its midst. */
export function guarded(exports: WebAssembly.Exports): Kernels {
  let broken: BackendError | undefined;
  const guard =
    (name: string, fn: (...args: number[]) => unknown) =>
    (...args: number[]) => {
      if (broken !== undefined && name !== "stop") throw broken;
      try {
        return fn(...args);
      } catch (cause) {
        broken = new BackendError(`wasm: kernel ${name}(${args.join(", ")}) failed: ${(cause as Error).message}`, {
          hint: "a thread may have died; create a new backend, and report it if it happens again",
          cause,
        });
        throw broken;
      }
    };
  const entries = Object.entries(exports).flatMap(([name, fn]) =>
    typeof fn === "function" ? [[name, guard(name, fn as (...args: number[]) => unknown)]] : [],
  );
  return Object.fromEntries(entries) as unknown as Kernels;
}
