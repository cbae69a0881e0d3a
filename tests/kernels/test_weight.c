/*
 * test_weight.c - Packing puts every element where weight.h says, and nothing elsewhere.
 */
#include "tests/kernels/weights.h"

#include <math.h>

static const cn_weight_type types[] = {CN_WEIGHT_BF16, CN_WEIGHT_I8};

/* The layout written again from the picture in weight.h: [panel][group][16 rows][4 bytes]. */
static size_t offset(cn_weight_type type, int32_t cols, int32_t row, int32_t col) {
    const int32_t elem = type == CN_WEIGHT_I8 ? 1 : 2, group = 4 / elem;
    const size_t  panel = (size_t)row / 16, line = (size_t)col / (size_t)group;
    return ((panel * (size_t)(cols / group) + line) * 16 + (size_t)row % 16) * 4 +
           (size_t)(col % group * elem);
}

static void test_weight_pack_lays_out(void **state) {
    (void)state;
    const int32_t rows[] = {1, 15, 16, 17, 33, 48, 100}, cols[] = {16, 32, 48, 512};
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < 7; i++)
            for (int j = 0; j < 4; j++) {
                t_note("type %d rows %d cols %d", k, rows[i], cols[j]);
                t_weight     t = t_weight_new(types[k], rows[i], cols[j]);
                const size_t elem = k ? 1 : 2, n = (size_t)rows[i] * (size_t)cols[j];
                const size_t bytes = (size_t)cn_weight_data_bytes(types[k], rows[i], cols[j]);
                assert_int_equal(bytes, (size_t)((rows[i] + 15) / 16 * 16 * cols[j]) * elem);
                uint8_t *want = calloc(bytes, 1);
                assert_non_null(want);
                for (size_t e = 0; e < n; e++) {
                    const int32_t row = (int32_t)(e / (size_t)cols[j]);
                    const int32_t col = (int32_t)(e % (size_t)cols[j]);
                    memcpy(want + offset(types[k], cols[j], row, col), (uint8_t *)t.src + e * elem,
                           elem);
                    const float v =
                        k ? ((int8_t *)t.src)[e] : cn_f32_from_bf16(((cn_bf16 *)t.src)[e]);
                    assert_true(cn_weight_at(&t.w, row, col) == v);
                }
                assert_memory_equal(t.w.data, want, bytes); // the padding is zero
                free(want);
                if (k) {
                    for (int32_t r = 0; r < (rows[i] + 15) / 16 * 16; r++) {
                        int32_t sum = 0;
                        for (int32_t c = 0; r < rows[i] && c < cols[j]; c++)
                            sum += ((int8_t *)t.src)[r * cols[j] + c];
                        assert_int_equal(t.w.sum[r], sum);
                        assert_true(t.w.scale[r] == (r < rows[i] ? t.src_scale[r] : 0));
                    }
                }
                t_weight_free(&t);
            }
}

/* q|k|v: three matrices packed below each other are one matrix. */
static void test_weight_pack_parts_join(void **state) {
    (void)state;
    enum { ROWS = 53, COLS = 48 };
    const int32_t parts[] = {5, 16, 32};
    for (int k = 0; k < 2; k++) {
        t_weight  whole = t_weight_new(types[k], ROWS, COLS);
        cn_weight w = t_weight_empty(types[k], ROWS, COLS);
        int32_t   first = 0;
        for (int i = 0; i < 3; first += parts[i++])
            assert_err(cn_weight_pack(&w, first, parts[i],
                                      (uint8_t *)whole.src + first * COLS * (k ? 1 : 2),
                                      k ? whole.src_scale + first : NULL),
                       CN_OK);
        assert_int_equal(first, ROWS);
        assert_memory_equal(w.data, whole.w.data,
                            (size_t)cn_weight_data_bytes(types[k], ROWS, COLS));
        if (k) {
            assert_memory_equal(w.scale, whole.w.scale, 64 * 4);
            assert_memory_equal(w.sum, whole.w.sum, 64 * 4);
        }
        t_weight_release(&w);
        t_weight_free(&whole);
    }
}

