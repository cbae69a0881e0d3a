/* tap.c - Where a cross layer's dense attention goes: slow, plain, for looking at. */
#include "engine/engine_int.h"

#include <math.h>

enum { LANES = 16 }; // sums side by side, so that the compiler can use vectors
_Static_assert(CN_DIM_MULTIPLE % LANES == 0, "a head is whole runs of lanes");

static float dot(const float *a, const float *b, int32_t dim) {
    float sum[LANES] = {0}, all = 0;
    for (int32_t d = 0; d < dim; d += LANES)
        for (int i = 0; i < LANES; i++) sum[i] += a[d + i] * b[d + i];
    for (int i = 0; i < LANES; i++) all += sum[i];
    return all;
}

/* Scores of one token's K, all heads, into their rows at column `at`. */
static void score(const cn_engine *e, const float *q, const cn_bf16 *row, float *out,
                  int64_t tokens, int64_t at) {
    const cn_config *c = &e->model->config;
    const int32_t    dim = c->head_dim, share = c->heads / c->kv_heads;
    const float      scale = 1 / sqrtf((float)dim);
    float            k[CN_HEAD_DIM_MAX];
    for (int32_t g = 0; g < c->kv_heads; g++) {
        for (int32_t d = 0; d < dim; d++) k[d] = cn_f32_from_bf16(row[g * dim + d]);
        for (int32_t h = g * share; h < (g + 1) * share; h++)
            out[h * tokens + at] = scale * dot(q + h * dim, k, dim);
    }
}

static void softmax(float *x, int64_t count) {
    float  max = x[0];
    double sum = 0;
    for (int64_t i = 1; i < count; i++) max = x[i] > max ? x[i] : max;
    for (int64_t i = 0; i < count; i++) sum += x[i] = expf(x[i] - max);
    for (int64_t i = 0; i < count; i++) x[i] = (float)(x[i] / sum);
}

void cn_tap_attention(const cn_engine *e, int32_t slice, int32_t layer, const cn_view *view,
                      int64_t pages, int64_t tokens, const float *q, const float *out) {
    const cn_config *c = &e->model->config;
    const int64_t    row_elems = cn_page_row_bytes(&e->shape) / (int64_t)sizeof(cn_bf16);
    int64_t          at = 0;
    if (!e->tap || !e->tap_probs) return;
    cn_assert(tokens <= e->tap_probs_tokens);
    for (int64_t p = 0; p < pages; p++)
        for (int32_t i = 0; i < view->page_tokens[p]; i++)
            score(e, q, view->page_rows[p] + i * row_elems, e->tap_probs, tokens, at++);
    for (int32_t h = 0; h < c->heads; h++) softmax(e->tap_probs + h * tokens, tokens);
    e->tap(e->tap_ctx, CN_TAP_PROBS, slice, layer, e->tap_probs, c->heads, tokens);
    e->tap(e->tap_ctx, CN_TAP_ATTENDED, slice, layer, out, c->heads, c->head_dim);
}
