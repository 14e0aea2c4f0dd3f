#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Containers of runc and crun through fracgpu-runtime and fracgpud. Runs in the simulator with one GPU of 8 GiB.
# usage: bundle_test.sh RUNC-OR-CRUN BUILD-ROOT GUEST
set -eu
low=$1
build=$2
guest=$3
fracgpu=$build/src/cli/fracgpu

skip()
{
	echo "skipped: $*"
	exit 77
}

[ "$(id -u)" -eq 0 ] || skip "needs root"
for need in "$low" busybox jq unshare; do
	command -v "$need" >/dev/null || skip "$need is not installed"
done
if [ ! -e /bin/busybox ] || ldd /bin/busybox >/dev/null 2>&1; then
	skip "needs busybox-static"
fi
if [ "${IN_NAMESPACE:-}" != yes ]; then
	IN_NAMESPACE=yes exec unshare --mount --propagation private "$0" "$@"
fi
# slices of our own; crun takes cgroups of version 1, or of version 2, and not a host that has both
mount -t tmpfs -o mode=755 tmpfs /run
mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified

work=$(mktemp -d)
daemon=
cleanup()
{
	for name in box other late; do
		"$low" delete -f "$name" >/dev/null 2>&1 || true
	done
	[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

fail()
{
	echo "bundle_test $low: $*" >&2
	tail -n 20 "$work"/*.log "$work/out" >&2 2>/dev/null || true
	exit 1
}

eventually() # COMMAND...
{
	for _ in $(seq 1 1200); do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.05
	done
	fail "'$*' does not come true"
}

export FRACGPU_SOCKET="$work/agent.sock" FRACGPU_OCI_RUNTIME="$low"

start_daemon()
{
	"$build/src/daemon/fracgpud" --config "$work/policy" --socket "$FRACGPU_SOCKET" 2>>"$work/daemon.log" &
	daemon=$!
	eventually [ -S "$FRACGPU_SOCKET" ]
}

root=$work/root
mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/tmp"
cp /bin/busybox "$root/bin/busybox"
cp "$guest" "$root/bin/hold"
ln -s busybox "$root/bin/sh"
ln -s busybox "$root/bin/sleep"

# bundle NAME ENVIRONMENT FILTER: a bundle whose process holds still; FILTER changes config.json
bundle()
{
	mkdir -p "$work/$1"
	rm -f "$work/$1/config.json"
	(cd "$work/$1" && "$low" spec)
	jq --arg root "$root" --arg env "$2" '
		.root = {path: $root, readonly: true} | .process.terminal = false | .process.args = ["/bin/sleep", "1000"]
		| .process.env += ($env | split(" ")) | .process.rlimits = [{type: "RLIMIT_CORE", hard: 0, soft: 0}]
		| .mounts += [("nvidiactl", "nvidia0", "nvidia-uvm") | {destination: ("/dev/" + .), type: "bind",
			source: ("/dev/" + .), options: ["bind", "rw"]}]
		| .linux.resources.devices = [{allow: true, access: "rwm"}]' "$work/$1/config.json" |
		jq "${3:-.}" >"$work/made.json"
	mv "$work/made.json" "$work/$1/config.json"
}

create() # NAME
{
	"$build/src/runtime/fracgpu-runtime" create --bundle "$work/$1" "$1" >"$work/$1.log" 2>&1 </dev/null &&
		"$low" start "$1" >>"$work/$1.log" 2>&1
}

up() # NAME
{
	create "$1" || fail "container $1 does not start"
}

# hold NAME MIB STATUS: memory that a program started in the container gets, and the size of card it sees
hold()
{
	"$build/src/runtime/fracgpu-runtime" exec "$1" /bin/hold "$2" >"$work/out" 2>&1 </dev/null || fail "hold does not run in $1"
	grep -q "^gpu 0 total $4 status $3\$" "$work/out" || fail "hold $2 in $1: $(cat "$work/out")"
}

figure() # NAME FIELD
{
	"$fracgpu" ps --json | jq -r --arg name "$1" '.slices[] | select(.name == $name) | .gpus[0].'"$2"
}

is() # NAME FIELD VALUE
{
	[ "$(figure "$1" "$2")" = "$3" ]
}

has_ended() # NAME
{
	! "$low" state "$1" 2>/dev/null | grep -Eq '"status": *"(created|running)"'
}

printf '[default]\nmax = 2GiB\n[container fixed*]\nmemory = 128MiB\n' >"$work/policy"
start_daemon

# the limit that the environment asks for, refused exactly, for what is started in it
bundle box NVIDIA_GPU_MEMORY_LIMIT=512
up box
# runtimes do not wait for fracgpud
eventually is box 'limit_bytes / 1048576' 512
[ "$("$fracgpu" ps --json | jq -r '.slices[] | select(.name == "box") | .door')" = container ] || fail "wrong door"
hold box 512 0 512
hold box 513 81 512
eventually is box used_bytes 0
eventually is box 'peak_bytes / 1048576' 512

# a second container is another slice; a profile that denies by default; the host's maximum
profile=/usr/share/containers/seccomp.json
[ -e "$profile" ] || skip "$profile (golang-github-containers-common) is not installed"
allowed=$(jq -c '[.syscalls[] | select(.action == "SCMP_ACT_ALLOW" and (.args | length) == 0) | .names[]] | unique' "$profile")
bundle other FRACGPU_MEMORY=6GiB '.linux.seccomp = {defaultAction: "SCMP_ACT_ERRNO", syscalls: [{names: '"$allowed"',
	action: "SCMP_ACT_ALLOW"}], architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]}'
up other
eventually is other 'limit_bytes / 1048576' 2048
hold other 2048 0 2048
hold other 2049 81 2048
hold box 512 0 512

# more than is left of the card
bundle late FRACGPU_MEMORY=2GiB
printf '[default]\n' >"$work/policy"
kill -HUP "$daemon"
bundle late FRACGPU_MEMORY=7GiB
create late || true
eventually grep -q overcommit "$work/daemon.log"
eventually has_ended late
"$low" delete -f late >/dev/null 2>&1 || true

# a profile that allows ioctl beside our rules asks nobody: it is refused, by the kernel's own copy of the filter
bundle late FRACGPU_MEMORY=1GiB '.linux.seccomp = {defaultAction: "SCMP_ACT_ERRNO", architectures: ["SCMP_ARCH_X86_64",
	"SCMP_ARCH_X86", "SCMP_ARCH_X32"], listenerPath: "'"$FRACGPU_SOCKET"'", listenerMetadata: "fracgpu memory=1GiB",
	syscalls: [{names: ["ioctl"], action: "SCMP_ACT_NOTIFY", args: [{index: 1, value: 65280, valueTwo: 17920,
	op: "SCMP_CMP_MASKED_EQ"}]}, {names: ["getpid"], action: "SCMP_ACT_NOTIFY"}]} | .linux.seccomp.defaultAction = "SCMP_ACT_ALLOW"'
create late || true
eventually grep -q "without asking" "$work/daemon.log"
eventually has_ended late
"$low" delete -f late >/dev/null 2>&1 || true

# fracgpud is killed: what runs keeps its limit, nothing new starts; a new one takes over
kill -KILL "$daemon"
wait "$daemon" 2>/dev/null || true
! "$low" exec box /bin/sleep 0 >"$work/out" 2>&1 || fail "a program starts without fracgpud"
! create late || fail "a container starts without fracgpud"
"$low" delete -f late >/dev/null 2>&1 || true
is box 'limit_bytes / 1048576' 512 || fail "the slice is lost"
start_daemon
hold box 512 0 512
hold box 513 81 512

# who serves a container is killed: its calls fail, nothing opens
for pid in $(pgrep -x fracgpud-slice); do
	if grep -q "$work" "/proc/$pid/cmdline"; then kill -KILL "$pid"; fi
done
! "$low" exec box /bin/hold 1 >"$work/out" 2>&1 || fail "a program gets the GPU though nobody serves it"
"$low" delete -f other
eventually is other limit_bytes ""
echo "bundle_test $low: ok"
