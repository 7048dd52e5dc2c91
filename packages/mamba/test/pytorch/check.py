"""Compares `mamba` with transformers on models of sizes that the fixtures do not have, in both directions.

usage: check.py WORK BACKENDS MAMBA…
  WORK      a folder to make models in
  BACKENDS  what to give as --backend, separated by commas
  MAMBA…    the command, as `node dist/bin.js`

There -> here: models with random weights, saved in every way that checkpoints come in, are run by `mamba forward --gradients`:
logits, hidden states and loss to 1e-5, every gradient to 1e-4, greedy tokens of `mamba generate` identical.
Here -> there: models trained and saved by `mamba train` and `mamba convert` are loaded with from_pretrained, and give the same logits to 1e-5.
Prints a JSON object per comparison; the exit code is 1 if one failed.
"""
import json
import pathlib
import subprocess
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file

from models import theirs

transformers.logging.set_verbosity_error()
work, backends, command = pathlib.Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3:]
failures = 0


def mamba(*arguments: object) -> str:
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"mamba {arguments[0]}: exit {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def error(got: torch.Tensor, want: torch.Tensor) -> float:
    if got.shape != want.shape:
        return float("nan")
    return ((got - want).norm() / want.norm().clamp_min(1e-30)).item()


def report(ok: bool, **facts: object) -> None:
    global failures
    failures += not ok
    print(json.dumps({"ok": ok, **facts}), flush=True)


def there_to_here() -> None:
    for name, model, save in theirs():
        folder = work / "theirs" / name
        ids, length = golden(model), 12
        save(model, folder)
        save_file(ids["tensors"], folder / "golden.safetensors")
        names = ids["names"]
        want = {names(k) if k.startswith("grad.") else k: v for k, v in ids["tensors"].items() if k != "input_ids"}
        prompt = ids["tensors"]["input_ids"][:1, :7]
        greedy, margin = greedy_tokens(model, prompt.long(), length)
        for backend in backends:
            facts = dict(model=name, direction="there -> here", backend=pathlib.Path(backend).stem)
            try:
                out = folder / f"ours-{pathlib.Path(backend).stem}.safetensors"
                mamba("forward", "--backend", backend, "--model", folder, "--input", folder / "golden.safetensors", "--output", out, "--gradients")
                got = load_file(out)
                missing = sorted(set(want) ^ set(got))
                worst = {kind: max((error(got[k], w), k) for k, w in want.items() if k in got and k.startswith(kind)) for kind in ("logits", "hidden", "loss", "grad")}
                printed = mamba("generate", "--backend", backend, "--model", folder, "--prompt-tokens", ",".join(map(str, prompt[0].tolist())), "--temperature", 0, "--max-tokens", length, "--json")
                tokens = json.loads(printed)["tokens"]
                ok = not missing and all(e < (1e-4 if kind == "grad" else 1e-5) for kind, (e, _) in worst.items())
                # Where two tokens are equally probable to float32's precision, either is right.
                report(ok and (tokens == greedy or margin < 1e-4), **facts, worst=worst, missing=missing, greedy=tokens == greedy, margin=margin)
            except Exception as problem:
                report(False, **facts, problem=str(problem))


def golden(model: torch.nn.Module) -> dict:
    vocab = model.config.vocab_size
    ids = torch.randint(0, vocab, (3, 21))
    model.zero_grad()
    result = model(ids, use_cache=False, output_hidden_states=True)
    logits = result.logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
    loss.backward()
    tensors = {"input_ids": ids.int(), "logits": logits.detach(), "loss": loss.detach().reshape([])}
    states = result.hidden_states[-model.config.num_hidden_layers - 1 :]
    tensors.update({f"hidden_states.{i}": h.detach().clone() for i, h in enumerate(states)})
    tensors.update({f"grad.{n}": p.grad.clone() for n, p in model.named_parameters()})
    return {"tensors": {k: v.contiguous() for k, v in tensors.items()}, "names": getattr(model, "file_name", lambda n: n)}


@torch.no_grad()
def greedy_tokens(model: torch.nn.Module, ids: torch.Tensor, count: int) -> tuple[list[int], float]:
    """By a whole forward pass per token: transformers' cached path is what is not under test."""
    tokens, margin = [], float("inf")
    for _ in range(count):
        best = model(ids, use_cache=False).logits[0, -1].topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        tokens.append(best.indices[0].item())
        ids = torch.cat([ids, best.indices[:1][None]], 1)
    return tokens, margin


OURS = {
    "plain": ({}, ["--d-model", 24, "--n-layer", 3, "--d-state", 7]),
    "untied-biased": ({"tieEmbeddings": False, "bias": True, "convBias": False, "dtRank": 5, "dConv": 3, "expand": 3, "vocabSize": 131}, ["--d-model", 17, "--n-layer", 2, "--d-state", 3]),
    "falcon": ({"innerNorm": "plain", "tieEmbeddings": False, "vocabSize": 128}, ["--d-model", 33, "--n-layer", 2, "--d-state", 16]),
    "narrow": ({"dtRank": 1, "dConv": 2, "expand": 1, "normEps": 1e-3}, ["--d-model", 8, "--n-layer", 1, "--d-state", 1]),
}


def here_to_there() -> None:
    text = work / "text.txt"
    text.write_text("The state is a value: h' = A h + B x, y = C h + D x. " * 40)
    for name, (config, arguments) in OURS.items():
        folder = work / "ours" / name
        folder.mkdir(parents=True, exist_ok=True)
        settings = work / "ours" / f"{name}.json"
        settings.write_text(json.dumps(config))
        try:
            mamba("train", "--backend", backends[0], "--data", text, "--out", folder, "--config", settings, *arguments, "--steps", 8, "--batch", 2, "--length", 33, "--lr", 0.01, "--warmup", 2)
        except Exception as problem:
            report(False, model=name, direction="here -> there", problem=str(problem))
            continue
        compare_loaded(name, folder)
        for dtype in ("bf16", "f16"):
            converted = work / "ours" / f"{name}-{dtype}"
            mamba("convert", "--backend", backends[0], "--model", folder, "--out", converted, "--dtype", dtype)
            compare_loaded(f"{name}-{dtype}", converted)


def compare_loaded(name: str, folder: pathlib.Path) -> None:
    facts = dict(model=name, direction="here -> there")
    try:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        complaints = {k: sorted(map(str, v)) for k, v in info.items() if v}
        ids = torch.randint(0, model.config.vocab_size, (2, 29))
        save_file({"input_ids": ids}, folder / "input.safetensors")
        with torch.no_grad():
            want = model.eval()(ids, use_cache=False).logits
        for backend in backends:
            out = folder / "output.safetensors"
            mamba("forward", "--backend", backend, "--model", folder, "--input", folder / "input.safetensors", "--output", out)
            e = error(load_file(out)["logits"], want)
            report(e < 1e-5 and not complaints, **facts, backend=pathlib.Path(backend).stem, loadedAs=type(model).__name__, logits=e, complaints=complaints)
    except Exception as problem:
        report(False, **facts, problem=str(problem))


torch.manual_seed(5)
print(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__}), flush=True)
there_to_here()
here_to_there()
print(json.dumps({"failures": failures}))
sys.exit(failures > 0)
