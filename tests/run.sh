#!/bin/sh
# run.sh BUILD - Run every test program and replay every fuzz corpus of a build; one summary line.
set -u
build=$1
failed=0 passed=0 skipped=0
log=$build/test.log
: >"$log"
for t in "$build"/tests/*/test_*; do
    case $t in *.o | *.d | *.log) continue ;; esac
    start=$(date +%s%N)
    if "$t" >"$t.log" 2>&1; then state=ok; else state=FAIL; fi
    ms=$((($(date +%s%N) - start) / 1000000))
    p=$(grep -c '^\[       OK \]' "$t.log")
    f=$(grep '^\[  FAILED  \] [a-z_0-9]*$' "$t.log" | sort -u | wc -l) # cmocka lists them twice
    s=$(grep -c ': skipped' "$t.log")
    printf '%-4s %6d ms  %3d tests  %s\n' "$state" "$ms" "$p" "${t#"$build"/tests/}"
    cat "$t.log" >>"$log"
    grep -h ': skipped' "$t.log" | sort -u
    passed=$((passed + p)) skipped=$((skipped + s))
    if [ $state = FAIL ]; then
        [ "$f" -gt 0 ] || f=1 # a crash prints no FAILED line
        failed=$((failed + f))
        cat "$t.log"
    fi
done
for r in "$build"/tests/fuzz/replay_*; do
    case $r in *.o | *.d | *.log | '') continue ;; esac
    [ -x "$r" ] || continue
    name=${r##*/replay_fuzz_}
    if "$r" tests/fuzz/corpus/"$name" >"$r.log" 2>&1; then
        printf 'ok   replay %s: %s\n' "$name" "$(tail -1 "$r.log")"
        passed=$((passed + 1))
    else
        printf 'FAIL replay %s\n' "$name"
        cat "$r.log"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
