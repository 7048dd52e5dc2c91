"""Trains the model of parity.ts with PyTorch, from the same weights and batches, and compares the losses.

Two paths of PyTorch's own: the scan token by token with what follows it in float32, and the scan by doubling (log2 length passes) with what follows
in the type of the projections, as eager code has it. Their difference is what rounding alone makes of a hundred steps; ours may be twice as far. Run: python3 parity.py FOLDER
"""
import json
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F

folder = sys.argv[1]
run = json.load(open(os.path.join(folder, "run.json")))
config = run["config"]
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False


def weights():
    flat = np.fromfile(os.path.join(folder, "weights.bin"), dtype=np.float32)
    at, named = 0, {}
    for p in run["parameters"]:
        n = int(np.prod(p["shape"]))
        named[p["name"]] = torch.tensor(flat[at : at + n].reshape(p["shape"]), device=device, requires_grad=True)
        at += n
    return named


def scan_by_token(a, b):
    h, states = torch.zeros_like(b[:, 0]), []
    for t in range(b.shape[1]):
        h = a[:, t] * h + b[:, t]
        states.append(h)
    return torch.stack(states, 1)


def scan_by_doubling(a, b):
    step = 1
    while step < b.shape[1]:
        b = torch.cat([b[:, :step], b[:, step:] + a[:, step:] * b[:, :-step]], 1)
        a = torch.cat([a[:, :step], a[:, step:] * a[:, :-step]], 1)
        step *= 2
    return b


def rms_norm(x, weight):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + config["normEps"]) * weight


def forward(w, tokens, scan):
    is_eager = scan is scan_by_doubling
    stream = w["backbone.embeddings.weight"][tokens]
    rank, states = config["dtRank"], config["dState"]
    for i in range(config["nLayer"]):
        p = f"backbone.layers.{i}."
        m = p + "mixer."
        x, z = F.linear(rms_norm(stream, w[p + "norm.weight"]), w[m + "in_proj.weight"]).chunk(2, -1)
        kernel = w[m + "conv1d.weight"]
        x = F.conv1d(F.pad(x.transpose(1, 2), (kernel.shape[-1] - 1, 0)), kernel, w[m + "conv1d.bias"], groups=x.shape[-1])
        x = F.silu(x).transpose(1, 2)
        dt, B, C = F.linear(x, w[m + "x_proj.weight"]).split([rank, states, states], -1)
        delta = F.linear(dt, w[m + "dt_proj.weight"]).float() + w[m + "dt_proj.bias"]
        delta, u = F.softplus(delta), x.float()
        A = -w[m + "A_log"].exp()
        h = scan((delta.unsqueeze(-1) * A).exp(), (delta * u).unsqueeze(-1) * B.float().unsqueeze(2))
        y, skip = (h * C.float().unsqueeze(2)).sum(-1), w[m + "D"] * u
        if is_eager:
            y = (y.to(z.dtype) + skip.to(z.dtype)) * F.silu(z)
        else:
            y = ((y + skip) * F.silu(z.float())).to(z.dtype)
        stream = stream + F.linear(y, w[m + "out_proj.weight"]).float()
    return F.linear(rms_norm(stream, w["backbone.norm_f.weight"]), w["backbone.embeddings.weight"])


def train(scan, mixed):
    w = weights()
    decays = {p["name"]: p["decay"] for p in run["parameters"]}
    groups = [
        {"params": [t for n, t in w.items() if decays[n] == kind], "weight_decay": run["weightDecay"] if kind else 0.0}
        for kind in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=run["learningRate"], betas=(0.9, 0.95), eps=1e-8)
    all_tokens = np.fromfile(os.path.join(folder, "tokens.bin"), dtype=np.int32)
    all_tokens = torch.tensor(all_tokens.astype(np.int64).reshape(run["steps"], run["batch"], run["length"] + 1), device=device)
    losses = []
    for tokens in all_tokens:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=mixed):
            logits = forward(w, tokens[:, :-1], scan)
        loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(w.values()), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


ours = json.load(open(os.path.join(folder, "losses.json")))
print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if device == 'cuda' else 'CPU'}")
for name, mixed in (("float32", False), ("bf16", True)):
    doubling = train(scan_by_doubling, mixed)
    print(f"{name}: PyTorch by doubling {doubling[0]:.4f} to {doubling[-1]:.4f}", flush=True)
    token = train(scan_by_token, mixed)
    own = np.array(ours[name])
    between = np.abs(token - doubling).max()
    gap = min(np.abs(own - token).max(), np.abs(own - doubling).max())
    print(
        f"{name}: ours {own[0]:.4f} to {own[-1]:.4f}; largest gap to PyTorch {gap:.2e}, between PyTorch's two paths {between:.2e}, ratio {gap / between:.2f}",
        flush=True,
    )
