#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Programs that get a thousand signals a second, in containers: no call is lost or made twice. Runs in the simulator with one GPU
# of 8 GiB.
# usage: signals_test.sh RUNC-OR-CRUN BUILD-ROOT GUEST SIGNALS
set -eu
signals=$4
# shellcheck source=tests/containers/lib.sh
. "$(dirname "$0")/lib.sh"

printf '[default]\nmax = 2GiB\n' >"$work/policy"
start_daemon
cp "$signals" "$root/bin/signals"
bundle box FRACGPU_MEMORY=1GiB '.mounts += [{destination: "/dev/fracgpu-sim-state", type: "bind", source: "/dev/fracgpu-sim-state",
	options: ["bind", "rw"]}]'
up box
# a runtime that cannot set the wait-killable flag leaves a moment in which an answer is lost unnoticed: then something is held that
# the program does not know, and is counted
"$low" --version | grep -Eq 'crun|runc version (1\.([5-9]|[1-9][0-9])|[2-9])' && flag=yes || flag=
for restart in "" restart; do
	# shellcheck disable=SC2086 # a word or none
	"$build/src/runtime/fracgpu-runtime" exec box /bin/signals 3000 $restart >"$work/out" 2>&1 </dev/null || [ -z "$flag" ] ||
		fail "a program with signals"
	grep -Eq 'held 3 ledger ([0-9]+) driver \1$' "$work/out" || fail "the ledger is not what the driver has"
	[ -z "$restart" ] || grep -q "interrupted 0 " "$work/out" || fail "EINTR in spite of SA_RESTART"
	cat "$work/out"
	eventually is box used_bytes 0
done
echo "signals_test $low: ok"
