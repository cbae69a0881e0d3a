/*
 * test_matmul.c - Every matmul variant against matmul_ref.c.
 *
 * Goal: BF16 within the error that each variant states, I8 with the same bits as the
 * reference, and the reference as an exact computation that shares no code with it;
 * the same bits for a row alone, in any batch and with any number of threads; no write
 * outside y[:, :rows]; refusal of what matmul.h forbids.  Shapes: the edges of the panel
 * (16), of a tile's panels (2, 4) and rows (6), of a block of rows, and a model's dims.
 */
#include "tests/kernels/weights.h"

#include "kernels/pool.h"

#include <math.h>

static const cn_weight_type types[] = {CN_WEIGHT_BF16, CN_WEIGHT_I8};

/* What one call needs. */
typedef struct call {
    cn_matmul_args a;
    float         *y, *x;
    int64_t        y_floats;
} call;

/* y is filled with a pattern, or with numbers if it is to be added to. */
static call new_call(const cn_weight *w, int64_t rows, int64_t y_pad, bool add) {
    const int64_t y_stride = w->rows + y_pad, x_stride = w->cols + (y_pad ? 16 : 0);
    call          c = {.y_floats = rows * y_stride};
    c.y = t_alloc_f32(c.y_floats, 1);
    c.x = t_alloc_f32(rows * x_stride, 1);
    for (int64_t m = 0; m < rows; m++) // what is not x must not be read as x
        for (int64_t k = w->cols; k < x_stride; k++) c.x[m * x_stride + k] = NAN;
    c.a = (cn_matmul_args){
        .y = c.y,
        .x = c.x,
        .w = w,
        .scratch = t_alloc((size_t)cn_matmul_scratch_bytes(rows, w->cols)),
        .rows = rows,
        .y_stride = y_stride,
        .x_stride = x_stride,
        .add = add,
    };
    return c;
}

static void free_call(call *c) {
    t_free(c->y);
    t_free(c->x);
    t_free(c->a.scratch);
}

/* sum_k |x w| as the error bounds need it. */
static double magnitude(const call *c, int64_t m, int32_t n) {
    double sum = 0;
    for (int32_t k = 0; k < c->a.w->cols; k++)
        sum += fabs((double)c->x[m * c->a.x_stride + k] * (double)cn_weight_at(c->a.w, n, k));
    return sum * (1 + 1.0 / 128); // x was rounded to bf16
}

static void compare(const call *c, const float *got, const float *want, const float *before) {
    const cn_weight *w = c->a.w;
    for (int64_t i = 0; i < c->y_floats; i++) {
        const int64_t m = i / c->a.y_stride, n = i % c->a.y_stride;
        const double  diff = fabs((double)got[i] - (double)want[i]);
        bool          ok = memcmp(&got[i], &want[i], 4) == 0;
        if (n < w->rows && w->type == CN_WEIGHT_BF16 && !ok) {
            double bound = (w->cols + 2) * 0x1p-24 * magnitude(c, m, (int32_t)n);
            if (c->a.add) bound += 0x1p-23 * (fabs((double)before[i]) + fabs((double)want[i]));
            ok = diff <= bound;
        }
        if (!ok)
            t_fail(__FILE__, __LINE__, "y[%lld,%lld] = %.9g, want %.9g", (long long)m, (long long)n,
                   (double)got[i], (double)want[i]);
    }
}

static void try_shape(const cn_weight *w, int64_t rows, int64_t y_pad, bool add, cn_pool *pool) {
    cn_ops       ops[CN_ISA_COUNT];
    const int    variants = t_variants(ops);
    call         c = new_call(w, rows, y_pad, add);
    const size_t bytes = (size_t)c.y_floats * 4;
    float       *before = t_alloc(bytes), *want = t_alloc(bytes);
    memcpy(before, c.y, bytes);
    assert_err(ops[0].matmul(&c.a, pool), CN_OK);
    memcpy(want, c.y, bytes);
    for (int64_t i = 0; i < c.y_floats; i++) // the reference leaves the gap alone too
        if (i % c.a.y_stride >= w->rows) assert_memory_equal(&want[i], &before[i], 4);
    for (int v = 1; v < variants; v++) {
        t_note("%s type %d [%lld, %d] x [%d, %d], pad %lld, add %d", cn_isa_name(ops[v].isa),
               w->type, (long long)rows, w->cols, w->rows, w->cols, (long long)y_pad, add);
        memcpy(c.y, before, bytes);
        assert_err(ops[v].matmul(&c.a, pool), CN_OK);
        compare(&c, c.y, want, before);
    }
    t_free(before), t_free(want);
    free_call(&c);
}

