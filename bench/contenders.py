# SPDX-License-Identifier: Apache-2.0
"""Programs that use a GPU at the same time, started together and measured over the same window."""
import ctypes
import json
import os
import pathlib
import queue
import signal
import subprocess
import tempfile
import threading
import time

START_UP = 25  # seconds for a program to be ready, that of PyTorch included
LEAD = 0.05  # seconds between the word to start and the start
TRAIL = 0.05  # seconds before the window's end at which watch() looks last: then nobody is ending yet


class Failed(Exception):
    """A measurement did not come about."""


class Skipped(Exception):
    """It cannot be made here."""


class Contender:
    """A program that says 'ready', takes its start from stdin and prints JSON: gpu-load and what talks like it."""

    def __init__(self, command, env, seconds, warm_up):
        self.command, self.seconds, self.warm_up = command, seconds, warm_up
        self.errors = tempfile.TemporaryFile(mode="w+")
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
                                      env=env, start_new_session=True)
        self.lines = queue.Queue()
        self.is_ready = False
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.child.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def line(self, begins, timeout):
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self.lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise Failed(f"{self.name()} says nothing for {timeout:.0f} s") from None
            if line is None:
                self.errors.seek(0)
                raise Failed(f"{self.name()} ended (status {self.child.wait(5)}): {self.errors.read().strip()[-300:]}")
            if line.startswith(begins):
                return line

    def name(self):
        return pathlib.Path(self.command[self.command.index("--") + 1 if "--" in self.command else 0]).name

    def ready(self, processes=1):
        """All its processes."""
        for _ in range(0 if self.is_ready else processes):
            self.line("ready", START_UP)
        self.is_ready = True

    def start(self, at_ns):
        self.child.stdin.write(f"{at_ns}\n")
        self.child.stdin.flush()

    def result(self):
        """After its window; a kernel may have to end first."""
        return json.loads(self.line("{", self.seconds + self.warm_up + 30))

    def notes(self):
        """What fracgpu says about options that have no effect."""
        self.errors.seek(0)
        return {line.strip() for line in self.errors.read().splitlines() if line.startswith("fracgpu: note:")}

    def stop(self):
        """Early: returns what it has done so far."""
        self.child.terminate()
        return json.loads(self.line("{", 10))


class Clock:
    """The clock of the GPU's multiprocessors, by NVML: kernels of fixed work go as fast as it."""

    def __init__(self):
        self.device = ctypes.c_void_p()
        try:
            self.nvml = ctypes.CDLL("libnvidia-ml.so.1")
            if self.nvml.nvmlInit_v2() or self.nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(self.device)):
                self.nvml = None
        except (OSError, AttributeError):
            self.nvml = None

    def mhz(self):
        """None where it cannot be had."""
        value = ctypes.c_uint()
        if not self.nvml or self.nvml.nvmlDeviceGetClockInfo(self.device, 1, ctypes.byref(value)):
            return None
        return value.value


def end(contenders):
    """Whatever they do, they end now. SIGTERM is what fracgpu hands on."""
    running = [contender for contender in contenders if contender.child.poll() is None]
    for contender in running:
        contender.child.terminate()
    for contender in running:
        try:
            contender.child.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(contender.child.pid, signal.SIGKILL)
            contender.child.wait()
    for contender in contenders:
        contender.errors.close()


def sleep_until(at_ns):
    time.sleep(max(0, at_ns - time.monotonic_ns()) / 1e9)


def start(contenders):
    """All at the same time. Returns the start and the end of the window, in ns."""
    for contender in contenders:
        contender.ready()
    at_ns = time.monotonic_ns() + int(LEAD * 1e9)
    for contender in contenders:
        contender.start(at_ns)
    first = contenders[0]
    begin_ns = at_ns + int(first.warm_up * 1e9)
    return begin_ns, begin_ns + int(first.seconds * 1e9)


def together(contenders, clock, watch=lambda: None):
    """Run all over one window. Returns their results, and what watch() told at the window's start and near its end.

    The caller ends the contenders."""
    begin_ns, end_ns = start(contenders)
    sleep_until(begin_ns)
    before = watch()
    sleep_until((begin_ns + end_ns) // 2)
    mhz = clock.mhz()
    sleep_until(end_ns - int(TRAIL * 1e9))
    after = watch()
    results = [contender.result() for contender in contenders]
    for contender, result in zip(contenders, results):
        result["sm_mhz"] = mhz
        if result.get("late_ms", 0) > contender.warm_up * 1e3:
            raise Failed(f"{contender.name()} began {result['late_ms']} ms late")
    return results, before, after


def cpu_ns_of(pid):
    """User and system time of a process, all its threads."""
    try:
        return sum(int((task / "schedstat").read_text().split()[0]) for task in pathlib.Path(f"/proc/{pid}/task").iterdir())
    except (OSError, IndexError, ValueError):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def cpu_of_program(program):
    """ns of CPU by pid of all processes that run this program: those that drive gates and their guards."""
    times = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.path.samefile(entry / "exe", program):
                    times[int(entry.name)] = cpu_ns_of(entry.name)
            except OSError:
                pass
    return times
