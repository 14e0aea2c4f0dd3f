#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Slices as their users have them, from start to end, behind one door.

usage, under fracgpu-sim: e2e.py FRACGPU TENANT DOOR CASE

The processes of a slice are tests/e2e/tenant.c: each connects to us and does what it is told. What is really held is the
simulator's word.
"""
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

FRACGPU, TENANT, DOOR = sys.argv[1:4]
MIB = 1 << 20
GIB = 1 << 30
NO_MEMORY = 0x51
ENOMEM = -12
TIMEOUT = 120
NOBODY = 61234		# a user that no other test is
CASES = {}


def case(f):
    CASES[f.__name__.replace("_", "-")] = f
    return f


def equal(have, want, what=""):
    if have != want:
        raise AssertionError(f"{what or 'this'} is {have!r}, not {want!r}")


def truth():
    with open("/dev/fracgpu-sim-state") as f:
        return json.load(f)


def held(gpu=0):
    g = truth()["gpus"][gpu]
    return (g["used"] + g["managed"]) // MIB


def peak(gpu=0):
    return truth()["gpus"][gpu]["peak"] // MIB


def eventually(question, want, what):
    """Wait until something that is told late is told."""
    end = time.monotonic() + TIMEOUT
    while (have := question()) != want:
        if time.monotonic() > end:
            equal(have, want, what)
        time.sleep(0.02)


class Tenant:
    """A process of a slice."""

    def __init__(self, connection):
        connection.settimeout(TIMEOUT)
        self.connection = connection
        self.file = connection.makefile("rw")
        self.pid = int(self.file.readline())

    def send(self, text):
        self.file.write(text + "\n")
        self.file.flush()

    def receive(self):
        line = self.file.readline()
        if not line:
            raise AssertionError(f"process {self.pid} is gone")
        word, *numbers = line.split()
        return word == "ok", [int(number) for number in numbers]

    def ask(self, text):
        self.send(text)
        return self.receive()

    def do(self, text):
        """It has to succeed; the numbers it says."""
        ok, numbers = self.ask(text)
        if not ok:
            raise AssertionError(f"'{text}' gives {numbers}")
        return numbers

    def refused(self, text, *statuses):
        ok, numbers = self.ask(text)
        if ok or (statuses and numbers[0] not in statuses):
            raise AssertionError(f"'{text}' gives {'ok' if ok else 'no'} {numbers}, not one of {statuses}")

    def close(self):
        self.file.close()
        self.connection.close()


class Slice:
    """fracgpu run, with a tenant in it."""

    def __init__(self, memory="1GiB", options=(), before=(), door=DOOR, environment=None, as_user=()):
        self.directory = tempfile.TemporaryDirectory(prefix="e2e-")
        os.chmod(self.directory.name, 0o755)
        self.path = self.directory.name + "/socket"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o777)
        self.listener.listen(256)
        self.listener.settimeout(TIMEOUT)
        self.name = f"e2e-{os.getpid()}-{os.path.basename(self.directory.name)}"
        self.words = [*as_user, FRACGPU, "run", "--door", door, "--memory", memory, "--name", self.name, *options, "--",
                      *before, TENANT, self.path]
        self.run = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                    text=True, env=environment)
        self.tenants = []

    def accept(self):
        tenant = Tenant(self.listener.accept()[0])
        self.tenants.append(tenant)
        return tenant

    def start(self, gpu=0):
        tenant = self.accept()
        tenant.do(f"open {gpu}")
        return tenant

    def more(self, tenant, count=1, how="fork"):
        """More processes, made by one."""
        children = []
        for _ in range(count):
            pid = tenant.do(how)[0]
            child = self.accept()
            equal(child.pid, pid, "the child that connects")
            child.do("open 0")
            children.append(child)
        return children

    def ps(self):
        found = [s for s in json.loads(output(FRACGPU, "ps", "--json"))["slices"] if s["name"] == self.name]
        return found[0] if found else None

    def kill(self, tenant):
        self.tenants.remove(tenant)
        os.kill(tenant.pid, signal.SIGKILL)
        equal(tenant.file.readline(), "", "what a killed process says")
        tenant.close()

    def end(self, status=0, says=""):
        for tenant in self.tenants:
            tenant.close()
        out, err = self.run.communicate(timeout=TIMEOUT)
        self.listener.close()
        self.directory.cleanup()
        equal((self.run.returncode, out), (status, ""), f"the end of {' '.join(self.words)} ({err.strip()})")
        equal(err, says, "what fracgpu says")


def output(*words, status=0):
    result = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL)
    equal(result.returncode, status, f"the end of {' '.join(words)} ({result.stderr.strip()})")
    return result.stdout


def refused(*words, status, env=None, as_user=()):
    """fracgpu must say no in one line, before the program runs."""
    result = subprocess.run([*as_user, FRACGPU, "run", *words, "--", "echo", "started"], capture_output=True, text=True,
                            timeout=TIMEOUT, env=env)
    equal((result.returncode, result.stdout), (status, ""), f"the end of {words} ({result.stderr.strip()})")
    equal(len(result.stderr.splitlines()), 1, f"lines about {words}: {result.stderr!r}")
    return result.stderr


# ---- memory ----

def fill_by(way, chunk=64):
    s = Slice()
    t = s.start()
    want = ENOMEM if way == "managed" else NO_MEMORY
    equal(t.do(f"fill {way} {chunk}"), [1024, want], f"filled by {way}")
    equal(held(), 1024, "what the driver holds")
    # it goes on after the refusal, and is refused all other ways
    for other in ("long", "short", "below-subdevice", "heap", "managed"):
        t.refused(f"take x{other} {other} 2", NO_MEMORY, ENOMEM)
    equal(t.do("info")[1], 0, "what is free")
    s.end()
    equal((held(), peak()), (0, 1024), "held at the end, and at most")


@case
def fill_long():
    fill_by("long")


@case
def fill_short():
    fill_by("short")


@case
def fill_below_subdevice():
    fill_by("below-subdevice")


@case
def fill_heap():
    fill_by("heap")


@case
def fill_managed():
    fill_by("managed")


@case
def fill_small():
    fill_by("long", 2)


@case
def give_back():
    s = Slice()
    t = s.start()
    for way in ("long", "short", "below-subdevice", "heap", "managed"):
        t.do(f"take all {way} 1024")
        t.refused("take more long 2", NO_MEMORY)
        equal(held(), 1024, f"held by {way}")
        t.do("free all")
        equal(held(), 0, "held after a free")
    s.end()


@case
def view():
    s = Slice()
    t = s.start()
    equal(t.do("info"), [GIB, GIB] * 3, "total and free")
    t.do("take a long 256")
    equal(t.do("info"), [GIB, 768 * MIB] * 3, "total and free with 256 MiB")
    t.do("take b managed 128")
    equal(t.do("info"), [GIB, 640 * MIB] * 3, "total and free with managed memory")
    other, = s.more(t)
    other.do("take c long 512")
    equal(t.do("info"), [GIB, 128 * MIB] * 3, "total and free with another process")
    equal(sorted(t.do("pids")), sorted([t.pid, other.pid]), "processes")
    s.end()


@case
def view_host():
    s = Slice(options=["--view", "host"])
    t = s.start()
    card = truth()["gpus"][0]["total"]
    equal(t.do("info")[0], card // 1024 * 1024, "total")
    equal(t.do("fill long 64"), [1024, NO_MEMORY], "filled")
    s.end()


@case
def shared():
    s = Slice()
    a = s.start()
    b, c = s.more(a, 2)
    a.do("take half long 512")
    b.do("take half long 512")
    c.refused("take some long 2", NO_MEMORY)
    c.refused("take some managed 2", ENOMEM)
    a.do("free half")
    c.do("take half managed 512")
    b.refused("take some long 2", NO_MEMORY)
    equal(held(), 1024, "held")
    s.end()
    equal((held(), peak()), (0, 1024), "held at the end, and at most")


@case
def racing():
    """All at once: together they get the slice, and not one byte more."""
    s = Slice()
    first = s.start()
    everybody = [first] + s.more(first, 31)
    for t in everybody:
        t.send("fill long 16")
    sums = [t.receive()[1][0] for t in everybody]
    equal(sum(sums), 1024, "all together")
    equal(held(), 1024, "held")
    s.end()
    equal((held(), peak()), (0, 1024), "held at the end, and at most")


@case
def threads():
    s = Slice()
    t = s.start()
    t.do("threads 16")
    equal(held(), 0, "held after all threads")
    equal(t.do("fill long 64"), [1024, NO_MEMORY], "filled")
    s.end()
    equal(peak(), 1024, "held at most")


@case
def fork_vfork_exec():
    s = Slice()
    t = s.start()
    t.do("take a long 256")
    forked, = s.more(t)
    spawned, = s.more(t, how="vfork")
    forked.do("take b long 256")
    spawned.do("take c long 256")
    spawned.send("exec")
    s.tenants.remove(spawned)
    again = s.start()
    equal(again.pid, spawned.pid, "the same process")
    # what the program before exec() held is gone with its files
    equal(held(), 512, "held after exec()")
    eventually(lambda: t.do("info")[1] // MIB, 512, "free after exec()")
    equal(again.do("fill long 64"), [512, NO_MEMORY], "what is left")
    s.end()
    equal((held(), peak()), (0, 1024), "held at the end, and at most")


@case
def killed():
    """Some die at any time: ps shows what the others hold, and the rest can be had again."""
    rng = random.Random(1)
    s = Slice()
    first = s.start()
    everybody = s.more(first, 12)
    sizes = {}
    for t in everybody:
        sizes[t.pid] = rng.randrange(2, 64, 2)
        t.do(f"take a {rng.choice(['long', 'heap', 'managed'])} {sizes[t.pid]}")
    equal(held(), sum(sizes.values()), "held by all")
    for t in rng.sample(everybody, 7):
        s.kill(t)
        sizes.pop(t.pid)
        first.do(f"reap {t.pid}")
    equal(held(), sum(sizes.values()), "held by those who live")
    eventually(lambda: s.ps()["gpus"][0]["used_bytes"] // MIB, sum(sizes.values()), "what ps shows")
    eventually(lambda: sorted(p["pid"] for p in s.ps()["processes"]), sorted([first.pid, *sizes]), "processes of ps")
    left = 1024 - sum(sizes.values())
    equal(first.do("fill long 2"), [left, NO_MEMORY], "what is left")
    s.end()
    equal((held(), peak() <= 1024), (0, True), "held at the end, and at most")


@case
def ps():
    s = Slice("0=1GiB")
    t = s.start()
    t.do("take a long 192")
    t.do("take b managed 64")
    t.refused("take c long 2048", NO_MEMORY)
    eventually(lambda: s.ps()["gpus"][0]["used_bytes"] // MIB, 256, "what ps shows")
    eventually(lambda: s.ps()["gpus"][0]["refusals"], 1, "refusals")
    shown = s.ps()
    equal((shown["door"], shown["driver"]), (DOOR, truth()["driver"]), "door and driver")
    equal(shown["gpus"][0]["uuid"], truth()["gpus"][0]["uuid"], "uuid")
    equal(shown["gpus"][0]["limit_bytes"], GIB, "limit")
    equal([p["pid"] for p in shown["processes"]], [t.pid], "processes")
    s.end()
    equal(s.ps(), None, "the slice after its end")


@case
def two_slices():
    """On one GPU, side by side: each its own limit, its own processes."""
    a, b = Slice("1GiB"), Slice("512MiB")
    x, y = a.start(), b.start()
    equal(x.do("fill long 64"), [1024, NO_MEMORY], "the first")
    equal(y.do("fill long 64"), [512, NO_MEMORY], "the second")
    equal(held(), 1536, "held")
    equal((x.do("pids"), y.do("pids")), ([x.pid], [y.pid]), "processes")
    equal(y.do("info"), [512 * MIB, 0] * 3, "view of the second")
    a.end()
    equal(held(), 512, "held after the first has ended")
    b.end()


@case
def door_auto():
    s = Slice(door="auto")
    t = s.start()
    equal(s.ps()["door"], "supervisor", "the door that auto takes")
    equal(t.do("fill long 64"), [1024, NO_MEMORY], "filled")
    s.end()


# ---- limits ----

@case
def two_gpus():
    s = Slice("0=1GiB,1=512MiB")
    zero = s.start(0)
    one, = s.more(zero)
    one.do("open 1")
    equal(zero.do("fill long 64"), [1024, NO_MEMORY], "GPU 0")
    equal(one.do("fill long 64"), [512, NO_MEMORY], "GPU 1")
    equal((zero.do("info")[0], one.do("info")[0]), (GIB, 512 * MIB), "views")
    s.end()
    equal((peak(0), peak(1)), (1024, 512), "held at most")


@case
def not_ours():
    s = Slice("1=512MiB")
    t = s.start(1)
    equal(t.do("fill long 64"), [512, NO_MEMORY], "GPU 1")
    t.refused("open 0")
    s.end()
    equal((peak(0), peak(1)), (0, 512), "held at most")


@case
def by_uuid():
    s = Slice(truth()["gpus"][1]["uuid"] + "=512MiB")
    t = s.start(1)
    equal(t.do("fill long 64"), [512, NO_MEMORY], "GPU 1")
    t.refused("open 0")
    s.end()


@case
def percent():
    half = truth()["gpus"][0]["total"] // 2
    s = Slice("0=50%")
    t = s.start()
    equal(t.do("info")[0], half, "total")
    equal(t.do("fill long 512")[1], NO_MEMORY, "refused")
    equal(half // MIB - 512 < held() <= half // MIB, True, "held up to the last chunk")
    s.end()


@case
def bad_limits():
    for text in ("0", "0=0", "none", "", "-1", "1.5.5GiB", "8Gi B", "0=1GiB,0=2GiB", "7=1GiB", "0=", "=1GiB", "101%", "0%",
                 "GPU-00000000-0000-0000-0000-000000000000=1GiB", "100TiB", "99999999999999999999GiB", "1GiB,2GiB"):
        refused("--door", DOOR, "--memory", text, status=2)
    equal(peak(), 0, "held at most")


# ---- users, other programs ----

def as_user(uid=NOBODY):
    return ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")


def can_be(uid=NOBODY):
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return False
    return subprocess.run([*as_user(uid), "test", "-x", FRACGPU, "-a", "-x", TENANT]).returncode == 0


def skip(why):
    print("skipped:", why)
    sys.exit(77)


@case
def user():
    if not can_be():
        skip("not root, or the programs are not for all to run")
    with tempfile.TemporaryDirectory() as runtime:
        os.chown(runtime, NOBODY, NOBODY)
        s = Slice(as_user=as_user(), environment=dict(os.environ, XDG_RUNTIME_DIR=runtime))
        t = s.start()
        equal(t.do("fill long 64"), [1024, NO_MEMORY], "filled")
        equal(t.do("info"), [GIB, 0] * 3, "view")
        s.end()
    equal((held(), peak()), (0, 1024), "held at the end, and at most")


@case
def another_user():
    """A child that becomes another user: the supervisor goes on; the preload door's ledger is not that user's to write, so
    it gets nothing."""
    if not can_be():
        skip("not root, or the programs are not for all to run")
    s = Slice()
    t = s.start()
    t.do("take a long 512")
    pid = t.do("fork")[0]
    child = s.accept()
    equal(child.pid, pid, "the child that connects")
    child.do(f"user {NOBODY}")
    if DOOR == "supervisor":
        child.do("open 0")
        equal(child.do("fill long 64"), [512, NO_MEMORY], "filled by another user")
    else:
        child.refused("open 0")
    s.end()
    equal(peak() <= 1024, True, "held at most")


@case
def no_place():
    """No directory for the slice: said in one line, and the program does not run."""
    if not can_be():
        skip("not root, or the programs are not for all to run")
    uid = NOBODY + 1 + (DOOR == "preload")
    blocked = f"/tmp/fracgpu-{uid}"
    os.mkdir(blocked, 0o755)	# not that user's
    try:
        refused("--door", DOOR, "--memory", "1GiB", status=125, as_user=as_user(uid),
                env=dict(os.environ, XDG_RUNTIME_DIR="/proc"))
    finally:
        os.rmdir(blocked)


@case
def own_filter():
    """Programs with a filter of their own, and without new privileges."""
    s = Slice()
    t = s.start()
    t.do("filter")
    equal(t.do("fill long 64"), [1024, NO_MEMORY], "filled")
    s.end()
    s = Slice(before=["setpriv", "--no-new-privs"])
    t = s.start()
    equal(t.do("fill managed 64"), [1024, ENOMEM], "filled")
    s.end()


@case
def strace():
    if not shutil.which("strace"):
        skip("no strace")
    with tempfile.NamedTemporaryFile() as log:
        s = Slice(before=["strace", "-f", "-o", log.name])
        t = s.start()
        equal(t.do("fill long 64"), [1024, NO_MEMORY], "filled under strace")
        equal(t.do("fill managed 64"), [0, ENOMEM], "nothing left")
        s.end()
        equal("/dev/nvidiactl" in log.read().decode(), True, "strace saw the calls")
    equal((held(), peak()), (0, 1024), "held at the end, and at most")


@case
def gdb():
    if not shutil.which("gdb"):
        skip("no gdb")
    s = Slice(before=["gdb", "-batch", "-nx", "-ex", "set debuginfod enabled off", "-ex", "set startup-with-shell off",
                      "-ex", "run", "--args"])
    t = s.start()
    equal(t.do("fill long 64"), [1024, NO_MEMORY], "filled under gdb")
    for tenant in s.tenants:
        tenant.close()
    out, err = s.run.communicate(timeout=TIMEOUT)
    equal((s.run.returncode, "exited normally" in out), (0, True), f"the end of gdb ({out} {err})")
    equal((held(), peak()), (0, 1024), "held at the end, and at most")


CASES[sys.argv[4]]()
