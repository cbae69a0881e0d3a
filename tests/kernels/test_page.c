/*
 * test_page.c - The page body: its offsets against the table in page.h, and page_put
 * against an element-wise computation from those offsets.
 */
#include "tests/test.h"

typedef struct put_case {
    cn_page_shape shape;
    int32_t       first, rows, pad; // pad: floats between the end of a row and the next
} put_case;

static const put_case cases[] = {
    {{.kv_dim = 16, .index_dim = 16, .sources = 1}, 0, 256, 0},
    {{.kv_dim = 48, .index_dim = 32, .sources = 3}, 0, 1, 5},
    {{.kv_dim = 48, .index_dim = 32, .sources = 3}, 255, 1, 0},
    {{.kv_dim = 512, .index_dim = 64, .sources = 8}, 7, 25, 16},
    {{.kv_dim = 128, .index_dim = 128, .sources = 2}, 16, 16, 1},
    {{.kv_dim = 64, .index_dim = 0, .sources = 0}, 100, 156, 3},
    {{.kv_dim = 16, .index_dim = CN_INDEX_DIM_MAX, .sources = 2}, 15, 2, 0},
    {{.kv_dim = 32, .index_dim = 16, .sources = 1}, 256, 0, 0},
};

/* The byte table of page.h, written once more without its functions. */
static void test_page_offsets_are_the_table(void **state) {
    (void)state;
    const cn_page_shape s = {.kv_dim = 48, .index_dim = 32, .sources = 3};
    assert_int_equal(cn_page_keys_bytes(&s), 16 * 16 * 16 * 2 * 2);
    assert_int_equal(cn_page_row_bytes(&s), (48 + 48) * 2);
    assert_int_equal(cn_page_bytes(&s), 3 * 16384 + 256 * 192);
    assert_int_equal(cn_page_keys_offset(&s, 2), 2 * 16384);
    assert_int_equal(cn_page_row_offset(&s, 0), 3 * 16384);
    assert_int_equal(cn_page_row_offset(&s, 255), 3 * 16384 + 255 * 192);
    int64_t elem = 0;
    for (int32_t tile = 0; tile < 16; tile++)
        for (int32_t pair = 0; pair < 16; pair++)
            for (int32_t token = 0; token < 16; token++)
                for (int32_t half = 0; half < 2; half++)
                    assert_int_equal(cn_page_key_elem(&s, tile * 16 + token, pair * 2 + half),
                                     elem++);
}

