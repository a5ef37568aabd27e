# What ./dev and its parts share: how they speak, fail and build. Sourced with the top as cwd.

jobs=${FERRY_JOBS:-$(nproc)}

say() {
    printf '%s\n' "$*"
}

die() {
    printf './dev: %s\n' "$*" >&2
    exit 1
}

wrong() {
    printf './dev: %s (./dev help)\n' "$*" >&2
    exit 2
}

# quiet WHAT COMMAND...: one line with the time it took; all of the output when it fails.
quiet() {
    local what=$1 said begin=$SECONDS
    shift
    if ! said=$("$@" 2>&1 </dev/null); then
        printf '%s\n%-24s failed\n' "$said" "$what" >&2
        return 1
    fi
    printf '%-24s %4d s\n' "$what" $((SECONDS - begin))
}

# cmake_build PRESET [TARGET]: configures (cheap when nothing changed) and builds.
cmake_build() {
    local preset=$1 target=${2:-all}
    if command -v ccache >/dev/null; then
        export CMAKE_C_COMPILER_LAUNCHER=${CMAKE_C_COMPILER_LAUNCHER-ccache}
    fi
    quiet "configure $preset" cmake --preset "$preset" || exit 1
    quiet "build $preset" cmake --build --preset "$preset" -j "$jobs" --target "$target" || exit 1
}

# as_root COMMAND...: with sudo when not root; that asks for a password only where there is a terminal.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif ! command -v sudo >/dev/null; then
        die "this needs root and there is no sudo; as root run: $*"
    elif [ -z "${CI:-}" ] && (: </dev/tty) 2>/dev/null; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

# as_owner DIR COMMAND...: as root only when DIR (or what will hold it) is not ours to write.
as_owner() {
    local dir=$1
    shift
    until [ -e "$dir" ]; do
        dir=$(dirname "$dir")
    done
    if [ -w "$dir" ]; then
        "$@"
    else
        as_root "$@"
    fi
}

# started_in BUILD DIR: prints the pids of that build's programs whose command line or environment names
# DIR, a directory of one run only: nobody else's are meant.
started_in() {
    local proc
    for proc in /proc/[0-9]*; do
        [[ $(readlink "$proc/exe" 2>/dev/null) = "$1"/* ]] || continue
        if cat "$proc/cmdline" "$proc/environ" 2>/dev/null | grep -aqF "$2"; then
            printf '%s\n' "${proc#/proc/}"
        fi
    done
}

# Prints why guests cannot run here; nothing when they can.
kvm_missing() {
    if [ ! -e /dev/kvm ]; then
        echo "/dev/kvm is missing: this machine offers no hardware virtualization, or the kernel" \
            "module is not loaded (modprobe kvm_intel or kvm_amd; in a VM, enable nested virtualization)"
    elif ! (: <>/dev/kvm) 2>/dev/null; then
        case "$(stat -c %A /dev/kvm) $(stat -c %G /dev/kvm)" in
        ????rw*" root" | ????[!r]* | ?????[!w]*)
            echo "/dev/kvm cannot be opened by $(id -un): run as root, or give it to a group" \
                "(sudo chgrp kvm /dev/kvm && sudo chmod 660 /dev/kvm) that you are in"
            ;;
        *)
            echo "/dev/kvm cannot be opened by $(id -un): join its group" \
                "(sudo usermod -aG $(stat -c %G /dev/kvm) $(id -un), then log in again) or be root"
            ;;
        esac
    fi
}
