#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Podman as root: containers through fracgpu-runtime, by a profile, and by a device. Runs in the simulator with one GPU of
# 8 GiB.
# usage: podman_test.sh BUILD-ROOT GUEST
set -eu
# shellcheck source=tests/engines/lib.sh
. "$(dirname "$0")/lib.sh"
needs podman crun
# shellcheck source=tests/engines/podman.sh
. "$(dirname "$0")/podman.sh"

goodbye()
{
	podman_with crun rm -f -a -t 0
	settle "$work"
}

make_image "$work/image.tar"
podman_with crun import "$work/image.tar" "$image" >"$work/out" 2>&1 || skip "podman imports no image here: $(tail -n 1 "$work/out")"
run_with crun true >"$work/out" 2>&1 || skip "podman runs no container here: $(tail -n 1 "$work/out")"
start_daemon '[default]\nmax = 4GiB\n'
make_runtime "$work/fracgpu-crun" crun
make_runtime "$work/fracgpu-runc" runc
door="fracgpu-crun"

# shellcheck disable=SC2086 # words
hold() # RUNTIME WHAT MIB STATUS TOTAL ARGUMENTS...
{
	low=$1 what=$2 mib=$3 status=$4 total=$5
	shift 5
	podman_with "$low" run --rm --network none "$@" "$image" /bin/hold "$mib" >"$work/out" 2>&1 </dev/null ||
		fail "$what: the container does not run"
	is_hold "$what" "$mib" "$status" "$total"
}

# any image, by the runtime: the names that people know, read-only, without a profile, as a user, without privileges
# shellcheck disable=SC2086
{
	hold "$door" environment 512 0 512 $gpu_files -e NVIDIA_GPU_MEMORY_LIMIT=512
	hold "$door" environment 513 81 512 $gpu_files -e NVIDIA_GPU_MEMORY_LIMIT=512
	hold "$door" "the host's most" 4097 81 4096 $gpu_files -e FRACGPU_MEMORY=7GiB
	hold "$door" annotation 301 81 300 $gpu_files --annotation gpu-memory=300
	hold "$door" fraction 2049 81 2048 $gpu_files --annotation gpu-fraction=0.25
	hold "$door" read-only 513 81 512 $gpu_files -e GPU_MEM_LIMIT_GB=0.5 --read-only
	hold "$door" unconfined 513 81 512 $gpu_files -e GPU_MEM_LIMIT_GB=0.5 --security-opt seccomp=unconfined
	hold "$door" "a user" 513 81 512 $gpu_files -e GPU_MEM_LIMIT_GB=0.5 --user 1234:1234
	hold "$door" privileges 513 81 512 $gpu_files -e GPU_MEM_LIMIT_GB=0.5 --cap-drop all --security-opt no-new-privileges
	hold "$door" "the host's processes" 513 81 512 $gpu_files -e GPU_MEM_LIMIT_GB=0.5 --pid=host
	hold "$door" "the host's memory" 513 81 512 $gpu_files -e GPU_MEM_LIMIT_GB=0.5 --ipc=host
	[ -z "$(command -v runc)" ] || hold fracgpu-runc runc 513 81 512 $gpu_files -e GPU_MEM_LIMIT_GB=0.5
}

# profiles: of Podman's own, of Docker's, of none; with a limit of their own, or what the container asks for
profile() # NAME ARGUMENTS...
{
	name=$1
	shift
	"$fracgpu" seccomp-profile --socket "$agent" --runtime crun --output "$work/$name.json" "$@" >"$work/out" 2>&1 ||
		fail "no profile: $name"
}

profile plain --base /usr/share/containers/seccomp.json
profile given --base /usr/share/containers/seccomp.json --memory 256MiB --compute 50%
profile docker --memory 256MiB
profile open --base unconfined --memory 256MiB
# shellcheck disable=SC2086
{
	hold crun "profile that says nothing" 1025 81 1024 $gpu_files --security-opt "seccomp=$work/plain.json" -e GPU_MEM_LIMIT_GB=1
	for name in given docker open; do
		hold crun "profile $name" 256 0 256 $gpu_files --security-opt "seccomp=$work/$name.json" -e GPU_MEM_LIMIT_GB=1
		hold crun "profile $name" 257 81 256 $gpu_files --security-opt "seccomp=$work/$name.json" -e GPU_MEM_LIMIT_GB=1
	done
	# with both the profile's limit counts
	hold "$door" "profile and runtime" 257 81 256 $gpu_files --security-opt "seccomp=$work/given.json" -e GPU_MEM_LIMIT_GB=1
	if [ -n "$(command -v runc)" ]; then
		"$fracgpu" seccomp-profile --socket "$agent" --runtime runc --memory 256MiB --output "$work/runc.json" 2>"$work/out"
		hold runc "profile of runc" 257 81 256 $gpu_files --security-opt "seccomp=$work/runc.json"
	fi
}

up() # RUNTIME ARGUMENTS...
{
	low=$1
	shift
	podman_with "$low" run -d --network none "$@" "$image" /bin/sleep 1000 2>"$work/out" || fail "a container does not start: $*"
}

