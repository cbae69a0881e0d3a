/* roof_cpu_simd.c - The loops of roof_int.h with AVX-512 and with AVX2: registers of full width,
 * and more chains than latency x instructions a cycle of any core so far. */
#include "kernels/roof_int.h"
#include "kernels/simd_int.h"

static uint8_t read_all(const uint8_t *p, int64_t bytes) {
    enum { SUMS = V_PICK(8, 4), BYTES = SUMS * 64 };
    v_i32   sum[SUMS];
    int64_t i = 0;
    for (int c = 0; c < SUMS; c++) sum[c] = v_set1_i32(0);
    for (; i + BYTES <= bytes; i += BYTES)
        for (int c = 0; c < SUMS; c++) sum[c] = v_xor(sum[c], v_loadu_i32(p + i + c * 64));
    for (int c = 1; c < SUMS; c++) sum[0] = v_xor(sum[0], sum[c]);
    uint64_t word[8], next[8];
    v_storeu_i32(word, sum[0]);
    for (; i < bytes; i += 64) {
        memset(next, 0, sizeof(next));
        memcpy(next, p + i, (size_t)(bytes - i < 64 ? bytes - i : 64));
        for (int c = 0; c < 8; c++) word[c] ^= next[c];
    }
    for (int c = 1; c < 8; c++) word[0] ^= word[c];
    return cn_roof_fold(word[0]);
}

/* Sums and operand pass through an empty asm: no step can be folded away, and no two
 * chains be found equal and made one. */
#define CHAINS_LOOP(vector, element, one, op)                                                      \
    vector acc[CHAINS];                                                                            \
    for (int c = 0; c < CHAINS; c++) {                                                             \
        vector zero = {0};                                                                         \
        __asm__ volatile("" : "+x"(zero));                                                         \
        acc[c] = zero;                                                                             \
    }                                                                                              \
    for (int64_t s = 0; s < steps; s++) {                                                          \
        vector x = (vector)one;                                                                    \
        for (int c = 0; c < CHAINS; c++) {                                                         \
            __asm__ volatile("" : "+x"(x));                                                        \
            acc[c] = op;                                                                           \
        }                                                                                          \
    }                                                                                              \
    element      lane[CHAINS * (sizeof(vector) / 4)];                                              \
    const size_t lanes = CHAINS * (sizeof(vector) / 4);                                            \
    double       sum = 0;                                                                          \
    memcpy(lane, acc, sizeof(lane));                                                               \
    for (size_t i = 0; i < lanes; i++) sum += (double)lane[i];                                     \
    return sum

#ifdef __AVX512F__

enum { CHAINS = 16 };

typedef int32_t i32x16 __attribute__((vector_size(64)));

static double bf16(int64_t steps) {
    CHAINS_LOOP(__m512, float, _mm512_set1_epi16(0x3f80),
                _mm512_dpbf16_ps(acc[c], (__m512bh)x, (__m512bh)x));
}

/* A product takes two instructions: for the low byte of an activation of 1, and the high one. */
static double int8(int64_t steps) {
    const __m512i byte[2] = {_mm512_set1_epi8(1), _mm512_setzero_si512()};
    CHAINS_LOOP(i32x16, int32_t, _mm512_set1_epi8(1),
                (i32x16)_mm512_dpbusd_epi32((__m512i)acc[c], byte[c % 2], (__m512i)x));
}

static double f32(int64_t steps) {
    CHAINS_LOOP(__m512, float, _mm512_set1_ps(1), _mm512_fmadd_ps(x, x, acc[c]));
}

enum { BF16_STEP = CHAINS * 32, INT8_STEP = CHAINS * 64 / 2, F32_STEP = CHAINS * 16 };

#else

enum { CHAINS = 12 };

typedef int32_t i32x8 __attribute__((vector_size(32)));

static double f32(int64_t steps) {
    CHAINS_LOOP(__m256, float, _mm256_set1_ps(1), _mm256_fmadd_ps(x, x, acc[c]));
}

static double int8(int64_t steps) {
    CHAINS_LOOP(i32x8, int32_t, _mm256_set1_epi16(1),
                acc[c] + (i32x8)_mm256_madd_epi16((__m256i)x, (__m256i)x));
}

enum { BF16_STEP = CHAINS * 8, INT8_STEP = CHAINS * 16, F32_STEP = CHAINS * 8 };

#endif

/* A multiply-add is two operations. */
const cn_roof_loops CN_SIMD(roof_loops) = {
    .read = read_all,
    .bf16 = V_PICK(bf16, f32), // AVX2 widens first
    .int8 = int8,
    .f32 = f32,
    .bf16_ops = BF16_STEP * 2,
    .int8_ops = INT8_STEP * 2,
    .f32_ops = F32_STEP * 2,
};
