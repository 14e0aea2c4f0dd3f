#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A base of musl: no image with a limit of its own is made of it, because musl reads no /etc/ld.so.preload; under
# fracgpu-runtime its programs are held as any. Runs in the simulator with one GPU of 8 GiB.
# usage: musl_test.sh BUILD-ROOT MUSL-PROGRAM
set -eu
# shellcheck source=tests/engines/lib.sh
. "$(dirname "$0")/../engines/lib.sh"
needs podman crun
# shellcheck source=tests/engines/podman.sh
. "$(dirname "$0")/../engines/podman.sh"
loader=$(grep -ao '/lib/ld-musl-[a-z0-9_]*.so.1' "$guest" | head -n 1)
[ -e "$loader" ] || skip "no musl here"

goodbye()
{
	podman_with crun rm -f -a -t 0
	settle "$work"
}

make_image "$work/image.tar"
for name in chmod mkdir; do ln -sf busybox "$work/image/bin/$name"; done
mkdir "$work/image/lib"
cp -L "$loader" "$work/image$loader"
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
! ENGINE=$work/engine BASE=$image MEMORY=2 TAG=2gb "$(dirname "$0")/../../integrations/images/build" "$build" >"$work/out" 2>&1 ||
	fail "an image is made of a base without glibc"
grep -q "no glibc" "$work/out" || fail "no word about a base without glibc"

start_daemon '[default]\nmax = 4GiB\n'
make_runtime "$work/fracgpu-crun" crun
# shellcheck disable=SC2086 # words
podman_with fracgpu-crun run --rm --network none $gpu_files -e FRACGPU_MEMORY=256MiB "$image" /bin/hold limit >"$work/out" 2>&1 ||
	fail "a program of musl"
echo "musl_test: ok"
