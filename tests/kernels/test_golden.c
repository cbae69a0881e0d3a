/*
 * test_golden.c - Every op variant and math_int.h against numbers that our code did not make.
 *
 * Goal: the other tests here compare variants with our own references; this one compares
 * both with tests/golden/ops and topk (make_ops.py and make_topk.py say what each array is).
 * A reference computes in f64 and rounds once: its result lies between the f32 of
 * want - slack and of want + slack, where slack is what f64 may lose on the way, far below
 * an f32's last bit.  A fast variant may leave that by the error which its file states.
 */
#include "kernels/math_int.h"
#include "tests/gold.h"
#include "tests/test.h"

#include <math.h>

static t_gold gold, gold_topk;
static cn_ops ops[CN_ISA_COUNT];
static int    variants;

/* The array of ops.txt with this name, type and number of elements. */
static const void *array(const char *dtype, int64_t count, const char *name, ...)
    __attribute__((format(printf, 3, 4)));

static const void *array(const char *dtype, int64_t count, const char *name, ...) {
    char    full[64];
    int64_t got;
    va_list args;
    va_start(args, name);
    vsnprintf(full, sizeof(full), name, args);
    va_end(args);
    const void *p = t_gold_get(&gold, dtype, &got, "%s", full);
    if (got != count)
        t_fail(__FILE__, __LINE__, "golden %s has %lld elements, want %lld", full, (long long)got,
               (long long)count);
    return p;
}

static void assert_f64(const char *what, double x, double got, double want, double bound) {
    if (got != want && !(fabs(got - want) <= bound))
        t_fail(__FILE__, __LINE__, "%s(%.17g) = %.17g, want %.17g within %g", what, x, got, want,
               bound);
}

/* `bound`: what a fast variant's file states, not granted to the reference. */
static void assert_f32(cn_isa isa, int64_t at, float got, double want, double slack, double bound) {
    if (isinf(want)) slack = 0;
    if (isa == CN_ISA_REF) bound = 0;
    const double low = (float)(want - slack) - bound, high = (float)(want + slack) + bound;
    if (!(got >= low && got <= high))
        t_fail(__FILE__, __LINE__, "element %lld is %.9g, want %.17g (%.9g to %.9g)", (long long)at,
               got, want, low, high);
}

static float *f32_of_bf16(const cn_bf16 *bits, int64_t count) {
    float *f = t_alloc((size_t)count * sizeof(float));
    for (int64_t i = 0; i < count; i++) f[i] = cn_f32_from_bf16(bits[i]);
    return f;
}

/* ---- math_int.h ---- */

static void test_exp_is_golden(void **state) {
    (void)state;
    enum { N32 = 231, N64 = 211 };
    const float  *x32 = array("f32", N32, "exp32.x");
    const double *y32 = array("f64", N32, "exp32.y");
    for (int i = 0; i < N32; i++)
        assert_f32(CN_ISA_REF, i, cn_exp_f32(x32[i]), y32[i], 1e-12 * y32[i], 0);
    const double *x = array("f64", N64, "exp64.x"), *y = array("f64", N64, "exp64.y");
    for (int i = 0; i < N64; i++) // the header promises 1e-14 up to 700
        assert_f64("exp", x[i], cn_exp(x[i]), y[i], (fabs(x[i]) <= 700 ? 1e-14 : 2e-14) * y[i]);
}

static void test_log2_is_golden(void **state) {
    (void)state;
    enum { N = 122 };
    const double *x = array("f64", N, "log2.x"), *y = array("f64", N, "log2.y");
    for (int i = 0; i < N; i++)
        assert_f64("log2", x[i], cn_log2(x[i]), y[i], 1e-14 * fmax(1, fabs(y[i])));
}

static void test_sincos_is_golden(void **state) {
    (void)state;
    enum { N = 95 };
    const double *x = array("f64", N, "sincos.x");
    const double *sin = array("f64", N, "sincos.sin"), *cos = array("f64", N, "sincos.cos");
    for (int i = 0; i < N; i++) {
        double s, c;
        cn_sincos(&s, &c, x[i]);
        assert_f64("sin", x[i], s, sin[i], 1e-15);
        assert_f64("cos", x[i], c, cos[i], 1e-15);
    }
}