static void test_page_shape_limits(void **state) {
    (void)state;
    const cn_page_shape good = {.kv_dim = 32, .index_dim = 32, .sources = 2};
    assert_true(cn_page_shape_is_valid(&good));
    const cn_page_shape bad[] = {
        {.kv_dim = 0, .index_dim = 32, .sources = 2},
        {.kv_dim = 24, .index_dim = 32, .sources = 2},
        {.kv_dim = CN_DIM_MAX + 16, .index_dim = 32, .sources = 2},
        {.kv_dim = 32, .index_dim = 0, .sources = 2},
        {.kv_dim = 32, .index_dim = 24, .sources = 2},
        {.kv_dim = 32, .index_dim = CN_INDEX_DIM_MAX + 16, .sources = 2},
        {.kv_dim = 32, .index_dim = 32, .sources = -1},
        {.kv_dim = 32, .index_dim = 32, .sources = CN_INDEX_SOURCES_MAX + 1},
        {.kv_dim = 32, .index_dim = 32, .sources = 0},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(cn_page_shape_is_valid(&bad[i]));
}

/* Normal numbers, and now and then what rounding treats specially. */
static float test_value(void) {
    static const uint32_t special[] = {
        0x80000000, // -0
        0x00000001, // the least denormal
        0x3f808000, // a tie: to even, down
        0x3f818000, // a tie: to even, up
        0x7f7fffff, // rounds to infinity
        0xff800000, // -infinity
        0x7f800001, // a NaN whose bits are all below the cut
    };
    const int64_t pick = t_rand_range(0, 40);
    if (pick >= (int64_t)(sizeof(special) / sizeof(special[0]))) return t_rand_f32();
    float f;
    memcpy(&f, &special[pick], 4);
    return f;
}

static cn_bf16 page_elem(const uint8_t *page, int64_t offset, int64_t elem) {
    cn_bf16 b;
    memcpy(&b, page + offset + elem * 2, 2);
    return b;
}

static void put_and_compare(const cn_ops *ops, const put_case *c) {
    const cn_page_shape *s = &c->shape;
    const int64_t        keys_width = (int64_t)s->sources * s->index_dim;
    const int64_t        kv_width = 2 * (int64_t)s->kv_dim;
    const int64_t        stride = (kv_width > keys_width ? kv_width : keys_width) + c->pad;
    const size_t         page_bytes = (size_t)cn_page_bytes(s);
    uint8_t             *page = t_alloc(page_bytes), *touched = t_alloc(page_bytes);
    float               *kv = t_alloc((size_t)(c->rows * stride) * 4);
    float               *keys = t_alloc((size_t)(c->rows * stride) * 4);
    memset(touched, 0, page_bytes);
    for (int64_t i = 0; i < c->rows * stride; i++) kv[i] = test_value(), keys[i] = test_value();

    t_note("%s kv_dim=%d index_dim=%d sources=%d first=%d rows=%d", cn_isa_name(ops->isa),
           s->kv_dim, s->index_dim, s->sources, c->first, c->rows);
    assert_err(ops->page_put(&(cn_page_put_args){.page = page,
                                                 .shape = s,
                                                 .kv = kv,
                                                 .keys = s->sources ? keys : NULL,
                                                 .stride = stride,
                                                 .first = c->first,
                                                 .rows = c->rows},
                             NULL),
               CN_OK);
    for (int32_t r = 0; r < c->rows; r++) {
        const int32_t token = c->first + r;
        const int64_t row = cn_page_row_offset(s, token);
        for (int32_t i = 0; i < kv_width; i++) {
            assert_int_equal(page_elem(page, row, i), cn_bf16_from_f32(kv[r * stride + i]));
            memset(touched + row + i * 2, 1, 2);
        }
        for (int32_t source = 0; source < s->sources; source++)
            for (int32_t d = 0; d < s->index_dim; d++) {
                const int64_t offset = cn_page_keys_offset(s, source);
                const int64_t elem = cn_page_key_elem(s, token, d);
                const float   want = keys[r * stride + source * s->index_dim + d];
                assert_int_equal(page_elem(page, offset, elem), cn_bf16_from_f32(want));
                memset(touched + offset + elem * 2, 1, 2);
            }
    }
    for (size_t i = 0; i < page_bytes; i++)
        if (!touched[i] && page[i] != 0xA5)
            t_fail(__FILE__, __LINE__, "byte %zu of another token was written", i);
    t_free(page), t_free(touched), t_free(kv), t_free(keys);
}

static void test_page_put_matches_reference(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int n = t_variants(ops);
    for (int v = 0; v < n; v++)
        for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++)
            put_and_compare(&ops[v], &cases[c]);
}

static void test_page_put_refuses(void **state) {
    (void)state;
    cn_ops                 ops[CN_ISA_COUNT];
    const int              n = t_variants(ops);
    const cn_page_shape    s = {.kv_dim = 16, .index_dim = 16, .sources = 3};
    const cn_page_shape    unsound = {.kv_dim = 16, .index_dim = 8, .sources = 3};
    const size_t           bytes = (size_t)cn_page_bytes(&s);
    uint8_t               *page = t_alloc(bytes);
    float                 *x = t_alloc_f32(4 * 48, 1);
    const cn_page_put_args good = {
        .page = page, .shape = &s, .kv = x, .keys = x, .stride = 48, .first = 0, .rows = 4};
    cn_page_put_args bad[12];
    int              cases_n = 0;
#define BAD(field, value) bad[cases_n] = good, bad[cases_n++].field = (value)
    BAD(page, NULL);
    BAD(page, page + 32);
    BAD(shape, NULL);
    BAD(shape, &unsound);
    BAD(kv, NULL);
    BAD(keys, NULL);
    BAD(stride, 47);
    BAD(first, -1);
    BAD(first, 253);
    BAD(rows, -1);
    BAD(rows, 257);
    const cn_page_shape wide = {.kv_dim = 32, .index_dim = 16, .sources = 3};
    BAD(shape, &wide); // 2 * kv_dim is more than the stride
#undef BAD
    for (int v = 0; v < n; v++) {
        for (int i = 0; i < cases_n; i++) {
            t_note("%s case %d", cn_isa_name(ops[v].isa), i);
            assert_err(ops[v].page_put(&bad[i], NULL), CN_EINVAL);
        }
        for (size_t i = 0; i < bytes; i++) assert_int_equal(page[i], 0xA5);
    }
    t_free(page), t_free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_offsets_are_the_table),
        cmocka_unit_test(test_page_shape_limits),
        cmocka_unit_test(test_page_put_matches_reference),
        cmocka_unit_test(test_page_put_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
