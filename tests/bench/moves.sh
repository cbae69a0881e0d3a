#!/bin/sh
# moves.sh PROGRAM - A session on repositories that move: walks over 20 commits of this
# project and of the last versions of an npm package (fastify), an edit in the middle of 84K
# tokens, and files dropped and added in 64K, of a Debian source package (redis).
#   make build/release-cpu/tests/bench/moves && tests/bench/moves.sh build/release-cpu/tests/bench/moves
set -eu
program=$1
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d /tmp/cairn-moves-XXXXXX)
trap 'rm -rf "$work"' EXIT
echo "== walk: this project"
"$program" walk "$(git -C "$here" rev-parse --show-toplevel)" 20
echo "== walk: fastify"
"$here/bench/npm-history.sh" fastify "$work/npm" 21
"$program" walk "$work/npm" 20
"$here/source-repo.sh" redis "$work/redis"
echo "== edit: redis"
"$program" edit "$work/redis"
echo "== view: redis"
"$program" view "$work/redis"