/* ---- Rows ---- */

static void test_rmsnorm_is_golden(void **state) {
    (void)state;
    static const struct {
        int32_t rows, heads, dim;
        bool    has_gain;
    } cases[] = {{3, 3, 16, true}, {2, 1, 64, false}, {6, 2, 16, true}};
    for (int i = 0; i < 3; i++) {
        const int32_t   dim = cases[i].dim, width = cases[i].heads * dim;
        const int64_t   n = (int64_t)cases[i].rows * width;
        const double   *want = array("f64", n, "rmsnorm%d.y", i);
        cn_rmsnorm_args a = {.x = array("f32", n, "rmsnorm%d.x", i),
                             .rows = cases[i].rows,
                             .y_stride = width,
                             .x_stride = width,
                             .heads = *(const int32_t *)array("i32", 1, "rmsnorm%d.heads", i),
                             .dim = dim,
                             .eps = *(const float *)array("f32", 1, "rmsnorm%d.eps", i)};
        assert_int_equal(a.heads, cases[i].heads);
        if (cases[i].has_gain) a.gain = array("f32", width, "rmsnorm%d.gain", i);
        for (int v = 0; v < variants; v++) {
            t_note("%s rmsnorm%d", cn_isa_name(ops[v].isa), i);
            a.y = t_alloc((size_t)n * sizeof(float));
            assert_err(ops[v].rmsnorm(&a, NULL), CN_OK);
            for (int64_t j = 0; j < n; j++) {
                const double size = fabs(want[j]), gain = a.gain ? fabsf(a.gain[j % width]) : 1;
                assert_f32(ops[v].isa, j, a.y[j], want[j], (dim + 8) * 0x1p-53 * size,
                           2e-6 * size + 1.5e-45 * gain);
            }
            t_free(a.y);
        }
    }
}

static void test_rope_angles_are_golden(void **state) {
    (void)state;
    enum { POSITIONS = 9 };
    for (int i = 0; i < 3; i++) {
        const double   theta = *(const double *)array("f64", 1, "angles%d.theta", i);
        const int32_t  dim = *(const int32_t *)array("i32", 1, "angles%d.dim", i), half = dim / 2;
        const int32_t *position = array("i32", POSITIONS, "angles%d.position", i);
        const double  *cos_want = array("f64", POSITIONS * half, "angles%d.cos", i);
        const double  *sin_want = array("f64", POSITIONS * half, "angles%d.sin", i);
        float         *cos = t_alloc((size_t)half * 4), *sin = t_alloc((size_t)half * 4);
        for (int p = 0; p < POSITIONS; p++) {
            t_note("theta %g position %d", theta, position[p]);
            cn_rope_angles(cos, sin, position[p], 1, dim, theta);
            for (int32_t k = 0; k < half; k++) {
                // Of the frequency exp(-power), which is 1 for pair 0: math_int.h's 1e-14 of
                // log2 and of exp.  The position multiplies it.
                const double power = 2.0 * k / dim * log(theta);
                const double error = k == 0 ? 0 : 1e-14 * (1 + power) + 0x1p-51;
                const double slack = position[p] * exp(-power) * error + 1e-15;
                assert_f32(CN_ISA_REF, k, cos[k], cos_want[p * half + k], slack, 0);
                assert_f32(CN_ISA_REF, k, sin[k], sin_want[p * half + k], slack, 0);
            }
        }
        t_free(cos), t_free(sin);
    }
}

