#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether a CDI specification keeps the rules: cdi_check.py FILE NAME...

The rules are those of CDI's SPEC.md and of its schema. The devices NAME must be there."""
import json
import re
import sys

VERSIONS = {"0.5.0", "0.6.0"}
KIND = re.compile(r"[a-z0-9.-]+\.[a-z]+/[A-Za-z][A-Za-z0-9_-]*[A-Za-z0-9]$")
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$")
EDITS = {
    "env": lambda e: isinstance(e, str) and "=" in e,
    "deviceNodes": lambda e: e["path"].startswith("/") and set(e) <= {"path", "hostPath", "permissions"},
    "mounts": lambda e: e["hostPath"].startswith("/") and e["containerPath"].startswith("/")
    and all(isinstance(o, str) for o in e["options"]),
    "hooks": lambda e: e["hookName"] in {"prestart", "createRuntime", "createContainer"} and e["path"].startswith("/")
    and all(isinstance(a, str) for a in e["args"]),
}


def check(spec, wanted):
    assert set(spec) == {"cdiVersion", "kind", "devices"}, f"top level: {set(spec)}"
    assert spec["cdiVersion"] in VERSIONS and KIND.match(spec["kind"]), spec["kind"]
    names = [device["name"] for device in spec["devices"]]
    assert len(names) == len(set(names)), "a name is there twice"
    assert set(wanted) <= set(names), f"not there: {set(wanted) - set(names)}"
    for device in spec["devices"]:
        assert NAME.match(device["name"]), device["name"]
        assert set(device) <= {"name", "containerEdits", "annotations"}, set(device)
        assert spec["cdiVersion"] != "0.5.0" or "annotations" not in device, "annotations came with 0.6.0"
        edits = device["containerEdits"]
        assert set(edits) <= set(EDITS), set(edits)
        for key, entries in edits.items():
            for entry in entries:
                assert EDITS[key](entry), f"{device['name']}: {key}: {entry}"
        assert edits.get("deviceNodes") or edits.get("mounts"), "no device file"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        check(json.load(file), sys.argv[2:])


main()
