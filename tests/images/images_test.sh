#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# An image with a limit, in Podman or Docker: with nothing of ours on the host, then under fracgpu-runtime. Its base is this
# machine's C library and busybox ('plain'), or a Debian. Runs in the simulator with one GPU of 8 GiB.
# usage: images_test.sh BUILD-ROOT GUEST ENGINE:BASE:STATIC-GUEST
set -eu
# shellcheck source=tests/engines/lib.sh
. "$(dirname "$0")/../engines/lib.sh"
kind=${extra%%:*}
static=${extra##*:}
base=${extra#*:}
base=${base%%:*}
images=$(cd "$(dirname "$0")/../../integrations/images" && pwd)
archive=$build/bases/$base.tar
# before the namespace: what it makes stays
[ "$base" = plain ] || "$images/../../tools/get-debian-base" "$base" "$archive" || exit
# shellcheck disable=SC2034 # for the engine's file; vfs would copy a whole Debian for every container
storage=overlay

case $kind in
podman)
	needs podman crun ldd
	# shellcheck source=tests/engines/podman.sh
	. "$(dirname "$0")/../engines/podman.sh"
	make_runtime "$work/fracgpu-crun" crun
	tool() { podman_with crun "$@"; }
	run_hard() { podman_with fracgpu-crun run "$@"; }
	goodbye()
	{
		podman_with crun rm -f -a -t 0
		settle "$work"
		umount "$work/podman/root/overlay"
	}
	;;
docker)
	needs runc ldd
	# shellcheck disable=SC2034
	storage=overlay2
	# shellcheck source=tests/engines/docker.sh
	. "$(dirname "$0")/../engines/docker.sh"
	make_runtime "$work/fracgpu-runc" runc
	start_dockerd runc
	tool() { engine "$@"; }
	run_hard() { engine run --runtime fracgpu "$@"; }
	;;
esac

# What integrations/images/build calls: no network, and no registry, however each engine is told.
cat >"$work/engine" <<TEXT
#!/bin/sh
verb=\$1
shift
case $kind:\$verb in
podman:build) set -- --network none --pull=never "\$@" ;;
docker:build) set -- --network none "\$@" ;;
esac
export DOCKER_BUILDKIT=0
if [ $kind = podman ]; then
	exec podman --root "$work/podman/root" --runroot "$work/podman/run" --storage-driver "$storage" --runtime crun "\$verb" "\$@"
fi
exec ${docker:-docker} --config "$work/docker" -H "unix://$work/docker.sock" "\$verb" "\$@"
TEXT
chmod 755 "$work/engine"

build_image() # BASE TAG
{
	ENGINE=$work/engine BASE=$1 MEMORY=2 TAG=$2 IMAGE=localhost/fracgpu-image "$images/build" "$build" >"$work/build.log" 2>&1
}

make_image "$work/image.tar"
tool import "$work/image.tar" localhost/no-glibc:latest >"$work/out" 2>&1 ||
	skip "$kind imports no image here: $(tail -n 1 "$work/out")"
if [ "$base" = plain ]; then
	add_libraries "$guest"
else
	rm -rf "$work/image"
	mkdir "$work/image"
	tar -C "$work/image" -xf "$archive"
	cp "$guest" "$work/image/bin/hold"
fi
cp "$static" "$work/image/bin/hold-static"
tar -C "$work/image" -cf "$work/image.tar" .
rm -rf "$work/image"
tool import "$work/image.tar" "$image" >"$work/out" 2>&1 || skip "$kind imports no image here: $(tail -n 1 "$work/out")"
rm "$work/image.tar"
tool run --rm --network none "$image" true >"$work/out" 2>&1 || skip "$kind runs no container here: $(tail -n 1 "$work/out")"
build_image "$image" 2gb || fail "the image is not built"
! build_image localhost/no-glibc:latest bad || fail "a base without glibc is taken"
grep -q "no glibc" "$work/build.log" || fail "no word about a base without glibc"
! ENGINE=$work/engine BASE=localhost/no-such-base:1 "$images/build" "$build" >"$work/out" 2>&1 ||
	fail "a base that is not there is built"
grep -q "cannot pull the base 'localhost/no-such-base:1'" "$work/out" || fail "no word about a base that cannot be pulled"
image=localhost/fracgpu-image:2gb

# shellcheck disable=SC2086 # words
hold() # WHAT MIB STATUS ARGUMENTS...
{
	what=$1 mib=$2 status=$3
	shift 3
	tool run --rm --network none $gpu_files "$@" "$image" /bin/hold "$mib" >"$work/out" 2>&1 </dev/null ||
		fail "$what: the container does not run"
	is_hold "$what" "$mib" "$status" 2048
}

