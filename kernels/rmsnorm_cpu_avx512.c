/*
 * rmsnorm_cpu_avx512.c - RMSNorm of rows and of heads.  Contract and equation: rmsnorm.h.
 *
 * Bound    L1 and L2: two passes over a row, which stays in L1.  A short row is bound by the
 *          latency of its one chain, sqrt and division; the next rows hide it.
 * Order    element i goes to lane i mod 16, each lane sums its squares left to right in f64,
 *          then lanes l and l+8, l+4, l+2, l+1.  A product of two f32 is exact in f64, so that
 *          it does not matter whether it is fused.  A row's bits depend on that row alone.
 * Error    <= 2e-6 relative to rmsnorm_ref.c, plus what a denormal x / rms loses: 1.5e-45
 *          times the gain (tests/kernels/test_rmsnorm.c).
 */
#include "kernels/rmsnorm.h"
#include "kernels/rows_int.h"

#include <immintrin.h>

enum { TASK_ELEMENTS = 16384 }; // about 2 us of work

static double sum_squares(const float *x, int32_t dim) {
    __m512d low = _mm512_setzero_pd(), high = low; // lanes 0..7 and 8..15
    for (int32_t i = 0; i < dim; i += 16) {
        const __m512d a = _mm512_cvtps_pd(_mm256_load_ps(x + i));
        const __m512d b = _mm512_cvtps_pd(_mm256_load_ps(x + i + 8));
        low = _mm512_fmadd_pd(a, a, low);
        high = _mm512_fmadd_pd(b, b, high);
    }
    const __m512d s8 = _mm512_add_pd(low, high);
    const __m256d s4 = _mm256_add_pd(_mm512_castpd512_pd256(s8), _mm512_extractf64x4_pd(s8, 1));
    const __m128d s2 = _mm_add_pd(_mm256_castpd256_pd128(s4), _mm256_extractf128_pd(s4, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s2, _mm_unpackhi_pd(s2, s2)));
}

static void norm_rows(const void *args, int64_t first, int64_t end) {
    const cn_rmsnorm_args *a = args;
    for (int64_t r = first; r < end; r++)
        for (int32_t h = 0; h < a->heads; h++) {
            const int64_t at = (int64_t)h * a->dim;
            const float  *x = a->x + r * a->x_stride + at;
            float        *y = a->y + r * a->y_stride + at;
            const __m128d mean = _mm_set_sd(sum_squares(x, a->dim) / a->dim + a->eps);
            const double  rms = _mm_cvtsd_f64(_mm_sqrt_sd(mean, mean));
            const __m512  scale = _mm512_set1_ps((float)(1.0 / rms));
            if (a->gain) {
                const float *gain = a->gain + at;
                for (int32_t i = 0; i < a->dim; i += 16)
                    _mm512_store_ps(y + i,
                                    _mm512_mul_ps(_mm512_mul_ps(_mm512_load_ps(x + i), scale),
                                                  _mm512_load_ps(gain + i)));
            } else {
                for (int32_t i = 0; i < a->dim; i += 16)
                    _mm512_store_ps(y + i, _mm512_mul_ps(_mm512_load_ps(x + i), scale));
            }
        }
}

cn_err cn_rmsnorm_avx512(const cn_rmsnorm_args *a, void *stream) {
    CN_TRY(cn_rmsnorm_check(a));
    cn_rows_run(stream, norm_rows, a, a->rows, (int64_t)a->heads * a->dim, TASK_ELEMENTS);
    return CN_OK;
}
