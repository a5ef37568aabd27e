# The packages that each part of the work needs; docs/dependencies.md says why. "a|b" is the first
# that this distribution has. Sourced by ./dev after common.sh.

deps_build="gcc libc6-dev linux-libc-dev cmake ninja-build pkg-config libuv1-dev libprotobuf-c-dev
    protobuf-c-compiler libssl-dev libzstd-dev zlib1g-dev liblz4-dev liblzma-dev liburing-dev
    libcurl4-openssl-dev|libcurl4-gnutls-dev"
deps_test="libcmocka-dev clang llvm clang-format-14|clang-format clang-tidy-14|clang-tidy cppcheck python3
    python3-protobuf protobuf-compiler acpica-tools iproute2 util-linux zstd nginx-light openssl"
deps_bench="qemu-system-x86 python3"
deps_package="dpkg-dev file"

# In Ubuntu 22.04 the runtimes of libFuzzer and the sanitizers come with clang itself.
if ! grep -q '^VERSION_CODENAME=jammy' /etc/os-release 2>/dev/null; then
    deps_test="$deps_test libclang-rt-dev"
fi

# The kernel of the tests' Linux guests is built from Debian 12's; elsewhere these tests are skipped.
deps_linux="python3"
if grep -q '^VERSION_CODENAME=bookworm' /etc/os-release 2>/dev/null; then
    deps_linux="$deps_linux linux-source-6.1 make flex bison bc libelf-dev xz-utils busybox-static cpio
        e2fsprogs"
fi

deps_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Prints the words of which no alternative is installed.
deps_missing() {
    local word name
    for word in $*; do
        for name in ${word//|/ }; do
            deps_installed "$name" && continue 2
        done
        printf '%s\n' "$word"
    done
}

# Prints for each word the alternative that apt can install; the last one if it knows none.
deps_pick() {
    local word name names=
    for word; do
        for name in ${word//|/ }; do
            if [ -n "$(apt-cache madison "$name" 2>/dev/null)" ]; then
                break
            fi
        done
        names="$names $name"
    done
    printf '%s\n' "${names# }"
}

# deps_need SET...: installs what is missing of the sets build, test, linux, bench, package.
deps_need() {
    local set list missing=
    for set in $*; do
        list=deps_$set
        [ -n "${!list:-}" ] || wrong "there is no set of packages called $set"
        missing="$missing $(deps_missing ${!list})"
    done
    missing=$(printf '%s\n' $missing | sort -u)
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null; then
        say "not a Debian or Ubuntu: docs/dependencies.md names what must be here"
        return 0
    fi
    deps_install $missing
}

deps_install() {
    local names said
    names=$(deps_pick "$@")
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        die "packages are missing and there is no sudo; as root run: apt-get install $names"
    fi
    # A list of some other repository that cannot be fetched is no reason to stop.
    said=$(as_root apt-get -qq update 2>&1 </dev/null) || true
    names=$(deps_pick "$@")
    say "installing with apt-get: $names"
    if ! said=$said$(as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y \
        --no-install-recommends -o DPkg::Lock::Timeout=300 install $names 2>&1 </dev/null); then
        printf '%s\n' "$said" >&2
        die "could not install; as root run: apt-get install $names"
    fi
}