static void test_rope_is_golden(void **state) {
    (void)state;
    enum { ROWS = 3, HEADS = 2, DIM = 32, HALF = DIM / 2, N = ROWS * HEADS * DIM };
    static const char *const names[] = {
        [CN_ROPE_HALF_SPLIT] = "half_split", [CN_ROPE_INTERLEAVED] = "interleaved"};

    const float *x = array("f32", N, "rope.x");
    cn_rope_args a = {.cos = array("f32", ROWS * HALF, "rope.cos"),
                      .sin = array("f32", ROWS * HALF, "rope.sin"),
                      .rows = ROWS,
                      .stride = HEADS * DIM,
                      .heads = *(const int32_t *)array("i32", 1, "rope.heads"),
                      .dim = DIM};
    assert_int_equal(a.heads, HEADS);
    a.x = t_alloc(N * sizeof(float));
    for (int l = CN_ROPE_HALF_SPLIT; l <= CN_ROPE_INTERLEAVED; l++) {
        const double *want = array("f64", N, "rope.%s", names[l]);
        a.layout = (cn_rope_layout)l;
        for (int v = 0; v < variants; v++) {
            t_note("%s %s", cn_isa_name(ops[v].isa), names[l]);
            memcpy(a.x, x, N * sizeof(float));
            assert_err(ops[v].rope(&a, NULL), CN_OK);
            for (int i = 0; i < N; i++) {
                // Products of two f32 are exact in f64 and there is one sum: no slack.
                const int    pair = l == CN_ROPE_HALF_SPLIT ? i ^ HALF : i ^ 1;
                const double size = fmax(fabsf(x[i]), fabsf(x[pair]));
                assert_f32(ops[v].isa, i, a.x[i], want[i], 0, 4e-7 * size);
            }
        }
    }
    t_free(a.x);
}

static void test_swiglu_is_golden(void **state) {
    (void)state;
    enum { ROWS = 2, DIM = 16, N = ROWS * DIM };
    cn_swiglu_args a = {.x = array("f32", 2 * N, "swiglu.x"),
                        .rows = ROWS,
                        .y_stride = DIM,
                        .x_stride = 2 * DIM,
                        .dim = DIM};
    const double  *want = array("f64", N, "swiglu.y");
    for (int v = 0; v < variants; v++) {
        t_note("%s", cn_isa_name(ops[v].isa));
        a.y = t_alloc(N * sizeof(float));
        assert_err(ops[v].swiglu(&a, NULL), CN_OK);
        for (int i = 0; i < N; i++) {
            const double size = fabs(want[i]), up = fabsf(a.x[i / DIM * 2 * DIM + DIM + i % DIM]);
            assert_f32(ops[v].isa, i, a.y[i], want[i], 2e-14 * size,
                       1e-6 * size + 3e-37 * up + 1.5e-45);
        }
        t_free(a.y);
    }
}

/* ---- matmul ---- */

static void weight_init(cn_weight *w, cn_weight_type type, int32_t rows, int32_t cols,
                        const void *src, const float *scale) {
    const size_t bytes = (size_t)cn_weight_data_bytes(type, rows, cols);
    const size_t lanes = (size_t)cn_weight_panels(rows) * CN_PANEL_ROWS;
    *w = (cn_weight){.data = t_alloc(bytes), .type = type, .rows = rows, .cols = cols};
    memset(w->data, 0, bytes);
    if (type == CN_WEIGHT_I8) {
        w->scale = t_alloc(lanes * 4), w->sum = t_alloc(lanes * 4);
        memset(w->scale, 0, lanes * 4), memset(w->sum, 0, lanes * 4);
    }
    assert_err(cn_weight_pack(w, 0, rows, src, scale), CN_OK);
}

static void weight_release(cn_weight *w) {
    t_free(w->data), t_free(w->scale), t_free(w->sum);
}

/* y [rows, w->rows] of `rows` rows of x, `step` of them a call.  `before`: add to it. */
static float *multiply(const cn_ops *op, const cn_weight *w, const float *x, int64_t rows,
                       int64_t step, const float *before) {
    const size_t bytes = (size_t)(rows * w->rows) * sizeof(float);
    float       *y = t_alloc(bytes);
    void        *scratch = t_alloc((size_t)cn_matmul_scratch_bytes(step, w->cols));
    if (before) memcpy(y, before, bytes);
    for (int64_t m = 0; m < rows; m += step)
        assert_err(op->matmul(&(cn_matmul_args){.y = y + m * w->rows,
                                                .x = x + m * w->cols,
                                                .w = w,
                                                .scratch = scratch,
                                                .rows = rows - m < step ? rows - m : step,
                                                .y_stride = w->rows,
                                                .x_stride = w->cols,
                                                .add = before != NULL},
                              NULL),
                   CN_OK);
    t_free(scratch);
    return y;
}

