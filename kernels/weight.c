/* weight.c - Pack row-major rows into the panels of weight.h. */
#include "kernels/weight.h"

#include <math.h>

/* One row: its groups of 4 bytes lie 16 rows apart. */
static void pack_row(cn_weight *w, int32_t row, const uint8_t *src) {
    const int32_t group = cn_weight_group(w->type), groups = w->cols / group;
    uint8_t      *dst = (uint8_t *)w->data + cn_weight_offset(w->type, w->cols, row, 0);
    for (int32_t g = 0; g < groups; g++)
        memcpy(dst + (int64_t)g * CN_PANEL_ROWS * 4, src + (int64_t)g * 4, 4);
}

cn_err cn_weight_pack(cn_weight *w, int32_t first, int32_t rows, const void *src,
                      const float *scale) {
    const bool is_i8 = w->type == CN_WEIGHT_I8;
    if (!cn_weight_is_valid(w) || !src || is_i8 != (scale != NULL)) return CN_EINVAL;
    if (first < 0 || rows < 1 || first > w->rows - rows) return CN_EINVAL;
    for (int32_t r = 0; r < rows; r++) {
        const int64_t  row_bytes = (int64_t)w->cols * (is_i8 ? 1 : 2);
        const uint8_t *row = (const uint8_t *)src + r * row_bytes;
        if (is_i8) {
            int32_t sum = 0;
            bool    has_min = false; // -128
            for (int32_t c = 0; c < w->cols; c++) {
                const int8_t v = ((const int8_t *)row)[c];
                sum += v;
                has_min |= v == INT8_MIN;
            }
            if (has_min || !isfinite(scale[r])) return CN_EINVAL;
            w->sum[first + r] = sum;
            w->scale[first + r] = scale[r];
        }
        pack_row(w, first + r, row);
    }
    return CN_OK;
}
