#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# An image with a limit, in Podman with nothing of ours on the host. Runs in the simulator with one GPU of 8 GiB.
# usage: images_test.sh BUILD-ROOT GUEST
set -eu
# shellcheck source=tests/engines/lib.sh
. "$(dirname "$0")/../engines/lib.sh"
needs podman crun ldd
# shellcheck source=tests/engines/podman.sh
. "$(dirname "$0")/../engines/podman.sh"

goodbye()
{
	podman_with crun rm -f -a -t 0
	settle "$work"
}

build_image() # BASE TAG
{
	ENGINE=$work/engine BASE=$1 MEMORY=2 TAG=$2 IMAGE=localhost/fracgpu-image \
		"$(dirname "$0")/../../integrations/images/build" "$build" >"$work/build.log" 2>&1
}

# a base of this machine's C library, one without any; or the folder IMAGES_BASE, a system of glibc 2.34 or later
make_image "$work/image.tar"
podman_with crun import "$work/image.tar" localhost/no-glibc:latest >"$work/out" 2>&1 ||
	skip "podman imports no image here: $(tail -n 1 "$work/out")"
[ -z "${IMAGES_BASE:-}" ] || { rm -rf "$work/image" && cp -a "$IMAGES_BASE" "$work/image" && cp "$guest" "$work/image/bin/hold"; }
[ -n "${IMAGES_BASE:-}" ] || add_libraries "$guest"
tar -C "$work/image" -cf "$work/image.tar" .
podman_with crun import "$work/image.tar" "$image" >"$work/out" 2>&1 || skip "podman imports no image here: $(tail -n 1 "$work/out")"
run_with crun true >"$work/out" 2>&1 || skip "podman runs no container here: $(tail -n 1 "$work/out")"
cat >"$work/engine" <<TEXT
#!/bin/sh
verb=\$1
shift
[ "\$verb" != build ] || set -- --network none --pull=never "\$@"
exec podman --root "$work/podman/root" --runroot "$work/podman/run" --storage-driver vfs --runtime crun "\$verb" "\$@"
TEXT
chmod 755 "$work/engine"
build_image "$image" 2gb || fail "the image is not built"
! build_image localhost/no-glibc:latest bad || fail "a base without glibc is taken"
grep -q "no glibc" "$work/build.log" || fail "no word about a base without glibc"
! ENGINE=$work/engine BASE=localhost/no-such-base:1 "$(dirname "$0")/../../integrations/images/build" "$build" >"$work/out" 2>&1 ||
	fail "a base that is not there is built"
grep -q "cannot pull the base 'localhost/no-such-base:1'" "$work/out" || fail "no word about a base that cannot be pulled"
image=localhost/fracgpu-image:2gb

# shellcheck disable=SC2086 # words
hold() # WHAT MIB STATUS ARGUMENTS...
{
	what=$1 mib=$2 status=$3
	shift 3
	podman_with crun run --rm --network none $gpu_files "$@" "$image" /bin/hold "$mib" >"$work/out" 2>&1 </dev/null ||
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
podman_with crun run --rm --network none "$image" env >"$work/out" 2>&1 || fail "it does not run without a GPU"
grep -qx GPU_MEM_LIMIT_GB=2 "$work/out" || fail "GPU_MEM_LIMIT_GB"

# refused: no ledger because nobody could write it, or because the entrypoint was left out
refused() # WHAT ARGUMENTS...
{
	what=$1
	shift
	# shellcheck disable=SC2086
	! podman_with crun run --rm --network none $gpu_files "$@" >"$work/out" 2>&1 </dev/null || fail "$what: has a GPU"
}
refused read-only --read-only "$image" /bin/hold 1
refused "no entrypoint" --entrypoint /bin/hold "$image" 1

# exec, by root and by a user, into one account; a user cannot change limit, library or ledger's name
# shellcheck disable=SC2086
id=$(podman_with crun run -d --network none $gpu_files "$image" /bin/sleep 1000 2>"$work/out") || fail "it does not start"
inside()
{
	for user in 0 1234; do
		for pair in 2048:0 2049:81; do
			podman_with crun exec --user "$user" "$id" /bin/hold "${pair%:*}" >"$work/out" 2>&1 </dev/null || fail "exec $user"
			is_hold "exec $user" "${pair%:*}" "${pair#*:}" 2048
		done
	done
}

inside
for file in /etc/fracgpu/image.conf /etc/ld.so.preload /var/lib/fracgpu/libfracgpu.so; do
	! podman_with crun exec --user 1234 "$id" sh -c "echo >>$file" >"$work/out" 2>&1 || fail "a user writes $file"
done

# one account for all: what one holds another cannot have
# shellcheck disable=SC2086
holder=$(podman_with crun run -d -i --network none $gpu_files --user 1234 "$image" /bin/hold 1500 2>"$work/out") || fail "no start"
holds()
{
	podman_with crun logs "$holder" 2>&1 | grep -q "status 0"
}
eventually holds
podman_with crun exec "$holder" /bin/hold 600 >"$work/out" 2>&1 </dev/null || fail "exec beside a holder"
is_hold "beside a holder" 600 81 2048
podman_with crun restart -t 0 "$id" >"$work/out" 2>&1 || fail "it does not start again"
inside
echo "images_test: ok ($(podman --version))"
