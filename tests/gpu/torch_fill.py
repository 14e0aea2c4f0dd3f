# SPDX-License-Identifier: Apache-2.0
"""Fill the GPU through PyTorch until it is refused, and go on: the words and events of gpu-fill.

usage: torch_fill.py [STEP_MIB [CAP_MIB]]; PYTORCH_CUDA_ALLOC_CONF chooses the allocator's ways
"""
import ctypes
import json
import os
import sys

import torch

STEP = int(sys.argv[1]) << 20 if len(sys.argv) > 1 else 32 << 20
CAP = int(sys.argv[2]) << 20 if len(sys.argv) > 2 else 8 << 30


def phase(name):
    """A note in a recording, where this process is recorded."""
    try:
        ctypes.CDLL(None).trace_phase(name.encode())
    except AttributeError:
        pass


def say(**event):
    print(json.dumps({"pid": os.getpid(), **event}), flush=True)


def fill(blocks):
    before = left = torch.cuda.mem_get_info()[0]
    status, step = 0, 0
    phase("fill")
    try:
        while len(blocks) * STEP < CAP:
            blocks.append(torch.empty(STEP, dtype=torch.uint8, device="cuda").fill_(1))
            now = torch.cuda.mem_get_info()[0]
            left, step = now, max(step, left - now)
    except torch.cuda.OutOfMemoryError:
        status = 2
    phase("full")
    free, total = torch.cuda.mem_get_info()
    say(event="full", status=status, count=len(blocks), asked=len(blocks) * STEP, step=step, before=before, free=free,
        total=total, device=torch.cuda.get_device_properties(0).total_memory)


def go_on(blocks):
    count = len(blocks)
    del blocks[count // 2:]
    torch.cuda.empty_cache()
    status = 0
    try:
        while len(blocks) < count:
            blocks.append(torch.empty(STEP, dtype=torch.uint8, device="cuda").fill_(1))
    except torch.cuda.OutOfMemoryError:
        status = 2
    missing = count - len(blocks)
    del blocks[count // 2:]
    torch.cuda.empty_cache()
    phase("train")
    layer = torch.nn.Linear(512, 512).cuda()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    for _ in range(3):
        loss = layer(torch.randn(64, 512, device="cuda")).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    sync = 0 if bool(torch.isfinite(loss)) else 1
    blocks.clear()
    torch.cuda.empty_cache()
    phase("done")
    say(event="done", status=status, missing=missing, sync=sync, free=torch.cuda.mem_get_info()[0])


def main():
    phase("start")
    torch.zeros(1, device="cuda")
    blocks = []
    fill(blocks)
    for line in sys.stdin:
        word = line.strip()
        if word == "go":
            go_on(blocks)
            return
        if word.startswith("sh "):
            say(event="ran", status=os.system(word[3:]))
        else:
            fill(blocks)


main()
