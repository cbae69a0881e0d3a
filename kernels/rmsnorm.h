/*
 * rmsnorm.h - Root mean square layer normalization of rows, or of the heads in a row.
 *
 *   y[r,h,i] = x[r,h,i] / sqrt( mean_j x[r,h,j]^2 + eps ) * gain[h,i]
 *
 *   Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", section 4
 *   (arXiv:1910.07467).  The eps inside the root follows the LLaMA reference code:
 *   models are trained with it.  heads = 1 is the norm before a block; with
 *   heads > 1 it is the QK-norm, applied to a slice of a wider row in place.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_RMSNORM_H
#define CN_KERNELS_RMSNORM_H

#include "kernels/types.h"

CN_C_BEGIN

typedef struct cn_rmsnorm_args {
    float *y;              // [rows, y_stride]; may be x itself (with the same stride), may not
                           // overlap it otherwise
    const float *x;        // [rows, x_stride]
    const float *gain;     // [heads, dim], or NULL: no gain (as if all were 1)
    int64_t      rows;     // >= 0; 0 does nothing
    int64_t      y_stride; // floats; >= heads * dim, multiple of 16
    int64_t      x_stride; // floats; >= heads * dim, multiple of 16
    int32_t      heads;    // 1..CN_HEADS_MAX
    int32_t      dim;      // 1..CN_DIM_MAX, multiple of CN_DIM_MULTIPLE
    float        eps;      // > 0
} cn_rmsnorm_args;

/* CN_EINVAL  a constraint above does not hold; nothing was written. */
typedef cn_err (*cn_rmsnorm_fn)(const cn_rmsnorm_args *a, void *stream);

cn_err cn_rmsnorm_ref(const cn_rmsnorm_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_rmsnorm_avx2(const cn_rmsnorm_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_rmsnorm_avx512(const cn_rmsnorm_args *a, void *stream) CN_MUST_CHECK;

static inline cn_err cn_rmsnorm_check(const cn_rmsnorm_args *a) {
    if (a->rows < 0 || a->heads < 1 || a->heads > CN_HEADS_MAX || a->dim < 1 ||
        a->dim > CN_DIM_MAX || a->dim % CN_DIM_MULTIPLE != 0 || !(a->eps > 0))
        return CN_EINVAL;
    const int64_t width = (int64_t)a->heads * a->dim;
    if (a->y_stride < width || a->x_stride < width || a->y_stride % 16 || a->x_stride % 16)
        return CN_EINVAL;
    if (!a->y || !a->x || (a->y == a->x && a->y_stride != a->x_stride)) return CN_EINVAL;
    if (!cn_is_aligned(a->y, CN_ALIGN_BYTES) || !cn_is_aligned(a->x, CN_ALIGN_BYTES) ||
        !cn_is_aligned(a->gain, CN_ALIGN_BYTES))
        return CN_EINVAL;
    return CN_OK;
}

static inline int64_t cn_rmsnorm_bytes(const cn_rmsnorm_args *a) {
    return (2 * a->rows + 1) * a->heads * a->dim * (int64_t)sizeof(float);
}

CN_C_END

#endif
