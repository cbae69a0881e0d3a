/*
 * embed_ref.c - Gather rows of a packed table.
 *
 * There is no faster variant: a row lies in 4-byte groups, 64 bytes apart, so the
 * time goes to cache lines and not to instructions.
 */
#include "kernels/embed.h"

#include "kernels/rows_int.h"

enum { TASK_ELEMENTS = 8 << 10 };

static void embed_rows(const void *args, int64_t first, int64_t end) {
    const cn_embed_args *a = args;
    const cn_weight     *w = a->w;
    const int32_t        group = cn_weight_group(w->type);
    for (int64_t r = first; r < end; r++) {
        const int32_t  token = a->token[r];
        const uint8_t *src =
            (const uint8_t *)w->data + cn_weight_offset(w->type, w->cols, token, 0);
        float *y = a->y + r * w->cols;
        for (int32_t col = 0; col < w->cols; col += group, src += CN_PANEL_ROWS * 4) {
            if (w->type == CN_WEIGHT_I8) {
                int8_t v[4];
                memcpy(v, src, 4);
                for (int i = 0; i < 4; i++) y[col + i] = (float)v[i] * w->scale[token] * a->factor;
            } else {
                cn_bf16 v[2];
                memcpy(v, src, 4);
                for (int i = 0; i < 2; i++) y[col + i] = cn_f32_from_bf16(v[i]) * a->factor;
            }
        }
    }
}

cn_err cn_embed_ref(const cn_embed_args *a, void *stream) {
    CN_TRY(cn_embed_check(a));
    cn_rows_run(stream, embed_rows, a, a->rows, a->w->cols, TASK_ELEMENTS);
    return CN_OK;
}
