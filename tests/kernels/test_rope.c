/*
 * test_rope.c - Every rope variant against rope_ref.c, and the angles against exact ones.
 *
 * The same values within the stated error, no write outside the heads of a row, the same
 * bits for a row alone, in a run and with any number of threads, and in both layouts;
 * refusal of what rope.h forbids.  Dims: 8, 16, 24 and more pairs (the edges of a vector).
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
    {1, 1, 16, 0},   {3, 2, 32, 16}, {5, 3, 48, 0},    {9, 10, 64, 80},
    {2, 7, 112, 16}, {4, 4, 128, 0}, {1, 128, 256, 0}, {70, 10, 64, 0},
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

static int64_t stride_of(shape s) {
    return (int64_t)s.heads * s.dim + s.slack;
}

/* A turned copy of x [rows, stride]. */
static float *run(const cn_ops *ops, const float *x, const float *cos, const float *sin, shape s,
                  cn_rope_layout layout, cn_pool *pool) {
    const size_t bytes = (size_t)(s.rows * stride_of(s)) * sizeof(float);
    float       *y = t_alloc(bytes);
    memcpy(y, x, bytes);
    assert_err(ops->rope(&(cn_rope_args){.x = y,
                                         .cos = cos,
                                         .sin = sin,
                                         .rows = s.rows,
                                         .stride = stride_of(s),
                                         .heads = s.heads,
                                         .dim = s.dim,
                                         .layout = layout},
                         pool),
               CN_OK);
    return y;
}

/* Where the numbers a and b of pair i lie in a head. */
static void pair_at(int32_t *a, int32_t *b, cn_rope_layout layout, int32_t i, int32_t half) {
    *a = layout == CN_ROPE_HALF_SPLIT ? i : 2 * i;
    *b = layout == CN_ROPE_HALF_SPLIT ? i + half : 2 * i + 1;
}

static void assert_close(const float *got, const float *want, const float *x, shape s,
                         cn_rope_layout layout) {
    for (int64_t r = 0; r < s.rows; r++) {
        const int64_t row = r * stride_of(s);
        for (int32_t h = 0; h < s.heads; h++)
            for (int32_t i = 0; i < s.dim / 2; i++) {
                int32_t a, b;
                pair_at(&a, &b, layout, i, s.dim / 2);
                const int64_t at[2] = {row + h * s.dim + a, row + h * s.dim + b};
                const double  bound = 4e-7 * fmax(fabs(x[at[0]]), fabs(x[at[1]]));
                for (int k = 0; k < 2; k++)
                    if (!(fabs((double)got[at[k]] - want[at[k]]) <= bound))
                        t_fail(__FILE__, __LINE__, "x[%lld] = %.9g, want %.9g", (long long)at[k],
                               got[at[k]], want[at[k]]);
            }
        assert_memory_equal(got + row + s.heads * s.dim, x + row + s.heads * s.dim,
                            (size_t)s.slack * sizeof(float));
    }
}

static void test_rope_matches_reference(void **state) {
    (void)state;
    cn_ops      ops[CN_ISA_COUNT];
    const int   variants = t_variants(ops);
    const float scales[] = {1, 1e-20f, 1e30f};
    for (int k = 0; k < SHAPES; k++)
        for (size_t c = 0; c < sizeof(scales) / sizeof(scales[0]); c++)
            for (int l = CN_ROPE_HALF_SPLIT; l <= CN_ROPE_INTERLEAVED; l++) {
                const shape          s = shapes[k];
                const cn_rope_layout layout = (cn_rope_layout)l;
                const int64_t        angles = s.rows * s.dim / 2;
                float               *x = t_alloc_f32(s.rows * stride_of(s), scales[c]);
                // The angles are aligned to 4 bytes only.
                float *cos = t_alloc((size_t)(angles + 1) * sizeof(float));
                float *sin = t_alloc((size_t)(angles + 1) * sizeof(float));
                cn_rope_angles(cos + 1, sin + 1, 1000, s.rows, s.dim, 1e4);
                float *want = run(&ops[0], x, cos + 1, sin + 1, s, layout, NULL);
                assert_close(want, want, x, s, layout); // the slack of the reference
                for (int v = 1; v < variants; v++) {
                    t_note("%s shape %d scale %g layout %d", cn_isa_name(ops[v].isa), k, scales[c],
                           l);
                    float *got = run(&ops[v], x, cos + 1, sin + 1, s, layout, NULL);
                    assert_close(got, want, x, s, layout);
                    t_free(got);
                }
                t_free(want), t_free(x), t_free(cos), t_free(sin);
            }
}

