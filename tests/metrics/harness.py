# SPDX-License-Identifier: Apache-2.0
"""What the tests of fracgpud's metrics share: a place of their own, a daemon, slices, and a reader of Prometheus' format."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse

SKIP = 77
PATIENCE_S = 90  # this machine may be busy; a test that passes does not wait


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIP)


def own_place():
    """Slices, sockets and sizes of our own: a mount namespace with an empty /run."""
    if os.geteuid() != 0:
        skip("needs root")
    if os.environ.get("IN_NAMESPACE") != "yes":
        os.environ["IN_NAMESPACE"] = "yes"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True)


def eventually(what, condition):
    """Wait until condition() gives something; returns that. An assertion that fails in it counts as not yet."""
    end = time.monotonic() + PATIENCE_S
    while True:
        fault = None
        try:
            result = condition()
            if result:
                return result
        except AssertionError as error:
            fault = error
        if time.monotonic() > end:
            raise AssertionError(f"does not come true: {what}: {fault}")
        time.sleep(0.05)


def equal(got, want, what):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, not {want!r}")


class Place(contextlib.ExitStack):
    """A folder, and all that was started from it: ended in the reverse order."""

    def __init__(self, build):
        super().__init__()
        self.build = pathlib.Path(build)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="fracgpu-metrics-"))
        self.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def program(self, *args, **options):
        """A process that ends with this place."""
        process = subprocess.Popen([str(arg) for arg in args], **options)
        self.callback(end, process)
        return process

    def fracgpu(self, *args, check=True):
        done = subprocess.run([self.build / "src/cli/fracgpu", *args], capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"fracgpu {args}: {done.stderr}")
        return done.stdout

    def run(self, name, *args, options=(), **more):
        """A slice made by fracgpu run: (runner, its program's output)."""
        process = self.program(self.build / "src/cli/fracgpu", "run", "--name", name, *options, "--", *args,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **more)
        return process

    def hold(self, name, mib, options=()):
        """A slice whose program holds memory on each GPU; returns the runner once it does."""
        process = self.run(name, self.build / "tests/e2e/hold", mib, options=options)
        line = process.stdout.readline()
        if not line.startswith("gpu 0"):
            raise AssertionError(f"hold says '{line}'")
        return process

    def standin(self, name):
        return Standin(self, name)


class Standin:
    """A slice whose figures we set."""

    def __init__(self, place, name):
        self.process = place.program(place.build / "tests/metrics/standin", name, stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True)
        self.folder = pathlib.Path("/run/fracgpu") / name
        self.answer()

    def answer(self):
        equal(self.process.stdout.readline(), "ok\n", "answer of the stand-in")

    def set(self, field, value, gpu=0):
        self.process.stdin.write(f"{field} {gpu} {value}\n")
        self.process.stdin.flush()
        self.answer()

    def call(self, **identity):
        """As fracgpud writes it of a hand-off."""
        (self.folder / "container").write_text(json.dumps(identity), encoding="utf-8")


def end(process):
    if process.stdin:
        process.stdin.close()
    if process.poll() is None:
        process.terminate()
    process.wait()
    if process.stdout:
        process.stdout.close()


class Daemon:
    """fracgpud with a policy; its log is read as it comes."""

    def __init__(self, place, policy, env=None):
        self.place = place
        self.policy = place.folder / "policy"
        self.policy.write_text(policy, encoding="utf-8")
        self.lines = []
        self.rest = b""
        self.start(env)

    def start(self, env=None):
        self.process = self.place.program(self.place.build / "src/daemon/fracgpud", "--config", self.policy, "--socket",
                                          self.place.folder / "agent.sock", stderr=subprocess.PIPE,
                                          env={**os.environ, **(env or {})})
        self.place.callback(self.process.stderr.close)
        self.lines.clear()

    def log(self, part):
        """Wait for a line that holds part; returns it and forgets it and those before."""
        end_at = time.monotonic() + PATIENCE_S
        while True:
            while self.lines:
                line = self.lines.pop(0)
                if part in line:
                    return line
            if not select.select([self.process.stderr], [], [], max(0, end_at - time.monotonic()))[0]:
                raise AssertionError(f"the daemon does not say '{part}'")
            data = os.read(self.process.stderr.fileno(), 65536)
            if not data:
                raise AssertionError(f"the daemon has ended and did not say '{part}'")
            *whole, self.rest = (self.rest + data).split(b"\n")
            for line in whole:
                print(line.decode(), file=sys.stderr)
                self.lines.append(line.decode())

    def url(self):
        self.base = self.log("metrics at ").rsplit(" ", 1)[1]
        parts = urllib.parse.urlsplit(self.base)
        self.host, self.port = parts.hostname, parts.port
        return self.base

    def reload(self, policy):
        # in one step: the daemon may still be reading for the reload before
        fresh = self.policy.with_suffix(".new")
        fresh.write_text(policy, encoding="utf-8")
        fresh.rename(self.policy)
        self.process.send_signal(signal.SIGHUP)

    def request(self, path, method="GET", body=None, headers=None):
        """(status, headers, body)"""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get(self, path):
        status, _, body = self.request(path)
        equal(status, 200, f"status of {path}")
        return body.decode("utf-8")

    def metrics(self):
        return Metrics(self.get("/metrics"))

    def state(self):
        return json.loads(self.get("/api/state"))


NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


class Metrics:
    """The text format 0.0.4, taken strictly: each family once, with its help and type before its samples, and no series
    twice."""

    def __init__(self, text):
        self.series = {}
        self.types = {}
        helps = set()
        family = None
        if not text.endswith("\n"):
            raise AssertionError("no line break at the end")
        for line in text[:-1].split("\n"):
            if line.startswith("# HELP "):
                family, words = line[7:].split(" ", 1)
                if family in helps or not words:
                    raise AssertionError(f"help twice, or none: {line}")
                helps.add(family)
            elif line.startswith("# TYPE "):
                name, kind = line[7:].split(" ")
                if name != family or name in self.types or kind not in ("counter", "gauge"):
                    raise AssertionError(f"type in the wrong place: {line}")
                if (kind == "counter") != name.endswith("_total"):
                    raise AssertionError(f"a counter's name, and only that, ends in _total: {line}")
                self.types[name] = kind
            else:
                self.sample(line, family)

    def sample(self, line, family):
        name = NAME.match(line)
        if not name or name.group() != family or family not in self.types:
            raise AssertionError(f"a sample in the wrong place: {line!r}")
        at, labels = name.end(), {}
        if line[at] == "{":
            while line[at] != "}":
                label = LABEL.match(line, at + 1)
                if not label or label.group(1) in labels:
                    raise AssertionError(f"labels cannot be read: {line!r}")
                labels[label.group(1)] = re.sub(r"\\(.)", lambda m: "\n" if m.group(1) == "n" else m.group(1),
                                                label.group(2))
                at = label.end()
                if line[at] not in ",}":
                    raise AssertionError(f"labels cannot be read: {line!r}")
            at += 1
        if line[at] != " " or not NUMBER.fullmatch(line[at + 1:]):
            raise AssertionError(f"no number: {line!r}")
        key = (family, frozenset(labels.items()))
        if key in self.series:
            raise AssertionError(f"a series twice: {line!r}")
        self.series[key] = line[at + 1:]

    def labels(self, name, **wanted):
        """Labels of the series of a name that have the wanted ones."""
        return [dict(labels) for family, labels in self.series
                if family == name and wanted.items() <= dict(labels).items()]

    def value(self, name, **wanted):
        """Value of the one series that has these labels; a string, exact."""
        found = [value for (family, labels), value in self.series.items()
                 if family == name and wanted.items() <= dict(labels).items()]
        if len(found) != 1:
            raise AssertionError(f"{name} {wanted}: {len(found)} series")
        return found[0]
