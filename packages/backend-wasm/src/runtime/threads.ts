/** Threads over shared memory: worker_threads in Node, Web Workers in browsers. They are there when they are; nothing waits for them. */

/** What a worker needs to serve the pool of kernels/common/pool.cc. */
interface Start {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  /** The end of the worker's own stack. */
  readonly stack: number;
}

/** Runs in the worker. A trap there is told to the main thread, which would wait for its piece of work for ever. */
const serve = `(start) => {
  const { exports } = new WebAssembly.Instance(start.module, { env: { memory: start.memory } });
  exports.__stack_pointer.value = start.stack;
  try {
    exports.serve();
  } catch {
    exports.fail();
  }
}`;

/** Ends a worker. */
export type Stop = () => void;

/** What is used of Node, which a bundle for browsers must not reach: not even by its types. */
interface NodeWorker {
  unref(): void;
  on(event: "error", listener: () => void): void;
  terminate(): Promise<number>;
}
interface NodeBuiltins {
  getBuiltinModule?(name: "node:worker_threads"): {
    readonly Worker: new (source: string, options: { readonly eval: true; readonly workerData: Start }) => NodeWorker;
  };
  getBuiltinModule?(name: "node:os"): { availableParallelism(): number };
}
const node = (globalThis as { process?: NodeBuiltins & { versions?: { node?: string } } }).process;
const isNode = node?.versions?.node !== undefined && node.getBuiltinModule !== undefined;

/** Whether memory can be shared with workers here: a page must be cross-origin isolated. */
export function canShareMemory(): boolean {
  if (typeof SharedArrayBuffer === "undefined") return false;
  if (isNode) return true;
  return typeof Worker !== "undefined" && globalThis.crossOriginIsolated === true;
}

/** Whether this thread may sleep; a page's main thread may not. */
export function mayWait(): boolean {
  return typeof (globalThis as { document?: unknown }).document === "undefined";
}

/** As many as there are cores. */
export function defaultThreads(): number {
  if (isNode) return node.getBuiltinModule!("node:os").availableParallelism();
  return globalThis.navigator?.hardwareConcurrency ?? 1;
}

/** Starts one worker, which keeps neither a page nor a process alive. */
export function startWorker(start: Start): Stop {
  if (isNode) {
    const { Worker: ThreadWorker } = node.getBuiltinModule!("node:worker_threads");
    const source = `(${serve})(require("node:worker_threads").workerData)`;
    const worker = new ThreadWorker(source, { eval: true, workerData: start });
    worker.unref();
    // One that cannot start, for lack of memory perhaps, takes no work: the others do it.
    worker.on("error", () => {});
    return () => void worker.terminate();
  }
  const url = URL.createObjectURL(
    new Blob([`onmessage = ({ data }) => (${serve})(data)`], { type: "text/javascript" }),
  );
  const worker = new Worker(url);
  worker.postMessage(start);
  return () => {
    worker.terminate();
    URL.revokeObjectURL(url);
  };
}
