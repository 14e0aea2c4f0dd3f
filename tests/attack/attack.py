#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run an attack in a slice of 1 GiB and ask the simulator what it really got.

usage, under fracgpu-sim: attack.py FRACGPU DOOR OUTCOME PROGRAM [ARGUMENTS]

What must come of it:
  holds        the attack ran to its end, and there was never more memory than the limit, and not less at its best
  nothing      the same, but the attack need not have got any memory at all
  bounded      never more than the limit and what channel groups take unseen, which has a bound of its own
  cooperative  the attack got more than the limit: this door is not meant to hold here, the table says why
  checked      never more; or more for a moment, then the slice was found out and ended (--on-breach kill)
  refused      fracgpu does not start the program by this door, and says so in one line
"""
import json
import os
import subprocess
import sys

MIB = 1 << 20
LIMIT = 1024 * MIB
GROUPS_BOUND = 512 * MIB


def state():
    with open("/dev/fracgpu-sim-state") as f:
        return json.load(f)


def fail(text, result):
    print(f"attack.py: {text}\nexit status {result.returncode}")
    print("stdout:", result.stdout, "stderr:", result.stderr, sep="\n")
    sys.exit(1)


def main():
    fracgpu, door, outcome, *program = sys.argv[1:]
    environment = dict(os.environ)
    options = ["--door", door, "--memory", "1GiB", "--name", f"attack-{os.getpid()}"]
    if outcome == "checked":
        options += ["--on-breach", "kill"]
        environment["ATTACK_STAYS"] = "1"
    result = subprocess.run([fracgpu, "run", *options, "--", *program], capture_output=True, text=True,
                            timeout=150, env=environment)
    after = state()
    gpu = after["gpus"][0]
    peak, used = gpu["peak"], gpu["used"] + gpu["managed"]
    print(f"{door}: {' '.join(program[1:])}: {outcome}: peak {peak / MIB:.1f} MiB")

    if outcome == "refused":
        if result.returncode == 0 or peak or len(result.stderr.strip().splitlines()) != 1:
            fail("was not refused with one line", result)
        return
    if outcome == "checked" and result.returncode == 137 and peak > LIMIT:
        if "more" not in result.stderr and "holds" not in result.stderr:
            fail("was ended without a word", result)
    elif result.returncode != 0:
        fail("the attack did not run to its end", result)
    elif outcome == "cooperative":
        if peak <= LIMIT and "absent" not in result.stdout:
            fail("held where it cannot: say so in the table", result)
    elif outcome == "bounded":
        if peak > LIMIT + GROUPS_BOUND:
            fail(f"the slice had {peak} bytes", result)
    elif peak > LIMIT:
        fail(f"the slice had {peak} bytes of {LIMIT}", result)
    elif outcome == "holds" and peak < LIMIT and "absent" not in result.stdout:
        fail(f"the attack never had its slice, only {peak} bytes: it proves nothing", result)
    # what is left in the driver belongs to nobody
    if used:
        fail(f"{used} bytes are still there after the slice", result)


if __name__ == "__main__":
    main()
