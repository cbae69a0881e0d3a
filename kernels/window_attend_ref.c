/* window_attend_ref.c - The definition of right: the equation in window.h, summed in f64. */
#include "kernels/math_int.h"
#include "kernels/window.h"

#include <math.h>

static bool is_visible(const cn_window *w, int64_t t, int64_t s) {
    return s <= t && (t - s < w->window || s < w->sink);
}

static double score(const cn_window *w, int32_t g, int64_t s, const float *q, float scale) {
    const cn_bf16 *k = cn_window_k(w, g, cn_window_slot(w, s / CN_TILE_TOKENS));
    double         sum = 0;
    for (int32_t d = 0; d < w->head_dim; d++)
        sum += (double)q[d] * cn_f32_from_bf16(k[d * CN_TILE_TOKENS + s % CN_TILE_TOKENS]);
    return scale * sum;
}

static void attend_one(const cn_window *w, float *out, const float *q, int64_t t, int32_t g,
                       float scale) {
    double max = -INFINITY, sum = 0, o[CN_HEAD_DIM_MAX] = {0};
    for (int64_t s = 0; s <= t; s++)
        if (is_visible(w, t, s)) max = fmax(max, score(w, g, s, q, scale));
    for (int64_t s = 0; s <= t; s++) {
        if (!is_visible(w, t, s)) continue;
        const cn_bf16 *v = cn_window_v(w, g, cn_window_slot(w, s / CN_TILE_TOKENS)) +
                           s % CN_TILE_TOKENS * w->head_dim;
        const double p = cn_exp(score(w, g, s, q, scale) - max);
        sum += p;
        for (int32_t d = 0; d < w->head_dim; d++) o[d] += p * cn_f32_from_bf16(v[d]);
    }
    for (int32_t d = 0; d < w->head_dim; d++) out[d] = (float)(o[d] / sum);
}

cn_err cn_window_attend_ref(const cn_window_attend_args *a, void *stream) {
    (void)stream;
    CN_TRY(cn_window_attend_check(a));
    const cn_window *w = a->w;
    for (int64_t i = 0; i < a->rows; i++)
        for (int32_t h = 0; h < a->heads; h++)
            attend_one(w, a->out + i * a->out_stride + h * w->head_dim,
                       a->q + i * a->q_stride + h * w->head_dim, a->first + i,
                       h / (a->heads / w->kv_heads), a->scale);
    return CN_OK;
}
