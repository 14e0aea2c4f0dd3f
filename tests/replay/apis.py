#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Replay a recording of every allocation API and hold the ledger against the driver's own figures.

usage: apis.py FRACGPU-REPLAY TRACE
"""
import json
import subprocess
import sys

CONTEXT_MIB = 8  # what the driver keeps for a context, charged to nobody (traces/README.md)
MANAGED_PHASES = ("managed touch", "managed free")  # booked when mapped, used by the driver when touched


# An answer is the free memory at the start of the phase it follows.


def replay(tool, *args):
    result = subprocess.run([tool, *args], stdout=subprocess.PIPE, check=True, text=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def main():
    tool, trace = sys.argv[1:]
    lines = replay(tool, trace)
    seen = {line["phase"] for line in lines}
    assert len(seen) >= 20, f"only {len(seen)} phases"
    compared = 0
    context = False
    previous = None
    for line in lines:
        # A phase line repeats the driver's last answer: only an answer that follows it is a new figure.
        is_answer = previous is not None and previous["phase"] == line["phase"]
        previous = line
        context = context or line["phase"] == "memalloc 1G"
        if not context or not is_answer or line["phase"] in MANAGED_PHASES:
            continue
        charged, used = line["charged_mib"], line["driver_used_mib"]
        assert charged + CONTEXT_MIB == used, f"{line}: charged + {CONTEXT_MIB} is {charged + CONTEXT_MIB}"
        assert line["refused"] == 0, line
        compared += 1
    assert compared >= 10, f"only {compared} figures compared"

    # Under a limit the large allocation is refused, and the sum never passes it.
    limited = replay(tool, "--memory", "1GiB", trace)
    assert limited[-1]["refused"] >= 1, limited[-1]
    assert max(line["charged_mib"] for line in limited) <= 1024, limited
    print(f"{compared} figures agree with the driver's")


main()
