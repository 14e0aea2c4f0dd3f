#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Podman of a user who is not root, with fracgpud of root: what the user's side says about limits is only words. The user is
# made for this test, in copies of the files that name users. Runs in the simulator with one GPU of 8 GiB.
# usage: rootless_test.sh BUILD-ROOT GUEST
set -eu
# shellcheck source=tests/engines/lib.sh
. "$(dirname "$0")/lib.sh"
needs podman crun newuidmap newgidmap setpriv
# shellcheck source=tests/engines/podman.sh
. "$(dirname "$0")/podman.sh"
user=64321
home=$work/home
mkdir -p "$home" "$work/etc" "$work/xdg"
chown "$user:$user" "$home" "$work/xdg"
chmod 700 "$work/xdg"
for file in passwd group subuid subgid; do
	cp "/etc/$file" "$work/etc/$file" 2>/dev/null || touch "/etc/$file" "$work/etc/$file"
done
echo "fracgpu-test:x:$user:$user::$home:/bin/sh" >>"$work/etc/passwd"
echo "fracgpu-test:x:$user:" >>"$work/etc/group"
echo "fracgpu-test:1000000:65536" >>"$work/etc/subuid"
echo "fracgpu-test:1000000:65536" >>"$work/etc/subgid"
for file in passwd group subuid subgid; do mount --bind "$work/etc/$file" "/etc/$file"; done

as_user() # COMMAND...
{
	(cd "$home" && setpriv --reuid "$user" --regid "$user" --clear-groups env -i "PATH=$PATH" "HOME=$home" USER=fracgpu-test \
		"XDG_RUNTIME_DIR=$work/xdg" "CONTAINERS_CONF=$CONTAINERS_CONF" "$@")
}

as_user test -x "$build/src/runtime/fracgpu-runtime" || skip "other users may not look into the build folder"

podman_as() # RUNTIME ARGUMENTS...
{
	runtime=$1
	shift
	as_user podman --storage-driver vfs --runtime "$runtime" "$@"
}

goodbye()
{
	podman_as crun rm -f -a -t 0
	settle "$home"
	# what belongs to the user's other ids is removed from inside
	as_user podman unshare rm -rf "$home/.local"
	# it keeps the user's namespaces
	kill "$(cat "$work/xdg/libpod/tmp/pause.pid")"
}

run() # RUNTIME ARGUMENTS...
{
	low=$1
	shift
	podman_as "$low" run --rm --network none --cgroups=disabled "$@" >"$work/out" 2>&1 </dev/null
}

make_image "$work/image.tar"
podman_as crun import "$work/image.tar" "$image" >"$work/out" 2>&1 || skip "no image as a user: $(tail -n 1 "$work/out")"
run crun "$image" true || skip "Podman runs no container as a user here: $(tail -n 1 "$work/out")"
start_daemon "[user $user]\nmemory = 256MiB\n[container *]\nmemory = 1GiB\n"
make_runtime "$work/fracgpu-crun" crun
"$fracgpu" seccomp-profile --base /usr/share/containers/seccomp.json --runtime crun --socket "$agent" --memory 4GiB \
	--output "$work/hard.json" 2>"$work/out"

# the host's limit for the user, whatever the environment, an annotation or a profile of the user's own says
# shellcheck disable=SC2086 # words
{
	run fracgpu-crun $gpu_files -e FRACGPU_MEMORY=4GiB "$image" /bin/hold 256 || fail "no container"
	is_hold environment 256 0 256
	run fracgpu-crun $gpu_files --annotation fracgpu.io/memory=4GiB "$image" /bin/hold 257 || fail "no container"
	is_hold annotation 257 81 256
	run crun $gpu_files --security-opt "seccomp=$work/hard.json" "$image" /bin/hold 257 || fail "no container"
	is_hold profile 257 81 256
}

# without a line for the user nothing starts
kill "$daemon"
wait "$daemon" || true
start_daemon "[user 1]\nmemory = 256MiB\n"
# shellcheck disable=SC2086
! run fracgpu-crun $gpu_files "$image" sleep 1000 || fail "a user without a limit gets a GPU"
eventually grep -q "user $user has no limit" "$work/daemon.log"
echo "rootless_test: ok ($(podman --version))"
