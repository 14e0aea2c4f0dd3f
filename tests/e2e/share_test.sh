#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Slices of one user share a GPU by weights and priorities, without a daemon. Runs in the simulator.
# usage: share_test.sh FRACGPU COMPUTE-TOOL DOOR
set -eu
fracgpu=$1
tool=$2
door=$3
work=$(mktemp -d)
trap 'end_all; rm -rf "$work"' EXIT

fail()
{
	echo "share_test $door: $*" >&2
	cat "$work"/*.err >&2 || true
	exit 1
}

eventually()
{
	for _ in $(seq 1 400); do
		"$@" && return 0
		sleep 0.05
	done
	fail "'$*' does not come true"
}

end_all()
{
	for pid in "$work"/*.pid; do
		[ -e "$pid" ] && kill -TERM "$(cat "$pid")" 2>/dev/null || true
	done
	wait
}

start() # NAME OPTIONS: a slice with endless work
{
	name=$1
	shift
	"$fracgpu" run --door "$door" --memory 1GiB --name "share-$name-$$" "$@" -- "$tool" tenant >"$work/$name" 2>"$work/$name.err" &
	echo $! >"$work/$name.pid"
	eventually [ -s "$work/$name" ]
	read -r client channel <"$work/$name"
	"$tool" work "$client" "$channel"
}

busy() # NAME: ns on the GPU, and the GPU's clock
{
	read -r client _ <"$work/$1"
	"$tool" busy "$client"
}

# Whether A has between LOW and HIGH per cent of what A and B have in a second.
has() # A B LOW HIGH
{
	# shellcheck disable=SC2046 # numbers
	set -- "$3" "$4" $(busy "$1") $(busy "$2") $(sleep 1 && busy "$1") $(busy "$2")
	first=$(($7 - $3))
	second=$(($9 - $5))
	[ $((first + second)) -gt 0 ] || return 1
	share=$((first * 100 / (first + second)))
	[ "$share" -ge "$1" ] && [ "$share" -le "$2" ]
}

runs_alone() # A B: A works, B stands still
{
	has "$1" "$2" 98 100
}

has_timeslice() # NAME US
{
	read -r client _ <"$work/$1"
	grep "\"handle\": $client, \"pid\"" /dev/fracgpu-sim-state | grep -q "\"timeslice_us\": $2}"
}

start a --weight 300
start b --weight 100
# slices of another simulator have another leader
gates=.gates$(stat -c %D /dev/nvidiactl)
[ -S "/run/fracgpu/$gates" ] || [ -S "${XDG_RUNTIME_DIR:-/tmp}/fracgpu/$gates" ] || [ -S "/tmp/fracgpu-$(id -u)/$gates" ] ||
	fail "no leader of this driver's slices"
eventually has a b 70 80
"$fracgpu" set "share-b-$$" --weight 900 2>"$work/set.err" || fail "no set"
eventually has a b 20 30
# nothing else has changed: who leads stays, who follows is told
"$fracgpu" pause "share-b-$$" 2>"$work/set.err" || fail "no pause"
eventually runs_alone a b
"$fracgpu" resume "share-b-$$" 2>"$work/set.err" || fail "no resume"
"$fracgpu" set "share-b-$$" --priority idle 2>"$work/set.err" || fail "no priority"
eventually runs_alone a b
"$fracgpu" set "share-b-$$" --priority realtime 2>"$work/set.err" || fail "no priority"
eventually has b a 93 96
eventually has_timeslice a 32
eventually has_timeslice b 4000
# nor does the tenant itself make it longer
"$fracgpu" run --door "$door" --memory 1GiB --name "share-d-$$" --weight 1 -- "$tool" tenant >"$work/d" 2>"$work/d.err" &
echo $! >"$work/d.pid"
eventually [ -s "$work/d" ]
eventually has_timeslice d 32
usr1()
{
	# shellcheck disable=SC2046 # pids
	kill -USR1 $(cat "/proc/$(cat "$work/d.pid")/task/"*/children)
}
usr1
eventually grep -q asked "$work/d"
has_timeslice d 32 || fail "a tenant has lengthened its timeslice"
kill -TERM "$(cat "$work/d.pid")"
rm "$work/d.pid"
"$fracgpu" set "share-b-$$" --priority normal --weight 300 2>"$work/set.err" || fail "no priority"
eventually has a b 45 55
eventually has_timeslice a 2048
eventually has_timeslice b 2048

# a third; then the one that leads is killed: another takes over
start c --weight 200
eventually has a c 55 65
switches() # NAME: how often its gate has moved
{
	"$fracgpu" stat --json "share-$1-$$" | python3 -c 'import json, sys; print(json.load(sys.stdin)["gpus"][0]["compute"]["switches"])'
}
before=$(switches b)
[ "$before" -gt 100 ] || fail "few switches: $before"
kill -KILL "$(cat "$work/a.pid")"
rm "$work/a.pid"
eventually has b c 55 65
[ "$(switches b)" -gt "$before" ] || fail "its figures began anew with another leader: $before, $(switches b)"
# one that hangs leads nobody: its guard opens what it closed, and each is on its own until it is back
has_run() # NAME SINCE
{
	now=$(busy "$1")
	[ "${now% *}" -gt $(($2 + 20000000)) ]
}
kill -STOP "$(cat "$work/b.pid")"
since=$(busy c)
eventually has_run c "${since% *}"
kill -CONT "$(cat "$work/b.pid")"
eventually has b c 55 65
echo "$door: shares by weight, priority and pause, and after the leader's death and hanging"
