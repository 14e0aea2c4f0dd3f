# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# How tests of bundles and of engines end and wait. Of $work, the logs and the file `out` are shown on a failure; $low, if
# there is one, is the runtime that the test is about.
skip()
{
	echo "skipped: $*"
	exit 77
}

fail()
{
	echo "$(basename "$0")${low:+ $low}: $*" >&2
	tail -n 20 "$work"/*.log "$work/out" >&2 2>/dev/null || true
	exit 1
}

eventually() # COMMAND...
{
	for _ in $(seq 1 1200); do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.05
	done
	fail "'$*' does not come true"
}
