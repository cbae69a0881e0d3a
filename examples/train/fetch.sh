#!/bin/sh
# fetch.sh DIR [NAME...] - The packages in sources.txt (all, or those named) as files: DIR/train/NAME,
# and DIR/held/NAME, which is a git repository with one commit, so that the program can be asked about
# it.  A `source` is the upstream tarball; a `binary` is a package whose files are the source, as those of
# Python, JavaScript, Go and Rust are.  A package that is there already is left as it is, so a run that
# was cut off goes on; one that cannot be fetched (no network, an unknown name) is said, and the exit is 1.
set -u
[ $# -ge 1 ] || { echo "usage: $0 DIR [NAME...]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
list=$here/sources.txt
mkdir -p "$1" || exit 1
out=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- $(awk '!/^#/ { print $1 }' "$list")
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# The files of a binary package from their language's root on: binary NAME DIR.  Each step is chained
# to the next: in a condition, set -e means nothing.
binary() (
    rm -rf "$work/deb" && mkdir -p "$work/deb/files" "$2" && cd "$work/deb" &&
        apt-get -qq download "$1" && dpkg-deb -x ./*.deb files && cd files || exit 1
    for root in usr/lib/python3/dist-packages usr/share/gocode/src usr/share/cargo/registry \
        usr/share/nodejs usr/share/javascript usr/share usr/lib .; do
        [ ! -d "$root" ] || break
    done
    cd "$root" || exit 1
    while [ "$(ls -A | wc -l)" = 1 ] && [ -d "$(ls -A)" ]; do
        cd "$(ls -A)" || exit 1
    done
    cp -R . "$2"
)

bad=0
for name in "$@"; do
    set -- $(awk -v n="$name" '$1 == n { print $2, $4 }' "$list")
    split=${1:-} from=${2:-}
    dir=$out/$split/$name
    case $split-$from in
    train-source) get="$here/../../tests/source-repo.sh --tree" ;;
    held-source) get=$here/../../tests/source-repo.sh ;;
    train-binary | held-binary) get=binary ;;
    *)
        echo "fetch: $name is not in sources.txt" >&2
        bad=1
        continue
        ;;
    esac
    [ ! -d "$dir" ] || continue
    mkdir -p "$out/$split"
    rm -rf "$dir.part"
    if $get "$name" "$dir.part" >"$work/log" 2>&1; then
        if [ "$split-$from" = held-binary ]; then
            git -C "$dir.part" init -q && git -C "$dir.part" add -A &&
                git -C "$dir.part" -c user.name=source -c user.email=source@example.invalid \
                    commit -qm "$name, as packaged"
        fi
        mv "$dir.part" "$dir"
    else
        rm -rf "$dir.part"
        echo "fetch: $name: $(grep -v ^W: "$work/log" | tail -1) (no network, or no such package?)" >&2
        bad=1
    fi
done
exit $bad
