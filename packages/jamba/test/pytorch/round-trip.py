"""Jamba and FalconMamba between this project and transformers (5.17, PyTorch on a CPU, float32, the kernel-free path), both directions.

usage: round-trip.py [--only PREFIX,...] OUT COMMAND...      such as: round-trip.py /tmp/out node apps/cli/dist/bin.js

COMMAND is the `mamba` command. For every model below, of sizes that the fixtures do not have:
  in       made with random weights and saved by transformers; `mamba forward --gradients` must give its logits, hidden states and auxiliary
           loss to 1e-5 and its gradients to 1e-4, and `mamba generate` its greedy tokens
  out      `mamba convert` writes it again; from_pretrained must find every tensor and no other, with the same values, and in bf16 rounded ones
  trained  made and trained for a few steps by `mamba train`; from_pretrained must give the logits of `mamba forward` to 1e-5
One JSON object per check goes to standard output; the exit status is 1 if any fails.
"""
import argparse
import json
import pathlib
import random
import re
import subprocess
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, FalconMambaConfig, FalconMambaForCausalLM, JambaConfig, JambaForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("--only", default="", type=lambda text: tuple(text.split(",")))
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("command", nargs=argparse.REMAINDER)
given = parser.parse_args()
out, mamba = given.out, given.command
torch.manual_seed(11)
torch.set_num_threads(2)
failures = 0


def report(model, check, value, limit):
    """A relative error and its limit, or the names that differ and none allowed."""
    global failures
    ok = value < limit if isinstance(value, float) else len(value) == 0
    failures += not ok
    print(json.dumps({"model": model, "check": check, "ok": ok, "value": value if isinstance(value, float) else value[:5]}), flush=True)


