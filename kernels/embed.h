/*
 * embed.h - Rows of the embedding table, times a factor.
 *
 *   y[r,:] = factor * W[token[r], :]
 *
 * The table is a packed cn_weight, so that a tied output matrix is held once.
 * The value is f32(w * scale[row]) * factor for I8, w * factor for BF16.  All
 * paths give the same bits.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_EMBED_H
#define CN_KERNELS_EMBED_H

#include "kernels/weight.h"

CN_C_BEGIN

typedef struct cn_embed_args {
    float           *y;     // [rows, w->cols]
    const int32_t   *token; // [rows], each in 0..w->rows - 1; 4-byte aligned
    const cn_weight *w;
    int64_t          rows; // >= 0
    float            factor;
} cn_embed_args;

/* CN_EINVAL  a constraint above does not hold (a token is out of range too);
 *            nothing was written. */
typedef cn_err (*cn_embed_fn)(const cn_embed_args *a, void *stream);

cn_err cn_embed_ref(const cn_embed_args *a, void *stream) CN_MUST_CHECK;

static inline cn_err cn_embed_check(const cn_embed_args *a) {
    if (!a->w || !cn_weight_is_valid(a->w) || a->rows < 0) return CN_EINVAL;
    if (!a->y || !a->token || !cn_is_aligned(a->y, CN_ALIGN_BYTES)) return CN_EINVAL;
    for (int64_t r = 0; r < a->rows; r++)
        if (a->token[r] < 0 || a->token[r] >= a->w->rows) return CN_EINVAL;
    return CN_OK;
}

static inline int64_t cn_embed_bytes(const cn_embed_args *a) {
    return a->rows * a->w->cols * (a->w->type == CN_WEIGHT_I8 ? 5 : 6);
}

CN_C_END

#endif
