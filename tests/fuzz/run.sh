#!/usr/bin/env bash
# A million executions of each target, or of those named: RUNS=1000000 tests/fuzz/run.sh [TARGET…]
set -euo pipefail
cd "$(dirname "$0")"
targets=("$@")
[ $# -gt 0 ] || targets=(audio manifest arpa words corpora model job)
for target in "${targets[@]}"; do
    mkdir -p "corpus/$target"
    seeds=("seeds/$target")
    [ "$target" != audio ] || seeds=(../../speech/testdata/coded)
    # Safe Rust: what AddressSanitizer would find is not written here, and it halves the speed.
    features=()
    [ "$target" != job ] || features=(--features job)
    nice cargo +nightly fuzz run --fuzz-dir . --sanitizer none "${features[@]}" "$target" "corpus/$target" "${seeds[@]}" -- \
        -runs="${RUNS:-1000000}" -timeout=10 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1
done
