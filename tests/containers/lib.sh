# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# What tests of bundles share: the daemon, bundles, and looks at slices. Sourced with RUNC-OR-CRUN BUILD-ROOT GUEST.
set -eu
low=$1
build=$2
guest=$3
fracgpu=$build/src/cli/fracgpu

# shellcheck source=tests/lib/container.sh
. "$(dirname "$0")/../lib/container.sh"

[ "$(id -u)" -eq 0 ] || skip "needs root"
for need in "$low" busybox jq unshare; do
	command -v "$need" >/dev/null || skip "$need is not installed"
done
if [ ! -e /bin/busybox ] || ldd /bin/busybox >/dev/null 2>&1; then
	skip "needs busybox-static"
fi
if [ "${IN_NAMESPACE:-}" != yes ]; then
	IN_NAMESPACE=yes exec unshare --mount --propagation private sh "$0" "$@"
fi
# slices of our own; crun takes cgroups of version 1, or of version 2, and not a host that has both
mount -t tmpfs -o mode=755 tmpfs /run
mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified

work=$(mktemp -d)
daemon=
containers=
cleanup()
{
	for name in $containers; do
		"$low" delete -f "$name" >/dev/null 2>&1 || true
	done
	[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

export FRACGPU_SOCKET="$work/agent.sock" FRACGPU_OCI_RUNTIME="$low"

# How often a daemon of this test was ready.
is_ready() # TIMES
{
	[ "$(grep -c ' ready$' "$work/daemon.log")" -ge "$1" ]
}

# Its socket says nothing: one that was killed leaves it.
start_daemon()
{
	times=$(grep -c ' ready$' "$work/daemon.log" 2>/dev/null || true)
	"$build/src/daemon/fracgpud" --config "$work/policy" --socket "$FRACGPU_SOCKET" 2>>"$work/daemon.log" &
	daemon=$!
	eventually is_ready $((times + 1))
}

root=$work/root
mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/tmp"
cp /bin/busybox "$root/bin/busybox"
cp "$guest" "$root/bin/hold"
ln -s busybox "$root/bin/sh"
ln -s busybox "$root/bin/sleep"

# bundle NAME ENVIRONMENT FILTER: a bundle whose process holds still; FILTER changes config.json. Its control group is named
# after this test: others run beside it.
bundle()
{
	mkdir -p "$work/$1"
	containers="$containers $1"
	rm -f "$work/$1/config.json"
	(cd "$work/$1" && "$low" spec)
	jq --arg root "$root" --arg env "$2" --arg group "/fracgpu-test-$$-$1" '
		.root = {path: $root, readonly: true} | .process.terminal = false | .process.args = ["/bin/sleep", "1000"]
		| .process.env += ($env | split(" ")) | .process.rlimits = [{type: "RLIMIT_CORE", hard: 0, soft: 0}]
		| .mounts += [("nvidiactl", "nvidia0", "nvidia-uvm") | {destination: ("/dev/" + .), type: "bind",
			source: ("/dev/" + .), options: ["bind", "rw"]}]
		| .linux.cgroupsPath = $group | .linux.resources.devices = [{allow: true, access: "rwm"}]' "$work/$1/config.json" |
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

