#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Slices of containers as on bare metal (set, stat, top, pause), and slices that stand without one (create, rm). Runs in the
# simulator with one GPU of 8 GiB.
# usage: slices_test.sh RUNC-OR-CRUN BUILD-ROOT GUEST
set -eu
# shellcheck source=tests/containers/lib.sh
. "$(dirname "$0")/lib.sh"

# status WANTED COMMAND...: its exit status
status()
{
	want=$1
	shift
	got=0
	"$@" >"$work/out" 2>&1 || got=$?
	[ "$got" -eq "$want" ] || fail "'$*' gives $got, not $want: $(cat "$work/out")"
}

says()
{
	grep -q -- "$1" "$work/out" || fail "it does not say '$1': $(cat "$work/out")"
}

make()
{
	status 0 "$fracgpu" create --socket "$FRACGPU_SOCKET" "$@"
}

stat_is() # NAME FILTER VALUE
{
	[ "$("$fracgpu" stat "$1" --json | jq -r "$2")" = "$3" ]
}

# start_hold NAME MIB: a program in the container that keeps memory; its stdin is a pipe that is open as long as we are
start_hold()
{
	mkfifo "$work/hold-$1"
	"$build/src/runtime/fracgpu-runtime" exec "$1" /bin/hold "$2" <"$work/hold-$1" >"$work/held-$1" 2>&1 &
}

printf '[default]\nmax = 4GiB\nmax-compute = 60%%\n[container placed]\nslice = team\n' >"$work/policy"
start_daemon

# a container's own slice: a cap on GPU time that it asks for, capped itself
bundle box "NVIDIA_GPU_MEMORY_LIMIT=512 CUDA_DEVICE_SM_LIMIT=80"
up box
eventually is box 'limit_bytes / 1048576' 512
stat_is box .compute.max_permille 600 || fail "no cap, or another: $("$fracgpu" stat box --json)"
stat_is box .compute.driven true || fail "nobody drives the slice"

# changed while it runs
status 0 "$fracgpu" set box --memory 768MiB --compute 25%
stat_is box .compute.max_permille 250 || fail "the cap is not changed"
stat_is box '.gpus[0].memory.limit_bytes / 1048576' 768 || fail "the limit is not changed"
hold box 768 0 768
hold box 769 81 768
status 0 "$fracgpu" pause box
stat_is box .compute.paused true || fail "it is not paused"
status 0 "$fracgpu" resume box
status 0 "$fracgpu" top --count 1
says '^box '
status 1 "$fracgpu" set box --memory 9GiB
says 'more than GPU 0 has'
status 1 "$fracgpu" rm box
says 'not one that'

# who is in the container may not, also with our files and tools
status 1 nsenter --target "$("$low" state box | jq .pid)" --pid -- "$fracgpu" set box --memory 4GiB
says 'must not change limits'

# a slice that stands, empty, and what it is counted as
make team --memory 1GiB --compute 50%
is team 'limit_bytes / 1048576' 1024 || fail "ps does not show it"
status 1 "$fracgpu" create --socket "$FRACGPU_SOCKET" team
says 'running already'
status 1 "$fracgpu" create --socket "$FRACGPU_SOCKET" huge --memory 7GiB
says 'overcommit'
status 1 "$fracgpu" set team --memory 7600MiB
says 'overcommit'
status 2 "$fracgpu" create --socket "$FRACGPU_SOCKET" team/2
status 2 "$fracgpu" create --socket "$FRACGPU_SOCKET" next --memory lots
status 1 "$fracgpu" create --socket "$work/nobody" next
says 'cannot reach fracgpud'

# shares of time between them
for name in box team; do
	status 0 "$fracgpu" set "$name" --weight 300 --priority normal
	stat_is "$name" .compute.weight 300 || fail "no weight"
	stat_is "$name" .compute.driven true || fail "nobody drives $name"
done

# two containers in one slice: one by the host's policy, one by its profile; what one holds the other cannot have
bundle placed FRACGPU_MEMORY=3GiB
bundle given FRACGPU_MEMORY=3GiB '.linux.seccomp = '"$("$fracgpu" seccomp-profile --base unconfined --slice team --runtime "$low" \
	--socket "$FRACGPU_SOCKET" 2>/dev/null)"
up placed
up given
eventually [ -e "/run/fracgpu/team/in-given" ]
eventually [ -e "/run/fracgpu/team/in-placed" ]
[ ! -e /run/fracgpu/placed ] || fail "it has a slice of its own as well"
start_hold placed 600
exec 3>"$work/hold-placed"
eventually grep -q 'status 0' "$work/held-placed"
hold given 424 0 1024
hold given 425 81 1024
eventually stat_is team '.gpus[0].memory.used_bytes / 1048576' 600
status 0 "$fracgpu" set team --memory 1100MiB
hold given 500 0 1100
status 1 "$fracgpu" rm team
says 'containers are in it'

# fracgpud is started anew, with another policy: who is in the slice stays
kill -KILL "$daemon"
wait "$daemon" 2>/dev/null || true
printf '[default]\nmax = 4GiB\n' >"$work/policy"
start_daemon
hold placed 500 0 1100

# one leaves, the other stays
exec 3>&-
"$low" delete -f placed
eventually [ ! -e /run/fracgpu/team/in-placed ]
hold given 1100 0 1100

# asking to be in it is not enough, unless the slice is open
bundle asks FRACGPU_SLICE=team
create asks || true
eventually grep -q 'without --open' "$work/daemon.log"
eventually has_ended asks
"$low" delete -f asks >/dev/null 2>&1 || true
make guests --memory 256MiB --open
bundle guest FRACGPU_SLICE=guests
up guest
eventually [ -e /run/fracgpu/guests/in-guest ]
hold guest 256 0 256
bundle lost FRACGPU_SLICE=nowhere
create lost || true
eventually grep -q "'fracgpu create' has not made" "$work/daemon.log"
eventually has_ended lost
"$low" delete -f lost >/dev/null 2>&1 || true

# its process is killed: nothing opens for who was in it, and the name is free
make brief --memory 128MiB --open
bundle orphan FRACGPU_SLICE=brief
up orphan
eventually [ -e /run/fracgpu/brief/in-orphan ]
hold orphan 128 0 128
for pid in $(pgrep -x fracgpud-slice); do
	if grep -q "$work" "/proc/$pid/cmdline" && readlink "/proc/$pid/fd/"* | grep -q /brief/owner; then kill -KILL "$pid"; fi
done
eventually is brief limit_bytes ""
! "$low" exec orphan /bin/hold 1 >"$work/out" 2>&1 || fail "a program gets the GPU though nobody serves it"
"$low" delete -f orphan
make brief --memory 64MiB
status 0 "$fracgpu" rm brief

# the end: of an empty one, and of one with a container in it
"$low" delete -f guest
eventually "$fracgpu" rm guests
status 0 "$fracgpu" create --socket "$FRACGPU_SOCKET" guests --memory 256MiB
status 0 "$fracgpu" rm guests
[ ! -e /run/fracgpu/guests ] || fail "rm comes back before the slice is gone"
status 0 "$fracgpu" rm --force team
eventually has_ended given
[ ! -e /run/fracgpu/team ] || fail "the slice is still there"
hold box 700 0 768
echo "slices_test $low: ok"
