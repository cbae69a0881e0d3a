#!/bin/sh
# npm-history.sh NAME DIR VERSIONS - The last VERSIONS released versions of an npm package as a git
# repository in DIR, a commit each, the oldest first.  Packages that were fetched once are used
# again, without a network.
set -eu
[ $# = 3 ] || { echo "usage: $0 NAME DIR VERSIONS" >&2; exit 2; }
name=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cairn-npm/$name
mkdir -p "$cache"
cd "$cache"
[ -s versions ] || npm view "$name" versions --json | tr -d '[]", ' | grep -v -e - -e '^$' >versions
git init -q "$dir"
for v in $(tail -"$3" versions); do
    tarball=$(ls ./*-"$v".tgz 2>/dev/null || true)
    [ -n "$tarball" ] || tarball=$(npm pack --silent "$name@$v")
    find "$dir" -mindepth 1 -maxdepth 1 ! -name .git -exec rm -rf {} +
    tar xf "$tarball" -C "$dir" --strip-components=1
    git -C "$dir" add -A
    git -C "$dir" -c user.name=source -c user.email=source@example.invalid commit -q --allow-empty \
        -m "$name $v"
done
