#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# gate-bench hands a GPU over: of two slices with endless work each has half, and all of it is given back. Runs in the simulator.
# usage: handover_test.sh FRACGPU COMPUTE-TOOL GATE-BENCH
set -eu
fracgpu=$1
tool=$2
gate_bench=$3
work=$(mktemp -d)
trap 'end_all; rm -rf "$work"' EXIT

fail()
{
	echo "handover_test: $*" >&2
	cat "$work"/*.err "$work"/*.json >&2 || true
	exit 1
}

end_all()
{
	for pid in "$work"/*.pid; do
		[ -e "$pid" ] && kill -TERM "$(cat "$pid")" 2>/dev/null || true
	done
	wait
}

start() # NAME: a slice with endless work
{
	"$fracgpu" run --door preload --memory 1GiB --name "handover-$1-$$" -- "$tool" tenant >"$work/$1" 2>"$work/$1.err" &
	echo $! >"$work/$1.pid"
	for _ in $(seq 1 400); do
		[ -s "$work/$1" ] && break
		sleep 0.05
	done
	read -r client channel <"$work/$1" || fail "$1 does not start"
	"$tool" work "$client" "$channel"
}

ledger() # NAME
{
	for place in /run/fracgpu "${XDG_RUNTIME_DIR:-/run}/fracgpu" "/tmp/fracgpu-$(id -u)"; do
		[ -e "$place/handover-$1-$$/ledger" ] && echo "$place/handover-$1-$$/ledger" && return
	done
	fail "no ledger of $1"
}

busy() # NAME: ns on the GPU
{
	read -r client _ <"$work/$1"
	"$tool" busy "$client" | cut -d ' ' -f 1
}

gates() # OPTIONS LEDGER...
{
	"$gate_bench" "$@" >"$work/gates.json" 2>"$work/gates.err" || fail "gate-bench $*"
}

expect() # PYTHON: of r, what gate-bench says
{
	python3 -c "import json, sys; r = json.load(open(sys.argv[1])); sys.exit(not ($1))" "$work/gates.json" || fail "not $1"
}

start a
start b
for order in "" --close-first; do
	before_a=$(busy a)
	before_b=$(busy b)
	# shellcheck disable=SC2086 # none or one
	gates --turn 100 --seconds 2 $order "$(ledger a)" "$(ledger b)"
	expect 'r["channels"] == [1, 1] and r["open_ms"]["count"] >= 10 and r["close_ms"]["count"] >= 10'
	used_a=$(($(busy a) - before_a))
	used_b=$(($(busy b) - before_b))
	share=$((100 * used_a / (used_a + used_b)))
	[ $share -ge 35 ] && [ $share -le 65 ] || fail "$order: a has $share %"
done
# one slice: half of the time there is nobody but b; and then its gate is open again
before=$(busy a)
gates --turn 100 --seconds 1 "$(ledger a)"
[ "$(busy a)" -gt "$before" ] || fail "a did not run between"
before=$(busy a)
for _ in $(seq 1 100); do
	[ "$(busy a)" -gt "$before" ] && break
	sleep 0.05
done
[ "$(busy a)" -gt "$before" ] || fail "a does not run again"
gates --timeslice 4000 "$(ledger a)" "$(ledger b)"
expect 'r == {"groups": 2, "set": 2}'
"$gate_bench" >"$work/usage.json" 2>&1 && fail "without a ledger" || [ $? -eq 2 ] || fail "usage is not 2"
"$gate_bench" /none 2>"$work/none.err" && fail "a ledger that is not there"
grep -q "cannot open ledger '/none'" "$work/none.err" || fail "no word about the ledger"
