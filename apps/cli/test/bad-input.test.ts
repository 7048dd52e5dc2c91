/** What the command says of input that it cannot use, and that it leaves nothing behind. */
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { readTensor, type TensorToWrite, tensorToWrite } from "@mamba-ts/checkpoint";
import { openSafetensorsFile, saveSafetensors } from "@mamba-ts/checkpoint/node";
import { tensor } from "@mamba-ts/tensor";
import { beforeAll, describe, expect, test } from "vitest";
import { fixtures, inFolder, isBuilt, mamba, written } from "./support.js";

describe.skipIf(!isBuilt)("mamba", () => {
  describe("bad input: exit code 2, and the file or option is named", () => {
    /** A model's folder whose weights are cut off after `bytes`. */
    const truncated = (bytes: number): string => {
      const path = inFolder(`truncated-${bytes}`);
      mkdirSync(path, { recursive: true });
      cpSync(join(fixtures, "config.json"), join(path, "config.json"));
      writeFileSync(
        join(path, "model.safetensors"),
        readFileSync(join(fixtures, "model.safetensors")).subarray(0, bytes),
      );
      return path;
    };
    const tokens = ["--prompt-tokens", "1,2"];
    const images = fixtures.replace("/mamba/", "/vision-mamba/");

    /** The reference's model with another configuration. */
    const configured = (name: string, change: object): string => {
      const path = inFolder(name);
      cpSync(fixtures, path, { recursive: true });
      const config = JSON.parse(readFileSync(join(path, "config.json"), "utf8")) as object;
      writeFileSync(join(path, "config.json"), JSON.stringify({ ...config, ...change }));
      return path;
    };

    beforeAll(async () => {
      const backend = createCpuBackend();
      const write = async (name: string, tensors: { [name: string]: [number[], number[], "int32" | "float32"] }) => {
        const made = Object.entries(tensors).map(([key, [data, shape, dtype]]) =>
          tensorToWrite(key, tensor(backend, data, shape, dtype)),
        );
        await saveSafetensors(inFolder(name), made);
      };
      await write("ids-range.safetensors", { input_ids: [[1, 2, 3, 256], [2, 2], "int32"] });
      await write("ids-negative.safetensors", { input_ids: [[1, -1], [1, 2], "int32"] });
      await write("ids-flat.safetensors", { input_ids: [[1, 2], [2], "int32"] });
      await write("ids-float.safetensors", { input_ids: [[1.5, 2], [1, 2], "float32"] });
      await write("ids-none.safetensors", { input_ids: [[], [1, 0], "int32"] });
      const pixels: [number[], number[], "float32"] = [new Array(768).fill(0.5), [1, 3, 16, 16], "float32"];
      await write("label-range.safetensors", { pixels, labels: [[10], [1], "int32"] });
      await write("label-negative.safetensors", { pixels, labels: [[-1], [1], "int32"] });
      await write("labels-few.safetensors", { pixels, labels: [[], [0], "int32"] });
      await write("pixels-small.safetensors", { pixels: [[0, 0, 0], [1, 3, 1, 1], "float32"] });
      await rewritten("nan", (name, t) => (name === "backbone.layers.1.mixer.D" ? withNumbers(t, Number.NaN) : [t]));
      await rewritten("missing", (name, t) => (name === "backbone.layers.1.mixer.D" ? [] : [t]));
      await rewritten("surplus", (_, t) => [t, { ...t, name: `${t.name}.more` }]);
      await rewritten("rows", (name, t) => (name === "backbone.embeddings.weight" ? rows(t, 257) : [t]));
      writeFileSync(inFolder("latin1.jsonl"), Buffer.from('{"text": "caf\xe9 au lait"}\n', "latin1"));
      // The first bytes of a file of PyTorch 1.5.
      const old = inFolder("old");
      mkdirSync(old);
      cpSync(join(fixtures, "config.json"), join(old, "config.json"));
      const magic = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e];
      writeFileSync(join(old, "pytorch_model.bin"), Uint8Array.from([...magic, ...new Array(100).fill(0)]));
    });

    /** The reference's model with other tensors. */
    async function rewritten(folder: string, change: (name: string, t: TensorToWrite) => TensorToWrite[]) {
      const path = configured(folder, {});
      const source = await openSafetensorsFile(join(fixtures, "model.safetensors"));
      const backend = createCpuBackend();
      const tensors: TensorToWrite[] = [];
      for (const name of source.names)
        tensors.push(...change(name, tensorToWrite(name, await readTensor(source, name, backend))));
      await saveSafetensors(join(path, "model.safetensors"), tensors);
      await source.close();
    }
    const withNumbers = (t: TensorToWrite, x: number): TensorToWrite[] => [
      { ...t, bytes: () => new Uint8Array(new Float32Array(t.shape.reduce((a, b) => a * b, 1)).fill(x).buffer) },
    ];
    const rows = (t: TensorToWrite, n: number): TensorToWrite[] =>
      withNumbers({ ...t, shape: [n, ...t.shape.slice(1)] }, 0);
    const ids = (name: string) => () => [
      ...["forward", "--model", fixtures, "--input", inFolder(`${name}.safetensors`), "--output", inFolder("x")],
    ];
    const labelled = (name: string) => () => [
      ...["forward", "--model", images, "--input", inFolder(`${name}.safetensors`), "--output", inFolder("x")],
    ];
    const cases: [string, () => string[], RegExp][] = [
      ["a token of the input out of range", ids("ids-range"), /ids-range\.safetensors: token 256 at row 1, position 1/],
      ["a negative token", ids("ids-negative"), /ids-negative\.safetensors: token -1 at row 0, position 1/],
      ["tokens without a batch", ids("ids-flat"), /ids-flat\.safetensors: input_ids is \[2\]/],
      ["tokens with fractions", ids("ids-float"), /ids-float\.safetensors: input_ids is F32/],
      ["no tokens", ids("ids-none"), /ids-none\.safetensors: input_ids is \[1, 0\]/],
      ["a label out of range", labelled("label-range"), /label-range\.safetensors: label 10 of image 0/],
      ["a negative label", labelled("label-negative"), /label-negative\.safetensors: label -1 of image 0/],
      ["fewer labels than images", labelled("labels-few"), /labels-few\.safetensors: pixels .* labels \[0\]/],
      ["images of another size", labelled("pixels-small"), /\[1, 3, 1, 1\]/],
      ["text for an image model", () => ["eval", "--model", images, "--text", join(images, "config.json")], /images/],
      [
        "a tensor missing",
        () => ["generate", "--model", inFolder("missing"), ...tokens],
        /backbone\.layers\.1\.mixer\.D is missing/,
      ],
      [
        "a tensor too many",
        () => ["generate", "--model", inFolder("surplus"), ...tokens],
        /surplus.model\.safetensors: tensor \S+\.more belongs to nothing/,
      ],
      [
        "an embedding of no vocabulary that was padded",
        () => ["generate", "--model", inFolder("rows"), ...tokens],
        /rows.model\.safetensors: tensor backbone\.embeddings\.weight is \[257, 32\], the config makes it \[256, 32\]/,
      ],
      [
        "more layers than can be",
        () => ["inspect", "--model", configured("layers", { num_hidden_layers: 1e9 })],
        /nLayer is 1000000000/,
      ],
      [
        "an unknown value",
        () => ["inspect", "--model", configured("act", { hidden_act: "relu" })],
        /hidden_act relu is not supported/,
      ],
      [
        "a value of another type",
        () => ["inspect", "--model", configured("type", { state_size: "16" })],
        /state_size is "16", not a number/,
      ],
      [
        "a model of another kind",
        () => ["inspect", "--model", configured("kind", { model_type: "llama" })],
        /model_type llama is not known/,
      ],
      [
        "PyTorch's older format",
        () => ["inspect", "--model", inFolder("old")],
        /old.pytorch_model\.bin: it is of PyTorch's format before 1\.6/,
      ],
      [
        "passages that are not UTF-8",
        () => ["eval", "--model", fixtures, "--lambada", inFolder("latin1.jsonl")],
        /latin1\.jsonl is not UTF-8/,
      ],
      [
        "a folder that cannot be made",
        () => ["train", "--data", written("some.txt", "abc ".repeat(200)), "--out", join(inFolder("some.txt"), "run")],
        /--out \S+some\.txt.run cannot be made/,
      ],
      ["a missing folder", () => ["generate", "--model", inFolder("nowhere"), ...tokens], /nowhere/],
      ["no folder given", () => ["inspect"], /--model/],
      [
        "an empty weights file",
        () => ["generate", "--model", truncated(0), ...tokens],
        /truncated-0.model\.safetensors/,
      ],
      ["a header cut off", () => ["inspect", "--model", truncated(700)], /truncated-700.model\.safetensors/],
      [
        "weights cut off",
        () => ["generate", "--model", truncated(90_000), ...tokens],
        /truncated-90000.model\.safetensors/,
      ],
      [
        "an empty training file",
        () => ["train", "--data", written("empty.txt", ""), "--out", inFolder("out")],
        /empty\.txt/,
      ],
      [
        "a short training file",
        () => ["train", "--data", written("short.txt", "ab"), "--out", inFolder("out")],
        /short\.txt/,
      ],
      [
        "a missing training file",
        () => ["train", "--data", inFolder("none.txt"), "--out", inFolder("out")],
        /none\.txt/,
      ],
      [
        "an unknown dtype",
        () => ["convert", "--model", fixtures, "--out", inFolder("out"), "--dtype", "int7"],
        /--dtype is int7/,
      ],
      [
        "an unknown naming",
        () => ["convert", "--model", fixtures, "--out", inFolder("out"), "--naming", "x"],
        /--naming is x/,
      ],
      ["converting onto itself", () => ["convert", "--model", fixtures, "--out", fixtures], /--out/],
      ["a number out of range", () => ["generate", "--model", fixtures, ...tokens, "--top-p", "2"], /--top-p is 2/],
      ["tokens that are none", () => ["generate", "--model", fixtures, "--prompt-tokens", "1,x"], /--prompt-tokens/],
      ["a token out of range", () => ["generate", "--model", fixtures, "--prompt-tokens", "256"], /256 at row 0/],
      ["an empty prompt", () => ["generate", "--model", fixtures, "--prompt", ""], /empty/],
      ["no prompt", () => ["generate", "--model", fixtures], /--prompt/],
      ["an unknown backend", () => ["generate", "--model", fixtures, ...tokens, "--backend", "abacus"], /abacus/],
      ["an unknown option", () => ["generate", "--model", fixtures, "--loud"], /--loud/],
      ["an unknown command", () => ["dream"], /dream/],
      [
        "no input_ids",
        () => [
          "forward",
          "--model",
          fixtures,
          "--input",
          join(fixtures, "model.safetensors"),
          "--output",
          inFolder("x"),
        ],
        /model\.safetensors.*input_ids|input_ids.*model\.safetensors/s,
      ],
      [
        "text that is no JSON",
        () => ["eval", "--model", fixtures, "--lambada", written("bad.jsonl", "{")],
        /bad\.jsonl: line 1/,
      ],
    ];
    test.each(cases)("%s", async (_, args, message) => {
      const json = await mamba([...args(), "--json"]);
      expect(json).toMatchObject({ code: 2, stdout: "" });
      const { error } = JSON.parse(json.stderr) as { error: { code: string; message: string } };
      expect(error.message).toMatch(message);
      expect(error.code).toMatch(/^(invalid-argument|checkpoint|data|config|shape)$/);
      for (const file of ["out", "x"]) expect(existsSync(inFolder(file))).toBe(false);
    });
  });

  test.each([
    ["generate", ["--prompt-tokens", "1,2"]],
    ["eval", ["--text", join(fixtures, "config.json")]],
    ["forward", ["--input", join(fixtures, "golden.safetensors"), "--output", inFolder("y"), "--gradients"]],
  ])("NaN in the weights: %s names the tensor and writes nothing", async (command, args) => {
    const ended = await mamba([command, "--model", inFolder("nan"), ...args, "--json"]);
    expect(ended).toMatchObject({ code: 1, stdout: "" });
    const { error } = JSON.parse(ended.stderr) as { error: { code: string; message: string } };
    expect(error).toMatchObject({
      code: "non-finite",
      message: expect.stringMatching(/NaN or infinity in tensor backbone\.layers\.1\.mixer\.D$/),
    });
    expect(existsSync(inFolder("y"))).toBe(false);
  });
});
