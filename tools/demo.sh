#!/usr/bin/env bash
# ./dev demo: two daemons of its own in a temporary place; a guest, its life from start to stop, and
# three clones of it; another that moves from one daemon to the other while it writes. Each time is that of one vmctl command as a user feels it, the start of vmctl
# included.
#
# This process only watches: the steps are a job of their own, so that whatever happens to them, or
# when a signal comes, the guest, the daemon and their files are gone at the end.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
. tools/common.sh
. tools/deps.sh

bin=$PWD/build/bin
tmp= daemon= other= story=

# The workers outlive their daemon on purpose, so they are found by what they were started with.
cleanup() {
    local status=$? proc
    trap '' INT TERM
    [ -n "$tmp" ] || exit $status
    if [ -n "$story" ]; then
        kill -- "-$story" 2>/dev/null || true
        wait "$story" 2>/dev/null || true
    fi
    [ $status -eq 0 ] || [ $status -gt 128 ] || tail -n 5 "$tmp/ferryd.log" >&2 || true
    [ -z "$daemon" ] || "$bin/vmctl" kill demo >/dev/null 2>&1 </dev/null || true
    for proc in $daemon $other; do
        kill "$proc" 2>/dev/null || true
        wait "$proc" 2>/dev/null || true
    done
    for proc in $(started_in "$bin" "$tmp"); do
        kill -9 "$proc" 2>/dev/null || true
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
    [[ $line != *count=* ]] || count=${line#*count=} count=${count%% *}
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

# wait_for_daemon PID RUN
wait_for_daemon() {
    local tries
    for ((tries = 0; tries < 200; tries++)); do
        ! "$bin/vmctl" --run "$2" version >/dev/null 2>&1 </dev/null || return 0
        kill -0 "$1" 2>/dev/null || break
        sleep 0.05
    done
    die "ferryd did not start"
}

# Each clone counts on from the moment of the snapshot, in its own time.
clones() {
    local console number
    for number in 1 2 3; do
        say "  clone-$number goes on:"
        exec {console}< <("$bin/vmctl" console "clone-$number" </dev/null)
        show 2
        [ "$count" -gt "$stood" ] || die "clone-$number counts from $count, not on from $stood"
        exec {console}<&-
        "$bin/vmctl" kill "clone-$number" </dev/null || die "vmctl kill clone-$number failed"
    done
}

# The guest checks each page that it has written; its console goes along.
moves() {
    local address console heard=0
    address=$(sed -n 's/.*listens for other hosts on //p' "$tmp/other.log")
    run start_us start busy --kernel build/guests/dirty.elf --memory 256M \
        --cmdline "rate=1000 fillmem=128M"
    exec {console}< <("$bin/vmctl" console busy </dev/null)
    until [[ ${line:-} == *errors=0* ]]; do
        hear 10 || die "the guest is silent"
        heard=$((heard + 1))
    done
    printf '  | %s\n' "$line"
    exec {console}<&-
    run migrate_us migrate busy "$address"
    ! "$bin/vmctl" show busy >/dev/null 2>&1 </dev/null || die "the guest is still here"
    say "  on the other host, with its console, it goes on:"
    exec {console}< <("$bin/vmctl" --run "$FERRY_RUN.other" console busy </dev/null)
    for (( ; heard > 0; heard--)); do # what it said here is there, too
        hear 10 || die "the guest's console has not come along"
    done
    show 3
    [[ $line == *errors=0* ]] || die "the guest found an error: $line"
    exec {console}<&-
    "$bin/vmctl" --run "$FERRY_RUN.other" kill busy </dev/null || die "vmctl kill busy failed"
}

tell_story() {
    local migrate_us start_us pause_us resume_us snapshot_us restore_us stop_us first_us begin stood line
    local console count=0
    begin=$(now)
    run start_us start demo --kernel build/guests/hello.elf --memory 64M
    exec {console}< <("$bin/vmctl" console demo </dev/null)
    show 1
    first_us=$(($(now) - begin))
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
    # Nothing is lost and nothing said twice over the pause.
    [ "$count" -eq $((stood + 4)) ] || die "the count went from $stood to $count in four lines"

    run snapshot_us snapshot create demo moment
    show 2
    run restore_us restore moment --name clone --count 3
    clones

    run stop_us stop demo
    while hear 2; do
        printf '  | %s\n' "$line"
    done

    local demo_us=$start_us
    moves

    say
    row "start" "$demo_us"
    row "start to the guest's first line" "$first_us"
    row "pause" "$pause_us"
    row "resume" "$resume_us"
    row "snapshot of the running guest" "$snapshot_us"
    row "restore of 3 clones" "$restore_us"
    row "stop, by the ACPI power button" "$stop_us"
    row "migration of a guest that writes" "$migrate_us"
}

why=$(kvm_missing)
[ -z "$why" ] || die "$why"
deps_need build
cmake_build release

trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
tmp=$(mktemp -d /tmp/ferry-demo.XXXXXX)
export FERRY_RUN=$tmp/run
mkdir "$FERRY_RUN" "$FERRY_RUN.other"
set -m # each job has a process group: a Ctrl-C comes only here
"$bin/ferryd" --root "$tmp/root" --run "$FERRY_RUN" >"$tmp/ferryd.log" 2>&1 </dev/null &
daemon=$!
"$bin/ferryd" --root "$tmp/other" --run "$FERRY_RUN.other" --listen 127.0.0.1:0 \
    >"$tmp/other.log" 2>&1 </dev/null &
other=$!
wait_for_daemon $daemon "$FERRY_RUN"
wait_for_daemon $other "$FERRY_RUN.other"
tell_story </dev/null &
story=$!
wait "$story"
story=
