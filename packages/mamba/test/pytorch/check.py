"""Both directions of the exchange with transformers (5.17, PyTorch on a CPU, float32, the kernel-free path).

usage: check.py OURS OUT
Models saved by this project (OURS/NAME: config.json, model.safetensors, ours.safetensors with input_ids and logits) are loaded with
from_pretrained and must give the same logits to 1e-5. Then models of sizes that the fixtures do not have are made with random weights,
saved to OUT/NAME as save_pretrained writes them, with golden.safetensors beside (logits, hidden states, loss, every gradient).
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, FalconMambaConfig, FalconMambaForCausalLM, MambaConfig, MambaForCausalLM

ours, out = map(pathlib.Path, sys.argv[1:3])
torch.manual_seed(5)
failed = False
for folder in sorted(p for p in ours.iterdir() if p.is_dir()):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    data = load_file(folder / "ours.safetensors")
    with torch.no_grad():
        want = model(data["input_ids"].long(), use_cache=False).logits
    error = ((data["logits"] - want).norm() / want.norm()).item()
    failed |= not error < 1e-5
    print(json.dumps({"saved here, loaded by transformers": folder.name, "class": type(model).__name__, "relative error": error}))

sizes = dict(time_step_min=0.01, time_step_max=0.2, initializer_range=0.3)
models = {
    "odd": MambaForCausalLM(MambaConfig(vocab_size=97, hidden_size=40, state_size=5, num_hidden_layers=2, expand=3, conv_kernel=3, time_step_rank=4, use_bias=True, tie_word_embeddings=False, **sizes)),
    "no-conv-bias": MambaForCausalLM(MambaConfig(vocab_size=50, hidden_size=24, state_size=17, num_hidden_layers=4, expand=1, conv_kernel=2, use_bias=False, use_conv_bias=False, **sizes)),
    "falcon": FalconMambaForCausalLM(FalconMambaConfig(vocab_size=64, hidden_size=32, state_size=8, num_hidden_layers=3, use_bias=False, tie_word_embeddings=False, **sizes)),
}
for name, model in models.items():
    model = model.float().eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.1)
    ids = torch.randint(0, model.config.vocab_size, (3, 21))
    result = model(ids, use_cache=False, output_hidden_states=True)
    logits = result.logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
    loss.backward()
    golden = {"input_ids": ids.int(), "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    states = result.hidden_states[-model.config.num_hidden_layers - 1 :]
    golden.update({f"hidden_states.{i}": h.detach().contiguous() for i, h in enumerate(states)})
    golden.update({f"grad.{n}": p.grad for n, p in model.named_parameters() if p.grad is not None})
    model.save_pretrained(out / name)
    save_file({k: v.contiguous() for k, v in golden.items()}, out / name / "golden.safetensors")
    print(json.dumps({"made by transformers": name, "parameters": sum(p.numel() for p in model.parameters()), "hidden states": len(result.hidden_states)}))
sys.exit(failed)
