#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each query of the Grafana dashboard, asked of a real Prometheus that scrapes fracgpud: it parses, and has data.
On the simulator: dashboard_test.py BUILD-ROOT DASHBOARD.json"""
import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

from harness import Daemon, Place, equal, eventually, own_place, skip

POLICY = "[default]\nmetrics = 127.0.0.1:0\nmetrics_step = 1\nmetrics_names = hami-legacy\n"

# What Grafana puts in the place of its variables when all is chosen.
VARIABLES = {"$__rate_interval": "10s", "$instance": ".*", "$slice": ".*", "$__all": ".*"}


class Prometheus:
    def __init__(self, place, daemon):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.base = f"http://127.0.0.1:{port}"
        config = place.folder / "prometheus.yml"
        config.write_text(json.dumps({
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "fracgpu", "static_configs": [{"targets": [f"{daemon.host}:{daemon.port}"]}]}],
        }), encoding="utf-8")
        with open(place.folder / "prometheus.log", "wb") as log:
            place.program("prometheus", f"--config.file={config}", f"--storage.tsdb.path={place.folder / 'tsdb'}",
                          f"--web.listen-address=127.0.0.1:{port}", stdout=log, stderr=log)
        eventually("prometheus is there", lambda: self.ask("/-/ready", raw=True))

    def ask(self, path, raw=False, **params):
        try:
            with urllib.request.urlopen(f"{self.base}{path}?{urllib.parse.urlencode(params)}", timeout=60) as answer:
                return answer.read() if raw else json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if raw:
                return None
            sys.exit(f"{params}: {error.read().decode()}")  # waiting does not make it better
        except OSError:
            return None

    def query(self, expr):
        return (self.ask("/api/v1/query", query=expr) or {"result": []})["result"]

    def value(self, expr):
        result = self.query(expr)
        return float(result[0]["value"][1]) if result else None

    def values(self, expr):
        """As Grafana asks for a variable's values: label_values(SELECTOR, LABEL)."""
        selector, label = re.fullmatch(r"label_values\((.*), *(\w+)\)", expr).groups()
        return self.ask(f"/api/v1/label/{label}/values", **{"match[]": selector})


def put_in(expr):
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    if "$" in expr:
        raise AssertionError(f"a variable that we do not know: {expr}")
    return expr


def queries(dashboard):
    for panel in dashboard["panels"]:
        if not panel["targets"]:
            raise AssertionError(f"panel '{panel['title']}' asks nothing")
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def scraped_whole(prometheus, daemon):
    """Prometheus took all that was offered, and no sample was left out."""
    equal(prometheus.value("up"), 1, "up")
    samples = len(daemon.metrics().series)
    return [prometheus.value(name) for name in
            ("scrape_samples_scraped", "scrape_samples_post_metric_relabeling")] == [samples, samples]


def main():
    own_place()
    if not shutil.which("prometheus"):
        skip("prometheus is not installed")
    dashboard = json.loads(pathlib.Path(sys.argv[2]).read_text(encoding="utf-8"))
    with Place(sys.argv[1]) as place:
        daemon = Daemon(place, POLICY)
        daemon.url()
        tool = place.build / "tests/e2e/compute-tool"
        client, channel = place.run("worker", tool, "tenant", options=["--compute", "50%"]).stdout.readline().split()
        subprocess.run([tool, "work", client, channel], check=True)
        place.hold("holder", 100, ["--memory", "256MiB"])
        standin = place.standin("measured")  # the simulator cannot measure GPU time
        standin.set("busy", 10**9)
        standin.call(id="measured", uid=0, annotations={"io.kubernetes.cri.container-name": "a\"b\\c\n\u00e4",
                                                        "io.kubernetes.cri.sandbox-name": "pod",
                                                        "io.kubernetes.cri.sandbox-namespace": "lab"})
        prometheus = Prometheus(place, daemon)
        eventually("a scrape", lambda: scraped_whole(prometheus, daemon))
        count = 0
        for title, expr in queries(dashboard):
            result = eventually(f"data for '{title}': {expr}", lambda e=put_in(expr): prometheus.query(e))
            for series in result:
                float(series["value"][1])
                assert series["value"][1] not in ("NaN", "+Inf"), (title, series)
            count += 1
        names = {name for _, expr in queries(dashboard) for name in re.findall(r"fracgpu_\w+", expr)}
        equal(names - daemon.metrics().types.keys(), set(), "names that we do not have")
        variables = [put_in(v["definition"]) for v in dashboard["templating"]["list"] if v["type"] == "query"]
        equal(prometheus.values(variables[0]), [f"{daemon.host}:{daemon.port}"], variables[0])
        equal(prometheus.values(variables[1]), ["holder", "measured", "worker"], variables[1])
        # values come through as they are
        equal(prometheus.value('fracgpu_slice_memory_used_bytes{slice="holder"}'), 100 << 20, "held")
        (named,) = prometheus.query('fracgpu_slice_info{pod="pod"}')
        equal(named["metric"]["container"], "a\"b\\c\n\u00e4", "a name")
        eventually("time that is held back", lambda: prometheus.value(
            'rate(fracgpu_slice_throttled_seconds_total{slice="worker"}[10s])') > 0.2)
        print(f"{count} queries")


main()
