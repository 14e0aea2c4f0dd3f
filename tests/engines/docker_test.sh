#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Docker: containers through fracgpu-runtime, named and as the default, and by a profile where Docker passes it on. Runs in
# the simulator with one GPU of 8 GiB.
# usage: docker_test.sh BUILD-ROOT GUEST [newer]
set -eu
# shellcheck source=tests/engines/lib.sh
. "$(dirname "$0")/lib.sh"
needs runc
# shellcheck source=tests/engines/docker.sh
. "$(dirname "$0")/docker.sh"

make_runtime "$work/fracgpu-runc" runc
make_image "$work/image.tar"
start_dockerd runc
engine import "$work/image.tar" "$image" >"$work/out" 2>&1 || skip "Docker imports no image here: $(tail -n 1 "$work/out")"
engine run --rm --network none "$image" true >"$work/out" 2>&1 || skip "Docker runs no container here: $(tail -n 1 "$work/out")"
start_daemon '[default]\nmax = 4GiB\n'

hold() # WHAT MIB STATUS TOTAL ARGUMENTS...
{
	what=$1 mib=$2 status=$3 total=$4
	shift 4
	engine run --rm --network none "$@" "$image" /bin/hold "$mib" >"$work/out" 2>&1 </dev/null ||
		fail "$what: the container does not run"
	is_hold "$what" "$mib" "$status" "$total"
}

# shellcheck disable=SC2086 # words
{
	hold environment 512 0 512 --runtime fracgpu $gpu_files -e NVIDIA_GPU_MEMORY_LIMIT=512
	hold environment 513 81 512 --runtime fracgpu $gpu_files -e NVIDIA_GPU_MEMORY_LIMIT=512
	hold "the host's most" 4097 81 4096 --runtime fracgpu $gpu_files -e CUDA_DEVICE_MEMORY_LIMIT=7g
	hold read-only 513 81 512 --runtime fracgpu $gpu_files -e GPU_MEM_LIMIT_GB=0.5 --read-only
	hold unconfined 513 81 512 --runtime fracgpu $gpu_files -e GPU_MEM_LIMIT_GB=0.5 --security-opt seccomp=unconfined
	hold "a user" 513 81 512 --runtime fracgpu $gpu_files -e GPU_MEM_LIMIT_GB=0.5 --user 1234:1234
	hold privileges 513 81 512 --runtime fracgpu $gpu_files -e GPU_MEM_LIMIT_GB=0.5 --cap-drop ALL \
		--security-opt no-new-privileges
	hold "the host's processes" 513 81 512 --runtime fracgpu $gpu_files -e GPU_MEM_LIMIT_GB=0.5 --pid=host
	hold "the host's memory" 513 81 512 --runtime fracgpu $gpu_files -e GPU_MEM_LIMIT_GB=0.5 --ipc=host
}

# by a profile: before version 23 Docker drops the listener, and the container does not start
"$fracgpu" seccomp-profile --socket "$agent" --runtime runc --memory 256MiB --output "$work/hard.json" 2>"$work/out"
version=$(engine version --format '{{.Server.Version}}')
# shellcheck disable=SC2086
if [ "${version%%.*}" -ge 23 ]; then
	hold profile 257 81 256 $gpu_files --security-opt "seccomp=$work/hard.json"
else
	! engine run --rm --network none $gpu_files --security-opt "seccomp=$work/hard.json" "$image" true >"$work/out" 2>&1 ||
		fail "Docker $version starts a container with a listener that it drops"
fi

# exec, and a change while it runs
# shellcheck disable=SC2086
id=$(engine run -d --network none --runtime fracgpu $gpu_files -e FRACGPU_MEMORY=1GiB -e FRACGPU_COMPUTE=25 "$image" sleep 1000)
eventually slice_is "$id" .door container
name=$(printf '%.12s' "$id")
inside() # MIB STATUS TOTAL
{
	engine exec "$id" /bin/hold "$1" >"$work/out" 2>&1 </dev/null || fail "exec does not run"
	is_hold exec "$@"
}
inside 1024 0 1024
inside 1025 81 1024
[ "$("$fracgpu" stat "$name" --json | jq .compute.max_permille)" -eq 250 ] || fail "no cap"
"$fracgpu" set "$name" --memory 2GiB
inside 2048 0 2048
engine rm -f "$id" >"$work/out" 2>&1
eventually slice_is "$id" .door ""

# as the default runtime: nobody has to ask, and what has no GPU is left alone
stop_dockerd
start_dockerd fracgpu
kill "$daemon"
wait "$daemon" || true
engine run --rm --network none "$image" true >"$work/out" 2>&1 || fail "a container without a GPU needs fracgpud"
# shellcheck disable=SC2086
! engine run --rm --network none $gpu_files "$image" true >"$work/out" 2>&1 || fail "it starts without fracgpud"
start_daemon '[default]\nmemory = 300MiB\n'
# shellcheck disable=SC2086
hold "default runtime" 301 81 300 $gpu_files
echo "docker_test: ok (Docker $version)"
