/** What a worker is told beside kernel calls, whose numbers are those of the module's exported functions. */
export const [WORDS, WRITE, FILL, COPY, GROW, READ] = [-1, -2, -3, -4, -5, -6] as const;

/**
 * The worker's side of remote-engine.ts, as text: makes the module's instance, then carries out messages `{ numbers, data }`: an
 * operation, how many arguments, the arguments, and so on. After a failure, which is told, nothing more is carried out.
 */
export const carryOut = `(start, answer) => {
  const memory = start.memory ?? new WebAssembly.Memory(start.pages);
  const { exports } = new WebAssembly.Instance(start.module, { env: { memory } });
  const functions = WebAssembly.Module.exports(start.module).filter(({ kind }) => kind === "function");
  const calls = functions.map(({ name }) => exports[name]);
  const wordsAt = exports.words_at();
  if (start.threads > 1) exports.set_threads(start.threads, 1);
  let u8 = new Uint8Array(memory.buffer);
  let failed = false;
  const others = {
    [${WORDS}]: (args) => new Int32Array(memory.buffer, wordsAt, args.length).set(args),
    [${WRITE}]: ([at, i], data) => u8.set(new Uint8Array(data[i]), at),
    [${FILL}]: ([at, count, byte]) => u8.fill(byte, at, at + count),
    [${COPY}]: ([to, from, count]) => u8.copyWithin(to, from, from + count),
    [${GROW}]: ([pages]) => memory.grow(pages),
    [${READ}]: ([at, count, id]) => {
      const bytes = u8.slice(at, at + count);
      answer({ id, bytes: bytes.buffer }, [bytes.buffer]);
    },
  };
  answer({ ready: { heapBase: exports.__heap_base.value, wordsAt } }, []);
  return ({ numbers, data }) => {
    for (let i = 0; i < numbers.length && !failed; ) {
      const op = numbers[i];
      const args = numbers.subarray(i + 2, i + 2 + numbers[i + 1]);
      i += 2 + args.length;
      if (u8.buffer !== memory.buffer) u8 = new Uint8Array(memory.buffer);
      try {
        if (op >= 0) calls[op](...args);
        else others[op](args, data);
      } catch (error) {
        failed = true;
        answer({ failed: { op, message: String(error.message) } }, []);
      }
    }
  };
}`;
