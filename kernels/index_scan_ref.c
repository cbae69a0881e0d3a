/* index_scan_ref.c - The definition of right: the equation in index_scan.h, summed in f64. */
#include "kernels/index_scan.h"

static double head_score(const float *q, const cn_bf16 *keys, const cn_page_shape *s,
                         int32_t token) {
    double sum = 0;
    for (int32_t d = 0; d < s->index_dim; d++)
        sum += (double)cn_f32_from_bf16(cn_bf16_from_f32(q[d])) *
               cn_f32_from_bf16(keys[cn_page_key_elem(s, token, d)]);
    return sum;
}

static float token_score(const cn_index_scan_args *a, const cn_bf16 *keys, int32_t token) {
    const cn_page_shape shape = {.index_dim = a->dim, .sources = 1};
    double              score = 0;
    for (int32_t j = 0; j < a->heads; j++) {
        double v = head_score(a->q + (int64_t)j * a->dim, keys, &shape, token);
        if (a->act == CN_INDEX_ACT_RELU && v < 0) v = 0; // a NaN passes
        score += a->weight ? a->weight[j] * v : v;
    }
    return (float)score;
}

cn_err cn_index_scan_ref(const cn_index_scan_args *a, void *stream) {
    (void)stream;
    CN_TRY(cn_index_scan_check(a));
    float *score = a->scores;
    for (int64_t p = 0; p < a->pages; p++)
        for (int32_t token = 0; token < a->page_tokens[p]; token++)
            *score++ = token_score(a, a->page_keys[p], token);
    return CN_OK;
}