static void test_matmul_matches_reference(void **state) {
    (void)state;
    const int64_t rows[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 64};
    const int32_t cols[] = {16, 32, 48, 512}, outs[] = {1, 15, 16, 17, 33, 48, 100, 320};
    const int r_count = sizeof(rows) / sizeof(rows[0]), o_count = sizeof(outs) / sizeof(outs[0]);
    for (int k = 0; k < 2; k++)
        for (int o = 0; o < o_count; o++)
            for (int i = 0; i < 4; i++) {
                t_weight t = t_weight_new(types[k], outs[o], cols[i]);
                for (int r = 0; r < r_count; r++) {
                    if ((int64_t)outs[o] * cols[i] * rows[r] > (t_is_sanitized() ? 60000 : 600000))
                        continue;
                    try_shape(&t.w, rows[r], 0, false, NULL);
                    try_shape(&t.w, rows[r], 5, r % 2, NULL); // rows of y on any 4-byte border
                }
                t_weight_free(&t);
            }
}

/* Dims of a model, and rows enough for several blocks of rows. */
static void test_matmul_large_matches_reference(void **state) {
    (void)state;
    static const struct {
        int32_t outs, cols;
        int64_t rows;
    } shapes[] = {
        {64, 1536, 100}, {512, 1536, 7}, {320, 512, 260}, {40, 4096, 70}, {17, CN_DIM_MAX, 9}};
    cn_pool *pool;
    assert_err(cn_pool_create(&pool, 2, &t_diag), CN_OK);
    for (int k = 0; k < 2; k++)
        for (int s = 0; s < (t_is_sanitized() ? 1 : 5); s++) {
            t_weight t = t_weight_new(types[k], shapes[s].outs, shapes[s].cols);
            try_shape(&t.w, shapes[s].rows, 3, s % 2, pool);
            t_weight_free(&t);
        }
    cn_pool_free(pool);
}

/* The equation of matmul.h for I8, written again: q in f64 from the f32 factor, sums in int64. */
static float exact_i8(const t_weight *t, const float *x, int32_t n) {
    const int32_t cols = t->w.cols;
    float         s = 0;
    for (int32_t k = 0; k < cols; k++)
        if (fabsf(x[k]) > s) s = fabsf(x[k]);
    if (s == 0) return 0;
    const float factor = 32512.0f / s;
    int64_t     sum = 0;
    for (int32_t k = 0; k < cols; k++) {
        const float   product = x[k] * factor;
        const int64_t q = (int64_t)nearbyint((double)product);
        assert_true(q >= -32512 && q <= 32512);
        sum += q * ((int8_t *)t->src)[(int64_t)n * cols + k];
    }
    const float rounded = (float)sum, row = s / 32512.0f, both = row * t->src_scale[n];
    return 0.0f + rounded * both;
}

static void assert_exact_i8(const t_weight *t, const float *x, const char *what) {
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    call      c = new_call(&t->w, 1, 0, false);
    memcpy(c.x, x, (size_t)t->w.cols * 4);
    for (int v = 0; v < variants; v++) {
        t_note("%s %s cols %d", cn_isa_name(ops[v].isa), what, t->w.cols);
        assert_err(ops[v].matmul(&c.a, NULL), CN_OK);
        for (int32_t n = 0; n < t->w.rows; n++) {
            const float want = exact_i8(t, x, n);
            if (memcmp(&c.y[n], &want, 4) != 0)
                t_fail(__FILE__, __LINE__, "y[%d] = %.9g, want %.9g", n, (double)c.y[n],
                       (double)want);
        }
    }
    free_call(&c);
}

