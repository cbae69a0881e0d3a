/* rmsnorm_ref.c - The definition of right: the equation in rmsnorm.h, in f64, rounded once. */
#include "kernels/rmsnorm.h"

#include <math.h>

cn_err cn_rmsnorm_ref(const cn_rmsnorm_args *a, void *stream) {
    (void)stream;
    CN_TRY(cn_rmsnorm_check(a));
    for (int64_t r = 0; r < a->rows; r++)
        for (int32_t h = 0; h < a->heads; h++) {
            const int64_t at = (int64_t)h * a->dim;
            const float  *x = a->x + r * a->x_stride + at;
            float        *y = a->y + r * a->y_stride + at;
            double        sum = 0;
            for (int32_t i = 0; i < a->dim; i++) sum += (double)x[i] * x[i];
            const double rms = sqrt(sum / a->dim + a->eps);
            for (int32_t i = 0; i < a->dim; i++)
                y[i] = (float)(x[i] / rms * (a->gain ? a->gain[at + i] : 1.0f));
        }
    return CN_OK;
}