static void test_matmul_bf16_is_golden(void **state) {
    (void)state;
    enum { ROWS = 3, OUTPUTS = 19, COLS = 48 };
    for (int i = 0; i < 2; i++) {
        const float  *x = array("f32", ROWS * COLS, "bf16_%d.x", i);
        const double *want = array("f64", ROWS * OUTPUTS, "bf16_%d.y", i);
        const double *size = array("f64", ROWS * OUTPUTS, "bf16_%d.size", i);
        cn_weight     w;
        weight_init(&w, CN_WEIGHT_BF16, OUTPUTS, COLS, array("u16", OUTPUTS * COLS, "bf16_%d.w", i),
                    NULL);
        for (int v = 0; v < variants; v++)
            for (int64_t step = 1; step <= ROWS; step++) {
                t_note("%s bf16_%d, %lld rows a call", cn_isa_name(ops[v].isa), i, (long long)step);
                float *y = multiply(&ops[v], &w, x, ROWS, step, NULL);
                for (int j = 0; j < ROWS * OUTPUTS; j++) {
                    const double scale = i == 0 ? 0 : size[j]; // 0: exact in any order
                    assert_f32(ops[v].isa, j, y[j], want[j], COLS * 0x1p-53 * scale,
                               (COLS + 2) * 0x1p-24 * scale);
                }
                t_free(y);
            }
        weight_release(&w);
    }
}

static void test_matmul_i8_is_golden_bit_for_bit(void **state) {
    (void)state;
    enum { ROWS = 9, OUTPUTS = 37, COLS = 80 };
    const float *x = array("f32", ROWS * COLS, "int8.x");
    const float *before = array("f32", ROWS * OUTPUTS, "int8.before");
    const float *want[2] = {array("f32", ROWS * OUTPUTS, "int8.y"),
                            array("f32", ROWS * OUTPUTS, "int8.after")};
    cn_weight    w;
    weight_init(&w, CN_WEIGHT_I8, OUTPUTS, COLS, array("i8", OUTPUTS * COLS, "int8.w"),
                array("f32", OUTPUTS, "int8.scale"));
    for (int v = 0; v < variants; v++)
        for (int64_t step = 1; step <= ROWS; step++)
            for (int add = 0; add < 2; add++) {
                float *y = multiply(&ops[v], &w, x, ROWS, step, add ? before : NULL);
                for (int j = 0; j < ROWS * OUTPUTS; j++) {
                    t_note("%s int8, %lld rows a call, add %d: y[%d,%d] = %.9g, want %.9g",
                           cn_isa_name(ops[v].isa), (long long)step, add, j / OUTPUTS, j % OUTPUTS,
                           y[j], want[add][j]);
                    if (isnan(want[add][j]))
                        assert_true(isnan(y[j]));
                    else
                        assert_memory_equal(&y[j], &want[add][j], sizeof(float));
                }
                t_free(y);
            }
    weight_release(&w);
}

/* ---- Attention ---- */

/* What the error of a softmax is relative to, over the keys that one head sees. */
typedef struct spread {
    double score; // max over the keys of sum_d |scale * q[d] * k[d]|
    double v;     // max |v|
} spread;

static void spread_add(spread *s, const float *q, float scale, const cn_bf16 *k, const cn_bf16 *v,
                       int32_t dim) {
    double score = 0;
    for (int32_t d = 0; d < dim; d++) {
        score += fabs((double)scale * q[d] * cn_f32_from_bf16(k[d]));
        s->v = fmax(s->v, fabs(cn_f32_from_bf16(v[d])));
    }
    s->score = fmax(s->score, score);
}

/* Sums in f64 and cn_exp: a weight's relative error, times the largest value. */
static double spread_slack(const spread *s, int32_t dim) {
    return (2 * dim * 0x1p-53 * s->score + 1e-13) * s->v;
}

enum { HEADS = 4, KV_HEADS = 2, GROUP = HEADS / KV_HEADS, DIM = 16, KV = KV_HEADS * DIM };

