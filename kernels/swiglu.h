/*
 * swiglu.h - The gate of a SwiGLU feed-forward block.
 *
 *   y[r,i] = silu(x[r,i]) * x[r,dim+i],   silu(v) = v / (1 + exp(-v))
 *
 *   Shazeer 2020, "GLU Variants Improve Transformer", equation 6 (arXiv:2002.05202),
 *   without biases; x is the row gate|up that one product makes.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_SWIGLU_H
#define CN_KERNELS_SWIGLU_H

#include "kernels/types.h"

CN_C_BEGIN

typedef struct cn_swiglu_args {
    float       *y;        // [rows, y_stride]; does not overlap x
    const float *x;        // [rows, x_stride]
    int64_t      rows;     // >= 0
    int64_t      y_stride; // floats; >= dim, multiple of 16
    int64_t      x_stride; // floats; >= 2 * dim, multiple of 16
    int32_t      dim;      // 1..CN_DIM_MAX, multiple of CN_DIM_MULTIPLE
} cn_swiglu_args;

/* CN_EINVAL  a constraint above does not hold; nothing was written. */
typedef cn_err (*cn_swiglu_fn)(const cn_swiglu_args *a, void *stream);

cn_err cn_swiglu_ref(const cn_swiglu_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_swiglu_avx2(const cn_swiglu_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_swiglu_avx512(const cn_swiglu_args *a, void *stream) CN_MUST_CHECK;

static inline cn_err cn_swiglu_check(const cn_swiglu_args *a) {
    if (a->rows < 0 || a->dim < 1 || a->dim > CN_DIM_MAX || a->dim % CN_DIM_MULTIPLE != 0)
        return CN_EINVAL;
    if (a->y_stride < a->dim || a->x_stride < 2 * (int64_t)a->dim || a->y_stride % 16 ||
        a->x_stride % 16)
        return CN_EINVAL;
    if (!a->y || !a->x || !cn_is_aligned(a->y, CN_ALIGN_BYTES) ||
        !cn_is_aligned(a->x, CN_ALIGN_BYTES))
        return CN_EINVAL;
    return CN_OK;
}

static inline int64_t cn_swiglu_bytes(const cn_swiglu_args *a) {
    return 3 * a->rows * a->dim * (int64_t)sizeof(float);
}

CN_C_END

#endif