static void test_matmul_i8_is_exact(void **state) {
    (void)state;
    const int32_t cols[] = {16, 48, 512, 4096, CN_DIM_MAX};
    for (int i = 0; i < 5; i++) {
        t_weight t = t_weight_new(CN_WEIGHT_I8, 35, cols[i]);
        float   *x = t_alloc_f32(cols[i], 1);
        assert_exact_i8(&t, x, "random");
        for (int32_t k = 0; k < cols[i]; k++) x[k] = ldexpf(x[k], (int)t_rand_range(-20, 20));
        assert_exact_i8(&t, x, "wide range");
        for (int32_t k = 0; k < cols[i]; k++) x[k] = k == 3 ? 2.0f : 0;
        assert_exact_i8(&t, x, "one element");
        for (int32_t k = 0; k < cols[i]; k++) x[k] = ((float)(k % 7) - 3.5f) / 32512; // ties
        x[0] = 1;
        assert_exact_i8(&t, x, "halves");
        for (int32_t k = 0; k < cols[i]; k++) x[k] = 1e-30f * t_rand_f32();
        assert_exact_i8(&t, x, "small");
        for (int32_t k = 0; k < cols[i]; k++) x[k] = 0;
        assert_exact_i8(&t, x, "zero");
        t_free(x);
        t_weight_free(&t);
    }
}

/* Every sum at its largest: |q| = 32512 and |w| = 127 everywhere, signs alike or opposed. */
static void test_matmul_i8_extremes(void **state) {
    (void)state;
    enum { OUTS = 18 };
    const int32_t cols[] = {16, 4096, CN_DIM_MAX};
    for (int i = 0; i < 3; i++)
        for (int signs = 0; signs < 8; signs++) {
            t_weight t = t_weight_new(CN_WEIGHT_I8, OUTS, cols[i]);
            float   *x = t_alloc_f32(cols[i], 1);
            int8_t  *src = t.src;
            for (int32_t k = 0; k < cols[i]; k++) {
                x[k] = (signs & 1 && k % 2) || signs & 4 ? -3 : 3;
                for (int32_t n = 0; n < OUTS; n++)
                    src[n * cols[i] + k] = (signs & 2 && k % 2) || n % 2 ? -127 : 127;
            }
            for (int32_t n = 0; n < OUTS; n++) t.src_scale[n] = 1;
            assert_err(cn_weight_pack(&t.w, 0, OUTS, t.src, t.src_scale), CN_OK);
            assert_exact_i8(&t, x, "extreme");
            if (signs == 0) { // and the number itself: 3 * 127 * cols
                cn_ops ops[CN_ISA_COUNT];
                call   c = new_call(&t.w, 1, 0, false);
                memcpy(c.x, x, (size_t)cols[i] * 4);
                for (int v = t_variants(ops) - 1; v >= 0; v--) {
                    assert_err(ops[v].matmul(&c.a, NULL), CN_OK);
                    assert_float_equal(c.y[0], 381.0f * (float)cols[i], 381.0f * cols[i] * 1e-6f);
                    assert_float_equal(c.y[1], -381.0f * (float)cols[i], 381.0f * cols[i] * 1e-6f);
                }
                free_call(&c);
            }
            t_free(x);
            t_weight_free(&t);
        }
}

