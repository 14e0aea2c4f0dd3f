# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# What tests of container engines share: a namespace, an image made of this machine's files, and the daemon. Sourced with
# BUILD-ROOT GUEST, and what else a test takes as one word more.
build=$1
guest=$2
extra=${3:-}
fracgpu=$build/src/cli/fracgpu

# shellcheck source=tests/lib/container.sh
. "$(dirname "$0")/../lib/container.sh"

# needs PROGRAM...: go on in a mount namespace, with a folder $work
needs()
{
	[ "$(id -u)" -eq 0 ] || skip "needs root"
	for need in unshare busybox jq "$@"; do
		command -v "$need" >/dev/null || skip "$need is not installed"
	done
	! ldd "$(command -v busybox)" >/dev/null 2>&1 || skip "needs busybox-static"
	# slices of our own; crun takes cgroups of version 1, or of version 2, and not a host that has both
	if [ "${IN_NAMESPACE:-}" != yes ]; then
		IN_NAMESPACE=yes exec unshare --mount --propagation private sh "$0" "$build" "$guest" "$extra"
	fi
	mount -t tmpfs -o mode=755 tmpfs /run
	if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
	work=$(mktemp -d)
	agent=$work/agent.sock
	trap cleanup EXIT
	chmod 755 "$work"	# users look into it
}

daemon=

# the engine's own goodbye() comes first
goodbye()
{
	:
}

cleanup()
{
	goodbye >/dev/null 2>&1 || true
	[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
	rm -rf "$work" || true
}

start_daemon() # POLICY
{
	printf '%b' "$1" >"$work/policy"
	"$build/src/daemon/fracgpud" --config "$work/policy" --socket "$agent" 2>>"$work/daemon.log" &
	daemon=$!
	eventually [ -S "$agent" ]
}

# The runtime as engines are told it: they clear its environment.
make_runtime() # FILE LOW
{
	cat >"$1" <<TEXT
#!/bin/sh
export FRACGPU_SOCKET=$agent FRACGPU_OCI_RUNTIME=$(command -v "$2")
exec $build/src/runtime/fracgpu-runtime "\$@"
TEXT
	chmod 755 "$1"
}

make_image() # FILE
{
	mkdir -p "$work/image/bin" "$work/image/dev" "$work/image/proc" "$work/image/sys" "$work/image/tmp" "$work/image/etc"
	cp "$(command -v busybox)" "$work/image/bin/busybox"
	cp "$guest" "$work/image/bin/hold"
	for name in sh sleep true; do ln -sf busybox "$work/image/bin/$name"; done
	tar -C "$work/image" -cf "$1" .
}

# Into that image's folder: what a dynamic program needs, and more names for busybox.
add_libraries() # PROGRAM
{
	for name in chmod mkdir cat env; do ln -sf busybox "$work/image/bin/$name"; done
	for file in $(ldd "$1" | grep -o '/[^ ]*'); do
		mkdir -p "$work/image$(dirname "$file")"
		cp -L "$file" "$work/image$file"
	done
}

# Arguments that show a container the simulator's files, which are no device nodes.
# shellcheck disable=SC2034
gpu_files="-v /dev/nvidiactl:/dev/nvidiactl -v /dev/nvidia0:/dev/nvidia0 -v /dev/nvidia-uvm:/dev/nvidia-uvm"

# is_hold WHAT MIB STATUS TOTAL: what hold said in a container
is_hold()
{
	grep -q "^gpu 0 total $4 status $3\$" "$work/out" || fail "$1: hold $2 says: $(cat "$work/out")"
}

slice_is() # ID FILTER VALUE
{
	[ "$("$fracgpu" ps --json | jq -r --arg name "$(printf '%.12s' "$1")" '.slices[] | select(.name == $name) | '"$2")" = "$3" ]
}
