/* swiglu_ref.c - The definition of right: the equation in swiglu.h, in f64, rounded once. */
#include "kernels/math_int.h"
#include "kernels/swiglu.h"

cn_err cn_swiglu_ref(const cn_swiglu_args *a, void *stream) {
    (void)stream;
    CN_TRY(cn_swiglu_check(a));
    for (int64_t r = 0; r < a->rows; r++) {
        const float *x = a->x + r * a->x_stride;
        float       *y = a->y + r * a->y_stride;
        for (int32_t i = 0; i < a->dim; i++) {
            const double v = x[i];
            y[i] = (float)(v / (1 + cn_exp(-v)) * x[a->dim + i]);
        }
    }
    return CN_OK;
}
