#!/bin/sh
# run.sh SECONDS FUZZER... - Fuzz each target for SECONDS from its committed corpus; new inputs stay in build/.
set -eu
seconds=$1
shift
for f in "$@"; do
    name=${f##*/fuzz_}
    mkdir -p "$f.corpus"
    echo "fuzz $name for $seconds s"
    "$f" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="$f." "$f.corpus" "tests/fuzz/corpus/$name" 2>"$f.log" ||
        { tail -40 "$f.log"; exit 1; }
    grep -E 'stat::number_of_executed_units|stat::new_units_added|DONE' "$f.log"
done
