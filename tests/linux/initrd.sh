#!/bin/sh
# initrd.sh OUTPUT INIT JUDGE BUSYBOX: the initial RAM disk of the tests' Linux guests. It is not packed: a
# guest whose kernel is emulated would take long to unpack it.
set -eu
output=$1
tree=$(mktemp -d "$output.XXXXXX")
trap 'rm -rf "$tree"' EXIT
mkdir "$tree/bin"
cp "$2" "$tree/init"
cp "$3" "$tree/bin/judge"
cp "$4" "$tree/bin/busybox"
ln -s busybox "$tree/bin/sh"
(cd "$tree" && find . | sort | cpio --quiet --reproducible --owner=0:0 -H newc -o) >"$tree.cpio"
mv "$tree.cpio" "$output"
