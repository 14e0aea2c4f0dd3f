#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The images that 'make images' makes: their tags, and a base for each.
# usage: matrix_test.sh BUILD-ROOT
set -eu
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
images=$(cd "$(dirname "$0")/../../integrations/images" && pwd)

for system in u20-cu11.1 u20-cu11.7 u20-cu12.3 u22-cu11.7 u22-cu12.3 u22-cu13 u24-cu13; do
	for gib in 2 4 8 12; do echo "$system-${gib}gb"; done
done >"$work/want"
ENGINE=/bin/false DRY_RUN=yes IMAGE=example.org/fracgpu "$images/build" "$build" >"$work/said"
sed -n 's/^images: would make example.org\/fracgpu:\([^ ]*\) from .*/\1/p' "$work/said" >"$work/made"
cmp "$work/want" "$work/made" || { diff "$work/want" "$work/made"; exit 1; }
[ "$(wc -l <"$work/made")" -eq 28 ]
# the base is of the system and CUDA that the tag names
while read -r _ _ _ tag _ base _; do
	system=${tag#*:}
	cuda=${system#*-cu}
	case $base in
	"docker.io/nvidia/cuda:${cuda%%-*}."*"-base-ubuntu$(expr "$system" : 'u\([0-9]*\)').04") ;;
	*) echo "$tag is made from $base"; exit 1 ;;
	esac
done <"$work/said"
# a part of them, and one
[ "$(ENGINE=/bin/false DRY_RUN=yes ONLY=u24 "$images/build" "$build" | wc -l)" -eq 4 ]
[ "$(ENGINE=/bin/false DRY_RUN=yes BASE=x:1 MEMORY=3 TAG=t "$images/build" "$build")" = \
	"images: would make localhost/fracgpu:t from x:1 with 3 GiB" ]
echo "matrix_test: ok"
