#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Containers of runc and crun through fracgpu-runtime and fracgpud. Runs in the simulator with one GPU of 8 GiB.
# usage: bundle_test.sh RUNC-OR-CRUN BUILD-ROOT GUEST
set -eu
# shellcheck source=tests/containers/lib.sh
. "$(dirname "$0")/lib.sh"

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

# a hard profile as containerd reads it, without runtime of ours
"$fracgpu" seccomp-profile --flatten --memory 64MiB --socket "$FRACGPU_SOCKET" --runtime "$low" --output "$work/hard.json" 2>"$work/out" ||
	fail "no profile"
bundle late "" ".linux.seccomp = $(cat "$work/hard.json")"
"$low" create --bundle "$work/late" late >"$work/late.log" 2>&1 </dev/null || fail "a hard profile does not start"
"$low" start late
hold late 64 0 64
hold late 65 81 64
"$low" delete -f late
eventually is late limit_bytes ""

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