/* A quarter turn of each pair: (a, b) becomes (-b, a).  Angles 0 change nothing. */
static void test_rope_known_values(void **state) {
    (void)state;
    enum { HEADS = 3, DIM = 48, HALF = DIM / 2 };
    cn_ops      ops[CN_ISA_COUNT];
    const int   variants = t_variants(ops);
    const shape s = {1, HEADS, DIM, 0};
    float      *x = t_alloc_f32(HEADS * DIM, 1), *ones = t_alloc(HALF * sizeof(float));
    float      *zeros = t_alloc(HALF * sizeof(float));
    for (int i = 0; i < HALF; i++) ones[i] = 1, zeros[i] = 0;
    for (int v = 0; v < variants; v++)
        for (int l = CN_ROPE_HALF_SPLIT; l <= CN_ROPE_INTERLEAVED; l++) {
            float *turned = run(&ops[v], x, zeros, ones, s, (cn_rope_layout)l, NULL);
            float *same = run(&ops[v], x, ones, zeros, s, (cn_rope_layout)l, NULL);
            for (int h = 0; h < HEADS; h++)
                for (int32_t i = 0, a, b; i < HALF; i++) {
                    pair_at(&a, &b, (cn_rope_layout)l, i, HALF);
                    a += h * DIM, b += h * DIM;
                    assert_true(turned[a] == -x[b] && turned[b] == x[a]);
                    assert_true(same[a] == x[a] && same[b] == x[b]);
                }
            t_free(turned), t_free(same);
        }
    t_free(x), t_free(ones), t_free(zeros);
}

static void test_rope_row_has_the_same_bits_in_any_run(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    for (int k = 0; k < SHAPES; k++)
        for (int l = CN_ROPE_HALF_SPLIT; l <= CN_ROPE_INTERLEAVED; l++) {
            const cn_rope_layout layout = (cn_rope_layout)l;
            const shape s = {shapes[k].rows + 34, shapes[k].heads, shapes[k].dim, shapes[k].slack};
            const int32_t half = s.dim / 2;
            float        *x = t_alloc_f32(s.rows * stride_of(s), 1);
            float        *cos = t_alloc_f32(s.rows * half, 1), *sin = t_alloc_f32(s.rows * half, 1);
            for (int v = 0; v < variants; v++) {
                float *all = run(&ops[v], x, cos, sin, s, layout, NULL);
                t_note("%s shape %d layout %d", cn_isa_name(ops[v].isa), k, l);
                for (int64_t r = 0; r < s.rows; r += 7) {
                    const shape one = {1, s.heads, s.dim, s.slack};
                    float *y = run(&ops[v], x + r * stride_of(s), cos + r * half, sin + r * half,
                                   one, layout, NULL);
                    assert_memory_equal(y, all + r * stride_of(s),
                                        (size_t)stride_of(s) * sizeof(float));
                    t_free(y);
                }
                for (int threads = 1; threads <= 3; threads++) {
                    cn_pool *pool;
                    assert_err(cn_pool_create(&pool, threads, &t_diag), CN_OK);
                    float *y = run(&ops[v], x, cos, sin, s, layout, pool);
                    assert_memory_equal(y, all, (size_t)(s.rows * stride_of(s)) * sizeof(float));
                    t_free(y);
                    cn_pool_free(pool);
                }
                t_free(all);
            }
            t_free(x), t_free(cos), t_free(sin);
        }
}

