#!/usr/bin/env bash
# Builds the fuzz targets, runs each for a while, and prints one table of what came of it. Called by `make fuzz`; README.md has the rest.
# usage: FUZZ_SECONDS=60 FUZZ_TARGETS="decode pdf" FUZZ_JOBS=1 fuzz/run.sh
#
# Rust, libjpeg-turbo and zxing-cpp are all built with AddressSanitizer and with coverage that libFuzzer follows. The flags are those of cargo-fuzz, which is not needed;
# RUSTC_BOOTSTRAP makes the pinned stable compiler take them. What was found stays in fuzz/artifacts/, the grown corpus and the logs in fuzz/target/.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${FUZZ_SECONDS:-60}
jobs=${FUZZ_JOBS:-1}
host=$(rustc -vV | sed -n 's/^host: //p')
binaries=target/$host/release
all=$(sed -n 's|^path = "fuzz_targets/\(.*\).rs"$|\1|p' Cargo.toml)
# Commas and spaces both part names.
targets=$(tr ',' ' ' <<<"${FUZZ_TARGETS:-$all}")

../examples/install-missing.sh cargo cmake nasm clang-19 pkg-config

# Longest input in bytes, where libFuzzer's guess from the corpus would be too short for what is to be found.
declare -A longest=([decode]=8192 [heic]=4096 [pdf]=8192 [request]=8192 [calibration]=32768 [barcode]=8195)

# Where threads may still be at their end when a run is over, what they hold looks like a leak.
declare -A leaks=([request]=0 [pdf]=0)

build() {
    # Debian 12's own clang, 14, does not compile zxing-cpp's C++20. libFuzzer itself must not be instrumented, so clang's own is taken instead of the one that libfuzzer-sys would compile with these flags.
    local runtime coverage flags
    runtime=$(clang-19 -print-file-name="libclang_rt.fuzzer-$(uname -m).a")
    if [ ! -f "$runtime" ]; then
        echo "clang-19 has no libFuzzer here: please install libclang-rt-19-dev" >&2
        exit 1
    fi
    coverage=$(printf -- ' -Cllvm-args=-sanitizer-coverage-%s' level=4 inline-8bit-counters pc-table trace-compares stack-depth)
    flags="-g1 -O2 -fno-omit-frame-pointer -fsanitize=address,fuzzer-no-link"
    CC=clang-19 CXX=clang++-19 CFLAGS="$flags" CXXFLAGS="$flags" CUSTOM_LIBFUZZER_PATH="$runtime" RUSTC_BOOTSTRAP=1 \
        RUSTFLAGS="-Cpasses=sancov-module$coverage --cfg fuzzing -Zsanitizer=address -Cforce-frame-pointers" \
        nice cargo build --locked --release --target "$host" $(printf -- '--bin %s ' $targets)
}

# Folders first given are written to: the grown corpus, which starts from the committed one.
run() {
    local target=$1 log=target/logs/$1.log
    mkdir -p "target/corpus/$target" target/logs "artifacts/$target"
    # Little of what was freed is kept, so that the resident size tells of the target; allocations that fail are errors, not null.
    if ASAN_OPTIONS="quarantine_size_mb=16:${ASAN_OPTIONS:-}" \
        nice -n 10 "$binaries/$target" "target/corpus/$target" "corpus/$target" -artifact_prefix="artifacts/$target/" \
        -max_total_time="$seconds" -timeout=30 -report_slow_units=5 -rss_limit_mb=2048 -malloc_limit_mb=1024 -print_final_stats=1 \
        -detect_leaks="${leaks[$target]:-1}" \
        ${longest[$target]:+-max_len=${longest[$target]}} ${FUZZ_FLAGS:-} >"$log" 2>&1; then
        echo "$target: done"
    else
        echo "$target: FOUND something, see fuzz/$log"
    fi
}

# The figures at the end of a log: libFuzzer's last status line and its final statistics.
figures() {
    local log=target/logs/$1.log
    [ -f "$log" ] || return 0
    local last coverage features corpus runs speed rss slowest found
    last=$(grep -aE '^#[0-9]+.*cov:' "$log" | tail -1 || true)
    coverage=$(sed -n 's/.*cov: \([0-9]*\).*/\1/p' <<<"$last")
    features=$(sed -n 's/.*ft: \([0-9]*\).*/\1/p' <<<"$last")
    corpus=$(sed -n 's/.*corp: \([^ ]*\).*/\1/p' <<<"$last")
    stat() { sed -n "s/^stat::$1: *//p" "$log"; }
    runs=$(stat number_of_executed_units) speed=$(stat average_exec_per_sec) rss=$(stat peak_rss_mb) slowest=$(stat slowest_unit_time_sec)
    found=$(find "artifacts/$1" -type f 2>/dev/null | wc -l)
    printf '%-12s %12s %8s %8s %9s %12s %7s %6s %6s\n' "$1" "${runs:--}" "${speed:--}" "${coverage:--}" "${features:--}" "${corpus:--}" "${rss:--}" \
        "${slowest:--}" "$found"
}

table() {
    printf '%-12s %12s %8s %8s %9s %12s %7s %6s %6s\n' target executions "per s" edges features corpus "RSS MiB" "slow s" found
    for target in $targets; do
        figures "$target"
    done
}

# Adds the smallest of what fuzzing has found, and the seeds do not reach, to the committed corpus: so much as tests can run every time.
keep() {
    local target=$1 least=target/least/$1 bytes=0 count=0
    local there
    there=$(sha1sum "corpus/$target/"* | cut -d' ' -f1)
    rm -rf "$least" && mkdir -p "$least"
    "$binaries/$target" -merge=1 ${longest[$target]:+-max_len=${longest[$target]}} "$least" "corpus/$target" "target/corpus/$target" >"target/logs/$target.merge" 2>&1
    while read -r size file; do
        [ -e "corpus/$target/$(basename "$file")" ] && continue
        bytes=$((bytes + size)) count=$((count + 1))
        [ $bytes -le 10240 ] && [ $count -le 60 ] || break
        # Seeds that the merge has copied are there by another name.
        grep -qx "$(sha1sum <"$file" | cut -d' ' -f1)" <<<"$there" || cp "$file" "corpus/$target/"
    done < <(find "$least" -type f -size +0 -printf '%s %p\n' | sort -n)
    echo "$target: $(find "corpus/$target" -type f | wc -l) files, $(cat "corpus/$target/"* | wc -c) bytes"
}

case ${1:-all} in
    build) build ;;
    table) table ;;
    keep) for target in $targets; do keep "$target"; done ;;
    all | run)
        [ "${1:-all}" = run ] || build
        # Two things at a time with FUZZ_JOBS=2: a target uses one core, some two.
        for target in $targets; do
            while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
            run "$target" &
        done
        wait
        table
        [ -z "$(find artifacts -type f 2>/dev/null)" ]
        ;;
    *) echo "usage: run.sh [build | run | table | keep]" >&2; exit 64 ;;
esac
