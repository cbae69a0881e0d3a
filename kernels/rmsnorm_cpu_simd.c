/*
 * rmsnorm_cpu_simd.c - RMSNorm of rows and of heads.  Contract and equation: rmsnorm.h.
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
#include "kernels/simd_int.h"

enum { TASK_ELEMENTS = 16384 }; // about 2 us of work

static double sum_squares(const float *x, int32_t dim) {
    v_f64 low = v_set1_f64(0), high = low; // lanes 0..7 and 8..15
    for (int32_t i = 0; i < dim; i += V_LANES) {
        const v_f64 a = v_f64_from_f32(x + i), b = v_f64_from_f32(x + i + 8);
        low = v_fma_f64(a, a, low);
        high = v_fma_f64(b, b, high);
    }
    return v_sum_f64(v_add_f64(low, high));
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
            const v_f32   scale = v_set1((float)(1.0 / rms));
            if (a->gain) {
                const float *gain = a->gain + at;
                for (int32_t i = 0; i < a->dim; i += V_LANES)
                    v_store(y + i, v_mul(v_mul(v_load(x + i), scale), v_load(gain + i)));
            } else {
                for (int32_t i = 0; i < a->dim; i += V_LANES)
                    v_store(y + i, v_mul(v_load(x + i), scale));
            }
        }
}

cn_err CN_SIMD(rmsnorm)(const cn_rmsnorm_args *a, void *stream) {
    CN_TRY(cn_rmsnorm_check(a));
    cn_rows_run(stream, norm_rows, a, a->rows, (int64_t)a->heads * a->dim, TASK_ELEMENTS);
    return CN_OK;
}
