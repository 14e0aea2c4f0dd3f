#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Replay PyTorch, which has two UVM address spaces, and hold the ledger against the driver's own figures.

usage: torch.py FRACGPU-REPLAY TRACE
"""
import json
import subprocess
import sys

CONTEXT_MIB = 8  # what the driver keeps for a context, charged to nobody (traces/README.md)


def main():
    tool, trace = sys.argv[1:]
    result = subprocess.run([tool, "--verbose", trace], capture_output=True, check=True, text=True)
    assert "refused" not in result.stderr and "not let through" not in result.stderr, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    # an answer follows the line of its phase
    answers = [line for before, line in zip(lines, lines[1:]) if before["phase"] == line["phase"] and line["charged_mib"]]
    for line in answers:
        assert line["charged_mib"] + CONTEXT_MIB == line["driver_used_mib"], line
    assert len(answers) >= 10 and lines[-1]["refused"] == 0, lines
    print(f"{len(answers)} figures agree with the driver's")


main()
