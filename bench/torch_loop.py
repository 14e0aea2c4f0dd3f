# SPDX-License-Identifier: Apache-2.0
"""A training loop and an inference loop in PyTorch; prints the median time of a step of each, in microseconds, as JSON.

Steps are timed in batches that are waited for, so that neither launches nor waiting dominate."""
import json
import statistics
import time

import torch

BATCHES, STEPS = 40, 50


def timed(step):
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()
    times = []
    for _ in range(BATCHES):
        begun = time.perf_counter()
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begun) / STEPS * 1e6)
    return statistics.median(times)


def main():
    model = torch.nn.Sequential(*[torch.nn.Linear(1024, 1024) for _ in range(8)]).cuda()
    optimizer = torch.optim.Adam(model.parameters())
    batch = torch.randn(256, 1024, device="cuda")

    def train():
        model(batch).pow(2).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    large = torch.nn.Sequential(*[torch.nn.Linear(4096, 4096) for _ in range(8)]).cuda().half()
    request = torch.randn(64, 4096, device="cuda", dtype=torch.half)

    def infer():
        with torch.no_grad():
            large(request)

    print(json.dumps({"train_us": timed(train), "infer_us": timed(infer)}))


main()