/* The layout says where a pair lies, not what happens to it: the same pairs, the same bits. */
static void test_rope_layouts_agree(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    for (int k = 0; k < SHAPES; k++) {
        const shape   s = {shapes[k].rows, shapes[k].heads, shapes[k].dim, 0};
        const int32_t half = s.dim / 2;
        const int64_t n = s.rows * stride_of(s);
        float        *split = t_alloc_f32(n, 1), *pairs = t_alloc_f32(n, 1);
        float        *cos = t_alloc_f32(s.rows * half, 1), *sin = t_alloc_f32(s.rows * half, 1);
        for (int64_t at = 0; at < n; at += s.dim)
            for (int32_t i = 0; i < half; i++)
                pairs[at + 2 * i] = split[at + i], pairs[at + 2 * i + 1] = split[at + i + half];
        for (int v = 0; v < variants; v++) {
            t_note("%s shape %d", cn_isa_name(ops[v].isa), k);
            float *a = run(&ops[v], split, cos, sin, s, CN_ROPE_HALF_SPLIT, NULL);
            float *b = run(&ops[v], pairs, cos, sin, s, CN_ROPE_INTERLEAVED, NULL);
            for (int64_t at = 0; at < n; at += s.dim)
                for (int32_t i = 0; i < half; i++) {
                    assert_memory_equal(&a[at + i], &b[at + 2 * i], sizeof(float));
                    assert_memory_equal(&a[at + i + half], &b[at + 2 * i + 1], sizeof(float));
                }
            t_free(a), t_free(b);
        }
        t_free(split), t_free(pairs), t_free(cos), t_free(sin);
    }
}