hold root 2048 0
hold root 2049 81
hold "a user" 2048 0 --user 1234:1234
hold "a user" 2049 81 --user 1234:1234
hold privileges 2049 81 --cap-drop all --security-opt no-new-privileges
hold "the host's processes" 2049 81 --pid=host
hold "the host's memory" 2049 81 --ipc=host
hold environment 2049 81 -e GPU_MEM_LIMIT_GB=8 -e FRACGPU_MEMORY=8GiB -e LD_PRELOAD=
tool run --rm --network none "$image" env >"$work/out" 2>&1 || fail "it does not run without a GPU"
grep -qx GPU_MEM_LIMIT_GB=2 "$work/out" || fail "GPU_MEM_LIMIT_GB"

# refused: no ledger because nobody could write it, or because the entrypoint was left out
refused() # WHAT ARGUMENTS...
{
	what=$1
	shift
	# shellcheck disable=SC2086
	! tool run --rm --network none $gpu_files "$@" >"$work/out" 2>&1 </dev/null || fail "$what: has a GPU"
}
refused read-only --read-only "$image" /bin/hold 1
refused "no entrypoint" --entrypoint /bin/hold "$image" 1

# exec, by root and by a user, into one account; a user cannot change limit, library or ledger's name
# shellcheck disable=SC2086
id=$(tool run -d --network none $gpu_files "$image" /bin/sleep 1000 2>"$work/out") || fail "it does not start"
inside()
{
	for user in 0 1234; do
		for pair in 2048:0 2049:81; do
			tool exec --user "$user" "$id" /bin/hold "${pair%:*}" >"$work/out" 2>&1 </dev/null || fail "exec $user"
			is_hold "exec $user" "${pair%:*}" "${pair#*:}" 2048
		done
	done
}

inside
for file in /etc/fracgpu/image.conf /etc/ld.so.preload /var/lib/fracgpu/libfracgpu.so; do
	! tool exec --user 1234 "$id" sh -c "echo >>$file" >"$work/out" 2>&1 || fail "a user writes $file"
done

# one account for all: what one holds another cannot have
# shellcheck disable=SC2086
holder=$(tool run -d -i --network none $gpu_files --user 1234 "$image" /bin/hold 1500 2>"$work/out") || fail "no start"
holds()
{
	tool logs "$holder" 2>&1 | grep -q "status 0"
}
eventually holds
tool exec "$holder" /bin/hold 600 >"$work/out" 2>&1 </dev/null || fail "exec beside a holder"
is_hold "beside a holder" 600 81 2048
tool restart -t 0 "$id" >"$work/out" 2>&1 || fail "it does not start again"
inside
tool rm -f "$id" "$holder" >"$work/out" 2>&1

# an image built on it
tool tag "$image" localhost/fracgpu:u22-cu12.3-8gb
"$work/engine" build -f "$images/basic/Containerfile" -t localhost/fracgpu-basic:1 "$images/basic" >"$work/build.log" 2>&1 ||
	fail "the example is not built"
own=$image image=localhost/fracgpu-basic:1
hold "an image built on it" 2049 81
image=$own

# a static program gets out: the image is a fence; under fracgpu-runtime it does not, nor who leaves the entrypoint out
# shellcheck disable=SC2086
{
	tool run --rm --network none $gpu_files "$image" /bin/hold-static 2049 >"$work/out" 2>&1 </dev/null || fail "a static program"
	is_hold "a static program" 2049 0 8192
}
start_daemon '[default]\nmax = 4GiB\n'
# shellcheck disable=SC2086
hard() # WHAT MIB STATUS TOTAL ARGUMENTS...
{
	what=$1 mib=$2 status=$3 total=$4
	shift 4
	run_hard --rm --network none $gpu_files "$@" "$mib" >"$work/out" 2>&1 </dev/null || fail "hard, $what: the container does not run"
	is_hold "hard, $what" "$mib" "$status" "$total"
}

hard dynamic 2048 0 2048 "$image" /bin/hold
hard dynamic 2049 81 2048 "$image" /bin/hold
hard static 2048 0 2048 "$image" /bin/hold-static
hard static 2049 81 2048 "$image" /bin/hold-static
hard "no entrypoint" 2049 81 2048 --entrypoint /bin/hold-static "$image"
hard "a user" 2049 81 2048 --user 1234:1234 "$image" /bin/hold-static
hard "the host's less" 513 81 512 -e FRACGPU_MEMORY=512MiB "$image" /bin/hold
hard "the host's more" 2049 81 2048 -e FRACGPU_MEMORY=3GiB "$image" /bin/hold
hard "the host's more, static" 3073 81 3072 -e FRACGPU_MEMORY=3GiB "$image" /bin/hold-static
# shellcheck disable=SC2086
id=$(run_hard -d --network none $gpu_files "$image" /bin/sleep 1000 2>"$work/out") || fail "hard: it does not start"
eventually slice_is "$id" '.gpus[0].limit_bytes / 1048576' 2048
tool exec "$id" /bin/hold-static 2049 >"$work/out" 2>&1 </dev/null || fail "hard: exec"
is_hold "hard, exec" 2049 81 2048
echo "images_test: ok ($kind, $base)"
