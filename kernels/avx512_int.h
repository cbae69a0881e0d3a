/*
 * avx512_int.h - What the AVX-512 variants share.  Include from *_avx512.c files only.
 *
 * Layer: kernels -> base.  Private to kernels.
 */
#ifndef CN_KERNELS_AVX512_INT_H
#define CN_KERNELS_AVX512_INT_H

#include "kernels/types.h"

#ifdef __AVX512F__

#include <immintrin.h>

/* 16 bf16 as f32. */
static inline __m512 v_from_bf16(const cn_bf16 *p) {
    const __m256i half = _mm256_loadu_si256((const __m256i *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* exp of 16 lanes, within 2 units in the last place; 0 below -104, +infinity above 88.73,
 * NaN stays NaN.  exp(x) = 2^n exp(r), r = x - n ln 2 with ln 2 in two parts, exp(r) by a
 * polynomial of degree 7 (Taylor; the next term is below 2^-27). */
static inline __m512 v_exp(__m512 x) {
    // Clamped so that n stays in range; min and max return their second operand on NaN.
    const __m512 lo = _mm512_set1_ps(-105.0f), hi = _mm512_set1_ps(89.0f);
    const __m512 y = _mm512_min_ps(hi, _mm512_max_ps(lo, x));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(y, _mm512_set1_ps(1.44269504f)),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512       r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), y);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.0f / 5040);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_scalef_ps(p, n); // 2^n with overflow and gradual underflow
    return _mm512_mask_mov_ps(p, _mm512_cmp_ps_mask(x, _mm512_set1_ps(-104.0f), _CMP_LT_OQ),
                              _mm512_setzero_ps());
}

/* The sum of 16 lanes in one fixed order: lanes i and i + 8, then + 4, + 2, + 1. */
static inline float v_sum(__m512 v) {
    v = _mm512_add_ps(v, _mm512_shuffle_f32x4(v, v, _MM_SHUFFLE(1, 0, 3, 2)));
    v = _mm512_add_ps(v, _mm512_shuffle_f32x4(v, v, _MM_SHUFFLE(2, 3, 0, 1)));
    v = _mm512_add_ps(v, _mm512_permute_ps(v, _MM_SHUFFLE(1, 0, 3, 2)));
    v = _mm512_add_ps(v, _mm512_permute_ps(v, _MM_SHUFFLE(2, 3, 0, 1)));
    return _mm512_cvtss_f32(v);
}

#endif

#endif