static void check_attention_shape(const char *op) {
    const int32_t *shape = array("i32", 3, "%s.shape", op);
    assert_true(shape[0] == HEADS && shape[1] == KV_HEADS && shape[2] == DIM);
}

enum { WINDOW_TOKENS = 45, WINDOW_N = WINDOW_TOKENS * HEADS * DIM };

typedef struct window_data {
    const float   *q;
    const cn_bf16 *k_bits, *v_bits;
    float         *k, *v;
    float          scale;
} window_data;

/* All tokens, `run` of them a call, through a ring that is made for no more. */
static void window_run(const cn_ops *op, float *out, const window_data *in, int32_t window,
                       int32_t sink, int32_t run) {
    cn_window    w = {.kv_heads = KV_HEADS,
                      .head_dim = DIM,
                      .window = window,
                      .sink = sink,
                      .ring_tiles = cn_window_ring_tiles(window, run)};
    const size_t bytes = (size_t)cn_window_elems(&w) * sizeof(cn_bf16);
    w.k = t_alloc(bytes), w.v = t_alloc(bytes);
    memset(w.k, 0, bytes), memset(w.v, 0, bytes);
    for (int64_t t = 0; t < WINDOW_TOKENS; t += run) {
        const int64_t rows = WINDOW_TOKENS - t < run ? WINDOW_TOKENS - t : run;
        assert_err(op->window_append(&(cn_window_append_args){.w = &w,
                                                              .k = in->k + t * KV,
                                                              .v = in->v + t * KV,
                                                              .stride = KV,
                                                              .first = t,
                                                              .rows = rows},
                                     NULL),
                   CN_OK);
        assert_err(op->window_attend(&(cn_window_attend_args){.w = &w,
                                                              .out = out + t * HEADS * DIM,
                                                              .q = in->q + t * HEADS * DIM,
                                                              .out_stride = HEADS * DIM,
                                                              .q_stride = HEADS * DIM,
                                                              .first = t,
                                                              .rows = rows,
                                                              .heads = HEADS,
                                                              .scale = in->scale},
                                     NULL),
                   CN_OK);
    }
    t_free(w.k), t_free(w.v);
}

static void window_compare(cn_isa isa, const float *out, const double *want, const window_data *in,
                           int32_t window, int32_t sink) {
    for (int32_t t = 0; t < WINDOW_TOKENS; t++)
        for (int32_t h = 0; h < HEADS; h++) {
            const int64_t at = ((int64_t)t * HEADS + h) * DIM;
            spread        s = {0};
            int32_t       seen = 0;
            for (int32_t key = 0; key <= t; key++) {
                if (t - key >= window && key >= sink) continue;
                const int64_t kv = (int64_t)key * KV + h / GROUP * DIM;
                spread_add(&s, in->q + at, in->scale, in->k_bits + kv, in->v_bits + kv, DIM);
                seen++;
            }
            const double bound = 0x1p-24 * (2 * (DIM + 8) * s.score + seen + 64) * s.v;
            for (int64_t i = at; i < at + DIM; i++)
                assert_f32(isa, i, out[i], want[i], spread_slack(&s, DIM), bound);
        }
}

static void test_window_attend_is_golden(void **state) {
    (void)state;
    static const int32_t runs[] = {1, 7, 16, WINDOW_TOKENS};
    check_attention_shape("window");
    window_data in = {.q = array("f32", WINDOW_N, "window.q"),
                      .k_bits = array("u16", WINDOW_TOKENS * KV, "window.k"),
                      .v_bits = array("u16", WINDOW_TOKENS * KV, "window.v"),
                      .scale = *(const float *)array("f32", 1, "window.scale")};
    in.k = f32_of_bf16(in.k_bits, WINDOW_TOKENS * KV);
    in.v = f32_of_bf16(in.v_bits, WINDOW_TOKENS * KV);
    for (int i = 0; i < 2; i++) {
        const int32_t *shape = array("i32", 2, "window%d.shape", i); // window, sink
        const double  *want = array("f64", WINDOW_N, "window%d.out", i);
        for (int v = 0; v < variants; v++)
            for (size_t r = 0; r < sizeof(runs) / sizeof(runs[0]); r++) {
                t_note("%s window %d sink %d, %d tokens a call", cn_isa_name(ops[v].isa), shape[0],
                       shape[1], runs[r]);
                float *out = t_alloc(WINDOW_N * sizeof(float));
                window_run(&ops[v], out, &in, shape[0], shape[1], runs[r]);
                window_compare(ops[v].isa, out, want, &in, shape[0], shape[1]);
                t_free(out);
            }
    }
    t_free(in.k), t_free(in.v);
}

