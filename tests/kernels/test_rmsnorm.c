/*
 * test_rmsnorm.c - Every rmsnorm variant against rmsnorm_ref.c.
 *
 * The same values within the stated error, no write outside the heads of a row, the same
 * bits for a row alone, in a run, in place and with any number of threads, and refusal of
 * what rmsnorm.h forbids.  Shapes: one vector, odd numbers of vectors, a model's dims, the
 * largest dim, and more rows than one task holds.
 */
#include "tests/test.h"

#include "kernels/pool.h"

#include <math.h>

typedef struct shape {
    int64_t rows;
    int32_t heads, dim;
    int32_t slack; // floats between rows
} shape;

static const shape shapes[] = {
    {1, 1, 16, 0},    {3, 1, 48, 16},    {5, 1, 512, 0},  {2, 3, 16, 32},        {7, 8, 64, 128},
    {1, 2, 128, 640}, {1, 128, 256, 16}, {70, 1, 512, 0}, {1, 1, CN_DIM_MAX, 0},
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

/* The bound of the fast variants: relative, and what a denormal x / rms loses. */
static void assert_close(const float *got, const float *want, const float *gain, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const double bound = 2e-6 * fabs(want[i]) + 1.5e-45 * fmax(1, gain ? fabs(gain[i]) : 1);
        if (isnan(want[i]) ? !isnan(got[i])
                           : got[i] != want[i] && !(fabs((double)got[i] - want[i]) <= bound))
            t_fail(__FILE__, __LINE__, "y[%lld] = %.9g, want %.9g", (long long)i, got[i], want[i]);
    }
}

/* One run of `ops` on x; returns y, in rows of y_stride. */
static float *run(const cn_ops *ops, const float *x, const float *gain, shape s, cn_pool *pool) {
    const int64_t stride = (int64_t)s.heads * s.dim + s.slack;
    float        *y = t_alloc((size_t)(s.rows * stride) * sizeof(float));
    assert_err(ops->rmsnorm(&(cn_rmsnorm_args){.y = y,
                                               .x = x,
                                               .gain = gain,
                                               .rows = s.rows,
                                               .y_stride = stride,
                                               .x_stride = stride,
                                               .heads = s.heads,
                                               .dim = s.dim,
                                               .eps = 1e-5f},
                            pool),
               CN_OK);
    return y;
}

static void assert_slack_untouched(const float *y, shape s) {
    const int64_t width = (int64_t)s.heads * s.dim, stride = width + s.slack;
    for (int64_t r = 0; r < s.rows; r++)
        for (const uint8_t *p = (const uint8_t *)(y + r * stride + width);
             p < (const uint8_t *)(y + (r + 1) * stride); p++)
            assert_int_equal(*p, 0xA5);
}

static void test_rmsnorm_matches_reference(void **state) {
    (void)state;
    cn_ops      ops[CN_ISA_COUNT];
    const int   variants = t_variants(ops);
    const float scales[] = {1, 1e-4f, 3e18f, 1e30f, 1e-42f};
    for (int k = 0; k < SHAPES; k++)
        for (size_t c = 0; c < sizeof(scales) / sizeof(scales[0]); c++)
            for (int with_gain = 0; with_gain < 2; with_gain++) {
                const shape   s = shapes[k];
                const int64_t width = (int64_t)s.heads * s.dim, stride = width + s.slack;
                float        *x = t_alloc_f32(s.rows * stride, scales[c]);
                float        *gain = with_gain ? t_alloc_f32(width, 1) : NULL;
                float        *want = run(&ops[0], x, gain, s, NULL);
                assert_slack_untouched(want, s);
                for (int v = 1; v < variants; v++) {
                    t_note("%s shape %d scale %g gain %d", cn_isa_name(ops[v].isa), k, scales[c],
                           with_gain);
                    float *got = run(&ops[v], x, gain, s, NULL);
                    for (int64_t r = 0; r < s.rows; r++)
                        assert_close(got + r * stride, want + r * stride, gain, width);
                    assert_slack_untouched(got, s);
                    t_free(got);
                }
                t_free(want), t_free(gain), t_free(x);
            }
}

