/*
 * test_embed.c - Rows of the table, by every variant and any number of threads.
 */
#include "tests/kernels/weights.h"

#include "kernels/pool.h"

static const cn_weight_type types[] = {CN_WEIGHT_BF16, CN_WEIGHT_I8};

/* From the row-major source, not from the packed table. */
static float want_at(const t_weight *t, int32_t token, int32_t col, float factor) {
    const int64_t i = (int64_t)token * t->w.cols + col;
    if (t->w.type == CN_WEIGHT_BF16) return cn_f32_from_bf16(((cn_bf16 *)t->src)[i]) * factor;
    const float value = (float)((int8_t *)t->src)[i] * t->src_scale[token];
    return value * factor;
}

static void test_embed_matches_reference(void **state) {
    (void)state;
    const int32_t vocab[] = {1, 17, 100}, cols[] = {16, 48, 512};
    const int64_t rows[] = {0, 1, 2, 7, 256};
    cn_ops        ops[CN_ISA_COUNT];
    const int     variants = t_variants(ops);
    cn_pool      *pools[3] = {NULL};
    for (int32_t p = 1; p < 3; p++) assert_err(cn_pool_create(&pools[p], p + 1, &t_diag), CN_OK);
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < 9; i++) {
            t_weight t = t_weight_new(types[k], vocab[i / 3], cols[i % 3]);
            for (int r = 0; r < 5; r++)
                for (int v = 0; v < variants; v++)
                    for (int p = 0; p < 3; p++) {
                        t_note("%s type %d [%d, %d] rows %lld threads %d", cn_isa_name(ops[v].isa),
                               k, t.w.rows, t.w.cols, (long long)rows[r], p + 1);
                        const float factor = r % 2 ? 22.627417f : 1;
                        int32_t    *token = t_alloc((size_t)rows[r] * 4);
                        float      *y = t_alloc((size_t)(rows[r] * t.w.cols) * 4);
                        for (int64_t m = 0; m < rows[r]; m++)
                            token[m] =
                                m == 0 ? t.w.rows - 1 : (int32_t)t_rand_range(0, t.w.rows - 1);
                        cn_embed_args a = {y, token, &t.w, rows[r], factor};
                        assert_err(ops[v].embed(&a, pools[p]), CN_OK);
                        for (int64_t m = 0; m < rows[r]; m++)
                            for (int32_t c = 0; c < t.w.cols; c++) {
                                const float want = want_at(&t, token[m], c, factor);
                                if (memcmp(&y[m * t.w.cols + c], &want, 4) != 0)
                                    t_fail(__FILE__, __LINE__, "y[%lld,%d] = %.9g, want %.9g",
                                           (long long)m, c, (double)y[m * t.w.cols + c],
                                           (double)want);
                            }
                        t_free(token);
                        t_free(y);
                    }
            t_weight_free(&t);
        }
    for (int p = 1; p < 3; p++) cn_pool_free(pools[p]);
}

static void test_embed_refuses(void **state) {
    (void)state;
    enum { VOCAB = 20, COLS = 16, ROWS = 3 };
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    t_weight  t = t_weight_new(CN_WEIGHT_I8, VOCAB, COLS);
    cn_weight bad_w = t.w;
    float    *y = t_alloc(ROWS * COLS * 4 + 64);
    bad_w.sum = NULL;
    for (int v = 0; v < variants; v++) {
        int32_t token[ROWS] = {0, 19, 3}, low[ROWS] = {0, 19, -1}, high[ROWS] = {0, 20, 1};
        const cn_embed_args good = {y, token, &t.w, ROWS, 1};
        cn_embed_args       a;
#define REFUSED(...)                                                                               \
    a = good, __VA_ARGS__;                                                                         \
    assert_err(ops[v].embed(&a, NULL), CN_EINVAL)
        REFUSED(a.w = NULL);
        REFUSED(a.w = &bad_w);
        REFUSED(a.rows = -1);
        REFUSED(a.y = NULL);
        REFUSED(a.y = y + 1);
        REFUSED(a.token = NULL);
        REFUSED(a.token = low);
        REFUSED(a.token = high);
        for (int i = 0; i < ROWS * COLS * 4; i++) assert_int_equal(((uint8_t *)y)[i], 0xA5);
    }
    t_free(y);
    t_weight_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed_matches_reference),
        cmocka_unit_test(test_embed_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
