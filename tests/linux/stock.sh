#!/bin/sh
# Prints where Debian's cloud kernel lies: fetched and taken apart, not installed, and kept in the cache as
# kernel.py keeps its own. Ends with 77 and the reason where apt cannot give it.
set -eu
give_up() {
    echo "stock: skipped: $*" >&2
    exit 77
}
command -v apt-get >/dev/null || give_up "there is no apt-get"
package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
    sed -n 's/.*Depends: \(linux-image-.*-cloud-amd64\)$/\1/p' | head -n 1)
[ -n "$package" ] || give_up "apt knows no linux-image-cloud-amd64, which is Debian's"
cache=${FERRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ferry}
mkdir -p "$cache"
if [ ! -f "$cache/$package" ]; then
    work=$(mktemp -d "$cache/.$package.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work" # apt fetches as a user of its own
    (cd "$work" && apt-get -qq download "$package" >&2) || give_up "$package cannot be fetched"
    dpkg-deb -x "$work"/*.deb "$work/tree"
    mv "$work"/tree/boot/vmlinuz-* "$cache/$package"
fi
echo "$cache/$package"
