/*
 * types.h - What every op shares: element types, limits, alignment, the stream.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_TYPES_H
#define CN_KERNELS_TYPES_H

#include "base/err.h"

#include <stdint.h>
#include <string.h>

CN_C_BEGIN

/* The `stream` of an op: a cn_pool * on the CPU (NULL: the caller's thread alone)
 * and a cudaStream_t on CUDA (NULL: the default stream).  A CPU op has finished
 * when it returns.  The number of threads never changes a bit of the result. */

enum {
    CN_ALIGN_BYTES = 64,  // every pointer of an op, unless its header says less
    CN_TILE_TOKENS = 16,  // keys and window K come in tiles of 16 tokens
    CN_PAGE_TOKENS = 256, // tokens of a page
    CN_DIM_MULTIPLE = 16, // hidden, ffn, head_dim and index_head_dim are multiples of it
    CN_DIM_MAX = 32768,   // so that int32 sums of u8 x s8 products cannot overflow
    CN_HEAD_DIM_MAX = 256,
    CN_HEADS_MAX = 128,
};
_Static_assert(CN_PAGE_TOKENS % CN_TILE_TOKENS == 0, "a page is whole tiles");
_Static_assert((int64_t)255 * 128 * CN_DIM_MAX <= INT32_MAX, "dpbusd sums fit");

typedef uint16_t cn_bf16; // the upper half of an IEEE f32

static inline float cn_f32_from_bf16(cn_bf16 b) {
    const uint32_t bits = (uint32_t)b << 16;
    float          f;
    memcpy(&f, &bits, 4);
    return f;
}

/* Round to nearest, ties to even; a NaN stays a (quiet) NaN. */
static inline cn_bf16 cn_bf16_from_f32(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return (cn_bf16)(bits >> 16 | 0x40);
    return (cn_bf16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline bool cn_is_aligned(const void *p, uintptr_t bytes) {
    return (uintptr_t)p % bytes == 0;
}

CN_C_END

#endif
