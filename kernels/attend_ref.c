/*
 * attend_ref.c - The definition of right: the equation in attend.h, in f64.
 *
 * One pass over the rows for each head: a row whose score is a new maximum rescales
 * what was summed before it (Milakov & Gimelshein 2018, arXiv:1805.02867).
 */
#include "kernels/attend.h"
#include "kernels/math_int.h"

#include <math.h>

typedef struct head_sum {
    double max, sum, out[CN_HEAD_DIM_MAX];
} head_sum;

static const head_sum empty = {.max = -INFINITY};

static void add_row(head_sum *s, const cn_attend_head *a, int32_t h, const cn_bf16 *row) {
    const int32_t  dim = a->head_dim;
    const cn_bf16 *k = row + h / (a->heads / a->kv_heads) * dim;
    const cn_bf16 *v = k + a->kv_heads * dim;
    double         score = 0;
    for (int32_t d = 0; d < dim; d++) score += (double)a->q[h * dim + d] * cn_f32_from_bf16(k[d]);
    score *= a->scale;
    const double max = fmax(s->max, score);
    const double shrink = cn_exp(s->max - max), p = cn_exp(score - max);
    s->max = max;
    s->sum = s->sum * shrink + p;
    for (int32_t d = 0; d < dim; d++) s->out[d] = s->out[d] * shrink + p * cn_f32_from_bf16(v[d]);
}

static void divide(const head_sum *s, const cn_attend_head *a, int32_t h) {
    for (int32_t d = 0; d < a->head_dim; d++)
        a->out[h * a->head_dim + d] = (float)(s->out[d] / s->sum);
}

cn_err cn_attend_sparse_ref(const cn_attend_sparse_args *a, void *stream) {
    (void)stream;
    CN_TRY(cn_attend_sparse_check(a));
    for (int32_t h = 0; h < a->head.heads; h++) {
        head_sum s = empty;
        for (int64_t i = 0; i < a->count; i++) add_row(&s, &a->head, h, a->rows[i]);
        divide(&s, &a->head, h);
    }
    return CN_OK;
}

cn_err cn_attend_dense_ref(const cn_attend_dense_args *a, void *stream) {
    (void)stream;
    CN_TRY(cn_attend_dense_check(a));
    const int64_t row_elems = (int64_t)a->head.kv_heads * a->head.head_dim * 2;
    for (int32_t h = 0; h < a->head.heads; h++) {
        head_sum s = empty;
        for (int64_t p = 0; p < a->pages; p++)
            for (int32_t i = 0; i < a->page_tokens[p]; i++)
                add_row(&s, &a->head, h, a->page_rows[p] + i * row_elems);
        divide(&s, &a->head, h);
    }
    return CN_OK;
}
