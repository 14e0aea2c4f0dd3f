#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's own tools on the simulated driver: nvml_test.py [OPTIONS] CASE. Exits with 77 where the tools are not there."""
import argparse
import json
import os
import pathlib
import pty
import re
import select
import subprocess
import sys
import time

LIMIT_S = 120  # nothing here takes as long, however busy the machine

NAMES = {
    "h200": ("NVIDIA H200", 143771),
    "h100": ("NVIDIA H100 80GB HBM3", 81559),
    "a100": ("NVIDIA A100-SXM4-40GB", 40960),
    "rtx4090": ("NVIDIA GeForce RTX 4090", 24564),
    "gtx1080": ("NVIDIA GeForce GTX 1080", 8192),
    "p100": ("Tesla P100-PCIE-16GB", 16384),
}
POWER = {"h200", "h100", "rtx4090"}  # for older GPUs NVML asks controls whose layout nobody has published
CONTEXT_MIB = 2  # of the GPU's memory, for one channel group, charged to nobody

options = None


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def tool(name):
    path = pathlib.Path(options.tools, "bin", name)
    if not options.tools or not path.exists():
        skip(f"no {name} (see tools/get-nvidia-tools and the build option nvidia_tools)")
    return str(path)


def command(gpus, arguments, limit=None, door="auto"):
    """A command line with GPUs, and in a slice when there is a limit."""
    driver = pathlib.Path(options.tools, "driver-version").read_text(encoding="ascii").strip()
    words = [options.sim, "--gpu", gpus, "--driver", driver, "--"]
    if limit:
        words += [options.fracgpu, "run", "--door", door, "--memory", limit, "--"]
    return words + arguments


def environment():
    return {**os.environ, "LD_LIBRARY_PATH": str(pathlib.Path(options.tools, "lib")), "LC_ALL": "C.UTF-8", "TERM": "xterm"}


def run(gpus, arguments, limit=None, door="auto", status=0, **more):
    words = command(gpus, arguments, limit, door)
    result = subprocess.run(words, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            timeout=LIMIT_S, check=False, **more)
    print("$", " ".join(words), result.stdout, result.stderr, sep="\n", flush=True)
    assert result.returncode == status, f"exit status {result.returncode}, not {status}"
    return result.stdout


def check_equal(got, want):
    assert got == want, f"{got!r} is not {want!r}"


def check_match(pattern, text):
    match = re.search(pattern, text)
    assert match, f"{pattern!r} is not in the output"
    return match


def query(gpus, fields, *before, **how):
    """Rows of nvidia-smi --query-gpu. What stands before it holds memory."""
    line = f"--query-gpu={fields}"
    text = run(gpus, [*before, tool("nvidia-smi"), line, "--format=csv,noheader,nounits"], **how)
    return [row.split(", ") for row in text.splitlines() if not row.startswith("fill:")]


def fill(*arguments):
    return [options.fill, *arguments]


# ---- the cases ----


def test_table():
    name, total = NAMES[options.gpu]
    text = run(options.gpu, fill("1GiB", tool("nvidia-smi")))
    check_match(r"NVIDIA-SMI (\d+\.\d+(\.\d+)?) +Driver Version: \1 ", text)
    check_match(rf"\| +0 +{re.escape(name)} +On +\| 00000000:10:00.0 Off \|", text)
    power = r"\d+W" if options.gpu in POWER else "N/A"
    # the table cuts off a total of six digits
    shown = f"{total}MiB" if total < 100000 else f"{str(total)[:5]}..."
    check_match(rf"\| N/A +\d+C +P0 +{power} / +\S+ \| +{1024 + CONTEXT_MIB}MiB / +{re.escape(shown)} \| +\d+% +Default \|", text)
    check_match(r"\| +0 +N/A +N/A +\d+ +C +\S*fill +1024MiB \|", text)


def test_two_gpus():
    rows = query("h200,gtx1080", "index,name,memory.total,memory.used", *fill("--gpu", "1", "512MiB"))
    check_equal(rows, [["0", "NVIDIA H200", "143771", "0"],
                       ["1", "NVIDIA GeForce GTX 1080", "8192", str(512 + CONTEXT_MIB)]])


def test_full_query():
    text = run("h200,rtx4090", [tool("nvidia-smi"), "-q"])
    check_match(r"Attached GPUs +: 2\n", text)
    for name in ("NVIDIA H200", "NVIDIA GeForce RTX 4090"):
        check_match(rf"Product Name +: {name}\n", text)
    check_match(r"GPU UUID +: GPU-[0-9a-f-]{36}\n", text)
    check_match(r"FB Memory Usage\n +Total +: 143771 MiB\n", text)
    check_match(r"GPU Current Temp +: \d+ C\n", text)
    check_match(r"Device Id +: 0x233510DE\n", text)


def test_csv_query():
    fields = "name,uuid,driver_version,memory.total,memory.used,memory.free,utilization.gpu,temperature.gpu,power.draw," \
        "power.limit,pci.bus_id,compute_mode,pstate"
    for gpu, (name, total) in NAMES.items():
        row = query(gpu, fields, *fill("256MiB"))[0]
        check_equal(row[0], name)
        check_match(r"^GPU-[0-9a-f-]{36}$", row[1])
        check_equal(row[2], pathlib.Path(options.tools, "driver-version").read_text(encoding="ascii").strip())
        check_equal(row[3], str(total))
        check_equal(row[4], str(256 + CONTEXT_MIB))
        assert 0 < int(row[5]) < total - 256
        assert 0 <= int(row[6]) <= 100 and 20 < int(row[7]) < 90
        if gpu in POWER:
            assert 0 < float(row[8]) < float(row[9])
        check_equal(row[10:], ["00000000:10:00.0", "Default", "P0"])


