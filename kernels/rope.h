/*
 * rope.h - Rotary position embedding of the heads in a row, in place.
 *
 *   for i < dim/2, with (a, b) the pair i of head h in row r:
 *   a' = a cos[r,i] - b sin[r,i]      b' = b cos[r,i] + a sin[r,i]
 *
 *   Su et al. 2021, "RoFormer", section 3.4.2 (arXiv:2104.09864).  HALF_SPLIT pairs
 *   (x[i], x[i + dim/2]) as in GPT-NeoX and LLaMA checkpoints; INTERLEAVED pairs
 *   (x[2i], x[2i+1]) as in the paper.
 *
 * The angles are made once a step by cn_rope_angles and used by all layers.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_ROPE_H
#define CN_KERNELS_ROPE_H

#include "kernels/types.h"

CN_C_BEGIN

typedef enum { CN_ROPE_HALF_SPLIT, CN_ROPE_INTERLEAVED } cn_rope_layout;

typedef struct cn_rope_args {
    float         *x;      // [rows, stride], in place
    const float   *cos;    // [rows, dim/2]; 4-byte aligned
    const float   *sin;    // [rows, dim/2]; 4-byte aligned
    int64_t        rows;   // >= 0
    int64_t        stride; // floats; >= heads * dim, multiple of 16
    int32_t        heads;  // 1..CN_HEADS_MAX
    int32_t        dim;    // 1..CN_HEAD_DIM_MAX, multiple of CN_DIM_MULTIPLE
    cn_rope_layout layout;
} cn_rope_args;

/* CN_EINVAL  a constraint above does not hold; nothing was written. */
typedef cn_err (*cn_rope_fn)(const cn_rope_args *a, void *stream);

cn_err cn_rope_ref(const cn_rope_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_rope_avx2(const cn_rope_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_rope_avx512(const cn_rope_args *a, void *stream) CN_MUST_CHECK;

/* cos and sin of first + r times theta^(-2i/dim), for r < rows and i < dim/2, both
 * [rows, dim/2].  Computed in f64 by our own functions (math_int.h) and
 * rounded once, so that they are the same on every machine and for any `rows`.
 * theta > 1; 0 <= first, first + rows <= 2^24. */
void cn_rope_angles(float *cos_out, float *sin_out, int64_t first, int64_t rows, int32_t dim,
                    double theta);

static inline cn_err cn_rope_check(const cn_rope_args *a) {
    if (a->rows < 0 || a->heads < 1 || a->heads > CN_HEADS_MAX || a->dim < 1 ||
        a->dim > CN_HEAD_DIM_MAX || a->dim % CN_DIM_MULTIPLE != 0 ||
        a->stride < (int64_t)a->heads * a->dim || a->stride % 16 != 0)
        return CN_EINVAL;
    if (a->layout != CN_ROPE_HALF_SPLIT && a->layout != CN_ROPE_INTERLEAVED) return CN_EINVAL;
    if (!a->x || !a->cos || !a->sin || !cn_is_aligned(a->x, CN_ALIGN_BYTES)) return CN_EINVAL;
    return CN_OK;
}

static inline int64_t cn_rope_bytes(const cn_rope_args *a) {
    return a->rows * ((int64_t)a->heads * a->dim * 2 + a->dim) * (int64_t)sizeof(float);
}

CN_C_END

#endif
