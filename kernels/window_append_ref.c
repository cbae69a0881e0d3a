/*
 * window_append_ref.c - Put K and V of new tokens into their tiles; it serves every table.
 *
 * Error  none: one rounding to bf16 is all that is computed.
 */
#include "kernels/window.h"

cn_err cn_window_append_ref(const cn_window_append_args *a, void *stream) {
    (void)stream;
    CN_TRY(cn_window_append_check(a));
    const int32_t dim = a->w->head_dim;
    for (int32_t g = 0; g < a->w->kv_heads; g++)
        for (int64_t i = 0; i < a->rows; i++) {
            const int64_t token = a->first + i;
            const int32_t slot = cn_window_slot(a->w, token / CN_TILE_TOKENS);
            const int32_t lane = (int32_t)(token % CN_TILE_TOKENS);
            const float  *k = a->k + i * a->stride + g * dim;
            const float  *v = a->v + i * a->stride + g * dim;
            cn_bf16      *k_out = cn_window_k(a->w, g, slot) + lane;
            cn_bf16      *v_out = cn_window_v(a->w, g, slot) + lane * dim;
            for (int32_t d = 0; d < dim; d++) {
                k_out[d * CN_TILE_TOKENS] = cn_bf16_from_f32(k[d]);
                v_out[d] = cn_bf16_from_f32(v[d]);
            }
        }
    return CN_OK;
}
