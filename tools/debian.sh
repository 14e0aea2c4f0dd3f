# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What the tools that unpack Debian's packages into a folder share: the archive, and an apt of their own, which reads and writes
# nothing of the system's but its keyring. Sourced; skip() is the tool's.
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The addresses of the system's package sources, in either of apt's formats, commented lines left out.
source_addresses() {
	local file
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -r "$file" ] && sed -nE 's/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\2/p' "$file"
	done
	for file in /etc/apt/sources.list.d/*.sources; do
		[ -r "$file" ] && sed -nE 's/^URIs:[[:space:]]*//p' "$file" | tr ' ' '\n'
	done
	return 0
}

# The Debian archive among them.
debian_mirror() {
	if [ -n "${DEBIAN_MIRROR:-}" ]; then
		echo "$DEBIAN_MIRROR"
	else
		source_addresses | grep -E '^(https?|file|mirror\+.*):.*/debian/?$' | head -n 1
	fi
}

# Make an apt of its own in a folder: the array `apt`. Its lists are read.
private_apt() { # FOLDER TYPES SUITE COMPONENTS
	local work=$1 types=$2 suite=$3 components=$4 mirror type
	command -v apt-get >/dev/null || skip "this is no Debian (no apt-get)"
	mirror=$(debian_mirror) || true
	[ -n "$mirror" ] ||
		skip "no Debian archive among this system's package sources (set DEBIAN_MIRROR)"
	[ -r "$keyring" ] || skip "no $keyring (package debian-archive-keyring)"
	mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/deb" "$work/parts"
	for type in $types; do
		echo "$type [signed-by=$keyring] $mirror $suite $components"
	done >"$work/sources.list"
	apt=(apt-get -q -o "Dir::Etc::SourceList=$work/sources.list" -o "Dir::Etc::SourceParts=$work/parts"
		-o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o Dir::State::Status=/dev/null
		-o Debug::NoLocking=1 -o Acquire::Retries=2 -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30
		-o Acquire::Languages=none -o APT::Update::Error-Mode=any -o "APT::Sandbox::User=$(id -un)")
	say "reading the package lists of Debian $suite"
	timeout 300 "${apt[@]}" update >"$work/log" 2>&1 || {
		tail -n 3 "$work/log" >&2
		skip "the package lists cannot be read (offline?)"
	}
}