# devices: what the host's file says, not what the container asks for; nothing without a limit
if "$fracgpu" cdi generate --spec 0.5.0 --memory 1GiB,3GiB --compute 25% --output "$work/cdi.json" &&
	mkdir -p /run/cdi && cp "$work/cdi.json" /run/cdi/fracgpu.json &&
	podman_with crun create --name probe --device fracgpu.io/gpu=0:1GiB "$image" true >"$work/out" 2>&1; then
	hold "$door" device 3073 81 3072 --device fracgpu.io/gpu=0:3GiB:25 -e FRACGPU_MEMORY=7GiB
	hold "$door" "device of all GPUs" 3073 81 3072 --device fracgpu.io/gpu=3GiB
	hold crun "device and profile" 1025 81 1024 --device fracgpu.io/gpu=0:1GiB --security-opt "seccomp=$work/plain.json"
	! podman_with crun run --rm --network none --device fracgpu.io/gpu=0:1GiB "$image" true >"$work/out" 2>&1 ||
		fail "a container with a device and no limit starts"
else
	echo "not tried: devices: $(tail -n 1 "$work/out")"
fi

# devices with nodes, as of a real driver: whoever opens one in the container gets as far as the driver, which is not there
nodes=$work/nodes
mkdir "$nodes"
if mknod "$nodes/nvidiactl" c 195 255 2>"$work/out" && [ -e /run/cdi/fracgpu.json ]; then
	mknod "$nodes/nvidia0" c 195 0
	mknod "$nodes/nvidia-uvm" c 511 0
	mknod "$nodes/nvidia-uvm-tools" c 511 1
	LD_PRELOAD=$build/tests/lib/libdevice-nodes.so "$fracgpu" cdi generate --spec 0.5.0 --memory 1GiB,3GiB --compute 25% \
		--output "$work/cdi.json" || fail "no devices with nodes"
	jq --arg nodes "$nodes" '.devices[].containerEdits.deviceNodes[] |= (.hostPath = $nodes + "/" + (.path | split("/")[-1]))' \
		"$work/cdi.json" >/run/cdi/fracgpu.json
	id=$(up "$door" --device fracgpu.io/gpu=0:3GiB:25 -e FRACGPU_MEMORY=7GiB)
	eventually slice_is "$id" '.gpus[0].limit_bytes' 3221225472
	[ "$("$fracgpu" stat "$(printf '%.12s' "$id")" --json | jq .compute.max_permille)" -eq 250 ] || fail "a device's cap"
	for node in nvidiactl:c3:ff nvidia0:c3:0 nvidia-uvm:1ff:0 nvidia-uvm-tools:1ff:1; do
		podman_with "$door" exec "$id" /bin/busybox stat -c '%n:%t:%T %F' "/dev/${node%%:*}" >"$work/out" 2>&1 || true
		grep -qx "/dev/$node character special file" "$work/out" || fail "no node $node"
		! podman_with "$door" exec "$id" /bin/busybox cat "/dev/${node%%:*}" >"$work/out" 2>&1 </dev/null || fail "a driver?"
		grep -q "No such device" "$work/out" || fail "the container may not use $node"
	done
	! podman_with crun run --rm --network none --device fracgpu.io/gpu=0:1GiB "$image" true >"$work/out" 2>&1 ||
		fail "a container with nodes and no limit starts"
	podman_with "$door" rm -f -t 0 "$id" >"$work/out" 2>&1
	eventually slice_is "$id" .door ""
	rm /run/cdi/fracgpu.json
else
	echo "not tried: devices with nodes: $(tail -n 1 "$work/out")"
fi

# beside each other, exec, changes while they run, and one slice for two
inside() # ID MIB STATUS TOTAL
{
	podman_with "$door" exec "$1" /bin/hold "$2" >"$work/out" 2>&1 </dev/null || fail "exec does not run in $1"
	is_hold "exec in $1" "$2" "$3" "$4"
}

# shellcheck disable=SC2086
one=$(up "$door" $gpu_files -e FRACGPU_MEMORY=1GiB)
# shellcheck disable=SC2086
two=$(up crun $gpu_files --security-opt "seccomp=$work/given.json")
eventually slice_is "$one" .door container
inside "$one" 1024 0 1024
inside "$one" 1025 81 1024
inside "$two" 256 0 256
[ "$("$fracgpu" stat "$(printf '%.12s' "$two")" --json | jq .compute.max_permille)" -eq 500 ] || fail "no cap"
"$fracgpu" set "$(printf '%.12s' "$one")" --memory 2GiB || fail "the limit cannot be changed"
inside "$one" 2048 0 2048
"$fracgpu" create team --socket "$agent" --memory 600MiB --open || fail "no slice"
# shellcheck disable=SC2086
three=$(up "$door" $gpu_files -e FRACGPU_SLICE=team)
# shellcheck disable=SC2086
four=$(up "$door" $gpu_files --annotation fracgpu.io/slice=team)
for id in "$three" "$four"; do
	eventually [ -e "/run/fracgpu/team/in-$(printf '%.12s' "$id")" ]
	inside "$id" 601 81 600
done
podman_with "$door" rm -f -t 0 "$three" "$four" >"$work/out" 2>&1
eventually "$fracgpu" rm team

# fracgpud away: what runs keeps its limit, nothing with a GPU starts, all else does
kill -KILL "$daemon"
wait "$daemon" 2>/dev/null || true
rm -f "$agent"
# shellcheck disable=SC2086
! podman_with "$door" run --rm --network none $gpu_files "$image" true >"$work/out" 2>&1 || fail "it starts without fracgpud"
run_with "$door" true >"$work/out" 2>&1 || fail "a container without a GPU needs fracgpud"
start_daemon '[default]\n'
inside "$one" 2049 81 2048
echo "podman_test: ok ($(podman --version))"
