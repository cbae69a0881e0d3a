/*
 * sample_int.h - What all variants of sample share: the uniform number, and the last step.
 *
 * Layer: kernels -> base.  Private to kernels.
 */
#ifndef CN_KERNELS_SAMPLE_INT_H
#define CN_KERNELS_SAMPLE_INT_H

#include "base/rand.h"
#include "kernels/sample.h"

CN_C_BEGIN

/* In [0, 1), 53 bits: output number `counter` of a splitmix64 that starts at the first
 * output of splitmix64(seed), so that seeds 1, 2, 3 do not share a sequence. */
static inline double cn_uniform(uint64_t seed, uint64_t counter) {
    const uint64_t first = cn_rand_next(&seed);
    return (double)(cn_rand_mix(first + (counter + 1) * CN_RAND_STEP) >> 11) * 0x1p-53;
}

/* How many of n >= 1 tokens that weigh `weight` a run takes, once it weighs `run`, to reach
 * `target`: at least one. */
static inline int32_t cn_sample_equals(double weight, int32_t n, double run, double target) {
    int32_t taken = 0;
    do run += weight, taken++;
    while (run < target && taken < n);
    return taken;
}

/* Where in a block, of which `left` weights are left in the row, the running sum passes `target`;
 * it is `run` before the first.  The block's sum says that it does, but was rounded in another
 * order: at the latest, then, at the last weight that is not 0. */
static inline int32_t cn_sample_walk(const double *weight, int32_t left, double run,
                                     double target) {
    int32_t last = 0;
    for (int32_t i = 0; i < left && i < CN_SAMPLE_BLOCK && run <= target; i++) {
        run += weight[i];
        if (weight[i] > 0) last = i;
    }
    return last;
}

CN_C_END

#endif
