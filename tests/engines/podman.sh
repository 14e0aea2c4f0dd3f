# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# A Podman with storage and settings of its own, in $work. Sourced after lib.sh.
image=localhost/fracgpu-test:latest

# Where root lacks CAP_SYS_RESOURCE Podman's defaults are more than it may give: take less than any machine has.
limits='default_ulimits=["nofile=1024:1024","nproc=4096:4096"]'

mkdir -p "$work/podman"
cat >"$work/podman/containers.conf" <<TEXT
[containers]
$limits
[engine]
events_logger="file"
cgroup_manager="cgroupfs"
runtime_supports_nocgroup=["crun", "fracgpu-crun"]
[engine.runtimes]
fracgpu-crun=["$work/fracgpu-crun"]
fracgpu-runc=["$work/fracgpu-runc"]
TEXT
chmod 644 "$work/podman"/*
export CONTAINERS_CONF="$work/podman/containers.conf"

podman_with() # RUNTIME ARGUMENTS...
{
	runtime=$1
	shift
	podman --root "$work/podman/root" --runroot "$work/podman/run" --storage-driver "${storage:-vfs}" --runtime "$runtime" "$@"
}

# run_with RUNTIME COMMAND...: without a GPU
run_with()
{
	runtime=$1
	shift
	podman_with "$runtime" run --rm --network none "$image" "$@"
}

# Podman cleans up after containers in processes of its own, which write to its storage.
settle()
{
	for _ in $(seq 1 400); do
		pgrep -f "(podman|conmon) .*$1" >/dev/null || return 0
		sleep 0.05
	done
}
