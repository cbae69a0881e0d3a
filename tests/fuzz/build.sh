#!/bin/sh
# build.sh OUT TARGET.c AVX512_FLAGS AVX2_FLAGS LIBS SOURCE... - One fuzzer: clang, libFuzzer, address and undefined.
set -eu
out=$1 target=$2 avx512=$3 avx2=$4 libs=$5
shift 5
cc=$(command -v clang-14 || command -v clang) || { echo "fuzz: clang is not installed (Debian: clang)" >&2; exit 1; }
flags="-std=c11 -D_GNU_SOURCE -O1 -g -ffp-contract=off -I. -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -DCN_SANITIZED=1 -DCN_FAULTS=1"
objs=
mkdir -p "$out.o"
for s in "$target" "$@"; do
    o=$out.o/$(echo "$s" | tr / _).o
    isa=
    case $s in *_avx512.c) isa=$avx512 ;; *_avx2.c) isa=$avx2 ;; esac
    [ "$o" -nt "$s" ] || $cc $flags $isa -c -o "$o" "$s"
    objs="$objs $o"
done
$cc $flags -o "$out" $objs $libs
