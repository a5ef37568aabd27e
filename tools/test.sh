# The test tiers, sourced by ./dev after common.sh and deps.sh.
#
# The gcc build with ASan and UBSan runs unit, sim and kvm; the clang build with libFuzzer keeps the
# code clean for a second compiler and runs fuzz. Every run gets a TMPDIR of its own, and what it
# leaves there, or leaves running, is a failure.

test_tiers=
test_long=

test_options() {
    local word
    for word; do
        case "$word" in
        unit | sim | kvm | fuzz) test_tiers="$test_tiers $word" ;;
        --long) test_long=1 ;;
        *) wrong "there is no tier called $word: unit, sim, kvm, fuzz" ;;
        esac
    done
}

# test_run BUILD TIER...: ctest on these tiers of one build.
test_run() {
    local build=$1 tier rc=0 want= why
    shift
    for tier; do
        why=$(kvm_missing)
        if [ "$tier" = kvm ] && [ -n "$why" ]; then
            say "kvm tier skipped: $why"
        else
            want="$want|$tier"
        fi
    done
    [ -n "$want" ] || return 0
    # Short: a run directory below it holds unix sockets. Passable: a test tries them as another user.
    test_tmp=$(mktemp -d /tmp/f.XXXX)
    chmod 711 "$test_tmp"
    trap 'rm -rf "$test_tmp"' EXIT
    test_ctest "$build" -L "^(${want#|})$" || rc=1
    test_left "$build" || rc=1
    rm -rf "$test_tmp"
    return $rc
}

test_ctest() {
    local build=$1 exclude='^long$' fixed=
    shift
    if [ -n "$test_long" ]; then
        exclude='^$'
        export FERRY_LONG=1
    fi
    # Sanitizers of older compilers fail at times under strong address randomization; a container may
    # forbid to switch it off.
    setarch -R true 2>/dev/null && fixed="setarch -R"
    TMPDIR=$test_tmp $fixed ctest --test-dir "$build" -j "$jobs" "$@" -LE "$exclude" \
        --output-on-failure --no-tests=error </dev/null
}

# What the run left behind, programs first: it is told, ended and removed.
test_left() {
    local build rc=0 pid
    build=$(realpath "$1")
    for pid in $(started_in "$build" "$test_tmp"); do
        say "the tests left process $pid behind: $(tr '\0' ' ' <"/proc/$pid/cmdline")"
        kill -9 "$pid" 2>/dev/null || true
        rc=1
    done
    if [ -n "$(ls -A "$test_tmp")" ]; then
        say "the tests left files behind: $(ls -A "$test_tmp" | xargs)"
        rc=1
    fi
    return $rc
}

test_all() {
    local failed= others=
    test_options "$@"
    deps_need build test ${test_long:+linux}
    if [ -z "$test_tiers" ] || [[ $test_tiers = *fuzz* ]]; then
        cmake_build fuzz
    fi
    if [ -z "$test_tiers" ]; then
        tools/lint || failed="$failed lint"
        test_tiers=fuzz
        others="unit sim kvm fuzz" # fuzz: the seeds only
    else
        others=${test_tiers/fuzz/}
    fi
    if [[ $test_tiers = *fuzz* ]]; then
        test_run build-fuzz fuzz || failed="$failed fuzz"
    fi
    if [ -n "${others// /}" ]; then
        cmake_build asan
        test_run build-asan $others || failed="$failed tests"
    fi
    [ -z "$failed" ] || die "failed:$failed"
}

test_tsan() {
    test_options "$@"
    deps_need build test
    cmake_build tsan
    test_run build-tsan ${test_tiers:-sim kvm} || die "failed under the thread sanitizer"
}

test_fuzz() {
    local seconds=60 keep= target targets= found
    while [ $# -gt 0 ]; do
        case "$1" in
        --seconds) seconds=${2:?--seconds needs a number} && shift ;;
        --seconds=*) seconds=${1#*=} ;;
        --keep) keep=1 ;;
        -*) wrong "fuzz knows no $1" ;;
        *) targets="$targets ${1#fuzz-}" ;;
        esac
        shift
    done
    deps_need build test
    cmake_build fuzz
    for target in ${targets:-$(cd tests/fuzz && ls fuzz_*.c | sed 's/^fuzz_//; s/\.c$//')}; do
        found=build-fuzz/tests/corpus/$target
        [ -x "build-fuzz/tests/fuzz-$target" ] || die "there is no fuzz target $target in tests/fuzz"
        mkdir -p "$found" "tests/fuzz/corpus/$target" build-fuzz/crashes
        say "fuzz $target, $seconds s"
        "build-fuzz/tests/fuzz-$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
            -fork="$jobs" -artifact_prefix="build-fuzz/crashes/$target-" -print_final_stats=1 \
            "$found" "tests/fuzz/corpus/$target" || die "fuzz $target found a failure: build-fuzz/crashes"
        if [ -n "$keep" ]; then
            "build-fuzz/tests/fuzz-$target" -merge=1 "tests/fuzz/corpus/$target" "$found"
        fi
    done
}