def run(*args):
    done = subprocess.run([*mamba, *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"mamba {args[0]}: {done.returncode}: {done.stderr[-400:]}")
    return done.stdout


def error(got, want):
    return ((got.float() - want.float()).norm() / want.float().norm().clamp_min(1e-30)).item()


def load(folder):
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    info = info if isinstance(info, dict) else vars(info)
    stray = {k: sorted(map(str, v)) for k, v in info.items() if k in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    return model.eval(), [f"{k}: {n}" for k, names in stray.items() for n in names]


def packed(tensors):
    """Gradients of experts named one by one, as transformers holds them: gate above up, all experts of a layer in one tensor."""
    single = re.compile(r"(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.weight")
    whole, parts = {}, {}
    for name, value in tensors.items():
        if match := single.fullmatch(name):
            parts.setdefault(match[1], {})[match[3], int(match[2])] = value
        else:
            whole[name] = value
    for prefix, of in parts.items():
        experts = range(len(of) // 3)
        whole[f"{prefix}.gate_up_proj"] = torch.stack([torch.cat([of["gate", e], of["up", e]]) for e in experts])
        whole[f"{prefix}.down_proj"] = torch.stack([of["down", e] for e in experts])
    return whole


def from_transformers(name, model, shard):
    model = model.float().eval()
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # one expert after the other: the plain path, as everywhere else here
    for parameter in model.parameters():
        if parameter.ndim == 1:  # norms, biases and D away from 0 and 1
            torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.1)
    folder, config = out / name, model.config
    ids = torch.randint(3, config.vocab_size, (2, 19))
    routers = getattr(config, "output_router_logits", False)
    options = {"output_router_logits": True} if routers else {}
    result = model(ids, use_cache=False, output_hidden_states=True, **options)
    loss = torch.nn.functional.cross_entropy(result.logits[:, :-1].reshape(-1, config.vocab_size), ids[:, 1:].reshape(-1))
    if routers:
        loss = loss + config.router_aux_loss_coef * result.aux_loss
    loss.backward()
    want = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    save_file({"input_ids": ids.int()}, folder / "input.safetensors")
    run("forward", "--model", folder, "--input", folder / "input.safetensors", "--output", folder / "ours.safetensors", "--gradients")
    ours = load_file(folder / "ours.safetensors")
    report(name, "in: logits", error(ours["logits"], result.logits), 1e-5)
    report(name, "in: loss", error(ours["loss"], loss), 1e-5)
    if routers:
        report(name, "in: auxiliary loss", error(ours["aux_loss"], result.aux_loss), 1e-5)
    states = result.hidden_states[-config.num_hidden_layers - 1 :]
    report(name, "in: hidden states", max(error(ours[f"hidden_states.{i}"], h) for i, h in enumerate(states)), 1e-5)
    grads = packed({k[5:]: v for k, v in ours.items() if k.startswith("grad.")})
    report(name, "in: names of gradients", sorted(set(grads) ^ set(want)), None)
    errors = {k: error(grads[k], g) for k, g in want.items() if k in grads}
    worst = max(errors, key=errors.get)
    report(name, f"in: gradients, the worst of {worst}", errors[worst], 1e-4)
    prompt = ids[:1, :7]
    greedy = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0)
    made = run("generate", "--model", folder, "--prompt-tokens", ",".join(map(str, prompt[0].tolist())), "--max-tokens", 24, "--temperature", 0, "--json")
    tokens = json.loads(made.strip().splitlines()[-1])["tokens"]
    differing = [f"{i}: {a} for {b}" for i, (a, b) in enumerate(zip(tokens, greedy[0, 7:].tolist(), strict=False)) if a != b]
    report(name, "in: greedy tokens", differing + ([] if len(tokens) == 24 else [f"{len(tokens)} tokens"]), None)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    for dtype in ("float32", "bf16"):
        again = out / f"{name}-{dtype}"
        run("convert", "--model", folder, "--out", again, "--dtype", dtype)
        back, stray = load(again)
        report(name, f"out, {dtype}: missing or surplus tensors", stray, None)
        rounded = [k for k, v in back.state_dict().items() if dtype == "bf16" and torch.equal(v, weights[k].bfloat16().float())]
        exact = [k for k, v in back.state_dict().items() if torch.equal(v, weights[k])]
        report(name, f"out, {dtype}: values", sorted(set(weights) - set(rounded) - set(exact)), None)
        if dtype == "float32":
            with torch.no_grad():
                logits = back(ids, use_cache=False).logits
            report(name, "out: logits", error(logits, result.logits), 1e-5)


def trained_here(name, arch, options, config):
    folder = out / name
    (out / f"{name}.json").write_text(json.dumps(config))
    run("train", "--arch", arch, "--data", out / "text.txt", "--out", folder, *options, "--config", out / f"{name}.json", *"--steps 6 --warmup 1 --lr 0.02 --batch 2 --length 48 --eval-every 100".split())
    ids = torch.randint(0, 256, (3, 23))
    save_file({"input_ids": ids.int()}, folder / "input.safetensors")
    run("forward", "--model", folder, "--input", folder / "input.safetensors", "--output", folder / "ours.safetensors")
    model, stray = load(folder)
    report(name, "trained: missing or surplus tensors", stray, None)
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits
    report(name, f"trained: logits of {type(model).__name__}", error(load_file(folder / "ours.safetensors")["logits"], logits), 1e-5)


# Wide enough that every part matters, and not so wide that float32 itself loses the fourth digit of a gradient on the way.
common = dict(use_mamba_kernels=False, initializer_range=0.08, pad_token_id=0)
steps = dict(time_step_min=0.01, time_step_max=0.2, initializer_range=0.3)
# Widths are multiples of 4: PyTorch's grouped product, which transformers runs the experts with, takes no others.
models = {
    "jamba-odd": (JambaForCausalLM, JambaConfig(vocab_size=97, hidden_size=36, intermediate_size=28, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=3, attn_layer_period=3, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=0, num_experts=5, num_experts_per_tok=3, mamba_d_state=7, mamba_d_conv=3, mamba_expand=3, mamba_dt_rank=5, mamba_proj_bias=True, output_router_logits=True, router_aux_loss_coef=0.01, **common), None),
    "jamba-one-expert": (JambaForCausalLM, JambaConfig(vocab_size=64, hidden_size=32, intermediate_size=40, num_hidden_layers=5, num_attention_heads=4, num_key_value_heads=4, attn_layer_period=4, attn_layer_offset=2, num_experts=1, num_experts_per_tok=1, mamba_d_state=16, mamba_conv_bias=False, tie_word_embeddings=True, **common), None),
    "jamba-sharded": (JambaForCausalLM, JambaConfig(vocab_size=130, hidden_size=24, intermediate_size=20, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=1, attn_layer_period=2, attn_layer_offset=0, num_experts=8, num_experts_per_tok=1, mamba_d_state=4, mamba_d_conv=2, mamba_expand=1, output_router_logits=True, **common), "20KB"),
    "jamba-deep": (JambaForCausalLM, JambaConfig(vocab_size=50, hidden_size=20, intermediate_size=24, num_hidden_layers=28, num_attention_heads=5, num_key_value_heads=1, attn_layer_period=14, attn_layer_offset=7, num_experts=1, num_experts_per_tok=1, **common), None),
    "falcon-odd": (FalconMambaForCausalLM, FalconMambaConfig(vocab_size=83, hidden_size=36, state_size=5, num_hidden_layers=3, expand=3, conv_kernel=3, time_step_rank=4, use_bias=True, tie_word_embeddings=False, **steps), None),
    "falcon-tied": (FalconMambaForCausalLM, FalconMambaConfig(vocab_size=70, hidden_size=24, state_size=17, num_hidden_layers=5, expand=1, conv_kernel=2, use_conv_bias=False, tie_word_embeddings=True, mixer_rms_eps=1e-5, **steps), "20KB"),
}
out.mkdir(parents=True, exist_ok=True)
random.seed(3)
(out / "text.txt").write_text(" ".join("".join(random.choices("etaoinshrdlu", k=random.randint(1, 8))) for _ in range(2000)))
jobs = [(name, lambda n=name, c=c, config=config, shard=shard: from_transformers(n, c(config), shard)) for name, (c, config, shard) in models.items()]
small = ["--d-model", "24", "--n-layer", "4"]
jobs += [
    ("our-jamba", lambda: trained_here("our-jamba", "jamba", small, dict(dFeedForward=36, nHeads=6, nKvHeads=2, attnLayerPeriod=3, attnLayerOffset=2, nExperts=3, topK=2, dState=5, dConv=3, dtRank=7))),
    ("our-dense-jamba", lambda: trained_here("our-dense-jamba", "jamba", small, dict(dFeedForward=20, nHeads=3, nKvHeads=3, attnLayerPeriod=2, attnLayerOffset=0, nExperts=1, topK=1, tieEmbeddings=True))),
    ("our-falcon", lambda: trained_here("our-falcon", "mamba", small, dict(innerNorm="plain", dConv=3, tieEmbeddings=False, bias=True))),
]
for name, job in jobs:
    if not name.startswith(given.only or ""):
        continue
    try:
        job()
    except Exception as failure:  # the other models still tell something
        report(name, f"{type(failure).__name__}: {failure}"[:600], ["failed"], None)
print(json.dumps({"failures": failures}))
sys.exit(failures > 0)
