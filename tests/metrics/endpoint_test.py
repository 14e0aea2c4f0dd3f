#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""fracgpud's metrics, as a scraper meets them. On the simulator with two cards: endpoint_test.py BUILD-ROOT CASE"""
import json
import shutil
import signal
import socket
import subprocess
import sys
import time

from harness import Daemon, Metrics, Place, equal, eventually, own_place, skip

POLICY = "[default]\nmetrics = 127.0.0.1:0\nmetrics_step = 1\n"
HOSTILE = '</td><img src=x onerror="document.title=1">\\"\n\u202e{}'


def test_format(place):
    """Strict format in each set of names; promtool agrees."""
    place.hold("one", 64, ["--memory", "512MiB"])
    standin = place.standin("two")
    standin.set("busy", 10**18 + 1)
    standin.call(id="two", uid=0, annotations={"io.kubernetes.cri.container-name": HOSTILE,
                                               "io.kubernetes.cri.sandbox-name": HOSTILE,
                                               "io.kubernetes.cri.sandbox-namespace": HOSTILE})
    daemon = Daemon(place, POLICY)
    for names in ("fracgpu", "hami", "hami-legacy"):
        if names != "fracgpu":
            daemon.reload(f"{POLICY}metrics_names = {names}\n")
        daemon.url()
        status, headers, body = daemon.request("/metrics")
        equal(status, 200, "status")
        equal(headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8", "type")
        metrics = Metrics(body.decode("utf-8"))
        equal(metrics.value("fracgpu_slice_gpu_seconds_total", slice="two", gpu="0"), "1000000000.000000001", "seconds")
        equal(metrics.labels("fracgpu_slice_paused", slice="two")[0]["container"], HOSTILE, "name")
        equal("hami_vgpu_memory_used_bytes" in metrics.types, names != "fracgpu", "HAMi's names")
        equal("vGPU_device_memory_usage_in_bytes" in metrics.types, names == "hami-legacy", "HAMi's older names")
        if names != "fracgpu":
            equal(metrics.labels("hami_vgpu_memory_used_bytes", vdevice_index="0", container=HOSTILE)[0]["pod"], HOSTILE,
                  "pod")
        if shutil.which("promtool"):
            done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
            complaints = [line for line in (done.stdout + done.stderr).decode().splitlines()
                          if names != "hami-legacy" or "snake_case" not in line]
            equal(complaints, [], "promtool")


def test_ledger(place):
    """The same figures as fracgpu ps and stat, for each door, and counters that only grow."""
    daemon = Daemon(place, POLICY)
    daemon.url()
    for door in ("supervisor", "preload"):
        place.hold(door, 100, ["--door", door, "--memory", "1GiB"])
        equal(place.run(f"{door}-over", place.build / "tests/e2e/hold", 300, options=["--door", door, "--memory", "256MiB"])
              .stdout.readline(), "gpu 0 total 256 status 81\n", "hold")

    def agrees():
        metrics = daemon.metrics()
        slices = json.loads(place.fracgpu("ps", "--json"))["slices"]
        equal(len(slices), 4, "slices")
        equal(metrics.value("fracgpu_slices"), "4", "slices")
        for known in slices:
            name = known["name"]
            equal(metrics.value("fracgpu_slice_processes", slice=name), str(len(known["processes"])), "processes")
            for event, count in known["events"].items():
                equal(metrics.value("fracgpu_slice_events_total", slice=name, event=event), str(count), event)
            for gpu in known["gpus"]:
                which = {"slice": name, "gpu": str(gpu["index"]), "uuid": gpu["uuid"]}
                for ours, theirs in (("memory_used_bytes", "used_bytes"), ("memory_limit_bytes", "limit_bytes"),
                                     ("memory_peak_bytes", "peak_bytes"), ("memory_refusals_total", "refusals")):
                    equal(metrics.value(f"fracgpu_slice_{ours}", **which), str(gpu[theirs]), f"{name} {theirs}")
        for gpu in ("0", "1"):
            equal(metrics.value("fracgpu_gpu_memory_given_bytes", gpu=gpu), str(2560 << 20), "given")
            equal(metrics.value("fracgpu_gpu_memory_used_bytes", gpu=gpu), str(200 << 20), "used")
            equal(metrics.value("fracgpu_slice_memory_refusals_total", slice="preload-over", gpu=gpu), "1", "refusals")
        return True

    eventually("metrics and ps agree", agrees)
    # memory of a program that is killed comes back, though nobody asks for more
    runner = place.run("killed", place.build / "tests/e2e/hold", 50, options=["--door", "preload"])
    runner.stdout.readline()
    eventually("50 MiB", lambda: daemon.metrics().value("fracgpu_slice_memory_used_bytes", slice="killed", gpu="0") ==
               str(50 << 20))
    runner.kill()
    eventually("the slice is gone", lambda: daemon.metrics().labels("fracgpu_slice_paused", slice="killed") == [] or
               daemon.metrics().value("fracgpu_slice_processes", slice="killed") == "1")


def test_compute(place):
    """Throttled time, switches and a pause of a slice that computes; no counter goes back."""
    daemon = Daemon(place, POLICY)
    daemon.url()
    tool = place.build / "tests/e2e/compute-tool"
    # little enough that turns alone would give more
    for door in ("supervisor", "preload"):
        client, channel = place.run(door, tool, "tenant", options=["--door", door, "--compute", "25%"]).stdout.readline().split()
        subprocess.run([tool, "work", client, channel], check=True)
    last = {}

    def grows():
        metrics = daemon.metrics()
        for (name, labels), value in metrics.series.items():
            if metrics.types[name] != "counter":
                continue
            if float(value) < float(last.get((name, labels), 0)):
                sys.exit(f"{name} {dict(labels)} went from {last[(name, labels)]} to {value}")  # no eventually about it
            last[(name, labels)] = value
        equal(metrics.value("fracgpu_slice_compute_limit_ratio", slice="preload"), "0.250", "cap")
        return all(float(metrics.value("fracgpu_slice_throttled_seconds_total", slice=slice, gpu="0")) > 0.5 and
                   float(metrics.value("fracgpu_slice_gate_switches_total", slice=slice, gpu="0")) > 10
                   for slice in ("supervisor", "preload"))

    eventually("time goes by", grows)
    eventually("who waits", lambda: [s["waits"] for s in daemon.state()["slices"]] == ["throttled", "throttled"])
    place.fracgpu("pause", "supervisor")
    eventually("a pause", lambda: grows() and daemon.metrics().value("fracgpu_slice_paused", slice="supervisor") == "1")
    equal({s["name"]: s["waits"] for s in daemon.state()["slices"]}["supervisor"], "paused", "waits")
    place.fracgpu("resume", "supervisor")
    place.fracgpu("set", "supervisor", "--compute", "none")
    eventually("no pause, no cap", lambda: grows() and
               daemon.metrics().value("fracgpu_slice_paused", slice="supervisor") == "0" and
               daemon.metrics().labels("fracgpu_slice_compute_limit_ratio", slice="supervisor") == [])


def test_names(place):
    """What names a slice, in metrics and in JSON; rootless users' annotations are not believed."""
    daemon = Daemon(place, POLICY)
    daemon.url()
    bare, mine, theirs, broken = (place.standin(name) for name in ("bare", "mine", "theirs", "broken"))
    names = {"io.kubernetes.cri.container-name": HOSTILE, "io.kubernetes.cri.sandbox-name": "pod",
             "io.kubernetes.cri.sandbox-namespace": "space"}
    mine.call(id="f" * 64, uid=0, annotations=names)
    theirs.call(id="theirs", uid=1000, annotations=names)
    (broken.folder / "container").write_bytes(b'{"id": "\xff')
    bare.set("paused", 1)
    eventually("four slices", lambda: daemon.metrics().value("fracgpu_slices") == "4")
    eventually("a name", lambda: "pod" in daemon.metrics().labels("fracgpu_slice_paused", slice="mine")[0])
    metrics = daemon.metrics()
    equal(metrics.labels("fracgpu_slice_paused", slice="mine"),
          [{"slice": "mine", "container": HOSTILE, "pod": "pod", "namespace": "space"}], "root's")
    equal(metrics.labels("fracgpu_slice_paused", slice="theirs"), [{"slice": "theirs", "container": "theirs"}], "a user's")
    equal(metrics.labels("fracgpu_slice_paused", slice="bare"), [{"slice": "bare"}], "no container's")
    equal(metrics.labels("fracgpu_slice_paused", slice="broken"), [{"slice": "broken"}], "a broken one's")
    state = {s["name"]: s for s in daemon.state()["slices"]}
    equal(state["mine"]["container"], HOSTILE, "in JSON")
    equal(state["bare"]["waits"], "paused", "in JSON")


def raw(daemon, data, wait=True):
    """What the server answers to bytes, until it closes."""
    with socket.create_connection((daemon.host, daemon.port), timeout=90) as peer:
        answer = b""
        try:
            peer.sendall(data)
            while wait and (more := peer.recv(65536)):
                answer += more
        except (ConnectionResetError, BrokenPipeError):
            pass
        return answer


def test_http(place):
    """Misuse, and what the answers say of themselves."""
    daemon = Daemon(place, POLICY)
    daemon.url()
    for path in ("/", "/metrics", "/api/state"):
        status, headers, body = daemon.request(path)
        equal((status, headers["X-Content-Type-Options"], headers["Cache-Control"]), (200, "nosniff", "no-store"), path)
        assert "default-src 'none'" in headers["Content-Security-Policy"], headers
        assert "unsafe" not in headers["Content-Security-Policy"], headers
        equal((status, len(body)), (200, int(headers["Content-Length"])), path)
        status, headers, body = daemon.request(path, "HEAD")
        equal((status, body), (200, b""), f"HEAD {path}")
        assert int(headers["Content-Length"]) > 100, headers
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"):
        status, headers, _ = daemon.request("/metrics", method, body=b"x" if method == "POST" else None)
        equal((status, headers["Allow"]), (405, "GET, HEAD"), method)
    for path in ("/favicon.ico", "//", "/metrics/", "/../etc/passwd", "/%2e%2e/etc/passwd", "/api", "/METRICS"):
        equal(daemon.request(path)[0], 404, path)
    equal(daemon.request("/metrics?x=" + "y" * 100)[0], 200, "a query")
    # a page elsewhere whose name was pointed at us
    equal(daemon.request("/metrics", headers={"Host": "evil.example"})[0], 403, "a strange host")
    equal(daemon.request("/metrics", headers={"Host": f"localhost:{daemon.port}"})[0], 200, "this host")
    # too much, too little, nonsense
    assert daemon.request("/" + "x" * 12000)[0] in (404, 414, 431)
    for data in (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 40000 + b"\r\n\r\n",
                 b"GET /" + b"x" * 40000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 b"\x00\xff" * 20000, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
                 b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n" + b"z" * 40000,
                 b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"):
        answer = raw(daemon, data)
        assert not answer.startswith(b"HTTP/1.1 200"), (data[:40], answer[:200])
    equal(daemon.request("/metrics")[0], 200, "after all that")
    # several requests on one connection
    answer = raw(daemon, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
                 b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    equal(answer.count(b"HTTP/1.1 200"), 2, "answers on one connection")


def test_slow(place):
    """Clients that say nothing, or a letter now and then, or do not read, are ended; others are served meanwhile."""
    daemon = Daemon(place, POLICY)
    daemon.url()
    silent, dripping, deaf = (socket.create_connection((daemon.host, daemon.port)) for _ in range(3))
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
    dripping.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
    dripping.settimeout(1)
    began = time.monotonic()
    while True:
        try:
            dripping.sendall(b"y")
            if not dripping.recv(1):
                break
        except TimeoutError:
            assert time.monotonic() - began < 90, "who drips stays"
            equal(daemon.request("/metrics")[0], 200, "beside who drips")
        except OSError:
            break
    silent.settimeout(90)
    equal(silent.recv(1), b"", "who is silent is ended")
    connections = lambda: [line for line in open("/proc/net/tcp", encoding="ascii")
                           if line.split()[1].endswith(f":{daemon.port:04X}") and line.split()[3] == "01"]
    eventually("who does not read is ended", lambda: not connections())
    deaf.close()


def test_crowd(place):
    """More connections than there is room for: they wait, nothing grows, and the daemon lives."""
    daemon = Daemon(place, POLICY)
    daemon.url()
    crowd = [socket.create_connection((daemon.host, daemon.port)) for _ in range(100)]

    def descriptors():
        return len(list((place.folder / "fds").iterdir()))

    (place.folder / "fds").symlink_to(f"/proc/{daemon.process.pid}/fd")
    eventually("some are let in", lambda: descriptors() > 30)
    assert descriptors() < 60, descriptors()
    for peer in crowd:
        peer.close()
    equal(daemon.request("/metrics")[0], 200, "afterwards")
    eventually("all are let go", lambda: daemon.request("/metrics")[0] == 200 and descriptors() < 16)


def test_config(place):
    """Off by default; on, elsewhere, off again by SIGHUP; mistakes; a taken port; a daemon that was killed."""
    daemon = Daemon(place, "[default]\n")
    daemon.log("ready")
    daemon.reload(POLICY)
    daemon.url()
    standin = place.standin("box")
    standin.set("throttled", 5 * 10**9)
    eventually("a slice", lambda: daemon.metrics().value("fracgpu_slices") == "1")
    first = daemon.port
    daemon.reload(POLICY + "memory = 1GiB\n")  # nothing about metrics: stays
    daemon.reload(POLICY + "metrics = nowhere\n")
    daemon.log("cannot be understood")
    equal(daemon.request("/metrics")[0], 200, "after a mistake")
    daemon.reload(f"[default]\nmetrics = {first}\n")
    equal(daemon.url(), f"http://127.0.0.1:{first}/", "a port alone")
    daemon.process.kill()
    daemon.process.wait()
    daemon.start()
    equal(daemon.url(), f"http://127.0.0.1:{first}/", "again after a kill")
    daemon.log("ready")
    equal(daemon.metrics().value("fracgpu_slice_throttled_seconds_total", slice="box", gpu="0"), "5.000000000",
          "what a slice has counted")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon.reload(f"[default]\nmetrics = 127.0.0.1:{taken.getsockname()[1]}\n")
        daemon.log("cannot listen")
    daemon.reload("[default]\n")
    daemon.reload("[default]\nmetrics = [::1]:0\n")
    if socket.has_ipv6 and "metrics at" in (line := daemon.log("level=")):
        daemon.host, daemon.port = "::1", int(line.rsplit(":", 1)[1].rstrip("/"))
        equal(daemon.request("/metrics")[0], 200, "IPv6")
    for wrong in ("metrics = 70000", "metrics = example.org:1", "metrics_names = others", "metrics_step = 0",
                  "metrics_step = 1s"):
        (place.folder / "wrong").write_text(f"[default]\n{wrong}\n", encoding="utf-8")
        done = subprocess.run([place.build / "src/daemon/fracgpud", "--config", place.folder / "wrong", "--socket",
                               place.folder / "other.sock"], capture_output=True, text=True, check=False, timeout=90)
        equal(done.returncode, 1, wrong)
        assert "line 2" in done.stderr, done.stderr


def test_container(place):
    """A container of runc through fracgpud: its figures, and a name that its author chose."""
    for need in ("runc", "busybox", "jq"):
        if not shutil.which(need):
            skip(f"{need} is not installed")
    if subprocess.run(["ldd", "/bin/busybox"], capture_output=True, check=False).returncode == 0:
        skip("needs busybox-static")
    daemon = Daemon(place, POLICY)
    daemon.url()
    daemon.log("ready")
    root, bundle = place.folder / "root", place.folder / "box"
    for folder in ("bin", "dev", "proc", "sys", "tmp"):
        (root / folder).mkdir(parents=True)
    bundle.mkdir()
    shutil.copy("/bin/busybox", root / "bin/sleep")
    shutil.copy(place.build / "tests/containers/container-guest", root / "bin/hold")
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    config["root"] = {"path": str(root), "readonly": True}
    config["process"].update(terminal=False, args=["/bin/sleep", "1000"], rlimits=[])
    config["process"]["env"].append("NVIDIA_GPU_MEMORY_LIMIT=512")
    config["mounts"] += [{"destination": f"/dev/{name}", "type": "bind", "source": f"/dev/{name}", "options": ["bind", "rw"]}
                         for name in ("nvidiactl", "nvidia0", "nvidia-uvm")]
    config["linux"]["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
    config["annotations"] = {"io.kubernetes.cri.container-name": HOSTILE, "io.kubernetes.cri.sandbox-name": "train-0",
                             "io.kubernetes.cri.sandbox-namespace": "lab"}
    (bundle / "config.json").write_text(json.dumps(config), encoding="utf-8")
    env = {"FRACGPU_SOCKET": str(place.folder / "agent.sock"), "FRACGPU_OCI_RUNTIME": "runc",
           "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    runtime = place.build / "src/runtime/fracgpu-runtime"
    place.callback(subprocess.run, ["runc", "delete", "-f", "metrics-box"], capture_output=True, check=False)
    with open(place.folder / "runc.log", "w", encoding="utf-8") as log:
        subprocess.run([runtime, "create", "--bundle", bundle, "metrics-box"], env=env, stdin=subprocess.DEVNULL, stdout=log,
                       stderr=log, check=True)
        subprocess.run(["runc", "start", "metrics-box"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
    which = {"slice": "metrics-box", "container": HOSTILE, "pod": "train-0", "namespace": "lab", "gpu": "0"}
    eventually("the slice", lambda: daemon.metrics().value("fracgpu_slice_memory_limit_bytes", **which) == str(512 << 20))
    holder = place.program(runtime, "exec", "metrics-box", "/bin/hold", "300", env=env, stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE, text=True)
    equal(holder.stdout.readline(), "gpu 0 total 512 status 0\n", "hold")
    eventually("what it holds", lambda: daemon.metrics().value("fracgpu_slice_memory_used_bytes", **which) ==
               str(300 << 20))
    equal(daemon.metrics().value("fracgpu_handoffs_served_total"), "2", "hand-offs")
    equal(daemon.metrics().value("fracgpu_handoffs_refused_total"), "0", "hand-offs refused")
    place.fracgpu("pause", "metrics-box")
    eventually("a pause", lambda: daemon.metrics().value("fracgpu_slice_paused", slice="metrics-box") == "1")
    place.fracgpu("resume", "metrics-box")
    holder.stdin.close()
    eventually("given back", lambda: daemon.metrics().value("fracgpu_slice_memory_used_bytes", **which) == "0")


def main():
    own_place()
    with Place(sys.argv[1]) as place:
        globals()[f"test_{sys.argv[2]}"](place)


signal.signal(signal.SIGPIPE, signal.SIG_IGN)
main()