static void test_rope_refuses(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    float    *x = t_alloc_f32(256, 1), *before = t_alloc(256 * sizeof(float));
    float    *cos = t_alloc_f32(32, 1), *sin = t_alloc_f32(32, 1);
    memcpy(before, x, 256 * sizeof(float));
    const cn_rope_args good = {x, cos, sin, 2, 64, 2, 32, CN_ROPE_HALF_SPLIT};
#define REFUSED(change)                                                                            \
    do {                                                                                           \
        cn_rope_args a = good;                                                                     \
        a.change;                                                                                  \
        t_note("%s %s", cn_isa_name(ops[v].isa), #change);                                         \
        assert_err(ops[v].rope(&a, NULL), CN_EINVAL);                                              \
        assert_memory_equal(x, before, 256 * sizeof(float));                                       \
    } while (0)
    for (int v = 0; v < variants; v++) {
        REFUSED(rows = -1);
        REFUSED(heads = 0);
        REFUSED(heads = CN_HEADS_MAX + 1);
        REFUSED(dim = 0);
        REFUSED(dim = -16);
        REFUSED(dim = 24);
        REFUSED(dim = CN_HEAD_DIM_MAX + 16);
        REFUSED(stride = 48);
        REFUSED(stride = 72);
        REFUSED(layout = (cn_rope_layout)2);
        REFUSED(x = NULL);
        REFUSED(x = x + 4);
        REFUSED(cos = NULL);
        REFUSED(sin = NULL);
        cn_rope_args none = good;
        none.rows = 0;
        assert_err(ops[v].rope(&none, NULL), CN_OK);
        assert_memory_equal(x, before, 256 * sizeof(float));
    }
    for (int v = 0; v < variants; v++) assert_err(ops[v].rope(&good, NULL), CN_OK);
    assert_memory_not_equal(x, before, 256 * sizeof(float));
    t_free(x), t_free(before), t_free(cos), t_free(sin);
}

/* The right floats, or their neighbours where the angle is so large that its last bits show. */
static void test_rope_angles_are_exact(void **state) {
    (void)state;
    static const struct {
        double  theta;
        int32_t dim;
        int64_t position;
        int32_t i;
        double  sin, cos;
    } cases[] = {
        // By `make_math_values.py rope`.
        {10000, 64, 0, 5, 0, 1.0000000000000000000e+0},
        {10000, 64, 1, 0, 8.4147098480789650665e-1, 5.4030230586813971740e-1},
        {10000, 64, 1, 31, 1.3335214282110345198e-4, 9.9999999110860296298e-1},
        {10000, 64, 2047, 1, 9.3396831946914219802e-1, -3.5735581459937984149e-1},
        {10000, 64, 2047, 17, 3.5005404918941413535e-1, -9.3672950345662500059e-1},
        {10000, 64, 131071, 0, -5.7524168375478937114e-1, -8.1798349938794908071e-1},
        {10000, 64, 131071, 9, 8.9347404540744603145e-1, -4.4911482961849864433e-1},
        {500000, 128, 131071, 3, -8.3484461153322142564e-1, 5.5048567156098133213e-1},
        {500000, 128, 131071, 63, 3.1627254753647418676e-1, 9.4866836970291608633e-1},
        {1e+06, 256, 99999, 100, 8.8574109770163048005e-1, -4.6417960730983291263e-1},
        {10000, 16, 4096, 7, 9.6228185069517204682e-1, 2.7205447951223779281e-1},
        {10000, 64, 16777215, 0, -9.4823266776874818665e-1, -3.1757645973239707973e-1},
        {10000, 64, 16777215, 1, 2.7385075353849241372e-1, 9.6177220004863931643e-1},
        {1e+06, 256, 16777215, 2, 2.0267499292609026778e-1, 9.7924606062133804221e-1},
    };
    float sin[CN_HEAD_DIM_MAX / 2], cos[CN_HEAD_DIM_MAX / 2];
    for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
        cn_rope_angles(cos, sin, cases[k].position, 1, cases[k].dim, cases[k].theta);
        const double bound = cases[k].position > 1 << 20 ? 2e-6 : 7e-8;
        t_note("theta %g position %lld pair %d", cases[k].theta, (long long)cases[k].position,
               cases[k].i);
        assert_true(fabs(sin[cases[k].i] - cases[k].sin) <= bound);
        assert_true(fabs(cos[cases[k].i] - cases[k].cos) <= bound);
    }
}

static void test_rope_angles_do_not_depend_on_the_run(void **state) {
    (void)state;
    enum { ROWS = 300, FIRST = 4000, HALF = 32 };
    float *cos = t_alloc(ROWS * HALF * sizeof(float)), *sin = t_alloc(ROWS * HALF * sizeof(float));
    float  one_cos[HALF], one_sin[HALF];
    cn_rope_angles(cos, sin, FIRST, ROWS, 2 * HALF, 1e4);
    for (int r = 0; r < ROWS; r++) {
        cn_rope_angles(one_cos, one_sin, FIRST + r, 1, 2 * HALF, 1e4);
        assert_memory_equal(one_cos, cos + r * HALF, sizeof(one_cos));
        assert_memory_equal(one_sin, sin + r * HALF, sizeof(one_sin));
    }
    cn_rope_angles(one_cos, one_sin, FIRST, 0, 2 * HALF, 1e4); // no rows: nothing is written
    assert_memory_equal(one_cos, cos + (ROWS - 1) * HALF, sizeof(one_cos));
    t_free(cos), t_free(sin);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rope_matches_reference),
        cmocka_unit_test(test_rope_known_values),
        cmocka_unit_test(test_rope_row_has_the_same_bits_in_any_run),
        cmocka_unit_test(test_rope_layouts_agree),
        cmocka_unit_test(test_rope_refuses),
        cmocka_unit_test(test_rope_angles_are_exact),
        cmocka_unit_test(test_rope_angles_do_not_depend_on_the_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