/* 3, 4, 0, ...: the mean square of 16 numbers is 25/16, the root 5/4. */
static void test_rmsnorm_known_values(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    float    *x = t_alloc_f32(16, 0), *gain = t_alloc_f32(16, 0), *y = t_alloc_f32(16, 1);
    x[0] = 3, x[1] = -4;
    gain[0] = 1, gain[1] = 0.5f;
    for (int v = 0; v < variants; v++) {
        cn_rmsnorm_args a = {y, x, gain, 1, 16, 16, 1, 16, 1e-20f};
        assert_err(ops[v].rmsnorm(&a, NULL), CN_OK);
        assert_float_equal(y[0], 2.4, 3e-7);
        assert_float_equal(y[1], -1.6, 3e-7);
        for (int i = 2; i < 16; i++) assert_true(y[i] == 0);
        a.eps = 25.0f / 16 * 3; // inside the root: twice the root
        assert_err(ops[v].rmsnorm(&a, NULL), CN_OK);
        assert_float_equal(y[0], 1.2, 2e-7);
    }
    t_free(x), t_free(gain), t_free(y);
}

/* Sums of equal squares drift in f32, zeros must not divide by zero, one bad row stays alone. */
static void test_rmsnorm_extremes(void **state) {
    (void)state;
    enum { DIM = CN_DIM_MAX };
    cn_ops      ops[CN_ISA_COUNT];
    const int   variants = t_variants(ops);
    const float values[] = {0.7f, 0, -3.4e38f, 1.4e-45f, NAN, INFINITY, 1};
    const shape s = {sizeof(values) / sizeof(values[0]), 1, DIM, 0};
    float      *x = t_alloc_f32(s.rows * DIM, 0);
    for (int64_t r = 0; r < s.rows; r++) {
        const bool finite = isfinite(values[r]);
        for (int32_t i = 0; i < DIM; i++) x[r * DIM + i] = finite ? values[r] : 1;
        if (!finite) x[r * DIM + 77] = values[r];
    }
    float *want = run(&ops[0], x, NULL, s, NULL);
    for (int32_t i = 0; i < DIM; i++) {
        assert_true(want[1 * DIM + i] == 0);
        assert_true(want[2 * DIM + i] == -1);
        assert_true(isnan(want[4 * DIM + i]));
        assert_true(i == 77 ? isnan(want[5 * DIM + i]) : want[5 * DIM + i] == 0);
        assert_float_equal(want[6 * DIM + i], 1, 6e-6); // eps = 1e-5
    }
    for (int v = 1; v < variants; v++) {
        float *got = run(&ops[v], x, NULL, s, NULL);
        for (int64_t r = 0; r < s.rows; r++) {
            t_note("%s x = %g", cn_isa_name(ops[v].isa), values[r]);
            assert_close(got + r * DIM, want + r * DIM, NULL, DIM);
        }
        t_free(got);
    }
    t_free(want), t_free(x);
}

static void test_rmsnorm_row_has_the_same_bits_in_any_run(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    for (int k = 0; k < SHAPES; k++) {
        const shape   s = {shapes[k].rows + 34, shapes[k].heads, shapes[k].dim, shapes[k].slack};
        const int64_t width = (int64_t)s.heads * s.dim, stride = width + s.slack;
        float        *x = t_alloc_f32(s.rows * stride, 2), *gain = t_alloc_f32(width, 1);
        for (int v = 0; v < variants; v++) {
            float *all = run(&ops[v], x, gain, s, NULL);
            t_note("%s shape %d", cn_isa_name(ops[v].isa), k);
            for (int64_t r = 0; r < s.rows; r += 7) {
                const shape one = {1, s.heads, s.dim, s.slack};
                float      *y = run(&ops[v], x + r * stride, gain, one, NULL);
                assert_memory_equal(y, all + r * stride, (size_t)width * sizeof(float));
                t_free(y);
            }
            for (int threads = 1; threads <= 3; threads++) {
                cn_pool *pool;
                assert_err(cn_pool_create(&pool, threads, &t_diag), CN_OK);
                float *y = run(&ops[v], x, gain, s, pool);
                assert_memory_equal(y, all, (size_t)(s.rows * stride) * sizeof(float));
                t_free(y);
                cn_pool_free(pool);
            }
            t_free(all);
        }
        t_free(x), t_free(gain);
    }
}

