#!/bin/sh
# build.sh OUT TARGET.c AVX512_FLAGS AVX2_FLAGS LIBS SOURCE... - One fuzzer: clang, libFuzzer, address and undefined.
set -eu
out=$1 target=$2 avx512=$3 avx2=$4 libs=$5
shift 5
cc=$(command -v clang-14 || command -v clang) || { echo "fuzz: clang is not installed (Debian: clang)" >&2; exit 1; }
flags="-std=c11 -D_GNU_SOURCE -O1 -g -ffp-contract=off -I. -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -DCN_SANITIZED=1 -DCN_FAULTS=1"
objs=
mkdir -p "$out.o"
compile() { # NAME SOURCE ISA_FLAGS
    o=$out.o/$(echo "$1" | tr / _).o
    [ "$o" -nt "$2" ] || $cc $flags $3 -c -o "$o" "$2"
    objs="$objs $o"
}
for s in "$target" "$@"; do
    case $s in
    *_simd.c) compile "$s.avx512" "$s" "$avx512" && compile "$s.avx2" "$s" "$avx2" ;;
    *) compile "$s" "$s" "" ;;
    esac
done
$cc $flags -o "$out" $objs $libs