/* Tokens put into pages of at most `cut`. */
enum { PAGES_MAX = 3, TOKENS_MAX = 300 };

typedef struct paged {
    cn_page_shape  shape;
    uint8_t       *data;
    const cn_bf16 *rows[TOKENS_MAX];
    const cn_bf16 *page_rows[PAGES_MAX], *page_keys[PAGES_MAX];
    int32_t        page_tokens[PAGES_MAX];
    int32_t        pages;
} paged;

static void paged_init(paged *p, const cn_ops *op, cn_page_shape shape, const float *kv,
                       const float *keys, int64_t stride, int32_t tokens, int32_t cut) {
    const size_t page_bytes = (size_t)cn_page_bytes(&shape);
    *p = (paged){.shape = shape, .data = t_alloc(PAGES_MAX * page_bytes)};
    for (int32_t first = 0; first < tokens; first += cut) {
        cn_page_put_args put = {.page = p->data + (size_t)p->pages * page_bytes,
                                .shape = &p->shape,
                                .kv = kv + first * stride,
                                .keys = keys ? keys + first * stride : NULL,
                                .stride = stride,
                                .rows = tokens - first < cut ? tokens - first : cut};
        assert_err(op->page_put(&put, NULL), CN_OK);
        const uint8_t *page = put.page;
        for (int32_t t = 0; t < put.rows; t++)
            p->rows[first + t] = (const cn_bf16 *)(page + cn_page_row_offset(&shape, t));
        p->page_rows[p->pages] = p->rows[first];
        p->page_keys[p->pages] = (const cn_bf16 *)(page + cn_page_keys_offset(&shape, 0));
        p->page_tokens[p->pages++] = put.rows;
    }
}

static void attend_compare(cn_isa isa, const cn_attend_head *a, const cn_bf16 *rows, int32_t count,
                           const double *want) {
    const double n = (count < CN_ATTEND_CHUNK ? count : CN_ATTEND_CHUNK) +
                     3 * ((count + CN_ATTEND_CHUNK - 1) / CN_ATTEND_CHUNK);
    for (int32_t h = 0; h < HEADS; h++) {
        spread s = {0};
        for (int32_t i = 0; i < count; i++) {
            const cn_bf16 *k = rows + (int64_t)i * 2 * KV + h / GROUP * DIM;
            spread_add(&s, a->q + h * DIM, a->scale, k, k + KV, DIM);
        }
        const double bound = 0x1p-24 * (2 * (DIM / 16 + 10) * s.score + n + 64) * s.v;
        for (int32_t i = h * DIM; i < (h + 1) * DIM; i++)
            assert_f32(isa, i, a->out[i], want[i], spread_slack(&s, DIM), bound);
    }
}

