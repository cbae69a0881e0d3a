/*
 * matmul_ref.c - The definition of right: the sums of matmul.h, one output at a time.
 *
 * BF16: products and sums in f64, rounded to f32 once.  I8: sums in int64, then the
 * f32 operations of the contract; every variant has the bits of this one.
 */
#include "kernels/matmul.h"

#include <math.h>

static float dot_bf16(const cn_weight *w, int32_t n, const cn_bf16 *x) {
    double sum = 0;
    for (int32_t k = 0; k < w->cols; k++)
        sum += (double)cn_f32_from_bf16(x[k]) * (double)cn_weight_at(w, n, k);
    return (float)sum;
}

static float dot_i8(const cn_weight *w, int32_t n, const int16_t *q) {
    int64_t sum = 0;
    for (int32_t k = 0; k < w->cols; k++) sum += (int64_t)q[k] * (int64_t)cn_weight_at(w, n, k);
    return (float)sum;
}

/* Fill q.  Return s / 32512; 0 for a row that counts as zeros, NaN for one not finite. */
static float quantise(int16_t *q, const float *x, int32_t cols) {
    float s = 0;
    bool  is_finite = true;
    for (int32_t k = 0; k < cols; k++) {
        is_finite &= isfinite(x[k]) != 0;
        s = fmaxf(s, fabsf(x[k]));
    }
    const float inv = CN_MATMUL_QMAX / s;
    memset(q, 0, (size_t)cols * sizeof(*q));
    if (!is_finite) return NAN;
    if (isinf(inv)) return 0;
    for (int32_t k = 0; k < cols; k++) q[k] = (int16_t)rintf(x[k] * inv);
    return s / CN_MATMUL_QMAX;
}

cn_err cn_matmul_ref(const cn_matmul_args *a, void *stream) {
    (void)stream;
    CN_TRY(cn_matmul_check(a));
    const cn_weight *w = a->w;
    for (int64_t m = 0; m < a->rows; m++) {
        const float *x = a->x + m * a->x_stride;
        float       *y = a->y + m * a->y_stride;
        if (w->type == CN_WEIGHT_I8) {
            int16_t    *q = a->scratch;
            const float step = quantise(q, x, w->cols);
            for (int32_t n = 0; n < w->rows; n++)
                y[n] = (a->add ? y[n] : 0) + dot_i8(w, n, q) * (step * w->scale[n]);
        } else {
            cn_bf16 *rounded = a->scratch;
            for (int32_t k = 0; k < w->cols; k++) rounded[k] = cn_bf16_from_f32(x[k]);
            for (int32_t n = 0; n < w->rows; n++)
                y[n] = (a->add ? y[n] : 0) + dot_bf16(w, n, rounded);
        }
    }
    return CN_OK;
}
