# SPDX-License-Identifier: Apache-2.0
"""Rows of tests/gpu/run: what happens to GPU time when somebody dies at a bad moment, and what is shown of it."""
import json
import os
import re
import signal
import subprocess
import time

MIB = 1 << 20
FREED_S = 1  # what the dead had is free, and who lives goes on, within this


class Fault(Exception):
    """A row did not hold."""


class Load:
    """gpu-load in a slice, started and busy."""

    def __init__(self, test, door, *options, more=(), seconds=60, user=()):
        command = test.slice(door, test.file("bin/gpu-load", "bench/gpu-load"), "--seconds", str(seconds), "--warm-up", "0",
                             "--wait", *more)
        at = command.index("--")
        command[at:at] = options
        command[:0] = user
        self.test, self.name, self.user = test, test.slices[-1], list(user)
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=test.log, text=True,
                                      env=test.environment(), start_new_session=True)
        for _ in range(int(more[more.index("--processes") + 1]) if "--processes" in more else 1):
            if self.child.stdout.readline() != "ready\n":
                raise Fault(f"gpu-load ended (status {self.child.wait(5)})")
        self.child.stdin.write("0\n")
        self.child.stdin.flush()

    def stat(self):
        status, out, err = self.test.call(*self.user, self.test.fracgpu, "stat", self.name, "--json")
        if status:
            raise Fault(f"stat: {err.strip()}")
        return json.loads(out)

    def busy_ns(self):
        return self.stat()["gpus"][0]["compute"]["busy_ns"] or 0

    def set(self, *words):
        status, _, err = self.test.call(*self.user, self.test.fracgpu, words[0], self.name, *words[1:])
        if status:
            raise Fault(f"{words}: {err.strip()}")

    def wait_busy(self, timeout=10):
        """Until it has had 20 ms more of the GPU. Returns the ms that took."""
        begun, first = time.monotonic(), self.busy_ns()
        while self.busy_ns() < first + 20_000_000:
            if time.monotonic() - begun > timeout:
                raise Fault(f"{self.name} does not run")
        return round((time.monotonic() - begun) * 1e3, 1)

    def tenants(self):
        return [process["pid"] for process in self.stat()["processes"]]

    def result(self, timeout):
        """What it tells at its end, None if it tells nothing. All of it must have ended by then."""
        try:
            out, _ = self.child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Fault(f"{self.name} has not ended within {timeout} s") from None
        lines = [line for line in out.splitlines() if line.startswith("{")]
        return json.loads(lines[-1]) if lines else None

    def end(self):
        """Whatever it does."""
        for pid in (self.child.pid, -self.child.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.child.wait()


def freed_ms(test, baseline):
    begun = time.monotonic()
    while test.outside.used() > baseline + MIB:
        if time.monotonic() - begun > FREED_S:
            raise Fault(f"{(test.outside.used() - baseline) // MIB} MiB are still used after {FREED_S} s")
    return round((time.monotonic() - begun) * 1e3, 1)


def share_alone(load):
    """Of the GPU, once the driver's samples have told that the one who is left is at work."""
    time.sleep(1)
    begun, busy = time.monotonic(), load.busy_ns()
    time.sleep(1)
    share = (load.busy_ns() - busy) / (time.monotonic() - begun) / 1e9
    if share < 0.9:
        raise Fault(f"the other has {share:.2f} of the GPU afterwards")
    return share


def row_killed_while_paused(test, door):
    """Its memory is freed, and its neighbour goes on."""
    loads = []
    try:
        loads.append(Load(test, door, "--weight", "100"))
        loads[0].wait_busy()
        baseline = test.outside.used()
        loads.append(Load(test, door, "--weight", "100", more=("--processes", "2")))
        loads[1].wait_busy()
        tenants = loads[1].tenants()
        loads[1].set("pause")
        for pid in tenants:
            os.kill(pid, signal.SIGKILL)
        freed = freed_ms(test, baseline)
        loads[1].result(10)
        share = share_alone(loads[0])
        return {"freed_ms": freed, "other": round(share, 3)}
    finally:
        for load in loads:
            load.end()


def row_driver_killed(test, door):
    """Who drives the gates is killed while they are closed: they open, and the work ends by itself."""
    baseline = test.outside.used()
    load = Load(test, door, "--weight", "100", seconds=3)
    try:
        load.wait_busy()
        load.set("pause")
        time.sleep(0.2)
        os.kill(load.child.pid, signal.SIGKILL)
        result = load.result(15)
        if door == "preload" and (result is None or not 200 < result["stall_ms"] < 200 + FREED_S * 1000):
            raise Fault(f"it did not go on: {result}")
        test.rest(baseline)
        return {"stall_ms": result and result["stall_ms"]}
    finally:
        load.end()


def row_leader_killed(test, door):
    """Who decides for several slices is killed: the others go on."""
    loads = []
    try:
        loads += [Load(test, door, "--weight", "100"), Load(test, door, "--weight", "300")]
        for load in loads:
            load.wait_busy()
        tenants = loads[0].tenants()
        os.kill(loads[0].child.pid, signal.SIGKILL)
        went_on = loads[1].wait_busy(timeout=FREED_S)
        for pid in tenants:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        share = share_alone(loads[1])
        return {"went_on_ms": went_on, "alone_then": round(share, 3)}
    finally:
        for load in loads:
            load.end()


def row_end_while_paused(test, door):
    """Asked to end while it is paused, it ends once it may run."""
    baseline = test.outside.used()
    load = Load(test, door, "--weight", "100")
    try:
        load.wait_busy()
        load.set("pause")
        load.child.terminate()
        time.sleep(0.2)
        if load.child.poll() is None:
            load.set("resume")
        result = load.result(10)
        test.rest(baseline)
        return {"told": result is not None}
    finally:
        load.end()


def row_end_under_cap(test, door):
    """Contexts go while the gate is closed nine tenths of the time."""
    baseline = test.outside.used()
    load = Load(test, door, "--compute", "10%", seconds=1, more=("--ms", "10", "--processes", "2"))
    try:
        begun = time.monotonic()
        load.result(15)
        took = time.monotonic() - begun
        test.rest(baseline)
        return {"seconds_to_end": round(took, 2)}
    finally:
        load.end()


def row_user_cap(test, door):
    """A cap and its meter for a user who is not root."""
    load = Load(test, door, "--compute", "25%", user=("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"))
    try:
        load.wait_busy()
        begun, first = time.monotonic(), load.busy_ns()
        time.sleep(1)
        compute = load.stat()["gpus"][0]["compute"]
        share = (compute["busy_ns"] - first) / (time.monotonic() - begun) / 1e9
        if not 0.2 < share < 0.3:
            raise Fault(f"{share:.3f} of the GPU by {compute['source']}")
        return {"share": round(share, 3), "source": compute["source"]}
    finally:
        load.end()


def row_shown(test, door):
    """nvidia-smi inside a capped slice that is busy, and outside."""
    smi = "nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader"
    script = f'"$1" --seconds 4 --warm-up 0 >/dev/null & sleep 3; {smi}; wait'
    command = test.slice(door, "sh", "-c", script, "sh", test.file("bin/gpu-load", "bench/gpu-load"))
    at = command.index("--")
    command[at:at] = ["--compute", "25%"]
    status, out, err = test.call(*command)
    shown = re.search(r"(\d+) %", out)
    if status or not shown:
        raise Fault(f"status {status}: {out.strip()} {err.strip()}")
    if int(shown[1]) < 20:
        raise Fault(f"{shown[1]} % is shown of a busy share")
    return {"shown_inside": int(shown[1])}


ROWS = {
    "killed while paused": row_killed_while_paused, "driver of the gates killed": row_driver_killed,
    "leader killed": row_leader_killed, "end while paused": row_end_while_paused, "end under a cap": row_end_under_cap,
    "cap of a user": row_user_cap, "utilisation shown": row_shown,
}