static void test_attend_is_golden(void **state) {
    (void)state;
    static const int32_t counts[] = {1, 255, 256, 257, 300}, cuts[] = {CN_PAGE_TOKENS, 101};
    check_attention_shape("attend");
    const cn_bf16 *bits = array("u16", TOKENS_MAX * 2 * KV, "attend.rows");
    float         *kv = f32_of_bf16(bits, TOKENS_MAX * 2 * KV);
    cn_attend_head head = {.q = array("f32", HEADS * DIM, "attend.q"),
                           .heads = HEADS,
                           .kv_heads = KV_HEADS,
                           .head_dim = DIM,
                           .scale = *(const float *)array("f32", 1, "attend.scale")};
    for (size_t n = 0; n < sizeof(counts) / sizeof(counts[0]); n++) {
        const int32_t count = counts[n];
        const double *want = array("f64", HEADS * DIM, "attend%d.out", count);
        for (int v = 0; v < 2 * variants; v++) {
            const cn_ops *op = &ops[v / 2];
            const int32_t cut = cuts[v % 2];
            paged         p;
            paged_init(&p, op, (cn_page_shape){.kv_dim = KV}, kv, NULL, 2 * KV, count, cut);
            head.out = t_alloc(HEADS * DIM * sizeof(float));
            head.scratch = t_alloc((size_t)cn_attend_scratch_bytes(count, HEADS, DIM));
            t_note("%s sparse, %d rows, pages of %d", cn_isa_name(op->isa), count, cut);
            assert_err(op->attend_sparse(&(cn_attend_sparse_args){head, p.rows, count}, NULL),
                       CN_OK);
            attend_compare(op->isa, &head, bits, count, want);

            t_note("%s dense, %d rows, pages of %d", cn_isa_name(op->isa), count, cut);
            memset(head.out, 0xA5, HEADS * DIM * sizeof(float));
            const cn_attend_dense_args dense = {head, p.page_rows, p.page_tokens, p.pages, count};
            assert_err(op->attend_dense(&dense, NULL), CN_OK);
            attend_compare(op->isa, &head, bits, count, want);
            t_free(head.out), t_free(head.scratch), t_free(p.data);
        }
    }
    t_free(kv);
}

/* ---- The index ---- */

enum { INDEX_TOKENS = 275, INDEX_HEADS = 3, INDEX_DIM = 32 };

/* sum_j |w[j]| sum_d |q[j,d] k[d]|: what the error is relative to. */
static double index_size(const cn_index_scan_args *a, const float *key) {
    double size = 0;
    for (int32_t i = 0; i < a->heads * INDEX_DIM; i++)
        size += fabs((double)cn_f32_from_bf16(cn_bf16_from_f32(a->q[i])) * key[i % INDEX_DIM]) *
                (a->weight ? fabsf(a->weight[i / INDEX_DIM]) : 1);
    return size;
}

static void check_index_scan(const cn_ops *op, const paged *p, const float *keys, const char *name,
                             int32_t heads, const float *weight, cn_index_act act) {
    const double            *want = array("f64", INDEX_TOKENS, "index.%s", name);
    const cn_index_scan_args a = {.scores = t_alloc(INDEX_TOKENS * sizeof(float)),
                                  .q = array("f32", INDEX_HEADS * INDEX_DIM, "index.q"),
                                  .weight = weight,
                                  .page_keys = p->page_keys,
                                  .page_tokens = p->page_tokens,
                                  .pages = p->pages,
                                  .count = INDEX_TOKENS,
                                  .heads = heads,
                                  .dim = INDEX_DIM,
                                  .act = act};
    t_note("%s index.%s, pages of %d", cn_isa_name(op->isa), name, p->page_tokens[0]);
    assert_err(op->index_scan(&a, NULL), CN_OK);
    for (int t = 0; t < INDEX_TOKENS; t++) {
        const double size = index_size(&a, keys + t * INDEX_DIM);
        assert_f32(op->isa, t, a.scores[t], want[t], heads * INDEX_DIM * 0x1p-53 * size,
                   (INDEX_DIM + heads + 4) * 0x1p-24 * size);
    }
    t_free(a.scores);
}

static void test_index_scan_is_golden(void **state) {
    (void)state;
    static const int32_t cuts[] = {CN_PAGE_TOKENS, 101};
    const cn_page_shape  shape = {.kv_dim = 16, .index_dim = INDEX_DIM, .sources = 1};
    const float         *weight = array("f32", INDEX_HEADS, "index.weight");
    const double        *size = array("f64", INDEX_TOKENS, "index.size");

    float *keys =
        f32_of_bf16(array("u16", INDEX_TOKENS * INDEX_DIM, "index.keys"), INDEX_TOKENS * INDEX_DIM);
    const cn_index_scan_args relu = {.q = array("f32", INDEX_HEADS * INDEX_DIM, "index.q"),
                                     .weight = weight,
                                     .heads = INDEX_HEADS};
    for (int t = 0; t < INDEX_TOKENS; t++)
        assert_f64("size", t, index_size(&relu, keys + t * INDEX_DIM), size[t], 1e-13 * size[t]);

    for (int v = 0; v < 2 * variants; v++) {
        const cn_ops *op = &ops[v / 2];
        paged         p; // a row's K|V is the key: something to put, which a scan does not read
        paged_init(&p, op, shape, keys, keys, INDEX_DIM, INDEX_TOKENS, cuts[v % 2]);
        check_index_scan(op, &p, keys, "plain", INDEX_HEADS, NULL, CN_INDEX_ACT_NONE);
        check_index_scan(op, &p, keys, "relu", INDEX_HEADS, weight, CN_INDEX_ACT_RELU);
        check_index_scan(op, &p, keys, "one", 1, NULL, CN_INDEX_ACT_NONE);
        t_free(p.data);
    }
    t_free(keys);
}

