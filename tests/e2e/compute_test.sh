#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A slice's share of GPU time, and changes while it runs, behind one door. Runs in the simulator.
# usage: compute_test.sh FRACGPU COMPUTE-TOOL HOLD DOOR
set -eu
fracgpu=$1
tool=$2
hold=$3
door=$4
work=$(mktemp -d)
name=compute-$$
runner=
trap 'end_slice; rm -rf "$work"' EXIT

fail()
{
	echo "compute_test $door: $*" >&2
	cat "$work/err" >&2 || true
	exit 1
}

eventually()
{
	for _ in $(seq 1 600); do
		"$@" && return 0
		sleep 0.05
	done
	fail "'$*' does not come true"
}

end_slice()
{
	if [ -n "$runner" ]; then
		kill -TERM "$runner" 2>/dev/null || true
		wait "$runner" 2>/dev/null || true
		runner=
	fi
}

busy() # ns on the GPU
{
	# shellcheck disable=SC2046 # two numbers
	set -- $("$tool" busy "$client")
	echo "$1"
}

stands_still()
{
	before=$(busy)
	sleep 0.2
	[ "$(busy)" -eq "$before" ]
}

runs()
{
	! stands_still
}

says()
{
	grep -q -- "$1" "$work/err" || fail "'$1' is not said"
}

start() # OPTIONS: a slice with endless work
{
	rm -f "$work/channel"
	"$fracgpu" run --door "$door" --memory 1GiB --name "$name" "$@" -- "$tool" tenant >"$work/channel" 2>"$work/err" &
	runner=$!
	eventually [ -s "$work/channel" ]
	read -r client channel <"$work/channel"
	"$tool" work "$client" "$channel"
}

# mistakes
for options in '--compute 0%' '--compute much' '--weight 0' '--weight 10001' '--priority high' '--latency 1s'; do
	got=0
	# shellcheck disable=SC2086
	"$fracgpu" run --door "$door" $options -- true 2>"$work/err" || got=$?
	[ "$got" -eq 2 ] || fail "'$options' gives $got"
done
got=0
"$fracgpu" pause "no-$name" 2>"$work/err" || got=$?
[ "$got" -eq 1 ] || fail "pausing nothing gives $got"
says 'no such slice'

# a cap: never more; less while this machine is too busy to open the gates on time
share()
{
	# shellcheck disable=SC2046
	set -- $("$tool" busy "$client") $(sleep 1 && "$tool" busy "$client")
	share=$((($3 - $1) * 100 / ($4 - $2)))
	[ "$share" -le 56 ] || return 1
	[ "$share" -ge 30 ]
}
start --compute 50%
eventually share

# pause: nothing; resume; and a cap that goes
"$fracgpu" pause "$name" 2>"$work/err" || fail "no pause"
stands_still || fail "a paused slice runs"
"$fracgpu" stat --json "$name" >"$work/stat" 2>"$work/err" || fail "no stat"
python3 -c '
import json, sys
s = json.load(sys.stdin)
g = s["gpus"][0]
assert s["compute"]["max_permille"] == 500 and s["compute"]["paused"] and s["compute"]["driven"], s
assert g["memory"]["limit_bytes"] == 1 << 30 and g["compute"]["channels"] == 1, s
assert g["compute"]["throttled_ns"] > 0 and g["compute"]["switches"] > 1 and len(s["processes"]) == 1, s
' <"$work/stat" 2>>"$work/err" || fail "stat shows it otherwise: $(cat "$work/stat")"
"$fracgpu" stat "$name" | grep -q "^$name, $door door, paused$" || fail "stat does not show the pause"
"$fracgpu" top --count 2 >"$work/top" || fail "no top"
[ "$(grep -c "^$name .* 0 B *1 GiB .* paused " "$work/top")" -eq 2 ] || fail "top shows otherwise: $(cat "$work/top")"
"$fracgpu" resume "$name" 2>"$work/err" || fail "no resume"
eventually runs
"$fracgpu" set "$name" --compute none --weight 300 2>"$work/err" || fail "no set"
eventually runs

# paused again, then kill -9 of who drives the gates: they open
"$fracgpu" pause "$name" 2>"$work/err" || fail "no second pause"
stands_still || fail "a slice paused again runs"
tenant=$(cat "/proc/$runner/task/$runner/children")
kill -KILL "$runner"
wait "$runner" 2>/dev/null || true
runner=
eventually runs
if [ "$door" = preload ]; then
	! "$fracgpu" pause "$name" 2>"$work/err" || fail "nobody can have paused it"
	says 'nobody drives'
fi
# shellcheck disable=SC2086 # one pid a word
kill -KILL $tenant 2>/dev/null || true

# memory of a slice that runs, and a tenant that would have more
name=$name-memory
mkfifo "$work/pipe"
# shellcheck disable=SC2016 # the inner shell expands it
"$fracgpu" run --door "$door" --memory 256MiB --name "$name" -- sh -c '
	"$1" set "$2" --memory 1GiB 2>"$3/tenant"; echo "$?" >"$3/answer"
	"$4" 192 <"$3/pipe" >"$3/first"
	"$4" 192 </dev/null >"$3/second"
	exec sleep 1000' sh "$fracgpu" "$name" "$work" "$hold" 2>"$work/err" &
runner=$!
exec 3>"$work/pipe"
eventually [ -s "$work/first" ]
grep -q 'total 256 status 0' "$work/first" || fail "not the limit that was given: $(cat "$work/first")"
[ "$(cat "$work/answer")" -ne 0 ] || fail "a program in the slice has changed its limit"
grep -q 'must not change limits' "$work/tenant" || fail "it was refused otherwise: $(cat "$work/tenant")"
holds()
{
	"$fracgpu" ps | grep -q "^$name .*192 MiB"
}
eventually holds
"$fracgpu" set "$name" --memory 128MiB 2>"$work/err" || fail "the limit cannot be made smaller"
says 'holds 192 MiB, more than 128 MiB'
"$fracgpu" ps | grep -q "^$name .*128 MiB *192 MiB" || fail "ps does not show the new limit"
exec 3>&-
eventually [ -s "$work/second" ]
grep -q 'total 128 status 81' "$work/second" || fail "the new limit does not hold: $(cat "$work/second")"