def test_compute_apps():
    text = run("h200", fill("768MiB", tool("nvidia-smi"), "--query-compute-apps=pid,process_name,used_memory",
                            "--format=csv,noheader"))
    check_match(r"\n\d+, \S*fill, 768 MiB\n", text)
    check_equal(run("h200", [tool("nvidia-smi"), "--query-compute-apps=pid", "--format=csv,noheader"]), "")


def in_slice(door):
    for gpu in ("h200", "rtx4090", "gtx1080"):
        text = run(gpu, fill("1GiB", tool("nvidia-smi")), limit="2GiB", door=door)
        check_match(r" +1024MiB / +2048MiB \|", text)
        check_match(r" C +\S*fill +1024MiB \|", text)
        text = run(gpu, fill("all", tool("nvidia-smi")), limit="2GiB", door=door)
        check_match(r"holding 2 GiB; the next block was refused: out of memory \(0x51\)", text)
        check_match(r" +2048MiB / +2048MiB \|", text)
        rows = query(gpu, "memory.total,memory.used,memory.free", *fill("512MiB"), limit="2GiB", door=door)
        check_equal(rows, [["2048", "512", "1536"]])


def test_slice_supervisor():
    in_slice("supervisor")


def test_slice_preload():
    in_slice("preload")


def test_slice_hides_others():
    """What a neighbour holds does not show in a slice."""
    smi = [tool("nvidia-smi"), "--query-gpu=memory.total,memory.used", "--format=csv,noheader,nounits"]
    text = run("h200", fill("3GiB", options.fracgpu, "run", "--memory", "2GiB", "--", *fill("256MiB", *smi)))
    check_match(r"\n2048, 256\n", text)


def test_slice_two_gpus():
    rows = query("h200,rtx4090", "memory.total,memory.used", *fill("--gpu", "1", "256MiB"), limit="0=8GiB,1=25%")
    check_equal(rows, [["8192", "0"], [str(24564 // 4), "256"]])


def test_busy():
    """The figure follows the work. It is of the time since the last question, so it is asked until it has."""
    words = command("h200", fill("--busy", "256MiB", tool("nvidia-smi"), "--query-gpu=utilization.gpu,power.draw",
                                 "--format=csv,noheader,nounits", "--loop-ms=100"))
    with subprocess.Popen(words, env=environment(), text=True, stdout=subprocess.PIPE) as smi:
        try:
            deadline = time.monotonic() + LIMIT_S
            for line in smi.stdout:
                print(line, end="")
                row = line.strip().split(", ")
                if row[0].isdigit() and int(row[0]) >= 95 and float(row[1]) > 500:
                    return
                assert time.monotonic() < deadline, "never busy"
            raise AssertionError("nvidia-smi ended")
        finally:
            smi.terminate()


def test_user():
    """Without root, and without CAP_SYS_ADMIN."""
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    if user and subprocess.run([*user, tool("nvidia-smi"), "--help"], stdout=subprocess.DEVNULL, check=False).returncode:
        skip("another user cannot reach the tools' folder")
    check_match("NVIDIA H200", run("h200", [*user, tool("nvidia-smi")]))


def test_nvtop():
    """On a terminal, until it has drawn what it should; then the key to end."""
    words = command("h200", fill("2GiB", tool("nvtop")), limit="8GiB")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(environment())
        os.environ.update(COLUMNS="140", LINES="40", HOME="/nonexistent")
        os.execv(words[0], words)
    seen = b""
    deadline = time.monotonic() + LIMIT_S
    wanted = (rb"NVIDIA H200", rb"2\.0+Gi/8\.0+Gi", rb"fill")
    while not all(re.search(w, seen) for w in wanted):
        assert time.monotonic() < deadline, f"nvtop showed only {seen[-4000:]!r}"
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 65536)
    os.write(terminal, b"q")
    while True:
        try:
            if not os.read(terminal, 65536):
                break
        except OSError:  # the other end is closed
            break
    check_equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)


def test_gpustat():
    report = json.loads(run("h200,gtx1080", [tool("gpustat"), "--json"]))
    check_equal([(g["name"], g["memory.total"], g["memory.used"]) for g in report["gpus"]],
                [("NVIDIA H200", 143771, 0), ("NVIDIA GeForce GTX 1080", 8192, 0)])
    text = run("h200", fill("1GiB", tool("gpustat"), "--no-color", "--show-cmd", "--show-pid"), limit="4GiB")
    check_match(r"NVIDIA H200 \| +\d+°C, +\d+ % \| +1024 / +4096 MB \|.*fill/\d+\(1024M\)", text)


def test_nvitop():
    text = run("h200", fill("1GiB", tool("nvitop"), "--once", "--no-unicode"), limit="4GiB")
    check_match(r"H200", text)
    check_match(r"1024MiB / 4096MiB|1024MiB / 4\.00GiB|1\.00GiB / 4\.00GiB", text)


def main():
    global options
    parser = argparse.ArgumentParser()
    for name in ("sim", "fracgpu", "fill", "tools"):
        parser.add_argument("--" + name, default="")
    parser.add_argument("--gpu", default="h200")
    parser.add_argument("case")
    options = parser.parse_args()
    tool("nvidia-smi")
    globals()["test_" + options.case]()


main()
