#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# fracgpu run and ps as their user meets them, behind one door. Runs in the simulator with two GPUs.
# usage: cli_test.sh FRACGPU HOLD STATIC-PROGRAM DOOR
set -eu
fracgpu=$1
hold=$2
static=$3
door=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mark=cli-$$	# other tests have slices of the same user

fail()
{
	echo "cli_test $door: $*" >&2
	cat "$work/out" "$work/err" >&2 || true
	exit 1
}

# status WANT COMMAND...: the command's exit status
status()
{
	want=$1
	shift
	got=0
	"$@" >"$work/out" 2>"$work/err" </dev/null || got=$?
	[ "$got" -eq "$want" ] || fail "'$*' gives $got, not $want"
}

says()
{
	grep -q -- "$1" "$work/out" "$work/err" || fail "'$1' is not said"
}

# eventually COMMAND...: wait until it succeeds
eventually()
{
	for _ in $(seq 1 600); do
		"$@" && return 0
		sleep 0.05
	done
	fail "'$*' does not come true"
}

# figure NAME EXPRESSION: of the slice called NAME, as ps tells
figure()
{
	"$fracgpu" ps --json | python3 -c '
import json, sys
found = [s for s in json.load(sys.stdin)["slices"] if s["name"] == sys.argv[1]]
print(eval(sys.argv[2], {"s": found[0]}) if found else "none")' "$1" "$2"
}

is() # NAME EXPRESSION VALUE
{
	[ "$(figure "$1" "$2")" = "$3" ]
}

run()
{
	want=$1
	shift
	status "$want" "$fracgpu" run --door "$door" "$@"
}

# the exit status is the program's
run 0 -- true
run 7 -- sh -c 'exit 7'
run 137 -- sh -c 'kill -KILL $$'
run 127 -- no-such-program
run 126 -- /dev/null
run 2 --no-such-option -- true
run 2 --memory lots -- true
run 2 --memory 5=1GiB -- true
run 2 --memory 9TiB -- true
says 'more than GPU 0 has'
run 2
[ ! -s "$work/out" ] || fail "mistakes belong on standard error"

# what the program is told, and where the limit is
# shellcheck disable=SC2016 # the program's shell expands it
run 0 --memory 1536MiB -- sh -c 'echo limit=$GPU_MEM_LIMIT_GB='
says 'limit=1.5='
run 0 --memory 64MiB -- "$hold" 64
says 'gpu 0 total 64 status 0'
says 'gpu 1 total 64 status 0'
run 0 --memory 64MiB -- "$hold" 65
says 'gpu 0 total 64 status 81'
run 0 --memory 1=64MiB -- "$hold" 65
says 'gpu 1 total 64 status 81'
! grep -q 'gpu 0' "$work/out" || fail "GPU 0 is not the slice's"
run 0 --memory 64MiB --view host -- "$hold" 65
says 'gpu 0 total 8192 status 81'

# static programs
if [ "$door" = preload ]; then
	run 125 --memory 64MiB -- "$static"
	says 'static'
	says '--door supervisor'
else
	run 0 --memory 64MiB -- "$static"
fi

# ps: what a slice holds, whose it is, and that the dead hold nothing
mkfifo "$work/pipe"
"$fracgpu" run --door "$door" --memory 0=1GiB --name "$mark" -- \
	sh -c "'$hold' 192 <'$work/pipe' >'$work/held'; : >'$work/ended'; exec sleep 1000" &
runner=$!
exec 3>"$work/pipe"
eventually [ -s "$work/held" ]
eventually is "$mark" 's["gpus"][0]["used_bytes"] >> 20' 192
is "$mark" 's["door"]' "$door" || fail "wrong door"
is "$mark" 'len(s["gpus"])' 1 || fail "GPU 1 is shown as the slice's"
is "$mark" 's["gpus"][0]["limit_bytes"] >> 20' 1024 || fail "wrong limit"
is "$mark" 'len(s["processes"])' 1 || fail "not one process"
holder=$(figure "$mark" 's["processes"][0]["pid"]')
grep -q hold "/proc/$holder/comm" || fail "pid $holder is not the program that holds the memory"
"$fracgpu" ps | grep -q "^$mark  *$door  *0  *1 GiB  *192 MiB" || fail "ps shows it otherwise: $("$fracgpu" ps)"
status 125 "$fracgpu" run --door "$door" --name "$mark" -- true
says 'running already'
kill -KILL "$holder"
eventually [ -e "$work/ended" ]
eventually is "$mark" 's["gpus"][0]["used_bytes"]' 0
is "$mark" 's["gpus"][0]["peak_bytes"] >> 20' 192 || fail "the peak is forgotten"

# signals go to the program, and the slice goes away with it
exec 3>&-
kill -TERM "$runner"
got=0
wait "$runner" || got=$?
[ "$got" -eq 143 ] || fail "a program ended by TERM gives $got, not 143"
eventually is "$mark" 1 none
status 0 "$fracgpu" run --door "$door" --name "$mark" -- true

# whoever is killed leaves nothing that is in the way
"$fracgpu" run --door "$door" --name "$mark" -- sh -c ": >'$work/started'; exec sleep 1000" &
runner=$!
eventually [ -e "$work/started" ]
child=$(cat "/proc/$runner/task/$runner/children")
kill -KILL "$runner"
wait "$runner" 2>/dev/null || true
# shellcheck disable=SC2086 # one pid a word
kill -KILL $child 2>/dev/null || true
eventually "$fracgpu" run --door "$door" --name "$mark" -- true 2>"$work/err"

# for users as for root
if [ "$(id -u)" -eq 0 ] && setpriv --reuid 65534 --clear-groups test -x "$fracgpu" 2>/dev/null; then
	status 0 setpriv --reuid 65534 --regid 65534 --clear-groups env -u XDG_RUNTIME_DIR "$fracgpu" run --door "$door" \
		--memory 64MiB -- "$hold" 65
	says 'gpu 0 total 64 status 81'
fi
