#!/bin/sh
# setup.sh - Install what is missing, by Debian package name.  Without root: print the line and stop.
set -eu
missing=
need() { # need PACKAGE FILE...: PACKAGE is missing unless every FILE is there
    pkg=$1; shift
    for f in "$@"; do [ -e "$f" ] || { missing="$missing $pkg"; return; }; done
}
need gcc /usr/bin/gcc
need make /usr/bin/make
need git /usr/bin/git
need xz-utils /usr/bin/xz
need clang-format /usr/bin/clang-format
need libsodium-dev /usr/include/sodium.h
need libxxhash-dev /usr/include/xxhash.h
need libcjson-dev /usr/include/cjson/cJSON.h
need libpcre2-dev /usr/include/pcre2.h
need libutf8proc-dev /usr/include/utf8proc.h
need libsqlite3-dev /usr/include/sqlite3.h
need libgit2-dev /usr/include/git2.h
need liblmdb-dev /usr/include/lmdb.h
need libedit-dev /usr/include/histedit.h
need tmux /usr/bin/tmux
need libcmocka-dev /usr/include/cmocka.h
[ -n "$missing" ] || exit 0
line="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" != 0 ]; then
    echo "setup: missing Debian packages; run this as root, then again:" >&2
    echo "  $line" >&2
    exit 1
fi
echo "setup: $line"
export DEBIAN_FRONTEND=noninteractive
$line >/dev/null 2>&1 || { apt-get update -qq && $line >/dev/null; }
