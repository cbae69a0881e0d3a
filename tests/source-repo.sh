#!/bin/sh
# source-repo.sh [--tree] NAME DIR - The upstream source of a Debian package as a git repository
# with one commit in DIR; with --tree the files alone.  Debian's source index is off by default:
# this reads the mirror and the suite from apt's own configuration and keeps its lists apart from
# the system's.  apt checks the signatures.  A tarball that was fetched once is used again, without
# a network.
set -eu
tree=
[ "${1:-}" != --tree ] || { tree=1; shift; }
[ $# = 2 ] || { echo "usage: $0 [--tree] NAME DIR" >&2; exit 2; }
name=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
[ -z "$(ls -A "$dir")" ] || { echo "source-repo: $dir is not empty" >&2; exit 1; }
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cairn-sources
mkdir -p "$cache/lists/partial" "$cache/$name"
cd "$cache/$name"

tarball() { find . -name "${name}_*.orig.tar.*" ! -name '*.asc' | sort | tail -1; }
if [ -z "$(tarball)" ]; then
    mirror=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null |
        head -1)
    [ -n "$mirror" ] || mirror=$(sed -n 's/^deb .*\(http[^ ]*\).*/\1/p' /etc/apt/sources.list |
        head -1)
    [ -n "$mirror" ] || { echo "source-repo: apt's configuration names no mirror" >&2; exit 1; }
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
    {
        printf 'Types: deb-src\nURIs: %s\nSuites: %s\nComponents: main\n' "$mirror" "$suite"
        echo 'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg'
    } >"$cache/main.sources"
    apt() {
        apt-get -qq -o "Dir::Etc::sourcelist=$cache/main.sources" -o Dir::Etc::sourceparts=/dev/null \
            -o "Dir::State::lists=$cache/lists" "$@"
    }
    ls "$cache"/lists/*Sources* >/dev/null 2>&1 || apt update
    apt source --download-only "$name"
fi
[ -n "$(tarball)" ] || { echo "source-repo: $name has no upstream tarball" >&2; exit 1; }
tar xf "$(tarball)" -C "$dir" --strip-components=1
[ -z "$tree" ] || exit 0
commit=$(basename "$(tarball)")
cd "$dir"
git init -q
git add -A
git -c user.name=source -c user.email=source@example.invalid commit -qm "$commit"
