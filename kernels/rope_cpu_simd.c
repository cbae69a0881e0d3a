/*
 * rope_cpu_simd.c - Rotary embedding in place.  Contract and equation: rope.h.
 *
 * Bound    loads and stores: cn_rope_bytes() / bandwidth of the cache that holds x.  The
 *          angles of a row are loaded once for all its heads.
 * Order    no sums: a' = fma(a, cos, -(b sin)), b' = fma(b, cos, a sin) in both layouts.
 *          A row's bits depend on that row alone.
 * Error    <= 4e-7 * max(|a|, |b|) absolute to rope_ref.c (tests/kernels/test_rope.c).
 */
#include "kernels/rope.h"
#include "kernels/rows_int.h"
#include "kernels/simd_int.h"

enum { TASK_ELEMENTS = 65536 }; // about 2 us of work

/* Pairs (x[i], x[i + half]), 16 at a time; half is a multiple of 8: 8 pairs may be left. */
static void turn_halves(float *x, const float *cos, const float *sin, int32_t heads, int32_t half) {
    int32_t i = 0;
    for (; i + V_LANES <= half; i += V_LANES) {
        const v_f32 c = v_loadu(cos + i), s = v_loadu(sin + i);
        for (int32_t h = 0; h < heads; h++) {
            float      *p = x + (int64_t)h * half * 2 + i;
            const v_f32 a = v_loadu(p), b = v_loadu(p + half);
            v_storeu(p, v_fms(a, c, v_mul(b, s)));
            v_storeu(p + half, v_fma(b, c, v_mul(a, s)));
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
    for (int32_t i = 0; i < half; i += 8) {
        const v_f32 c = v_twice(cos + i), s = v_twice(sin + i);
        for (int32_t h = 0; h < heads; h++) {
            float      *p = x + ((int64_t)h * half + i) * 2;
            const v_f32 ab = v_load(p);
            v_store(p, v_fmaddsub(ab, c, v_mul(v_swap(ab), s)));
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

cn_err CN_SIMD(rope)(const cn_rope_args *a, void *stream) {
    CN_TRY(cn_rope_check(a));
    cn_rows_run(stream, turn_rows, a, a->rows, (int64_t)a->heads * a->dim, TASK_ELEMENTS);
    return CN_OK;
}
