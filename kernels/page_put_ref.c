/* page_put_ref.c - Rows and index keys of a page: rounded to bf16, the keys transposed in tiles.
 *
 * No sums, so every table shares it.  A row is one sequential write; the keys of 16
 * neighbouring tokens meet in the same cache lines, so tokens go in order. */
#include "kernels/page.h"

static void put_row(cn_bf16 *row, const float *kv, int32_t n) {
    for (int32_t i = 0; i < n; i++) row[i] = cn_bf16_from_f32(kv[i]);
}

static void put_key(cn_bf16 *first, const float *key, int32_t dim) {
    for (int32_t d = 0; d < dim; d += 2) {
        cn_bf16 *pair = first + d * CN_TILE_TOKENS;
        pair[0] = cn_bf16_from_f32(key[d]);
        pair[1] = cn_bf16_from_f32(key[d + 1]);
    }
}

cn_err cn_page_put_ref(const cn_page_put_args *a, void *stream) {
    (void)stream;
    CN_TRY(cn_page_put_check(a));
    const cn_page_shape *s = a->shape;
    uint8_t             *page = a->page;
    for (int32_t r = 0; r < a->rows; r++) {
        const int32_t token = a->first + r;
        put_row((cn_bf16 *)(page + cn_page_row_offset(s, token)), a->kv + r * a->stride,
                2 * s->kv_dim);
        for (int32_t source = 0; source < s->sources; source++) {
            cn_bf16 *keys = (cn_bf16 *)(page + cn_page_keys_offset(s, source));
            put_key(keys + cn_page_key_elem(s, token, 0),
                    a->keys + r * a->stride + source * s->index_dim, s->index_dim);
        }
    }
    return CN_OK;
}
