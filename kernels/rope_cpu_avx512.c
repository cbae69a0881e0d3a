/*
 * rope_cpu_avx512.c - Rotary embedding in place.  Contract and equation: rope.h.
 *
 * Bound    loads and stores: cn_rope_bytes() / bandwidth of the cache that holds x.  The
 *          angles of a row are loaded once for all its heads.
 * Order    no sums: a' = fma(a, cos, -(b sin)), b' = fma(b, cos, a sin) in both layouts.
 *          A row's bits depend on that row alone.
 * Error    <= 4e-7 * max(|a|, |b|) absolute to rope_ref.c (tests/kernels/test_rope.c).
 */
#include "kernels/rope.h"
#include "kernels/rows_int.h"

#include <immintrin.h>

enum { TASK_ELEMENTS = 65536 }; // about 2 us of work

/* Pairs (x[i], x[i + half]), 16 at a time; half is a multiple of 8: 8 pairs may be left. */
static void turn_halves(float *x, const float *cos, const float *sin, int32_t heads, int32_t half) {
    int32_t i = 0;
    for (; i + 16 <= half; i += 16) {
        const __m512 c = _mm512_loadu_ps(cos + i), s = _mm512_loadu_ps(sin + i);
        for (int32_t h = 0; h < heads; h++) {
            float       *p = x + (int64_t)h * half * 2 + i;
            const __m512 a = _mm512_loadu_ps(p), b = _mm512_loadu_ps(p + half);
            _mm512_storeu_ps(p, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
            _mm512_storeu_ps(p + half, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
        }
    }
    if (i == half) return;
    const __m256 c = _mm256_loadu_ps(cos + i), s = _mm256_loadu_ps(sin + i);
    for (int32_t h = 0; h < heads; h++) {
        float       *p = x + (int64_t)h * half * 2 + i;
        const __m256 a = _mm256_loadu_ps(p), b = _mm256_loadu_ps(p + half);
        _mm256_storeu_ps(p, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
        _mm256_storeu_ps(p + half, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
    }
}

/* Pairs (x[2i], x[2i+1]), 8 at a time. */
static void turn_pairs(float *x, const float *cos, const float *sin, int32_t heads, int32_t half) {
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    for (int32_t i = 0; i < half; i += 8) {
        const __m512 c =
            _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(cos + i)));
        const __m512 s =
            _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(sin + i)));
        for (int32_t h = 0; h < heads; h++) {
            float       *p = x + ((int64_t)h * half + i) * 2;
            const __m512 ab = _mm512_load_ps(p), ba = _mm512_permute_ps(ab, 0xB1);
            _mm512_store_ps(p, _mm512_fmaddsub_ps(ab, c, _mm512_mul_ps(ba, s)));
        }
    }
}

static void turn_rows(const void *args, int64_t first, int64_t end) {
    const cn_rope_args *a = args;
    const int32_t       half = a->dim / 2;
    for (int64_t r = first; r < end; r++) {
        float       *x = a->x + r * a->stride;
        const float *cos = a->cos + r * half, *sin = a->sin + r * half;
        if (a->layout == CN_ROPE_HALF_SPLIT)
            turn_halves(x, cos, sin, a->heads, half);
        else
            turn_pairs(x, cos, sin, a->heads, half);
    }
}

cn_err cn_rope_avx512(const cn_rope_args *a, void *stream) {
    CN_TRY(cn_rope_check(a));
    cn_rows_run(stream, turn_rows, a, a->rows, (int64_t)a->heads * a->dim, TASK_ELEMENTS);
    return CN_OK;
}
