# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Debian's packages for tests and demonstrations: unpacked into a folder, with package lists of our own. Nothing of the
# system is changed. Sourced by programs that define skip(); one that cannot have the packages ends there.

debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The addresses of the system's package sources, in either of apt's formats, commented lines left out.
debian_sources() {
	local file
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -r "$file" ] && sed -nE 's/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\2/p' "$file"
	done
	for file in /etc/apt/sources.list.d/*.sources; do
		[ -r "$file" ] && sed -nE 's/^URIs:[[:space:]]*//p' "$file" | tr ' ' '\n'
	done
	return 0
}

# The Debian archive among them, or the one of the environment's DEBIAN_MIRROR.
debian_mirror() {
	local mirror=${DEBIAN_MIRROR:-}
	[ -n "$mirror" ] || mirror=$(debian_sources | grep -E '^(https?|file|mirror\+.*):.*/debian/?$' | head -n 1) || true
	[ -n "$mirror" ] || skip "no Debian archive among this system's package sources (set DEBIAN_MIRROR)"
	[ -r "$debian_keyring" ] || skip "no $debian_keyring (package debian-archive-keyring)"
	echo "$mirror"
}

# The release to use: what DEBIAN_SUITE says, else this system's own; where it is another distribution, or has none, bookworm.
debian_suite() {
	local suite=${DEBIAN_SUITE:-}
	[ -n "$suite" ] || ! grep -q '^ID=debian' /etc/os-release || suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	echo "${suite:-bookworm}"
}

# Put what packages hold into FOLDER, which is made anew.
debian_unpack() { # FOLDER SUITE COMPONENTS PACKAGE...
	local folder=$1 suite=$2 components=$3 mirror work apt deb
	shift 3
	command -v apt-get >/dev/null || skip "this is no Debian (no apt-get)"
	mirror=$(debian_mirror) || exit
	work=$(mktemp -d)
	mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/deb" "$work/parts"
	echo "deb [signed-by=$debian_keyring] $mirror $suite $components" >"$work/sources.list"
	apt=(apt-get -q -o "Dir::Etc::SourceList=$work/sources.list" -o "Dir::Etc::SourceParts=$work/parts"
		-o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o Dir::State::Status=/dev/null
		-o Debug::NoLocking=1 -o Acquire::Retries=2 -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30
		-o Acquire::Languages=none -o APT::Update::Error-Mode=any -o "APT::Sandbox::User=$(id -un)")
	if ! timeout 300 "${apt[@]}" update >"$work/log" 2>&1 ||
		! (cd "$work/deb" && timeout 300 "${apt[@]}" download "$@" >"$work/log" 2>&1); then
		tail -n 3 "$work/log" >&2
		rm -rf "$work"
		skip "packages of Debian $suite cannot be fetched (offline?)"
	fi
	rm -rf "$folder"
	for deb in "$work"/deb/*.deb; do dpkg -x "$deb" "$folder"; done
	rm -rf "$work"
}
