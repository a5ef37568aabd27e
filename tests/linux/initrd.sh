#!/bin/sh
# initrd.sh OUTPUT INIT JUDGE BUSYBOX: what the tests' Linux guests begin with, as an initial RAM disk and, in
# OUTPUT.ext4, as a disk. It is not packed: a guest whose kernel is emulated would take long to unpack it.
set -eu
output=$1
tree=$(mktemp -d "$output.XXXXXX")
trap 'rm -rf "$tree" "$tree".*' EXIT
mkdir "$tree/bin" "$tree/dev" "$tree/proc" "$tree/run" "$tree/sys"
cp "$2" "$tree/init"
cp "$3" "$tree/bin/judge"
cp "$4" "$tree/bin/busybox"
ln -s busybox "$tree/bin/sh"
(cd "$tree" && find . | sort | cpio --quiet --reproducible --owner=0:0 -H newc -o) >"$tree.cpio"
PATH=$PATH:/usr/sbin:/sbin mke2fs -q -t ext4 -E root_owner=0:0 -d "$tree" "$tree.ext4" 16M
mv "$tree.ext4" "$output.ext4"
mv "$tree.cpio" "$output"