/* ---- topk ---- */

static void check_topk(const cn_ops *op, int i, float guess) {
    int64_t        count, size, ones;
    const float   *scores = t_gold_get(&gold_topk, "f32", &count, "case%d.scores", i);
    const int32_t  k = *(const int32_t *)t_gold_get(&gold_topk, "i32", &ones, "case%d.k", i);
    const int32_t *want = t_gold_get(&gold_topk, "i32", &size, "case%d.set", i);
    const float    threshold =
        *(const float *)t_gold_get(&gold_topk, "f32", &ones, "case%d.threshold", i);
    float    got = NAN;
    int32_t *set = t_alloc((size_t)size * sizeof(int32_t));
    void    *scratch = t_alloc((size_t)cn_topk_scratch_bytes(count));
    t_note("%s case%d, k %d of %lld, guess %.9g", cn_isa_name(op->isa), i, k, (long long)count,
           guess);
    assert_int_equal(size, k < count ? k : count);
    assert_err(op->topk(&(cn_topk_args){.set = set,
                                        .threshold_out = &got,
                                        .scores = scores,
                                        .scratch = scratch,
                                        .count = count,
                                        .k = k,
                                        .guess = guess},
                        NULL),
               CN_OK);
    assert_memory_equal(set, want, (size_t)size * sizeof(int32_t));
    if (got != threshold) t_fail(__FILE__, __LINE__, "threshold %.9g, want %.9g", got, threshold);
    t_free(set), t_free(scratch);
}

static void test_topk_is_golden(void **state) {
    (void)state;
    enum { CASES = 54 };
    assert_null(t_gold_find(&gold_topk, "case54.k", "i32", NULL)); // these are all
    for (int i = 0; i < CASES; i++) {
        const float t = *(const float *)t_gold_get(&gold_topk, "f32", NULL, "case%d.threshold", i);
        const float guesses[] = {
            NAN, t, nextafterf(t, INFINITY), nextafterf(t, -INFINITY), 0, 1, -INFINITY, INFINITY};
        for (int v = 0; v < variants; v++)
            for (size_t g = 0; g < sizeof(guesses) / sizeof(guesses[0]); g++)
                check_topk(&ops[v], i, guesses[g]);
    }
}

static int open_all(void **state) {
    (void)state;
    variants = t_variants(ops);
    gold = t_gold_open("tests/golden/ops");
    gold_topk = t_gold_open("tests/golden/topk");
    return 0;
}

static int close_all(void **state) {
    (void)state;
    t_gold_close(&gold), t_gold_close(&gold_topk);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp_is_golden),
        cmocka_unit_test(test_log2_is_golden),
        cmocka_unit_test(test_sincos_is_golden),
        cmocka_unit_test(test_rmsnorm_is_golden),
        cmocka_unit_test(test_rope_angles_are_golden),
        cmocka_unit_test(test_rope_is_golden),
        cmocka_unit_test(test_swiglu_is_golden),
        cmocka_unit_test(test_matmul_bf16_is_golden),
        cmocka_unit_test(test_matmul_i8_is_golden_bit_for_bit),
        cmocka_unit_test(test_window_attend_is_golden),
        cmocka_unit_test(test_attend_is_golden),
        cmocka_unit_test(test_index_scan_is_golden),
        cmocka_unit_test(test_topk_is_golden),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