/* Zeros, rows too small for a factor, NaN and infinity: rows beside them do not notice. */
static void test_matmul_special_rows(void **state) {
    (void)state;
    enum { ROWS = 9, OUTS = 37, COLS = 64 };
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    for (int k = 0; k < 2; k++)
        for (int add = 0; add < 2; add++) {
            t_weight t = t_weight_new(types[k], OUTS, COLS);
            call     c = new_call(&t.w, ROWS, 0, add);
            for (int32_t i = 0; i < COLS; i++) {
                c.x[0 * COLS + i] = 0;
                c.x[1 * COLS + i] = -0.0f;
                c.x[2 * COLS + i] *= 1e-36f;
            }
            c.x[4 * COLS + 63] = NAN;
            c.x[5 * COLS + 0] = INFINITY;
            c.x[6 * COLS + 17] = -INFINITY;
            c.x[7 * COLS + 1] = INFINITY, c.x[7 * COLS + 2] = NAN;
            float *before = t_alloc(ROWS * OUTS * 4), *want = t_alloc(ROWS * OUTS * 4);
            memcpy(before, c.y, ROWS * OUTS * 4);
            for (int v = 0; v < variants; v++) {
                t_note("%s type %d add %d", cn_isa_name(ops[v].isa), k, add);
                memcpy(c.y, before, ROWS * OUTS * 4);
                assert_err(ops[v].matmul(&c.a, NULL), CN_OK);
                for (int64_t i = 0; i < ROWS * OUTS; i++) {
                    const int64_t m = i / OUTS;
                    const float   old = add ? before[i] : 0;
                    if (m < 2 || (m == 2 && k)) assert_memory_equal(&c.y[i], &old, 4); // not -0
                    if (m == 2 && !k) assert_true(fabsf(c.y[i] - old) < 1e-30f);
                    if (m == 3 || m == 8) assert_true(isfinite(c.y[i]));
                    if (m == 4 || m == 7 || (k && (m == 5 || m == 6))) assert_true(isnan(c.y[i]));
                    if (m == 5 || m == 6) assert_false(isfinite(c.y[i]));
                }
                if (v == 0) memcpy(want, c.y, ROWS * OUTS * 4);
                if (k) {
                    assert_memory_equal(c.y + 3 * OUTS, want + 3 * OUTS, OUTS * 4);
                    assert_memory_equal(c.y + 8 * OUTS, want + 8 * OUTS, OUTS * 4);
                }
            }
            t_free(before), t_free(want);
            free_call(&c);
            t_weight_free(&t);
        }
}

/* One row alone, each part of a batch, and the whole with 1, 2 and 3 threads: the same bits. */
static void test_matmul_row_is_batch_invariant(void **state) {
    (void)state;
    enum { ROWS = 301, OUTS = 169, COLS = 512, SOME = 41 };
    const int64_t rows = t_is_sanitized() ? SOME : ROWS;
    cn_ops        ops[CN_ISA_COUNT];
    const int     variants = t_variants(ops);
    cn_pool      *pools[3] = {NULL};
    for (int32_t p = 1; p < 3; p++) assert_err(cn_pool_create(&pools[p], p + 1, &t_diag), CN_OK);
    for (int k = 0; k < 2; k++) {
        t_weight t = t_weight_new(types[k], OUTS, COLS);
        call     c = new_call(&t.w, rows, 0, false);
        float   *all = t_alloc((size_t)rows * OUTS * 4);
        for (int v = 0; v < variants; v++) {
            const int64_t few = v ? rows : SOME; // the reference is slow and has one path
            c.a.rows = few, c.a.x = c.x, c.a.y = c.y;
            assert_err(ops[v].matmul(&c.a, NULL), CN_OK);
            memcpy(all, c.y, (size_t)few * OUTS * 4);
            for (int p = 1; p < 3; p++) {
                t_note("%s type %d with %d threads", cn_isa_name(ops[v].isa), k, p + 1);
                memset(c.y, 0xA5, (size_t)few * OUTS * 4);
                assert_err(ops[v].matmul(&c.a, pools[p]), CN_OK);
                assert_memory_equal(c.y, all, (size_t)few * OUTS * 4);
            }
            for (int64_t batch = 1; batch <= 19; batch++)
                for (int64_t m = 0; m + batch <= few; m += batch == 1 ? 1 : 23) {
                    t_note("%s type %d rows %lld from %lld", cn_isa_name(ops[v].isa), k,
                           (long long)batch, (long long)m);
                    c.a.rows = batch, c.a.x = c.x + m * COLS, c.a.y = c.y + m * OUTS;
                    memset(c.a.y, 0xA5, (size_t)batch * OUTS * 4);
                    assert_err(ops[v].matmul(&c.a, pools[m % 3]), CN_OK);
                    assert_memory_equal(c.a.y, all + m * OUTS, (size_t)batch * OUTS * 4);
                }
        }
        t_free(all);
        free_call(&c);
        t_weight_free(&t);
    }
    for (int p = 1; p < 3; p++) cn_pool_free(pools[p]);
}

