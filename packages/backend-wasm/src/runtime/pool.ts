import { startWorker } from "./threads.js";

export interface Pool {
  /** The thread that starts it included. */
  readonly threads: number;
  /** Ends the others. */
  stop(): void;
}

/** Serves the pool of kernels/common/pool.cc. A trap is told to the others, who would wait for this thread's piece of work for ever. */
const serve = `(start) => {
  const { exports } = new WebAssembly.Instance(start.module, { env: { memory: start.memory } });
  exports.__stack_pointer.value = start.stack;
  try {
    exports.serve();
  } catch {
    exports.fail();
  }
}`;

/** Starts a thread for each stack. One that cannot start, for lack of memory perhaps, takes no work: the others do it. */
export function startPool(module: WebAssembly.Module, memory: WebAssembly.Memory, stacks: readonly number[]): Pool {
  const started = stacks.flatMap((stack) => {
    try {
      return [startWorker(serve, { module, memory, stack }, { message: () => {}, end: () => {} })];
    } catch {
      return [];
    }
  });
  return {
    threads: 1 + started.length,
    stop: () => {
      for (const worker of started) worker.stop();
    },
  };
}
