#!/usr/bin/env bash
# ./dev demo: a daemon of its own in a temporary place, one guest, its life from start to stop. Each
# time is that of one vmctl command as a user feels it, the start of vmctl included. Whatever happens,
# the guest, the daemon and their files are gone at the end.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
. tools/common.sh
. tools/deps.sh

why=$(kvm_missing)
[ -z "$why" ] || die "$why"
deps_need build
cmake_build release

bin=$PWD/build/bin
tmp=$(mktemp -d /tmp/ferry-demo.XXXXXX)
export FERRY_RUN=$tmp/run
daemon= console= line=

# Ends what the demo started, by its traces: the workers outlive their daemon on purpose.
cleanup() {
    local status=$? proc
    trap '' INT TERM
    [ $status -eq 0 ] || tail -n 5 "$tmp/ferryd.log" >&2 2>/dev/null || true
    if [ -n "$daemon" ]; then
        "$bin/vmctl" kill demo >/dev/null 2>&1 </dev/null || true
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    for proc in /proc/[0-9]*; do
        if [ "$(readlink "$proc/exe" 2>/dev/null)" = "$bin/ferry-vm" ] &&
            cat "$proc/cmdline" "$proc/environ" 2>/dev/null | grep -aqF "$tmp"; then
            kill -9 "${proc#/proc/}" 2>/dev/null || true
        fi
    done
    rm -rf "$tmp"
    exit $status
}

# In microseconds.
now() {
    printf '%s' "${EPOCHREALTIME/[.,]/}"
}

# run RESULT WORD...: shows and runs vmctl; its time goes to the variable RESULT, in microseconds.
run() {
    local result=$1 begin
    shift
    printf '\n$ vmctl %s\n' "$*"
    begin=$(now)
    "$bin/vmctl" "$@" </dev/null || die "vmctl $1 failed"
    printf -v "$result" %s $(($(now) - begin))
}

# hear SECONDS: the next console line, into `line`; false when there was none for so long.
hear() {
    IFS= read -r -t "$1" -u "$console" line || return 1
    line=${line%$'\r'}
    [[ $line != count=* ]] || count=${line#count=} count=${count%% *}
}

# show LINES: prints that many console lines.
show() {
    local i
    for ((i = 0; i < $1; i++)); do
        hear 10 || die "the guest is silent"
        printf '  | %s\n' "$line"
    done
}

row() {
    printf '  %-34s %7d.%d ms\n' "$1" $(($2 / 1000)) $(($2 / 100 % 10))
}

trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir "$FERRY_RUN"
setsid "$bin/ferryd" --root "$tmp/root" --run "$FERRY_RUN" >"$tmp/ferryd.log" 2>&1 </dev/null &
daemon=$!
for ((tries = 0; ; tries++)); do # until it answers
    ! "$bin/vmctl" version >/dev/null 2>&1 </dev/null || break
    kill -0 "$daemon" 2>/dev/null && [ $tries -lt 200 ] || die "ferryd did not start"
    sleep 0.05
done

count=0
start_at=$(now)
run start_us start demo --kernel build/guests/hello.elf --memory 64M
exec {console}< <("$bin/vmctl" console demo </dev/null)
hear 10 || die "the guest is silent"
first_us=$(($(now) - start_at))
printf '  | %s\n' "$line"
show 6

run pause_us pause demo
while hear 0.2; do # what it said until then
    printf '  | %s\n' "$line"
done
stood=$count
! hear 0.5 || die "the guest spoke in its pause: $line"
say "  (silence for half a second: the count stands at $stood)"

run resume_us resume demo
show 4
# Nothing may be lost or said twice over the pause.
[ "$count" -eq $((stood + 4)) ] || die "the count went from $stood to $count in four lines"

run stop_us stop demo
while hear 2; do
    printf '  | %s\n' "$line"
done

say
row "start to the guest's first line" "$first_us"
row "pause" "$pause_us"
row "resume" "$resume_us"
row "stop, by the ACPI power button" "$stop_us"
say
