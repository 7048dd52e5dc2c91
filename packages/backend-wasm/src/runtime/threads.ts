/** Workers: worker_threads in Node, Web Workers in browsers. Their sources are text, so that a package has no file to serve. */

/** What is used of Node, which a bundle for browsers must not reach: not even by its types. */
interface NodeWorker {
  ref(): void;
  unref(): void;
  on(event: "error", listener: (cause: unknown) => void): void;
  on(event: "message", listener: (message: unknown) => void): void;
  on(event: "exit", listener: (code: number) => void): void;
  postMessage(message: unknown, transfer: readonly ArrayBuffer[]): void;
  terminate(): Promise<number>;
}
interface NodeBuiltins {
  getBuiltinModule?(name: "node:worker_threads"): {
    readonly Worker: new (source: string, options: { readonly eval: true; readonly workerData: unknown }) => NodeWorker;
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

/** A worker that has been started. */
export interface Started {
  post(message: unknown, transfer: readonly ArrayBuffer[]): void;
  /** Whether it keeps a process alive; at first it does not. */
  hold(alive: boolean): void;
  stop(): void;
}

export interface Listeners {
  message(message: unknown): void;
  /** It has ended, or could not start. */
  end(cause: unknown): void;
}

/**
 * Starts a worker on `run(start, answer)`, the text of a function that looks at nothing else. What it returns, if anything, gets the
 * messages that are posted; `answer(message, transfer)` sends one back.
 */
export function startWorker(run: string, start: unknown, { message, end }: Listeners): Started {
  if (isNode) {
    const { Worker: ThreadWorker } = node.getBuiltinModule!("node:worker_threads");
    const source = `const { parentPort, workerData } = require("node:worker_threads");
const on = (${run})(workerData, (message, transfer) => parentPort.postMessage(message, transfer));
if (on) parentPort.on("message", on);`;
    const worker = new ThreadWorker(source, { eval: true, workerData: start });
    worker.on("message", message);
    worker.on("error", end);
    worker.on("exit", end);
    worker.unref();
    return {
      post: (data, transfer) => worker.postMessage(data, transfer),
      hold: (alive) => (alive ? worker.ref() : worker.unref()),
      stop: () => void worker.terminate(),
    };
  }
  const source = `let on;
onmessage = ({ data }) => {
  if (on) on(data);
  else on = (${run})(data, (message, transfer) => postMessage(message, transfer));
};`;
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(url);
  worker.onmessage = ({ data }) => message(data);
  worker.onerror = (event) => end(event.message);
  worker.postMessage(start);
  return {
    post: (data, transfer) => worker.postMessage(data, transfer as ArrayBuffer[]),
    hold: () => {},
    stop: () => {
      worker.terminate();
      URL.revokeObjectURL(url);
    },
  };
}