/* The QK-norm: some heads in the middle of a wider row, in place; nothing else changes. */
static void test_rmsnorm_in_place_inside_a_wider_row(void **state) {
    (void)state;
    enum { ROWS = 9, STRIDE = 1040, AT = 272, HEADS = 5, DIM = 64, WIDTH = HEADS * DIM };
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    float    *x = t_alloc_f32(ROWS * STRIDE, 1), *y = t_alloc_f32(ROWS * STRIDE, 1);
    float    *gain = t_alloc_f32(WIDTH, 1), *apart = t_alloc_f32(ROWS * WIDTH, 1);
    for (int v = 0; v < variants; v++) {
        t_note("%s", cn_isa_name(ops[v].isa));
        memcpy(y, x, ROWS * STRIDE * sizeof(float));
        cn_rmsnorm_args a = {apart, x + AT, gain, ROWS, WIDTH, STRIDE, HEADS, DIM, 1e-6f};
        assert_err(ops[v].rmsnorm(&a, NULL), CN_OK);
        a = (cn_rmsnorm_args){y + AT, y + AT, gain, ROWS, STRIDE, STRIDE, HEADS, DIM, 1e-6f};
        assert_err(ops[v].rmsnorm(&a, NULL), CN_OK);
        for (int r = 0; r < ROWS; r++) {
            const float *row = y + r * STRIDE, *was = x + r * STRIDE;
            assert_memory_equal(row, was, AT * sizeof(float));
            assert_memory_equal(row + AT, apart + r * WIDTH, WIDTH * sizeof(float));
            assert_memory_equal(row + AT + WIDTH, was + AT + WIDTH,
                                (STRIDE - AT - WIDTH) * sizeof(float));
            assert_true(memcmp(row + AT, was + AT, WIDTH * sizeof(float)) != 0);
        }
    }
    t_free(x), t_free(y), t_free(gain), t_free(apart);
}

static void test_rmsnorm_no_gain_is_a_gain_of_ones(void **state) {
    (void)state;
    cn_ops      ops[CN_ISA_COUNT];
    const int   variants = t_variants(ops);
    const shape s = {3, 2, 80, 0};
    float      *x = t_alloc_f32(3 * 160, 1), *ones = t_alloc_f32(160, 0);
    for (int i = 0; i < 160; i++) ones[i] = 1;
    for (int v = 0; v < variants; v++) {
        float *with = run(&ops[v], x, ones, s, NULL), *without = run(&ops[v], x, NULL, s, NULL);
        assert_memory_equal(with, without, 3 * 160 * sizeof(float));
        t_free(with), t_free(without);
    }
    t_free(x), t_free(ones);
}

static void test_rmsnorm_refuses(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    float    *x = t_alloc_f32(256, 1), *y = t_alloc_f32(256, 1), *gain = t_alloc_f32(64, 1);
    float    *before = t_alloc(256 * sizeof(float));
    memcpy(before, y, 256 * sizeof(float));
    const cn_rmsnorm_args good = {y, x, gain, 2, 64, 64, 2, 32, 1e-5f};
#define REFUSED(change)                                                                            \
    do {                                                                                           \
        cn_rmsnorm_args a = good;                                                                  \
        a.change;                                                                                  \
        t_note("%s %s", cn_isa_name(ops[v].isa), #change);                                         \
        assert_err(ops[v].rmsnorm(&a, NULL), CN_EINVAL);                                           \
        assert_memory_equal(y, before, 256 * sizeof(float));                                       \
    } while (0)
    for (int v = 0; v < variants; v++) {
        REFUSED(rows = -1);
        REFUSED(heads = 0);
        REFUSED(heads = CN_HEADS_MAX + 1);
        REFUSED(dim = 0);
        REFUSED(dim = -16);
        REFUSED(dim = 24);
        REFUSED(dim = CN_DIM_MAX + 16);
        REFUSED(eps = 0);
        REFUSED(eps = -1e-5f);
        REFUSED(eps = NAN);
        REFUSED(y_stride = 48);
        REFUSED(x_stride = 48);
        REFUSED(y_stride = 72);
        REFUSED(x_stride = 72);
        REFUSED(y = NULL);
        REFUSED(x = NULL);
        REFUSED(y = y + 4);
        REFUSED(x = x + 4);
        REFUSED(gain = gain + 4);
        cn_rmsnorm_args a = good;
        a.x = y, a.x_stride = 80; // in place with two strides
        assert_err(ops[v].rmsnorm(&a, NULL), CN_EINVAL);
        assert_memory_equal(y, before, 256 * sizeof(float));
        a = good, a.rows = 0;
        assert_err(ops[v].rmsnorm(&a, NULL), CN_OK);
        assert_memory_equal(y, before, 256 * sizeof(float));
    }
    for (int v = 0; v < variants; v++) assert_err(ops[v].rmsnorm(&good, NULL), CN_OK);
    assert_memory_not_equal(y, before, 256 * sizeof(float));
    t_free(x), t_free(y), t_free(gain), t_free(before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rmsnorm_matches_reference),
        cmocka_unit_test(test_rmsnorm_known_values),
        cmocka_unit_test(test_rmsnorm_extremes),
        cmocka_unit_test(test_rmsnorm_row_has_the_same_bits_in_any_run),
        cmocka_unit_test(test_rmsnorm_in_place_inside_a_wider_row),
        cmocka_unit_test(test_rmsnorm_no_gain_is_a_gain_of_ones),
        cmocka_unit_test(test_rmsnorm_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
