#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make seeds for the fuzzers out of recordings: the bytes of recorded arguments, one file a call.

usage: seeds.py OUTPUT-FOLDER TRACE.jsonl.gz...
"""
import gzip
import json
import os
import sys


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    seen = set()
    for trace in sys.argv[2:]:
        with gzip.open(trace, "rt") as lines:
            for line in lines:
                call = json.loads(line)
                data = bytes.fromhex(call.get("in", "") + call.get("pin", ""))
                if data and data[:16] not in seen:
                    seen.add(data[:16])
                    with open(os.path.join(folder, f"{len(seen):04}"), "wb") as out:
                        out.write(b"\3\1\1\1\2" + data[:2000])
    for text in ("8GiB", "50%", "0=8GiB,1=4GiB", "GPU-11111111=2GiB", "580.159.04", "1.5GiB", "12.5%"):
        with open(os.path.join(folder, "text-" + text.replace("%", "p")), "w", encoding="ascii") as out:
            out.write(text)


main()
