#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run an attack in a slice of 1 GiB and ask the simulator what it really got.

usage, under fracgpu-sim: attack.py FRACGPU DOOR OUTCOME PROGRAM [ARGUMENTS]

What must come of it:
  holds        the attack ran to its end, and there was never more memory than the limit, and not less at its best
  nothing      the same, but the attack need not have got any memory at all
  bounded      never more than the limit and what may be taken unseen, which has a bound of its own
  cooperative  the attack runs to its end and may get more than the limit: this door is not meant to hold here, the table
               says why
  checked      never more; or more for a moment, then the slice was found out and ended (--on-breach kill)
  refused      fracgpu does not start the program by this door, and says so in one line
  orphan       as holds, while fracgpu itself was killed by the attack
  undisturbed  a channel of somebody outside of the slice runs as before
  disturbed    it does not: this door is not meant to hold here

Helpers that are not in the slice, by the attack's name: an accomplice for "accomplice-*", a victim for the channels.
"""
import json
import os
import subprocess
import sys
import tempfile

MIB = 1 << 20
LIMIT = 1024 * MIB
UNSEEN_BOUND = 512 * MIB
TIMEOUT = 150


def state():
    with open("/dev/fracgpu-sim-state") as f:
        return json.load(f)


def fail(text, result=None):
    print(f"attack.py: {text}")
    if result:
        print("exit status", result.returncode, "\nstdout:", result.stdout, "\nstderr:", result.stderr)
    sys.exit(1)


class Outside:
    """A process that is not in the slice: starts, says one line, and lives until its input is closed."""

    def __init__(self, *words):
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.line = self.process.stdout.readline().split()
        if not self.line:
            fail(f"{' '.join(words)} did not start")

    def end(self):
        self.process.stdin.close()
        if self.process.wait(TIMEOUT) != 0:
            fail("the process outside of the slice failed")


def channel_runs(handles):
    client, channel = (int(word) for word in handles)
    for c in state()["clients"]:
        for ch in c["channels"]:
            if c["handle"] == client and ch["handle"] == channel:
                return ch["enabled"] and ch["scheduled"]
    return False


def run(fracgpu, door, outcome, program, directory):
    runtime = "/run/fracgpu" if os.geteuid() == 0 else os.path.join(directory, "fracgpu")
    if os.geteuid() == 0 and os.statvfs("/run").f_flag & os.ST_NOEXEC:
        runtime = "/tmp/fracgpu-0"
    name = f"attack-{os.getpid()}"
    environment = dict(os.environ, XDG_RUNTIME_DIR=directory, ATTACK_SLICE=f"{runtime}/{name}")
    options = ["--door", door, "--memory", "1GiB", "--name", name]
    if outcome == "checked":
        options += ["--on-breach", "kill"]
        environment["ATTACK_STAYS"] = "1"
    return subprocess.run([fracgpu, "run", *options, "--", *program], capture_output=True, text=True,
                          timeout=TIMEOUT, env=environment)


def judge(outcome, result, peak, used):
    absent = "absent" in result.stdout
    if outcome == "refused":
        if result.returncode == 0 or peak or len(result.stderr.strip().splitlines()) != 1:
            fail("was not refused with one line", result)
        return
    if outcome == "orphan":
        if result.returncode != -9 or "done" not in result.stdout:
            fail("did not go on to its end without fracgpu", result)
    elif outcome == "checked" and result.returncode == 137:	# perhaps before anybody looked at the peak
        if "holds" not in result.stderr and "more managed memory" not in result.stderr:
            fail("was ended without a word", result)
    elif result.returncode != 0:
        fail("the attack did not run to its end", result)
    if outcome == "cooperative" and peak <= LIMIT and not absent:
        print("held this time: whether it does is a matter of who comes first")
    if outcome == "bounded" and peak > LIMIT + UNSEEN_BOUND:
        fail(f"the slice had {peak} bytes", result)
    if outcome in ("holds", "nothing", "orphan") and peak > LIMIT:
        fail(f"the slice had {peak} bytes of {LIMIT}", result)
    if outcome == "holds" and peak < LIMIT and not absent:
        fail(f"the attack never had its slice, only {peak} bytes: it proves nothing", result)
    # what is left in the driver belongs to nobody
    if used:
        fail(f"{used} bytes are still there after the slice", result)


def main():
    fracgpu, door, outcome, *program = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory:
        outside = None
        if program[1].startswith("accomplice-"):
            outside = Outside(program[0], "outside", f"{directory}/socket")
            program.append(f"{directory}/socket")
        elif outcome in ("undisturbed", "disturbed"):
            outside = Outside(program[0], "victim")
            program += outside.line
        result = run(fracgpu, door, outcome, program, directory)
        if outcome in ("undisturbed", "disturbed"):
            runs = channel_runs(outside.line)
            outside.end()
            if result.returncode != 0:
                fail("the attack did not run to its end", result)
            if runs != (outcome == "undisturbed"):
                fail(f"the channel outside {'runs' if runs else 'was stopped'}", result)
            return
        if outside:
            outside.end()
        gpu = state()["gpus"][0]
        print(f"{door}: {' '.join(program[1:])}: {outcome}: peak {gpu['peak'] / MIB:.1f} MiB")
        judge(outcome, result, gpu["peak"], gpu["used"] + gpu["managed"])


if __name__ == "__main__":
    main()