/* An output does not depend on the other outputs: the first rows of W alone. */
static void test_matmul_output_stands_alone(void **state) {
    (void)state;
    enum { ROWS = 7, OUTS = 100, COLS = 64 };
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    for (int k = 0; k < 2; k++) {
        t_weight t = t_weight_new(types[k], OUTS, COLS);
        call     c = new_call(&t.w, ROWS, 0, false);
        float   *all = t_alloc(ROWS * OUTS * 4);
        for (int v = 0; v < variants; v++) {
            c.a.w = &t.w;
            assert_err(ops[v].matmul(&c.a, NULL), CN_OK);
            memcpy(all, c.y, ROWS * OUTS * 4);
            for (int32_t outs = 1; outs < OUTS; outs += 7) {
                t_note("%s type %d outputs %d", cn_isa_name(ops[v].isa), k, outs);
                cn_weight w = t.w;
                w.rows = outs, c.a.w = &w;
                memset(c.y, 0xA5, ROWS * OUTS * 4);
                assert_err(ops[v].matmul(&c.a, NULL), CN_OK);
                for (int m = 0; m < ROWS; m++) {
                    assert_memory_equal(c.y + m * OUTS, all + m * OUTS, (size_t)outs * 4);
                    for (size_t b = (size_t)outs * 4; b < OUTS * 4; b++)
                        assert_int_equal(((uint8_t *)(c.y + m * OUTS))[b], 0xA5);
                }
            }
        }
        t_free(all);
        free_call(&c);
        t_weight_free(&t);
    }
}

static void test_matmul_refuses(void **state) {
    (void)state;
    enum { ROWS = 3, OUTS = 20, COLS = 32 };
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    for (int k = 0; k < 2; k++) {
        t_weight  t = t_weight_new(types[k], OUTS, COLS);
        call      c = new_call(&t.w, ROWS, 0, false);
        cn_weight bad_w = t.w;
        bad_w.cols = 24;
        memset(c.y, 0xA5, ROWS * OUTS * 4);
        for (int v = 0; v < variants; v++) {
            cn_matmul_args a;
#define REFUSED(...)                                                                               \
    a = c.a, __VA_ARGS__;                                                                          \
    assert_err(ops[v].matmul(&a, NULL), CN_EINVAL)
            REFUSED(a.w = NULL);
            REFUSED(a.w = &bad_w);
            REFUSED(a.rows = -1);
            REFUSED(a.rows = CN_MATMUL_ROWS_MAX + 1);
            REFUSED(a.y_stride = OUTS - 1);
            REFUSED(a.x_stride = COLS - 16);
            REFUSED(a.x_stride = COLS + 8);
            REFUSED(a.y = NULL);
            REFUSED(a.x = NULL);
            REFUSED(a.scratch = NULL);
            REFUSED(a.y = c.x);
            REFUSED(a.x = c.x + 8);
            REFUSED(a.y = (float *)(void *)((uint8_t *)c.y + 2));
            REFUSED(a.scratch = (uint8_t *)c.a.scratch + 32);
            for (int i = 0; i < ROWS * OUTS * 4; i++) assert_int_equal(((uint8_t *)c.y)[i], 0xA5);
        }
        free_call(&c);
        t_weight_free(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul_matches_reference),
        cmocka_unit_test(test_matmul_large_matches_reference),
        cmocka_unit_test(test_matmul_i8_is_exact),
        cmocka_unit_test(test_matmul_i8_extremes),
        cmocka_unit_test(test_matmul_special_rows),
        cmocka_unit_test(test_matmul_row_is_batch_invariant),
        cmocka_unit_test(test_matmul_output_stands_alone),
        cmocka_unit_test(test_matmul_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
