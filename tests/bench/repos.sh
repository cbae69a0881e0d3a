#!/bin/sh
# repos.sh CAIRN [NAME...] - Real repositories at three budgets: what is prefilled at first, on resume,
# after an edit, its commit, a branch switch and back.  NAMEs are Debian source packages
# (lmdb memcached redis).
set -eu
cairn=$1
shift
[ $# -gt 0 ] || set -- lmdb memcached redis
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d /tmp/cairn-repos-XXXXXX)
trap 'rm -rf "$work"' EXIT
field() { sed -n "s/.*\"$1\":\\([0-9.]*\\).*/\\1/p"; }
ask() { # ask OPTIONS...: the last line of a turn's JSON
    "$cairn" ask --json --state "$work/state" -C "$repo" --max-tokens 4 "$@" "Where is main defined?" |
        tail -1
}
row() { # row WHAT JSON
    printf '%-10s %7s  %-22s %9s cached %9s prefilled   context %7s ms restore %7s ms prefill %9s ms\n' \
        "$name" "$budget" "$1" "$(echo "$2" | field cached_tokens)" "$(echo "$2" | field prefilled_tokens)" \
        "$(echo "$2" | field context)" "$(echo "$2" | field restore)" "$(echo "$2" | field prefill)"
}
for name in "$@"; do
    repo=$work/$name
    "$here/source-repo.sh" "$name" "$repo"
    cd "$repo"
    git config user.name bench
    git config user.email bench@example.invalid
    start=$(git rev-parse HEAD)
    for budget in 8192 32768 131072; do
        rm -rf "$work/state"
        git checkout -q -B work "$start"
        row "first" "$(ask --budget $budget)"
        row "resume" "$(ask -c)"
        # A source file that is in the view: its first line is doubled.
        file=$("$cairn" context --state "$work/state" -C "$repo" --budget $budget --dry-run |
            sed -n 's/^cached .* tok  \(.*\.[ch]\) lines.*/\1/p' | head -1)
        sed -i '1{p}' "$file"
        row "edit $(basename "$file")" "$(ask -c)"
        git commit -qam edit
        row "commit" "$(ask -c)"
        git checkout -q "$start"
        row "switch back" "$(ask -c)"
        git checkout -q work
        row "and forth" "$(ask -c)"
    done
done
