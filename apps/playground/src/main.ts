/** The page: what its controls ask of the worker, and where its answers go. */
import type { LayerSelection, Reply, Request } from "./protocol.js";
import { drawSelection, LossCurve, showBytes } from "./views.js";

const element = <T extends Element>(id: string): T => document.getElementById(id) as unknown as T;
const button = (id: string): HTMLButtonElement => element(id);
const text = (id: string): HTMLTextAreaElement => element(id);

// `?backend=wasm` and `?backend=cpu` leave the GPU alone.
const asked = new URLSearchParams(location.search).get("backend");
const name = asked === "wasm" || asked === "cpu" ? asked : "best";
const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name });
const ask = (request: Request): void => {
  element<HTMLElement>("error").textContent = "";
  if (request.type !== "stop") setBusy(true);
  worker.postMessage(request);
};
const curve = new LossCurve(element("loss"));
let model: (Reply & { type: "model" }) | undefined;
let selection: { tokens: readonly string[]; layers: readonly LayerSelection[] } | undefined;
let steps = 0;
let seed = 0;

function setBusy(isBusy: boolean): void {
  for (const id of ["stop", "abort"]) button(id).disabled = !isBusy;
  for (const id of ["continue", "select", "save"]) button(id).disabled = model === undefined;
  button("train").disabled = isBusy;
}

/** How much each kind of model remembers after so many tokens; both bars share one scale. */
function showMemory(tokens: number): void {
  if (model === undefined) return;
  const cache = model.cacheBytesPerToken * tokens;
  const most = Math.max(cache, model.stateBytes);
  element<HTMLElement>("state-bytes").textContent = `${showBytes(model.stateBytes)}, whatever was read`;
  element<HTMLElement>("cache-bytes").textContent = `${showBytes(cache)} after ${tokens} tokens`;
  element<HTMLMeterElement>("state-meter").value = model.stateBytes / most;
  element<HTMLMeterElement>("cache-meter").value = cache / most;
}

/** Waits for a pause in the typing. */
let pause: ReturnType<typeof setTimeout> | undefined;

function generate(): void {
  clearTimeout(pause);
  element<HTMLElement>("continuation").textContent = "";
  const prompt = text("prompt").value;
  if (prompt === "" || model === undefined) return;
  ask({
    type: "generate",
    prompt,
    temperature: Number(element<HTMLInputElement>("temperature").value),
    maxTokens: 400,
    seed: seed++,
  });
}

function showLayer(): void {
  const layer = selection?.layers[Number(element<HTMLSelectElement>("layer").value)];
  if (selection !== undefined && layer !== undefined) drawSelection(element("selection"), selection.tokens, layer);
}

function download(name: string, content: BlobPart): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content]));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const answers: { readonly [T in Reply["type"]]: (reply: Reply & { type: T }) => void } = {
  device: ({ name, backend, note }) => {
    element<HTMLElement>("device").textContent = [`${backend}: ${name}.`, note].filter(Boolean).join(" ");
  },
  loading: ({ done, total }) => {
    element<HTMLElement>("model").textContent = `Loading, ${done} of ${total} tensors`;
  },
  compiling: ({ work, done, total }) => {
    element<HTMLElement>(work === "writing" ? "model" : "progress").textContent =
      `Preparing the device, ${done} of ${total} kernels`;
  },
  model: (reply) => {
    model = reply;
    const millions = (reply.parameters / 1e6).toFixed(2);
    element<HTMLElement>("model").textContent =
      `${reply.name}: ${millions} million parameters, ${reply.nLayer} layers.`;
    element("layer").replaceChildren(
      ...Array.from({ length: reply.nLayer }, (_, i) => new Option(String(i + 1), String(i))),
    );
    showMemory(new TextEncoder().encode(text("prompt").value).length);
    setBusy(false);
  },
  token: ({ text: piece, tokens, seconds }) => {
    element<HTMLElement>("continuation").append(piece);
    element<HTMLElement>("speed").textContent = `${(tokens / seconds).toFixed(0)} tokens per second`;
    showMemory(new TextEncoder().encode(text("prompt").value).length + tokens);
  },
  generated: () => {},
  selection: ({ tokens, layers }) => {
    selection = { tokens, layers };
    showLayer();
  },
  step: ({ step, bitsPerByte, seconds }) => {
    curve.add(bitsPerByte);
    element<HTMLElement>("progress").textContent =
      `Step ${step} of ${steps}: ${bitsPerByte.toFixed(3)} bits per byte, ${(1 / seconds).toFixed(1)} steps per second`;
  },
  trained: ({ steps: made }) => {
    element<HTMLElement>("progress").append(`. Done after ${made} steps; it writes above now.`);
  },
  saved: ({ bytes, config }) => {
    download("model.safetensors", bytes);
    download("config.json", config);
  },
  resources: ({ urls }) => void keepOffline(urls),
  idle: () => setBusy(false),
  error: ({ message }) => {
    element<HTMLElement>("error").textContent = message;
  },
};
worker.onmessage = ({ data }: MessageEvent<Reply>) => (answers[data.type] as (reply: Reply) => void)(data);
worker.onerror = ({ message }) => {
  element<HTMLElement>("error").textContent = `The worker has stopped: ${message}`;
};

