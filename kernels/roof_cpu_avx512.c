/* roof_cpu_avx512.c - The loops of roof_int.h with AVX-512: 512-bit loads, 16 chains. */
#include "kernels/roof_int.h"

#include <immintrin.h>

enum { CHAINS = 16 }; // more than latency x instructions a cycle of any core so far

typedef int32_t i32x16 __attribute__((vector_size(64)));

static uint8_t read_all(const uint8_t *p, int64_t bytes) {
    __m512i sum[8] = {0};
    int64_t i = 0;
    for (; i + 512 <= bytes; i += 512)
        for (int c = 0; c < 8; c++)
            sum[c] = _mm512_xor_si512(sum[c], _mm512_loadu_si512(p + i + c * 64));
    for (; i < bytes; i += 64) {
        const __mmask64 mask = bytes - i >= 64 ? ~0ull : (1ull << (bytes - i)) - 1;
        sum[0] = _mm512_xor_si512(sum[0], _mm512_maskz_loadu_epi8(mask, p + i));
    }
    for (int c = 1; c < 8; c++) sum[0] = _mm512_xor_si512(sum[0], sum[c]);
    uint64_t word[8];
    _mm512_storeu_si512(word, sum[0]);
    for (int c = 1; c < 8; c++) word[0] ^= word[c];
    return cn_roof_fold(word[0]);
}

/* Sums and operand pass through an empty asm: no step can be folded away, and no two
 * chains be found equal and made one. */
#define CHAINS_LOOP(vector, one, op, total)                                                        \
    vector acc[CHAINS];                                                                            \
    for (int c = 0; c < CHAINS; c++) {                                                             \
        vector zero = {0};                                                                         \
        __asm__ volatile("" : "+v"(zero));                                                         \
        acc[c] = zero;                                                                             \
    }                                                                                              \
    for (int64_t s = 0; s < steps; s++) {                                                          \
        __m512i x = one;                                                                           \
        __asm__ volatile("" : "+v"(x));                                                            \
        for (int c = 0; c < CHAINS; c++) acc[c] = op;                                              \
    }                                                                                              \
    double sum = 0;                                                                                \
    for (int c = 0; c < CHAINS; c++) sum += (double)total(acc[c]);                                 \
    return sum

static double bf16(int64_t steps) {
    CHAINS_LOOP(__m512, _mm512_set1_epi16(0x3f80),
                _mm512_dpbf16_ps(acc[c], (__m512bh)x, (__m512bh)x), _mm512_reduce_add_ps);
}

static inline int32_t i32_total(i32x16 v) {
    return _mm512_reduce_add_epi32((__m512i)v);
}

static double int8(int64_t steps) {
    CHAINS_LOOP(i32x16, _mm512_set1_epi8(1), (i32x16)_mm512_dpbusd_epi32((__m512i)acc[c], x, x),
                i32_total);
}

static double f32(int64_t steps) {
    CHAINS_LOOP(__m512, _mm512_castps_si512(_mm512_set1_ps(1)),
                _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(x), acc[c]),
                _mm512_reduce_add_ps);
}

const cn_roof_loops cn_roof_loops_avx512 = {
    .read = read_all,
    .bf16 = bf16,
    .int8 = int8,
    .f32 = f32,
    .bf16_ops = CHAINS * 16 * 2 * 2,
    .int8_ops = CHAINS * 16 * 4 * 2,
    .f32_ops = CHAINS * 16 * 2,
};
