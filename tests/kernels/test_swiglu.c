/*
 * test_swiglu.c - Every swiglu variant against swiglu_ref.c.
 *
 * The same values within the stated error, no write outside a row's dim, the same bits for a
 * row alone, in a run and with any number of threads, gates from tiny to huge, and refusal of
 * what swiglu.h forbids.
 */
#include "tests/test.h"

#include "kernels/pool.h"

#include <math.h>

typedef struct shape {
    int64_t rows;
    int32_t dim;
    int32_t slack; // floats between rows, of x and of y
} shape;

static const shape shapes[] = {
    {1, 16, 0}, {3, 48, 16}, {5, 1536, 0}, {2, 80, 160}, {1, CN_DIM_MAX, 0}, {40, 512, 32},
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

/* The bound of the fast variants: relative, and exp(-v) = infinity below v = -88.7. */
static void assert_close(float got, double want, float gate, float up) {
    const double bound = 1e-6 * fabs(want) + 3e-37 * fabs(up) + 1.5e-45;
    if (isnan(want) ? !isnan(got) : got != want && !(fabs(got - want) <= bound))
        t_fail(__FILE__, __LINE__, "silu(%.9g) * %.9g = %.9g, want %.9g", gate, up, got, want);
}

static float *run(const cn_ops *ops, const float *x, shape s, cn_pool *pool) {
    float *y = t_alloc((size_t)(s.rows * (s.dim + s.slack)) * sizeof(float));
    assert_err(ops->swiglu(&(cn_swiglu_args){.y = y,
                                             .x = x,
                                             .rows = s.rows,
                                             .y_stride = s.dim + s.slack,
                                             .x_stride = 2 * s.dim + s.slack,
                                             .dim = s.dim},
                           pool),
               CN_OK);
    for (int64_t r = 0; r < s.rows; r++) {
        const uint8_t *slack = (const uint8_t *)(y + r * (s.dim + s.slack) + s.dim);
        for (size_t i = 0; i < (size_t)s.slack * sizeof(float); i++)
            assert_int_equal(slack[i], 0xA5);
    }
    return y;
}

static void test_swiglu_matches_reference(void **state) {
    (void)state;
    cn_ops      ops[CN_ISA_COUNT];
    const int   variants = t_variants(ops);
    const float scales[] = {1, 1e-3f, 30, 1e4f, 1e-41f};
    for (int k = 0; k < SHAPES; k++)
        for (size_t c = 0; c < sizeof(scales) / sizeof(scales[0]); c++) {
            const shape s = shapes[k];
            float      *x = t_alloc_f32(s.rows * (2 * s.dim + s.slack), scales[c]);
            float      *want = run(&ops[0], x, s, NULL);
            for (int v = 1; v < variants; v++) {
                t_note("%s shape %d scale %g", cn_isa_name(ops[v].isa), k, scales[c]);
                float *got = run(&ops[v], x, s, NULL);
                for (int64_t r = 0; r < s.rows; r++)
                    for (int32_t i = 0; i < s.dim; i++) {
                        const float  *gate = x + r * (2 * s.dim + s.slack) + i;
                        const int64_t at = r * (s.dim + s.slack) + i;
                        assert_close(got[at], want[at], gate[0], gate[s.dim]);
                    }
                t_free(got);
            }
            t_free(want), t_free(x);
        }
}

/* silu(v) * up at gates where a careless exp or division goes wrong. */
static void test_swiglu_extremes(void **state) {
    (void)state;
    // By `make_math_values.py silu`, and what the limits and a NaN must give.
    static const struct {
        float  gate, up;
        double want;
    } cases[] = {
        {0.0f, 5.0f, 0},
        {1.0f, 1.0f, 7.3105857863000487925e-1},
        {-1.0f, 2.0f, -5.3788284273999024150e-1},
        {0.001f, 1000.0f, 5.0025002375164104370e-1},
        {-0.001f, -1000.0f, 4.9975002374581026169e-1},
        {10.0f, 0.1f, 9.9995461703178227849e-1},
        {-10.0f, 7.0f, -3.1778508091704076153e-3},
        {-20.0f, 1000000.0f, -4.1223072363804071629e-2},
        {20.0f, 1.0f, 1.9999999958776927636e+1},
        {-50.0f, 1.0f, -9.6437492398195889151e-21},
        {-80.0f, 10000000000.0f, -1.4438811102763321378e-23},
        {-88.0f, 1.0f, -5.3280496679530435784e-37},
        {-88.5f, 1.0f, -3.2499869884948121888e-37},
        {-88.8f, 1.0f, -2.4158038126127770630e-37},
        {-90.0f, 1.0f, -7.3746113615914638873e-38},
        {-104.0f, 1000.0f, -7.0860990944071104540e-41},
        {-150.0f, 1.0f, 0},
        {-10000.0f, 10000.0f, 0},
        {10000.0f, 10000.0f, 1.0000000000000000000e+8},
        {10000.0f, -1.0f, -1.0000000000000000000e+4},
        {-3e+38f, 3.0f, 0},
        {3e+38f, 0.5f, 1.5000000027488778789e+38},
        {1.4e-45f, 1.0f, 7.0064923216240853546e-46},
        {-1.4e-45f, 1e+20f, -7.0064924620403385750e-26},
        {1e-39f, 0.001f, 5.0000013140139739463e-43},
        {1.0f, 1.4e-45f, 1.0244312635657093678e-45},
        {88.7f, 2.0f, 1.7739999389648437500e+2},
        {104.0f, 2.0f, 2.0800000000000000000e+2},
        {INFINITY, 2.0f, INFINITY},
        {-INFINITY, 2.0f, NAN},
        {NAN, 2.0f, NAN},
        {-NAN, 0.0f, NAN},
        {1.0f, NAN, NAN},
        {-1e4f, INFINITY, NAN},
    };
    enum { CASES = sizeof(cases) / sizeof(cases[0]), DIM = (CASES + 15) / 16 * 16 };
    cn_ops      ops[CN_ISA_COUNT];
    const int   variants = t_variants(ops);
    const shape s = {1, DIM, 0};
    float      *x = t_alloc_f32(2 * DIM, 1);
    for (int i = 0; i < CASES; i++) x[i] = cases[i].gate, x[DIM + i] = cases[i].up;
    for (int v = 0; v < variants; v++) {
        t_note("%s", cn_isa_name(ops[v].isa));
        float *y = run(&ops[v], x, s, NULL);
        for (int i = 0; i < CASES; i++)
            assert_close(y[i], cases[i].want, cases[i].gate, cases[i].up);
        t_free(y);
    }
    t_free(x);
}

/* Every gate from -110 to 110 in small steps: no hole between the pieces of exp. */
static void test_swiglu_dense_gates(void **state) {
    (void)state;
    enum { DIM = 1 << 14 };
    cn_ops      ops[CN_ISA_COUNT];
    const int   variants = t_variants(ops);
    const shape s = {1, DIM, 0};
    float      *x = t_alloc_f32(2 * DIM, 0);
    for (int32_t i = 0; i < DIM; i++) {
        x[i] = (float)(i - DIM / 2) * (110.0f / (DIM / 2));
        x[DIM + i] = i % 2 ? 1 : -3;
    }
    float *want = run(&ops[0], x, s, NULL);
    for (int v = 1; v < variants; v++) {
        t_note("%s", cn_isa_name(ops[v].isa));
        float *got = run(&ops[v], x, s, NULL);
        for (int32_t i = 0; i < DIM; i++) assert_close(got[i], want[i], x[i], x[DIM + i]);
        t_free(got);
    }
    t_free(want), t_free(x);
}

static void test_swiglu_row_has_the_same_bits_in_any_run(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    for (int k = 0; k < SHAPES; k++) {
        const shape  s = {shapes[k].rows + 16, shapes[k].dim, shapes[k].slack};
        const size_t y_row = (size_t)(s.dim + s.slack);
        float       *x = t_alloc_f32(s.rows * (2 * s.dim + s.slack), 3);
        for (int v = 0; v < variants; v++) {
            float *all = run(&ops[v], x, s, NULL);
            t_note("%s shape %d", cn_isa_name(ops[v].isa), k);
            for (int64_t r = 0; r < s.rows; r += 5) {
                const shape one = {1, s.dim, s.slack};
                float      *y = run(&ops[v], x + r * (2 * s.dim + s.slack), one, NULL);
                assert_memory_equal(y, all + (size_t)r * y_row, y_row * sizeof(float));
                t_free(y);
            }
            for (int threads = 1; threads <= 3; threads++) {
                cn_pool *pool;
                assert_err(cn_pool_create(&pool, threads, &t_diag), CN_OK);
                float *y = run(&ops[v], x, s, pool);
                assert_memory_equal(y, all, (size_t)s.rows * y_row * sizeof(float));
                t_free(y);
                cn_pool_free(pool);
            }
            t_free(all);
        }
        t_free(x);
    }
}

static void test_swiglu_refuses(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    float    *x = t_alloc_f32(256, 1), *y = t_alloc_f32(128, 1);
    float    *before = t_alloc(128 * sizeof(float));
    memcpy(before, y, 128 * sizeof(float));
    const cn_swiglu_args good = {y, x, 2, 48, 96, 48};
#define REFUSED(change)                                                                            \
    do {                                                                                           \
        cn_swiglu_args a = good;                                                                   \
        a.change;                                                                                  \
        t_note("%s %s", cn_isa_name(ops[v].isa), #change);                                         \
        assert_err(ops[v].swiglu(&a, NULL), CN_EINVAL);                                            \
        assert_memory_equal(y, before, 128 * sizeof(float));                                       \
    } while (0)
    for (int v = 0; v < variants; v++) {
        REFUSED(rows = -1);
        REFUSED(dim = 0);
        REFUSED(dim = -16);
        REFUSED(dim = 24);
        REFUSED(dim = CN_DIM_MAX + 16);
        REFUSED(y_stride = 32);
        REFUSED(x_stride = 80);
        REFUSED(y_stride = 56);
        REFUSED(x_stride = 104);
        REFUSED(y = NULL);
        REFUSED(x = NULL);
        REFUSED(y = y + 4);
        REFUSED(x = x + 4);
        cn_swiglu_args none = good;
        none.rows = 0;
        assert_err(ops[v].swiglu(&none, NULL), CN_OK);
        assert_memory_equal(y, before, 128 * sizeof(float));
    }
    for (int v = 0; v < variants; v++) assert_err(ops[v].swiglu(&good, NULL), CN_OK);
    assert_memory_not_equal(y, before, 128 * sizeof(float));
    t_free(x), t_free(y), t_free(before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_swiglu_matches_reference),
        cmocka_unit_test(test_swiglu_extremes),
        cmocka_unit_test(test_swiglu_dense_gates),
        cmocka_unit_test(test_swiglu_row_has_the_same_bits_in_any_run),
        cmocka_unit_test(test_swiglu_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