/** Once loaded the page needs no network: what it and the worker have fetched is kept, which `data-offline` on the body then says. */
async function keepOffline(urls: readonly string[]): Promise<void> {
  if (!("serviceWorker" in navigator) || !import.meta.env.PROD) return;
  await navigator.serviceWorker.register("./offline.js");
  const { active } = await navigator.serviceWorker.ready;
  const own = performance.getEntriesByType("resource").map(({ name }) => name);
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    document.body.dataset["offline"] = "ready";
  };
  active?.postMessage({ urls: [location.href, ...own, ...urls] }, [port2]);
}

async function loadFiles(files: readonly File[]): Promise<void> {
  const config = files.find(({ name }) => name.endsWith(".json"));
  const weights = files.find(({ name }) => name.endsWith(".safetensors"));
  if (config === undefined || weights === undefined) {
    element<HTMLElement>("error").textContent = "Give two files together: config.json and model.safetensors.";
    return;
  }
  ask({ type: "load", from: { kind: "files", config: await config.text(), weights } });
}

const loadShipped = (): void => ask({ type: "load", from: { kind: "shipped", base: document.baseURI } });
button("shipped").onclick = loadShipped;
element<HTMLInputElement>("files").onchange = ({ target }) =>
  loadFiles([...((target as HTMLInputElement).files ?? [])]);
element<HTMLFormElement>("hub").onsubmit = (event) => {
  event.preventDefault();
  const { value, placeholder } = element<HTMLInputElement>("hub-name");
  ask({ type: "load", from: { kind: "hub", name: value.trim() || placeholder } });
};
document.ondragover = (event) => event.preventDefault();
document.ondrop = (event) => {
  event.preventDefault();
  void loadFiles([...(event.dataTransfer?.files ?? [])]);
};

function stop(): void {
  clearTimeout(pause);
  ask({ type: "stop" });
}

text("prompt").oninput = () => {
  clearTimeout(pause);
  if (element<HTMLInputElement>("live").checked) pause = setTimeout(generate, 500);
};
text("prompt").onkeydown = ({ key, ctrlKey, metaKey }) => {
  if (key === "Enter" && (ctrlKey || metaKey)) generate();
  if (key === "Escape") stop();
};
button("continue").onclick = generate;
for (const id of ["stop", "abort"]) button(id).onclick = stop;
button("select").onclick = () =>
  ask({ type: "select", text: text("prompt").value + element<HTMLElement>("continuation").textContent });
element<HTMLSelectElement>("layer").onchange = showLayer;
button("train").onclick = () => {
  steps = Math.max(1, Math.floor(Number(element<HTMLInputElement>("steps").value)));
  curve.clear();
  ask({
    type: "train",
    text: text("corpus").value,
    dModel: Number(element<HTMLSelectElement>("width").value),
    nLayer: Number(element<HTMLSelectElement>("layers").value),
    steps,
  });
};
button("save").onclick = () => ask({ type: "save" });

loadShipped();
