/*
 * roof_int.h - The loops that roof.c times: one set for each path.
 *
 * Layer: kernels, private.
 */
#ifndef CN_KERNELS_ROOF_INT_H
#define CN_KERNELS_ROOF_INT_H

#include "base/err.h"

typedef struct cn_roof_loops {
    /* The xor of all bytes. */
    uint8_t (*read)(const uint8_t *p, int64_t bytes);
    /* Run `steps` multiply-adds of 1 x 1 in every lane of every chain; the sum of all
     * lanes, steps * ops / 2. */
    double (*bf16)(int64_t steps);
    double (*int8)(int64_t steps);
    double (*f32)(int64_t steps);
    int64_t bf16_ops, int8_ops, f32_ops; // of one step
} cn_roof_loops;

extern const cn_roof_loops cn_roof_loops_ref;
extern const cn_roof_loops cn_roof_loops_avx2; // call only if cn_isa_is_supported
extern const cn_roof_loops cn_roof_loops_avx512;

/* The xor of the bytes of `word`. */
static inline uint8_t cn_roof_fold(uint64_t word) {
    word ^= word >> 32;
    word ^= word >> 16;
    word ^= word >> 8;
    return (uint8_t)word;
}

#endif
