/*
 * weights.h - Packed weights for tests: guarded, with the row-major source kept beside them.
 */
#ifndef CN_TESTS_KERNELS_WEIGHTS_H
#define CN_TESTS_KERNELS_WEIGHTS_H

#include "kernels/weight.h"
#include "tests/test.h"

typedef struct t_weight {
    cn_weight w;
    void     *src;       // [rows, cols]: cn_bf16 or int8_t
    float    *src_scale; // [rows], NULL for BF16
} t_weight;

/* An empty destination: zeros between canaries. */
static inline cn_weight t_weight_empty(cn_weight_type type, int32_t rows, int32_t cols) {
    cn_weight    w = {.type = type, .rows = rows, .cols = cols};
    const size_t bytes = (size_t)cn_weight_data_bytes(type, rows, cols);
    const size_t lanes = (size_t)cn_weight_panels(rows) * CN_PANEL_ROWS;
    w.data = memset(t_alloc(bytes), 0, bytes);
    if (type == CN_WEIGHT_I8) {
        w.scale = memset(t_alloc(lanes * 4), 0, lanes * 4);
        w.sum = memset(t_alloc(lanes * 4), 0, lanes * 4);
    }
    return w;
}

static inline void t_weight_release(cn_weight *w) {
    t_free(w->data);
    t_free(w->scale);
    t_free(w->sum);
}

/* Random values: bf16 of deviation 0.05, or int8 over the whole range with scales of both signs. */
static inline t_weight t_weight_new(cn_weight_type type, int32_t rows, int32_t cols) {
    t_weight      t = {.w = t_weight_empty(type, rows, cols)};
    const int64_t n = (int64_t)rows * cols;
    if (type == CN_WEIGHT_I8) {
        int8_t *src = t.src = t_alloc((size_t)n);
        for (int64_t i = 0; i < n; i++) src[i] = (int8_t)t_rand_range(-127, 127);
        t.src_scale = t_alloc_f32(rows, 0.01f);
    } else {
        cn_bf16 *src = t.src = t_alloc((size_t)n * 2);
        for (int64_t i = 0; i < n; i++) src[i] = cn_bf16_from_f32(t_rand_f32() * 0.05f);
    }
    assert_err(cn_weight_pack(&t.w, 0, rows, t.src, t.src_scale), CN_OK);
    return t;
}

static inline void t_weight_free(t_weight *t) {
    t_weight_release(&t->w);
    t_free(t->src);
    t_free(t->src_scale);
}

#endif
