#!/bin/sh
# demo.sh CAIRN - The main job, on a real repository: prefill, ask, resume in another process,
# edit, a tool call, and the bill of it all.  State and repository go to a temporary folder.
set -eu
cairn=$1
work=$(mktemp -d /tmp/cairn-demo-XXXXXX)
trap 'rm -rf "$work"' EXIT
export CAIRN_STATE="$work/state"
repo=$work/memcached

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() {
    printf '$ cairn %s\n' "$*"
    "$cairn" "$@"
}

say "A real repository: the Debian source package memcached (else this project)"
if ! tests/source-repo.sh memcached "$repo" >"$work/fetch.log" 2>&1; then
    echo "no package to be had ($(tail -1 "$work/fetch.log")): this repository serves"
    git clone -q . "$repo"
fi
cd "$repo"
echo "$(git ls-files | wc -l) files, $(git ls-files -z | xargs -0 cat 2>/dev/null | wc -c) bytes"

say "What a view of 32,768 tokens would hold, and its price"
run context --dry-run | tail -8

say "The first question: the chosen files are prefilled once, with progress"
run ask "Where is assoc_find defined?"

say "A second process goes on: the context is not prefilled again"
run ask -c "What is the signature of assoc_find?"

say "One line is edited: only its documents are prefilled"
file=$(git ls-files '*.h' | head -1)
sed -i '10i /* one more line */' "$file"
echo "$file, line 10"
run ask -c "Where is bipbuf_push defined?"

say "The edit is taken back: nothing is prefilled.  A question that needs a tool"
git checkout -q -- "$file"
run ask -c "Who last changed $file?"

say "kill -9 in the middle of a turn, and on"
printf '$ cairn ask -c "Show assoc_expand" & kill -9 once it answers\n'
"$cairn" ask -c "Show assoc_expand" >"$work/answer" 2>/dev/null &
pid=$!
while kill -0 $pid 2>/dev/null && [ ! -s "$work/answer" ]; do sleep 0.01; done
kill -9 $pid 2>/dev/null || true
wait $pid 2>/dev/null || true
run ask -c "Show bipbuf_offer"

say "The bill"
run cost
run cost --by tool
run cache stat
