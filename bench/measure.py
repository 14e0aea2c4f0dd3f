# SPDX-License-Identifier: Apache-2.0
"""What the measurements share: the ways to run a program, interleaved rounds, medians, stored results."""
import datetime
import functools
import json
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIM_STATE = pathlib.Path("/dev/fracgpu-sim-state")


def arguments(parser, **defaults):
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="build directory, or folder made by tests/gpu/pack")
    parser.add_argument("--out", type=pathlib.Path, help="file for the result (default: bench/results/WHAT-CARD-DRIVER-DATE.json)")
    parser.add_argument("--rounds", type=int, default=7, help="of each way, interleaved (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=8128, metavar="MIB", help="of the slices (default: 8128)")
    parser.add_argument("--sim", action="store_true", help="on the simulator")
    parser.set_defaults(**defaults)
    options = parser.parse_args()
    options.build = options.build.resolve()
    if options.sim and not SIM_STATE.exists():
        sim = find(options.build, "bin/fracgpu-sim", "sim/fracgpu-sim")
        os.execv(sim, [sim, "--", sys.executable, *sys.argv])
    return options


def find(build, *places):
    for place in places:
        if (build / place).exists():
            return str(build / place)
    sys.exit(f"{places[-1]} is not in {build}")


def slice_file(name, what):
    """The ledger or the control socket of a slice of ours, or None."""
    places = ("/run/fracgpu", os.environ.get("XDG_RUNTIME_DIR", "/run") + "/fracgpu", f"/tmp/fracgpu-{os.geteuid()}")
    return next((f"{place}/{name}/{what}" for place in places if os.path.exists(f"{place}/{name}/{what}")), None)


@functools.cache
def has_torch():
    """Whether there is a PyTorch that can use the GPU."""
    return not SIM_STATE.exists() and subprocess.run(
        [sys.executable, "-c", "import torch; torch.cuda.init()"], capture_output=True, check=False).returncode == 0


class Ways:
    """How a program is run: without a limiter, behind each door, with a peer's library."""

    def __init__(self, options):
        self.options = options
        self.fracgpu = find(options.build, "bin/fracgpu", "src/cli/fracgpu")
        self.peer = os.environ.get("PEER_PRELOAD")
        self.names = ["none", "preload", "supervisor"] + (["peer"] if self.peer else [])
        if SIM_STATE.exists():
            cuda = pathlib.Path(find(options.build, "lib/sim/libcuda.so.1", "tests/gpu/libcuda.so.1")).parent
            os.environ["LD_LIBRARY_PATH"] = f"{cuda}:{os.environ.get('LD_LIBRARY_PATH', '')}"

    def command(self, way, *words, options=()):
        """options: more of fracgpu run."""
        if way in ("none", "peer"):
            return list(words)
        return [self.fracgpu, "run", "--door", way, "--memory", f"{self.options.limit}MiB", *options, "--", *words]

    def environment(self, way, percent=None):
        """percent: of GPU time, for a peer, which is told by variables."""
        env = dict(os.environ)
        if way == "peer":  # HAMi-core's variables, by its README
            pathlib.Path("/tmp/vgpulock").mkdir(exist_ok=True)
            pathlib.Path("/tmp/cudevshr.cache").unlink(missing_ok=True)
            env.update(LD_PRELOAD=self.peer, CUDA_DEVICE_MEMORY_LIMIT=f"{self.options.limit}m", LIBCUDA_LOG_LEVEL="0")
            if percent:
                env["CUDA_DEVICE_SM_LIMIT"] = str(percent)
        return env

    def run(self, way, *words, timeout=120):
        """The program's JSON, or None with a word on stderr."""
        try:
            done = subprocess.run(self.command(way, *words), env=self.environment(way), capture_output=True, text=True,
                                  timeout=timeout, stdin=subprocess.DEVNULL, check=False)
        except subprocess.TimeoutExpired:
            print(f"{way}: {words[0]} did not end within {timeout} s", file=sys.stderr)
            return None
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or not lines:
            print(f"{way}: {words[0]}: status {done.returncode} {done.stderr.strip()[-300:]}", file=sys.stderr)
            return None
        return json.loads(lines[-1])

    def interleaved(self, rounds, *words, timeout=120, after=lambda results: None):
        """A B C A B C ...: the list of results of each way. after: is given what there is after each round."""
        results = {way: [] for way in self.names}
        for number in range(rounds):
            # each round begins with another way, so that none always follows the same one
            for way in self.names[number % len(self.names):] + self.names[:number % len(self.names)]:
                result = self.run(way, *words, timeout=timeout)
                if result is not None:
                    results[way].append(result)
            after(results)
        return results


def medians(results, key):
    """Of one figure: median, all values and ratio to no limiter, by way."""
    figures = {}
    for way, runs in results.items():
        values = [run[key] for run in runs if key in run]
        if values:
            figures[way] = {"median": statistics.median(values), "values": values}
    base = figures.get("none", {}).get("median")
    for figure in figures.values():
        figure["ratio"] = round(figure["median"] / base, 4) if base else None
    return figures


@functools.cache
def machine(ways):
    """Card and driver as fracgpu doctor tells them."""
    done = subprocess.run([ways.fracgpu, "doctor", "--json"], capture_output=True, text=True, timeout=120, check=False)
    texts = {check["check"]: check["text"] for check in reversed(json.loads(done.stdout)["checks"])}
    driver = re.search(r"version ([\d.]+)", texts.get("driver", "")) or [None, "unknown"]
    name = re.match(r"0: (?:NVIDIA )?([^,]*)", texts.get("gpu", "")) or [None, "unknown"]
    card = re.sub(r"[^a-z0-9]+", "-", name[1].lower()).strip("-")
    return ("sim-" if SIM_STATE.exists() else "") + card, driver[1]


def store(what, options, ways, result):
    """Returns where it was stored. May be called again with more."""
    card, driver = machine(ways)
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    whole = {
        "what": what, "card": card, "driver": driver, "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip(), "cpus": os.cpu_count(), "load": os.getloadavg()[0],
        "command": f"bench/{what} " + shlex.join(word for word in sys.argv[1:] if not word.startswith("/")),
        **result,
    }
    out = options.out or ROOT / "bench/results" / f"{what}-{card}-{driver}-{whole['date']}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(whole, indent=1) + "\n")
    return out


def table(ways, rows):
    """rows: name, figures of medians(), unit, limits by way."""
    print(f"{'':26}" + "".join(f"{way:>24}" for way in ways.names))
    for name, figures, unit in rows:
        cells = []
        for way in ways.names:
            figure = figures.get(way)
            cells.append(f"{figure['median']:.4g} {unit} ({figure['ratio']:.3f})" if figure and figure["ratio"] is not None else "-")
        print(f"{name:26}" + "".join(f"{cell:>24}" for cell in cells))
