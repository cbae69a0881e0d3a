/*
 * rand.h - Random numbers that are the same everywhere: splitmix64 (Steele, Lea and Flood 2014).
 *
 * The state moves by a constant, its mix is the output: output n of a seed can be had without
 * those before it.  For samples, benches and tests; secrets come from hash.h.
 *
 * Layer: base.
 */
#ifndef CN_BASE_RAND_H
#define CN_BASE_RAND_H

#include <stdint.h>

#define CN_RAND_STEP UINT64_C(0x9e3779b97f4a7c15)

static inline uint64_t cn_rand_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* The next output; the state's first value is the seed. */
static inline uint64_t cn_rand_next(uint64_t *state) {
    return cn_rand_mix(*state += CN_RAND_STEP);
}

#endif
