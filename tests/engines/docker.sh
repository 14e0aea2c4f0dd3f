# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# A dockerd of its own in $work, without network: the system's, or where the test's third argument is 'newer' that of
# tools/get-docker, in its own root. Sourced after lib.sh and needs.
dockerd=
image="fracgpu-test:latest"
at_docker=	# words before a command that is to run where Docker is

# Its own root must be that of a mount namespace: what a container's exec enters is the namespace's root, not that of a chroot.
enter_docker_root()
{
	root=$build/docker
	"$(dirname "$0")/../../tools/get-docker" "$root" >"$work/out" 2>&1 || skip "no newer Docker: $(tail -n 1 "$work/out")"
	mount --bind "$root" "$root"
	mount -t tmpfs tmpfs "$root/run"
	mount -t tmpfs tmpfs "$root/tmp"
	mkdir "$root/run/old"
	cp "$(command -v busybox)" "$root/run/busybox"
	images=$(cd "$(dirname "$0")/../../integrations/images" && pwd)
	for folder in /dev /proc /sys "$work" "$build/src" "$images"; do
		mkdir -p "$root$folder"
		mount --rbind "$folder" "$root$folder"
	done
	cat >"$work/there" <<TEXT
#!/bin/sh
# the simulator's library is not there
unset LD_PRELOAD
cd "$root" && pivot_root . run/old && exec /run/busybox sh -c '/run/busybox umount -l /run/old && exec "\$@"' sh "\$@"
TEXT
	at_docker="unshare --mount sh $work/there"
	docker=/usr/bin/docker
}

if [ "${extra:-}" = newer ]; then
	enter_docker_root
else
	command -v dockerd >/dev/null || skip "dockerd is not installed"
	# the client that belongs to the server: another one may come first in PATH
	client=$(dirname "$(readlink -f "$(command -v dockerd)")")/docker
	for place in /usr/bin/docker "$client"; do [ ! -x "$place" ] || docker=$place; done
	[ -n "${docker:-}" ] || skip "dockerd is installed without docker"
fi

engine()
{
	# shellcheck disable=SC2086 # words
	$at_docker "$docker" --config "$work/docker" -H "unix://$work/docker.sock" "$@"
}

stop_engine()
{
	# shellcheck disable=SC2046 # ids
	engine rm -f $(engine ps -aq)
	stop_dockerd
}

goodbye()
{
	stop_engine
}

stop_dockerd()
{
	kill "$dockerd"
	wait "$dockerd" || true
}

start_dockerd() # DEFAULT-RUNTIME
{
	mkdir -p "$work/docker"
	# shellcheck disable=SC2086 # words
	$at_docker dockerd --config-file "$work/docker.json" --data-root "$work/docker/data" --exec-root "$work/docker/exec" \
		-p "$work/docker/pid" -H "unix://$work/docker.sock" --iptables=false --ip6tables=false --bridge=none \
		--storage-driver "${storage:-vfs}" --add-runtime "fracgpu=$work/fracgpu-runc" --default-runtime "$1" >>"$work/dockerd.log" 2>&1 &
	dockerd=$!
	for _ in $(seq 1 600); do
		if engine version >/dev/null 2>&1; then return 0; fi
		kill -0 "$dockerd" 2>/dev/null || break
		sleep 0.05
	done
	skip "dockerd does not start here: $(grep -v level=info "$work/dockerd.log" | tail -n 1)"
}

echo '{}' >"$work/docker.json"
