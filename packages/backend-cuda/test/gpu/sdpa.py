"""Causal scaled_dot_product_attention of PyTorch, bf16, batch 1, heads of 64, for bench-crossover.mjs: medians by CUDA events, a JSON line a length.

    python3 sdpa.py 1024 > sdpa.jsonl
"""
import json
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

width = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
backends = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


def median_ms(run, runs):
    for _ in range(3):
        run()
    marks = []
    for _ in range(runs):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        marks.append((start, end))
    torch.cuda.synchronize()
    times = sorted(a.elapsed_time(b) for a, b in marks)
    return times[len(times) // 2]


for power in range(9, 18):
    length = 2**power
    q, k, v = (torch.randn(1, width // 64, length, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    row = {"length": length, "width": width, "device": torch.cuda.get_device_name(), "torch": torch.__version__}
    for name, backend in backends.items():
        try:
            with sdpa_kernel(backend):
                row[name] = median_ms(
                    lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True),
                    20 if length < 65536 else 5,
                )
        except RuntimeError:
            continue
    print(json.dumps(row), flush=True)
