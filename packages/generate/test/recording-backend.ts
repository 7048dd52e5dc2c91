import type { Backend, Buf } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";

type Call = (...args: readonly unknown[]) => unknown;
interface Recording {
  readonly calls: (() => void)[];
  readonly freed: Buf[];
}

const isBuf = (value: unknown): value is Buf & { words: Float32Array } =>
  typeof value === "object" && value !== null && "words" in value;
/** What an operation returns: a buffer, or buffers by name. */
function bufsOf(value: unknown): (Buf & { words: Float32Array })[] {
  if (isBuf(value)) return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(bufsOf) : [];
}

/**
 * The CPU backend with a `capture` for tests: the calls of `fn` are kept, and a replay makes them again and puts their results where the
 * first ones lie.
 * @param turns - tasks of the event loop that a readback takes, as on a device that works beside the host; 0: it is there at once
 */
export function recordingBackend({ turns, fused = true }: { readonly turns: number; readonly fused?: boolean }) {
  const cpu = createCpuBackend({ poison: true, ...(fused ? {} : { fused: {} }) });
  const count = { captures: 0, replays: 0, reads: 0, unread: 0, mostUnread: 0 };
  let recording: Recording | undefined;
  const recorded =
    (call: Call): Call =>
    (...args) => {
      const result = call(...args);
      const first = bufsOf(result);
      recording?.calls.push(() => {
        for (const [i, buf] of bufsOf(call(...args)).entries()) {
          if (buf === first[i]) continue;
          first[i]!.words.set(buf.words);
          cpu.free(buf);
        }
      });
      return result;
    };
  const primitives = ["fill", "copy", "cast", "unary", "binary", "compare", "where", "reduce", "argReduce", "matmul"];
  const more = ["gather", "scatterAdd", "pad", "concat", "linearScan"];
  const own: { [name: string]: unknown } = Object.fromEntries(
    [...primitives, ...more].map((name) => [name, recorded((cpu[name as keyof Backend] as Call).bind(cpu))]),
  );
  const fusedOps = Object.fromEntries(
    Object.entries(cpu.fused ?? {}).map(([name, op]) => [name, { ...op, forward: recorded(op.forward as Call) }]),
  );
  const members: Partial<Backend> = {
    ...own,
    fused: fusedOps,
    free: (buf) => void (recording === undefined ? cpu.free(buf) : recording.freed.push(buf)),
    async read(buf, start, length) {
      const bytes = await cpu.read(buf, start, length);
      count.reads++;
      count.mostUnread = Math.max(count.mostUnread, ++count.unread);
      for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
      count.unread--;
      return bytes;
    },
    capture(fn) {
      const { calls, freed }: Recording = { calls: [], freed: [] };
      recording = { calls, freed };
      count.captures++;
      try {
        fn();
      } finally {
        recording = undefined;
      }
      return {
        replay() {
          count.replays++;
          for (const call of calls) call();
        },
        [Symbol.dispose]() {
          for (const buf of freed.splice(0)) cpu.free(buf);
        },
      };
    },
  };
  const kept = members.capture!;
  const backend = new Proxy(cpu, {
    get(target, key) {
      if (key in members) return members[key as keyof Backend];
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  }) as Backend;
  return {
    backend,
    count,
    /** Takes `capture` away, or gives it back. */
    offer(capture: boolean): void {
      if (capture) members.capture = kept;
      else delete members.capture;
    },
  };
}
