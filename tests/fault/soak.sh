#!/bin/sh
# soak.sh BUILD KILLS EVERY [SEED] - The long forms of tests/fault: KILLS kills at random, every
# EVERY-th fault point, call and moment of a power loss; one line of figures at the end.
set -u
dir=$1/tests/fault kills=$2 every=$3 seed=${4:-$(date +%s)}
log=$1/soak.log start=$(date +%s)
: >"$log"
run() { # run PROGRAM ARGUMENT...
    program=$1
    shift
    if ! "$dir/$program" soak "$@" "$seed" >"$dir/$program.soak" 2>&1; then
        cat "$dir/$program.soak"
        echo "soak: $program failed with seed $seed"
        exit 1
    fi
    grep '^soak:' "$dir/$program.soak" | sed "s/^soak:/$program:/" | tee -a "$log"
}
run test_kill "$kills" "$every"
run test_cairn $((kills / 20 + 1))
run test_power $((kills / 500 + 1)) $((3 * every))
run test_walk $((kills / 8 + 1))
awk -v seed="$seed" -v seconds=$(($(date +%s) - start)) '
    { for (i = 2; i <= NF; i++) { name = $i; sub(/[,;].*/, "", name); sum[name] += $(i - 1) } }
    END {
        printf "soak: %d kills, %d deaths at points, %d power losses, %d walks, %d turns checked, ",
            sum["kills"], sum["deaths"], sum["power"], sum["walks"], sum["turns"]
        printf "%d interrupted, %.1f minutes, seed %d\n", sum["interrupted"], seconds / 60, seed
    }' "$log"
