# SPDX-License-Identifier: Apache-2.0
"""A training loop in PyTorch that keeps the GPU busy, measured as gpu-load measures itself: steps of a window.

Layers are large enough for the GPU, not Python, to be what a step waits for, and of single precision: with tensor cores at work
an H200 lowers its clock, so that half of its time does more than half of the work. Says 'ready', reads the start (ns of
CLOCK_MONOTONIC) from stdin, prints one JSON object."""
import argparse
import collections
import json
import sys
import time

import torch

LAYERS, WIDTH, DEPTH, WARM_UP = 8, 2048, 3, 6


def training():
    layers = [layer for _ in range(LAYERS) for layer in (torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU())]
    model = torch.nn.Sequential(*layers).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    batch = torch.randn(WIDTH, WIDTH, device="cuda")

    def step():
        model(batch).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def ends_of_steps(step, until_ns):
    """(ns, steps done): the start, then the end of each step, to the first after until_ns."""
    points = [(time.monotonic_ns(), 0)]
    queue = collections.deque()
    while points[-1][0] < until_ns:
        while len(queue) < DEPTH:
            step()
            queue.append(torch.cuda.Event())
            queue[-1].record()
        while not queue[0].query():
            time.sleep(1e-4)
        queue.popleft()
        points.append((time.monotonic_ns(), len(points)))
    return points


def work_until(points, at_ns):
    """By interpolation."""
    for (begun, done), (ended, more) in zip(points, points[1:]):
        if at_ns <= ended:
            return done + (more - done) * max(0, at_ns - begun) / (ended - begun)
    return points[-1][1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--warm-up", type=float, default=0.5)
    options = parser.parse_args()
    step = training()
    for _ in range(WARM_UP):
        step()
    torch.cuda.synchronize()
    print("ready", flush=True)
    start_ns = int(sys.stdin.readline() or 0) or time.monotonic_ns()
    time.sleep(max(0, start_ns - time.monotonic_ns()) / 1e9)
    begin_ns = start_ns + int(options.warm_up * 1e9)
    end_ns = begin_ns + int(options.seconds * 1e9)
    points = ends_of_steps(step, end_ns)
    steps = work_until(points, end_ns) - work_until(points, begin_ns)
    stall = max(after[0] - before[0] for before, after in zip(points, points[1:]))
    print(json.dumps({"kind": "torch", "launches": steps, "seconds": options.seconds, "rate": steps / options.seconds,
                      "stall_ms": stall / 1e6}), flush=True)


main()
