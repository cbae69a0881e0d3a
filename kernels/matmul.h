/*
 * matmul.h - y = x W^T, or y += x W^T, for one row (decode) to many (prefill).
 *
 *   y[m,n] (+)= sum_k x[m,k] * W[n,k]
 *
 * BF16 weights: x is rounded to bf16 (nearest, ties to even) and the products are
 * summed in f32.  Each y[m,n] is one chain over k ascending, so that its bits do
 * not depend on how many rows or threads there are.
 *
 * I8 weights: a row of x is quantised to 16 bits,
 *
 *   s = max_k |x[m,k]|,  q[k] = round_even(x[m,k] * (32512 / s)),  |q| <= 32512
 *   y[m,n] = f32( sum_k q[k] * w8[n,k] ) * ((s / 32512) * scale[n])
 *
 * with an exact integer sum (two u8 x s8 halves), rounded to f32 once, and the f32
 * operations in the order written.  Every path, the reference included, gives the
 * same bits.  An all-zero row gives zeros; so does one whose 32512 / s overflows
 * (s < 1e-34).  A row that holds a NaN or an infinity gives NaN in all its outputs:
 * nothing is hidden.
 *
 * `add` adds the product, rounded to f32, to what y held; without it the product is
 * added to +0, so that no output is -0.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_MATMUL_H
#define CN_KERNELS_MATMUL_H

#include "kernels/weight.h"

CN_C_BEGIN

enum { CN_MATMUL_ROWS_MAX = 1 << 20, CN_MATMUL_QMAX = 32512 };

typedef struct cn_matmul_args {
    float           *y;        // [rows, y_stride], the first w->rows of each row are written
    const float     *x;        // [rows, x_stride], the first w->cols are read; not y
    const cn_weight *w;        // borrowed for the call
    void            *scratch;  // cn_matmul_scratch_bytes(rows, cols) bytes
    int64_t          rows;     // 0..CN_MATMUL_ROWS_MAX; 0 does nothing
    int64_t          y_stride; // floats; >= w->rows
    int64_t          x_stride; // floats; >= w->cols, multiple of 16
    bool             add;
} cn_matmul_args;

/* CN_EINVAL  a constraint above does not hold; nothing was written. */
typedef cn_err (*cn_matmul_fn)(const cn_matmul_args *a, void *stream);

cn_err cn_matmul_ref(const cn_matmul_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_matmul_avx2(const cn_matmul_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_matmul_avx512(const cn_matmul_args *a, void *stream) CN_MUST_CHECK;

/* Scratch for the converted rows: enough for either weight type on every path. */
static inline int64_t cn_matmul_scratch_bytes(int64_t rows, int32_t cols) {
    return rows * ((int64_t)cols * 4 + 64) + 64;
}

static inline cn_err cn_matmul_check(const cn_matmul_args *a) {
    if (!a->w || !cn_weight_is_valid(a->w)) return CN_EINVAL;
    if (a->rows < 0 || a->rows > CN_MATMUL_ROWS_MAX) return CN_EINVAL;
    if (a->y_stride < a->w->rows || a->x_stride < a->w->cols || a->x_stride % 16 != 0)
        return CN_EINVAL;
    if (!a->y || !a->x || !a->scratch || (const float *)a->y == a->x) return CN_EINVAL;
    if (!cn_is_aligned(a->x, CN_ALIGN_BYTES) || !cn_is_aligned(a->y, 4) ||
        !cn_is_aligned(a->scratch, CN_ALIGN_BYTES))
        return CN_EINVAL;
    return CN_OK;
}

/* Bytes that must cross the memory bus. */
static inline int64_t cn_matmul_bytes(const cn_matmul_args *a) {
    return cn_weight_data_bytes(a->w->type, a->w->rows, a->w->cols) +
           a->rows * ((int64_t)a->w->cols + a->w->rows) * 4;
}

static inline int64_t cn_matmul_flops(const cn_matmul_args *a) {
    return 2 * a->rows * a->w->rows * (int64_t)a->w->cols;
}

CN_C_END

#endif