static void test_weight_pack_refuses(void **state) {
    (void)state;
    enum { ROWS = 20, COLS = 32 };
    for (int k = 0; k < 2; k++) {
        t_weight     t = t_weight_new(types[k], ROWS, COLS);
        const float *scale = t.src_scale;
        cn_weight    w = t_weight_empty(types[k], ROWS, COLS), bad;
        const size_t bytes = (size_t)cn_weight_data_bytes(types[k], ROWS, COLS);
#define REFUSED(...)                                                                               \
    bad = w, __VA_ARGS__;                                                                          \
    assert_false(cn_weight_is_valid(&bad));                                                        \
    assert_err(cn_weight_pack(&bad, 0, 1, t.src, scale), CN_EINVAL)
        REFUSED(bad.type = (cn_weight_type)2);
        REFUSED(bad.rows = 0);
        REFUSED(bad.rows = CN_WEIGHT_ROWS_MAX + 1);
        REFUSED(bad.cols = 0);
        REFUSED(bad.cols = 24);
        REFUSED(bad.cols = CN_DIM_MAX + CN_DIM_MULTIPLE);
        REFUSED(bad.data = NULL);
        REFUSED(bad.data = (uint8_t *)w.data + 32);
        if (k) {
            REFUSED(bad.scale = NULL);
            REFUSED(bad.scale = w.scale + 8);
            REFUSED(bad.sum = NULL);
            REFUSED(bad.sum = w.sum + 8);
        }
        assert_err(cn_weight_pack(&w, 0, ROWS, NULL, scale), CN_EINVAL);
        assert_err(cn_weight_pack(&w, 0, ROWS, t.src, k ? NULL : t.w.data), CN_EINVAL);
        assert_err(cn_weight_pack(&w, -1, 1, t.src, scale), CN_EINVAL);
        assert_err(cn_weight_pack(&w, 0, 0, t.src, scale), CN_EINVAL);
        assert_err(cn_weight_pack(&w, 0, -1, t.src, scale), CN_EINVAL);
        assert_err(cn_weight_pack(&w, 0, ROWS + 1, t.src, scale), CN_EINVAL);
        assert_err(cn_weight_pack(&w, ROWS, 1, t.src, scale), CN_EINVAL);
        assert_err(cn_weight_pack(&w, INT32_MAX, INT32_MAX, t.src, scale), CN_EINVAL);
        for (size_t i = 0; i < bytes; i++) assert_int_equal(((uint8_t *)w.data)[i], 0);
        assert_err(cn_weight_pack(&w, ROWS - 1, 1, t.src, scale), CN_OK);
        t_weight_release(&w);
        t_weight_free(&t);
    }
}

static void test_weight_pack_refuses_bad_values(void **state) {
    (void)state;
    enum { ROWS = 3, COLS = 32 };
    t_weight    t = t_weight_new(CN_WEIGHT_I8, ROWS, COLS);
    int8_t     *v = (int8_t *)t.src + 2 * COLS + 31;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    *v = -128;
    assert_err(cn_weight_pack(&t.w, 0, ROWS, t.src, t.src_scale), CN_EINVAL);
    *v = -127;
    assert_err(cn_weight_pack(&t.w, 0, ROWS, t.src, t.src_scale), CN_OK);
    for (int i = 0; i < 3; i++) {
        t.src_scale[1] = bad[i];
        assert_err(cn_weight_pack(&t.w, 0, ROWS, t.src, t.src_scale), CN_EINVAL);
    }
    t_weight_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weight_pack_lays_out),
        cmocka_unit_test(test_weight_pack_parts_join),
        cmocka_unit_test(test_weight_pack_refuses),
        cmocka_unit_test(test_weight_pack_refuses_bad_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
