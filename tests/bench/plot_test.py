#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Pictures of the stored results: plot_test.py SOURCE_ROOT. They are the same twice, need nothing from elsewhere, and those
that are stored show the stored figures."""
import importlib.util
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

if not importlib.util.find_spec("matplotlib"):
    print("skipped: no matplotlib (python3-matplotlib)")
    sys.exit(77)

ROOT = pathlib.Path(sys.argv[1])
RESULTS = ROOT / "bench/results"
PICTURES = {"compute": {"caps", "weights", "sum", "inference"}, "memory": {"costs"}}


def plot(*words):
    return subprocess.run([sys.executable, ROOT / "bench/plot", *words], capture_output=True, text=True, timeout=60, check=False)


def texts(path):
    """What a reader reads, in order."""
    return [node.text for node in xml.etree.ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def expect(is_true, what):
    if not is_true:
        sys.exit(f"plot_test: {what}")


def check_pictures(result, folder):
    what = result.name.split("-")[0]
    made = []
    for name in ("first", "again"):
        done = plot(result, "-o", folder / name)
        expect(done.returncode == 0, f"{result.name}: status {done.returncode}: {done.stderr}")
        made.append([pathlib.Path(line) for line in done.stdout.splitlines()])
    expect({path.stem.rsplit("-", 1)[1] for path in made[0]} <= PICTURES[what] and made[0], f"{result.name}: {made[0]}")
    for first, again in zip(*made):
        text = first.read_text(encoding="utf-8")
        expect(text == again.read_text(encoding="utf-8"), f"{first.name} differs the second time")
        links = set(re.findall(r'(?:href|src)="(?!#)[^"]*"|url\((?!#)[^)]*\)|@import|<script|<!DOCTYPE', text))
        expect(not links, f"{first.name}: {links}")
        expect(len(texts(first)) > 5, f"{first.name} says nothing")
        expect("prefers-color-scheme: dark" in text, f"{first.name} has no dark colours")
    return made[0]


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        results = sorted(path for what in PICTURES for path in RESULTS.glob(f"{what}-*.json"))
        expect(results, "no stored results")
        made = {path.name: path for result in results for path in check_pictures(result, folder / result.stem)}
        for stored in sorted(RESULTS.glob("*.svg")):
            expect(stored.name in made, f"{stored.name} is of no stored result")
            expect(texts(stored) == texts(made[stored.name]), f"{stored.name} is of another result: run bench/plot again")
        for text in ("{", "[]", '{"what": "engine"}'):
            bad = folder / "bad.json"
            bad.write_text(text, encoding="utf-8")
            done = plot(bad)
            expect(done.returncode == 1 and re.fullmatch(r"plot: [^\n]*bad\.json[^\n]*\n", done.stderr), f"{text}: {done.stderr}")
    print(f"{len(made)} pictures")


main()
