/*
 * weight.h - A weight matrix W [rows, cols], packed for the products of matmul.h.
 *
 * Rows of W are outputs.  A panel holds 16 rows; within a panel the columns go in
 * groups that one instruction consumes:
 *
 *   BF16  [panels][ceil(cols/2)][16 rows][2 cols]   4 bytes a row and group
 *   I8    [panels][ceil(cols/4)][16 rows][4 cols]   4 bytes a row and group
 *
 * so 64 bytes are 16 rows of one group in both.  Rows beyond `rows` in the last
 * panel and columns beyond `cols` in the last group are zero.  I8 means
 * W[r,c] = data[r,c] * scale[r] with data in -127..127 (-128 is refused), and
 * sum[r] = sum over c of data[r,c], which the products need.
 *
 * Several matrices with the same input can be packed below each other into one
 * (q|k|v, gate|up): cn_weight_pack takes the row to start at.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_WEIGHT_H
#define CN_KERNELS_WEIGHT_H

#include "kernels/types.h"

CN_C_BEGIN

enum { CN_PANEL_ROWS = 16 };

typedef enum { CN_WEIGHT_BF16, CN_WEIGHT_I8 } cn_weight_type;

typedef struct cn_weight {
    void          *data;  // panels, cn_weight_data_bytes(); 64-byte aligned
    float         *scale; // [panels * 16], I8 only, else NULL; 64-byte aligned
    int32_t       *sum;   // [panels * 16], I8 only, else NULL; 64-byte aligned
    cn_weight_type type;
    int32_t        rows; // 1..CN_WEIGHT_ROWS_MAX
    int32_t        cols; // multiple of CN_DIM_MULTIPLE, at most CN_DIM_MAX
} cn_weight;

enum { CN_WEIGHT_ROWS_MAX = 1 << 22 };

static inline int64_t cn_weight_panels(int32_t rows) {
    return ((int64_t)rows + CN_PANEL_ROWS - 1) / CN_PANEL_ROWS;
}

/* Columns of a group: 2 (BF16) or 4 (I8). */
static inline int32_t cn_weight_group(cn_weight_type type) {
    return type == CN_WEIGHT_I8 ? 4 : 2;
}

/* Bytes of one panel: [groups][16 rows][4 bytes]. */
static inline int64_t cn_weight_panel_bytes(cn_weight_type type, int32_t cols) {
    const int32_t group = cn_weight_group(type);
    return (int64_t)((cols + group - 1) / group) * CN_PANEL_ROWS * 4;
}

static inline int64_t cn_weight_data_bytes(cn_weight_type type, int32_t rows, int32_t cols) {
    return cn_weight_panels(rows) * cn_weight_panel_bytes(type, cols);
}

/* Byte offset of element (row, col) in `data`. */
static inline int64_t cn_weight_offset(cn_weight_type type, int32_t cols, int32_t row,
                                       int32_t col) {
    const int32_t group = cn_weight_group(type);
    return row / CN_PANEL_ROWS * cn_weight_panel_bytes(type, cols) +
           ((int64_t)(col / group) * CN_PANEL_ROWS + row % CN_PANEL_ROWS) * 4 +
           col % group * (4 / group);
}

/* W[row, col] as the number that the products use, without the scale of I8. */
static inline float cn_weight_at(const cn_weight *w, int32_t row, int32_t col) {
    const uint8_t *p = (const uint8_t *)w->data + cn_weight_offset(w->type, w->cols, row, col);
    if (w->type == CN_WEIGHT_I8) return (float)*(const int8_t *)p;
    return cn_f32_from_bf16(*(const cn_bf16 *)p);
}

/* Whether shapes, pointers and alignments of `w` hold (contents are not read). */
static inline bool cn_weight_is_valid(const cn_weight *w) {
    if (w->type != CN_WEIGHT_BF16 && w->type != CN_WEIGHT_I8) return false;
    if (w->rows < 1 || w->rows > CN_WEIGHT_ROWS_MAX || w->cols < CN_DIM_MULTIPLE ||
        w->cols > CN_DIM_MAX || w->cols % CN_DIM_MULTIPLE != 0)
        return false;
    if (!w->data || !cn_is_aligned(w->data, CN_ALIGN_BYTES)) return false;
    return w->type != CN_WEIGHT_I8 ||
           (w->scale && w->sum && cn_is_aligned(w->scale, 64) && cn_is_aligned(w->sum, 64));
}

/* Pack `rows` row-major rows into w->data (and scale, sum) from row `first` on.
 * The destination is zero before the first call; first + rows <= w->rows.
 *
 *   src    [rows, cols]: cn_bf16 for BF16, int8_t for I8.  Borrowed for the call.
 *   scale  [rows] for I8, finite; NULL for BF16.
 *
 * CN_EINVAL  a shape does not hold, an int8 value is -128, or a scale is not
 *            finite; what was packed so far is undefined. */
cn_err cn_weight_pack(cn_weight *w, int32_t first, int32_t rows, const void *src,
                      const float *scale) CN_MUST_CHECK;

CN_C_END

#endif
