#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# CDI devices and their hook. Runs in the simulator with GPUs of 8 GiB and of 141 GB.
# usage: cdi_test.sh FRACGPU
set -eu
fracgpu=$1
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail()
{
	echo "cdi_test: $*" >&2
	cat "$work/out" >&2 2>/dev/null || true
	exit 1
}

status() # WANTED COMMAND...
{
	want=$1
	shift
	got=0
	"$@" >"$work/out" 2>&1 || got=$?
	[ "$got" -eq "$want" ] || fail "'$*' gives $got, not $want"
}

says()
{
	grep -q -- "$1" "$work/out" || fail "it does not say '$1'"
}

status 0 "$fracgpu" cdi generate --output "$work/spec.json"
python3 "$here/cdi_check.py" "$work/spec.json" all 0 1 8GiB 8GiB:25 0:8GiB 0:8GiB:25 1:80GiB:50
! grep -q '"0:10GiB"' "$work/spec.json" || fail "more than the GPU has"
! grep -q '"10GiB"' "$work/spec.json" || fail "more than one of the GPUs has"
grep -q '"fracgpu.io/memory": "1=80GiB"' "$work/spec.json" || fail "no annotation"
status 0 "$fracgpu" cdi generate --spec 0.5.0 --memory 512MiB,1.5GiB,512MiB --compute "" --output "$work/spec.json"
python3 "$here/cdi_check.py" "$work/spec.json" 0:512MiB 1:1.5GiB
! grep -q ':25' "$work/spec.json" || fail "a share that was not asked for"

status 2 "$fracgpu" cdi
status 2 "$fracgpu" cdi generate --spec 0.4.0
says "not one of"
status 2 "$fracgpu" cdi generate --memory 8
status 2 "$fracgpu" cdi generate --memory 8GiB,lots
status 2 "$fracgpu" cdi generate --compute 120%
status 2 "$fracgpu" cdi generate --hook /usr/bin/other
status 1 "$fracgpu" cdi generate --output "$work/no/such/folder.json"
[ ! -e "$work/no" ] || fail "it made a folder"

# the hook: a container that nobody limits does not start
hook() # WANTED CONFIG
{
	printf '%s' "$2" >"$work/config.json"
	printf '{"id":"a","bundle":"%s"}' "$work" >"$work/state"
	got=0
	"$fracgpu" cdi-hook --memory 0=1GiB <"$work/state" >"$work/out" 2>&1 || got=$?
	[ "$got" -eq "$1" ] || fail "the hook gives $got, not $1, for $2"
}

hook 1 '{}'
says '--runtime fracgpu'
hook 1 '{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"}}}'
hook 1 '{"linux":{"seccomp":{"listenerPath":"/other.sock","listenerMetadata":"of another agent"}}}'
hook 1 'no JSON'
hook 0 '{"linux":{"seccomp":{"listenerPath":"/run/agent.sock","listenerMetadata":"fracgpu memory=0=1GiB"}}}'
rm "$work/config.json"
printf '{}' >"$work/state"
! "$fracgpu" cdi-hook <"$work/state" 2>"$work/out" || fail "no bundle is fine"
echo "cdi_test: ok"
