#!/bin/sh
# check.sh FILE... - The rules a script can see: layers, headers that compile alone, layout,
# the op table, no paths or words that belong to one machine.
set -u
cd "$(dirname "$0")/.." || exit 1
bad=0
awk -f tests/check_layers.awk tests/layers.txt "$@" || bad=1
for h in "$@"; do
    case $h in
    *.h) ${CC:-gcc} -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -I. -fsyntax-only -x c "$h" || bad=1 ;;
    esac
done
if command -v clang-format >/dev/null; then
    for f in "$@"; do
        case $f in *.def) continue ;; esac
        clang-format --dry-run -Werror "$f" 2>/tmp/cairn-format.$$ || {
            head -3 /tmp/cairn-format.$$
            bad=1
        }
    done
    rm -f /tmp/cairn-format.$$
else
    echo "check: clang-format is not installed; layout skipped"
fi
# Nothing here may speak of the machine that it was written on.
git ls-files -co --exclude-standard | grep -v -e '\.safetensors$' -e '^tests/check.sh$' -e '^tests/fuzz/corpus/' |
    xargs grep -n -I -E '\.\./shared|/work/|\.library|/root/' && { echo "check: a path of one machine"; bad=1; }
git ls-files -co --exclude-standard '*.c' '*.h' '*.sh' '*.py' '*.cu' | xargs grep -n -E '\bTODO\b' |
    grep -v '^tests/check.sh' && { echo "check: bare TODO"; bad=1; }
[ $bad = 0 ] && echo "check: $# files clean"
exit $bad
