#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# fracgpu-sim as a program: exit status, signals, what it leaves behind, mount, wrong usage.
# usage: launch_test.sh FRACGPU_SIM
set -eu
sim=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail()
{
	echo "launch_test: $*" >&2
	exit 1
}

# status WANT COMMAND...: the command's exit status
status()
{
	want=$1
	shift
	got=0
	"$@" >"$work/out" 2>"$work/err" || got=$?
	[ "$got" -eq "$want" ] || fail "'$*' gives $got, not $want: $(cat "$work/out" "$work/err")"
}

# gone PID: wait until there is no such process, or a zombie is all that is left of it
gone()
{
	for _ in $(seq 1 600); do
		grep -qs '^State:.[^ZX]' "/proc/$1/status" || return 0
		sleep 0.05
	done
	fail "process $1 is still there"
}

# filled FILE: wait until a file has something in it
filled()
{
	for _ in $(seq 1 600); do
		[ -s "$1" ] && return 0
		sleep 0.05
	done
	fail "nothing in $1"
}

no_mounts()
{
	if grep -q " $work" /proc/self/mountinfo; then
		fail "a mount is left"
	fi
}

before=$(ls /dev)
status 0 "$sim" -- true
status 7 "$sim" -- sh -c 'exit 7'
status 137 "$sim" -- sh -c 'kill -9 $$'
status 127 "$sim" -- /nonexistent
status 126 "$sim" -- /etc/passwd
status 2 "$sim"
status 2 "$sim" --bad
status 2 "$sim" --gpu nonsense true
status 2 "$sim" --driver 1.2.3 true
grep -q '515.43.04' "$work/err" || fail "the refusal does not say what is known"
status 0 "$sim" --list
grep -q h200 "$work/out" || fail "no h200 in the list"
no_mounts

# the program sees all of /dev, and the outside nothing new
status 0 "$sim" --gpu h200,p100 -- sh -c '
	test -e /dev/nvidiactl && test -e /dev/nvidia0 && test -e /dev/nvidia1 && test ! -e /dev/nvidia2 &&
	test -e /dev/nvidia-uvm && test -e /dev/nvidia-uvm-tools && test -c /dev/null && test -d /dev/shm &&
	test -L /dev/fd && echo x >/dev/null && test ! -e /dev/.fracgpu-sim'
[ "$before" = "$(ls /dev)" ] || fail "the outside sees another /dev"
if command -v python3 >/dev/null; then
	status 0 "$sim" --gpu h200,p100 -- python3 -c 'import json; json.load(open("/dev/fracgpu-sim-state"))["gpus"][1]["free"]'
fi

# two at the same time do not see each other
status 0 "$sim" --gpu h200 -- "$sim" --gpu p100 -- grep -q p100 /dev/fracgpu-sim-state
grep -q h200 "$work/out" && fail "an inner simulator shows the outer one's GPU"

# a signal goes to the program, whose answer is the status
# shellcheck disable=SC2016 # the inner shell expands
"$sim" -- sh -c 'trap "exit 9" TERM; echo $$ >"$1/pid"; while :; do sleep 0.05; done' sh "$work" &
launcher=$!
filled "$work/pid"
kill -TERM $launcher
got=0
wait $launcher || got=$?
[ "$got" -eq 9 ] || fail "after TERM the status is $got"

# what the program leaves running ends with it
rm -f "$work/pid"
# shellcheck disable=SC2016
status 0 "$sim" -- sh -c 'setsid sleep 1000 >/dev/null 2>&1 & echo $! >"$1/pid"' sh "$work"
gone "$(cat "$work/pid")"

# kill -9 of the launcher takes all with it
rm -f "$work/pid"
# shellcheck disable=SC2016
"$sim" -- sh -c 'sleep 1000 & echo $! $$ >"$1/pid.new"; mv "$1/pid.new" "$1/pid"; wait' sh "$work" &
launcher=$!
filled "$work/pid"
server=$(pgrep -P $launcher -x fracgpu-sim)
kill -KILL $launcher
wait $launcher 2>/dev/null || :
for pid in $(cat "$work/pid") $server; do
	gone "$pid"
done
no_mounts

# mount: served in a folder until a signal
mkdir "$work/dir" "$work/pipe"
mkfifo "$work/pipe/ready"
"$sim" --gpu a100 mount "$work/dir" >"$work/pipe/ready" &
server=$!
read -r line <"$work/pipe/ready"
[ "$line" = ready ] || fail "mount says '$line'"
grep -q a100 "$work/dir/fracgpu-sim-state" || fail "no state in the folder"
test -f "$work/dir/nvidia0" || fail "no nvidia0 in the folder"
kill -TERM $server
wait $server || fail "mount ends with $?"
no_mounts
status 1 "$sim" mount "$work/nonexistent"

# as an ordinary user, where that user may open /dev/fuse
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then
	cp "$sim" "$work/fracgpu-sim"
	chmod 755 "$work"
	user="setpriv --reuid=65534 --regid=65534 --clear-groups --"
	# shellcheck disable=SC2086
	if $user sh -c ': <>/dev/fuse' 2>/dev/null && $user unshare -U true 2>/dev/null; then
		# shellcheck disable=SC2086,SC2016
		status 5 $user "$work/fracgpu-sim" -- sh -c 'test "$(id -u)" -eq 65534 && test -e /dev/nvidiactl && exit 5'
	else
		echo "no test as a user: it may not open /dev/fuse" >&2
	fi
fi
