/*
 * test_window.c - Window attention through its ring: every variant against the reference,
 * and the reference against the equation.
 *
 * Goal: a document taken in runs of any length gives the bits that it gives token by token,
 * with any number of threads and at any distance from its start; values within the bound
 * that each variant states; nothing visible of what the ring held before; refusal of what
 * window.h forbids.  All that no token of a run may see is overwritten with large finite
 * garbage between append and attend.
 */
#include "tests/test.h"

#include "kernels/pool.h"

#include <math.h>

enum { STRIDE_PAD = 16, GARBAGE = 0x7f7f }; // the largest bf16

/* A document: its K, V and q as computed, and the buffer that they go through. */
typedef struct doc {
    cn_window w;
    int32_t   heads;
    int64_t   tokens, kv_stride, q_stride;
    int64_t   origin; // position of token 0; multiple of 16
    float    *k, *v, *q;
} doc;

typedef struct shape {
    int32_t heads, kv_heads, head_dim;
} shape;

static int64_t elems(const doc *d) {
    return d->w.kv_heads * cn_window_slots(&d->w) * (int64_t)d->w.head_dim * CN_TILE_TOKENS;
}

static void doc_init(doc *d, shape s, int32_t window, int32_t sink, int64_t tokens, float q_scale) {
    *d = (doc){.heads = s.heads, .tokens = tokens};
    d->w =
        (cn_window){.kv_heads = s.kv_heads, .head_dim = s.head_dim, .window = window, .sink = sink};
    d->kv_stride = s.kv_heads * s.head_dim + STRIDE_PAD;
    d->q_stride = s.heads * s.head_dim + STRIDE_PAD;
    d->k = t_alloc_f32(tokens * d->kv_stride, 1.0f);
    d->v = t_alloc_f32(tokens * d->kv_stride, 1.0f);
    d->q = t_alloc_f32(tokens * d->q_stride, q_scale);
}

static void doc_release(doc *d) {
    t_free(d->k), t_free(d->v), t_free(d->q);
}

/* An empty buffer for runs of up to `run` tokens, full of garbage. */
static void buffer_init(doc *d, int32_t run) {
    d->w.ring_tiles = cn_window_ring_tiles(d->w.window, run);
    d->w.k = t_alloc((size_t)elems(d) * sizeof(cn_bf16));
    d->w.v = t_alloc((size_t)elems(d) * sizeof(cn_bf16));
    for (int64_t i = 0; i < elems(d); i++) d->w.k[i] = d->w.v[i] = GARBAGE;
}

static void buffer_release(doc *d) {
    t_free(d->w.k), t_free(d->w.v);
}

static bool is_visible(const doc *d, int64_t t, int64_t s) {
    return s <= t && (t - s < d->w.window || s < d->w.sink);
}

static float scale_of(const doc *d) {
    return 1.0f / sqrtf((float)d->w.head_dim);
}

static cn_window_append_args append_args(const doc *d, int64_t first, int64_t rows) {
    return (cn_window_append_args){.w = &d->w,
                                   .k = d->k + first * d->kv_stride,
                                   .v = d->v + first * d->kv_stride,
                                   .stride = d->kv_stride,
                                   .first = d->origin + first,
                                   .rows = rows};
}

static cn_window_attend_args attend_args(const doc *d, float *out, int64_t first, int64_t rows) {
    return (cn_window_attend_args){.w = &d->w,
                                   .out = out,
                                   .q = d->q + first * d->q_stride,
                                   .out_stride = d->q_stride,
                                   .q_stride = d->q_stride,
                                   .first = d->origin + first,
                                   .rows = rows,
                                   .heads = d->heads,
                                   .scale = scale_of(d)};
}

/* Overwrite each lane of the buffer that holds a token that tokens from `first` on do not
 * see, or none; tokens below `end` have been appended. */
static void poison(const doc *d, int64_t first, int64_t end) {
    const int32_t slots = cn_window_slots(&d->w), dim = d->w.head_dim;
    int64_t      *holds = malloc((size_t)slots * CN_TILE_TOKENS * sizeof(*holds));
    assert_non_null(holds);
    for (int32_t i = 0; i < slots * CN_TILE_TOKENS; i++) holds[i] = -1;
    for (int64_t s = 0; s < end; s++)
        holds[cn_window_slot(&d->w, (d->origin + s) / CN_TILE_TOKENS) * CN_TILE_TOKENS +
              s % CN_TILE_TOKENS] = s;
    for (int32_t i = 0; i < slots * CN_TILE_TOKENS; i++) {
        if (holds[i] >= first || (holds[i] >= 0 && is_visible(d, first, holds[i]))) continue;
        const int32_t slot = i / CN_TILE_TOKENS, lane = i % CN_TILE_TOKENS;
        for (int32_t g = 0; g < d->w.kv_heads; g++)
            for (int32_t e = 0; e < dim; e++) {
                cn_window_k(&d->w, g, slot)[e * CN_TILE_TOKENS + lane] = GARBAGE;
                cn_window_v(&d->w, g, slot)[lane * dim + e] = GARBAGE;
            }
    }
    free(holds);
}

/* o[t,h] by the equation, from k and v as they were before the buffer, with libm's exp;
 * and what the header of window_attend_cpu_simd.c promises for it. */
static double equation(const doc *d, double *o, int64_t t, int32_t h) {
    const int32_t dim = d->w.head_dim, g = h / (d->heads / d->w.kv_heads);
    const float  *q = d->q + t * d->q_stride + h * dim;
    double        max = -INFINITY, a_max = 0, v_max = 0, sum = 0, n = 0;
    double       *score = malloc((size_t)(t + 1) * sizeof(*score));
    assert_non_null(score);
    for (int64_t s = 0; s <= t; s++) {
        double a = 0;
        score[s] = 0;
        if (!is_visible(d, t, s)) continue;
        for (int32_t e = 0; e < dim; e++) {
            const float  k = d->k[s * d->kv_stride + g * dim + e];
            const float  v = d->v[s * d->kv_stride + g * dim + e];
            const double product = (double)q[e] * cn_f32_from_bf16(cn_bf16_from_f32(k));
            score[s] += scale_of(d) * product;
            a += fabs(scale_of(d) * product);
            v_max = fmax(v_max, fabs(cn_f32_from_bf16(cn_bf16_from_f32(v))));
        }
        a_max = fmax(a_max, a);
        max = fmax(max, score[s]);
        n++;
    }
    for (int32_t e = 0; e < dim; e++) o[e] = 0;
    for (int64_t s = 0; s <= t; s++) {
        if (!is_visible(d, t, s)) continue;
        const double p = exp(score[s] - max);
        sum += p;
        for (int32_t e = 0; e < dim; e++)
            o[e] += p * cn_f32_from_bf16(cn_bf16_from_f32(d->v[s * d->kv_stride + g * dim + e]));
    }
    for (int32_t e = 0; e < dim; e++) o[e] /= sum;
    free(score);
    return ldexp(2 * (dim + 8) * a_max + n + 64, -24) * v_max;
}

/* Token t's outputs against the equation: within the stated bound, or, for the reference,
 * one rounding to f32. */
static void check_token(const doc *d, const float *out, int64_t t, bool is_ref) {
    double want[CN_HEAD_DIM_MAX];
    for (int32_t h = 0; h < d->heads; h++) {
        const double tolerance = equation(d, want, t, h);
        for (int32_t e = 0; e < d->w.head_dim; e++) {
            const float  got = out[h * d->w.head_dim + e];
            const double allowed = is_ref ? 1e-7 * fabs(want[e]) + 1e-9 : tolerance;
            if (!(fabs(got - want[e]) <= allowed))
                t_fail(__FILE__, __LINE__, "o[%d,%d,%d] = %.9g, want %.9g +- %.3g", (int)t, h, e,
                       got, want[e], allowed);
        }
    }
}

/* Take the document through a fresh buffer in runs of lengths runs[0], runs[1], ..., over
 * and over.  `out` [tokens][q_stride] is written. */
static void play(const cn_ops *ops, doc *d, float *out, const int32_t *runs, int kinds,
                 void *pool) {
    int32_t longest = 0;
    for (int i = 0; i < kinds; i++) longest = runs[i] > longest ? runs[i] : longest;
    buffer_init(d, longest);
    int64_t first = 0;
    for (int i = 0; first < d->tokens; i++) {
        const int64_t               left = d->tokens - first;
        const int64_t               rows = left < runs[i % kinds] ? left : runs[i % kinds];
        const cn_window_append_args append = append_args(d, first, rows);
        const cn_window_attend_args attend = attend_args(d, out + first * d->q_stride, first, rows);
        assert_err(ops->window_append(&append, pool), CN_OK);
        poison(d, first, first + rows);
        assert_err(ops->window_attend(&attend, pool), CN_OK);
        first += rows;
    }
    buffer_release(d);
}

static float *out_alloc(const doc *d) {
    return t_alloc((size_t)(d->tokens * d->q_stride) * sizeof(float));
}

/* Each token lies where the layout says, rounded; every other element is as it was. */
static void test_window_append_matches_reference(void **state) {
    (void)state;
    static const int32_t runs[] = {1, 3, 16, 40, 100};
    cn_ops               ops[CN_ISA_COUNT];
    const int            variants = t_variants(ops);
    for (int v = 0; v < variants; v++)
        for (int32_t sink = 0; sink <= 40; sink += 20) {
            doc d;
            doc_init(&d, (shape){2, 2, 48}, 40, sink, 400, 1.0f);
            buffer_init(&d, 100);
            cn_bf16      *k = t_alloc((size_t)elems(&d) * 2), *w = t_alloc((size_t)elems(&d) * 2);
            const int32_t slots = cn_window_slots(&d.w), sink_tiles = (sink + 15) / 16;
            memcpy(k, d.w.k, (size_t)elems(&d) * 2);
            memcpy(w, d.w.v, (size_t)elems(&d) * 2);
            int64_t first = 0;
            for (int i = 0; first < d.tokens; i++) {
                const int64_t rows =
                    runs[i % 5] < d.tokens - first ? runs[i % 5] : d.tokens - first;
                const cn_window_append_args a = append_args(&d, first, rows);
                t_note("%s sink %d, %d tokens from %d", cn_isa_name(ops[v].isa), sink, (int)rows,
                       (int)first);
                assert_err(ops[v].window_append(&a, NULL), CN_OK);
                for (int64_t t = first; t < first + rows; t++)
                    for (int32_t g = 0; g < 2; g++)
                        for (int32_t e = 0; e < 48; e++) {
                            const int64_t tile = t / 16, ring = d.w.ring_tiles;
                            const int64_t slot =
                                tile < sink_tiles ? tile : sink_tiles + (tile - sink_tiles) % ring;
                            const int64_t at = t * d.kv_stride + g * 48 + e;
                            k[((g * slots + slot) * 48 + e) * 16 + t % 16] =
                                cn_bf16_from_f32(d.k[at]);
                            w[((g * slots + slot) * 16 + t % 16) * 48 + e] =
                                cn_bf16_from_f32(d.v[at]);
                        }
                assert_memory_equal(k, d.w.k, (size_t)elems(&d) * 2);
                assert_memory_equal(w, d.w.v, (size_t)elems(&d) * 2);
                first += rows;
            }
            assert_true(slots * 16 < d.tokens); // the ring was overwritten
            t_free(k), t_free(w);
            buffer_release(&d);
            doc_release(&d);
        }
}

static const int32_t windows[] = {1, 16, 17, 31, 32, 512};
static const int32_t sinks[] = {0, 5, 16, 48};
static const int32_t mixed_runs[] = {1, 3, 16, 40, 256, 7};
static const int32_t one[] = {1};

static void test_window_attend_reference_is_the_equation(void **state) {
    (void)state;
    cn_ops ops;
    assert_err(cn_ops_init(&ops, CN_ISA_REF), CN_OK);
    for (int w = 0; w < 6; w++)
        for (int k = 0; k < 4; k++) {
            doc d;
            doc_init(&d, (shape){4, 2, 16}, windows[w], sinks[k], 150, 3.0f);
            float *out = out_alloc(&d);
            play(&ops, &d, out, (const int32_t[]){1, 3, 16, 40}, 4, NULL);
            for (int64_t t = 0; t < d.tokens; t++) {
                t_note("window %d sink %d", windows[w], sinks[k]);
                check_token(&d, out + t * d.q_stride, t, true);
            }
            t_free(out);
            doc_release(&d);
        }
}

/* One document: every variant token by token and in runs, with 1, 2 and 3 threads, must
 * give the same bits, and lie within the bound. */
static void check_document(shape s, int32_t window, int32_t sink, int64_t tokens, float q_scale) {
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    doc       d;
    doc_init(&d, s, window, sink, tokens, q_scale);
    float *decoded = out_alloc(&d), *out = out_alloc(&d);
    for (int v = variants > 1 ? 1 : 0; v < variants; v++) { // the reference has its own test
        t_note("%s %dx%dx%d window %d sink %d tokens %d q_scale %g", cn_isa_name(ops[v].isa),
               s.heads, s.kv_heads, s.head_dim, window, sink, (int)tokens, q_scale);
        play(&ops[v], &d, decoded, one, 1, NULL);
        for (int threads = 1; threads <= 3; threads++) {
            cn_pool *pool;
            assert_err(cn_pool_create(&pool, threads, &t_diag), CN_OK);
            memset(out, 0xA5, (size_t)(tokens * d.q_stride) * sizeof(float));
            play(&ops[v], &d, out, mixed_runs + threads - 1, 6 - (threads - 1), pool);
            cn_pool_free(pool);
            // With the padding between rows, which neither may have touched.
            assert_memory_equal(out, decoded, (size_t)(tokens * d.q_stride) * sizeof(float));
        }
        const int64_t step = t_is_sanitized() ? 97 : 23;
        for (int64_t t = tokens - 1; t >= 0; t -= step)
            check_token(&d, out + t * d.q_stride, t, ops[v].isa == CN_ISA_REF);
    }
    t_free(decoded), t_free(out);
    doc_release(&d);
}

static void test_window_attend_runs_equal_tokens(void **state) {
    (void)state;
    for (int w = 0; w < 6; w++)
        for (int k = 0; k < 4; k++) {
            check_document((shape){4, 2, 16}, windows[w], sinks[k], 1, 1.0f);
            check_document((shape){4, 2, 16}, windows[w], sinks[k],
                           t_is_sanitized() ? 150 : t_rand_range(600, 700), 1.0f);
        }
}

/* Group sizes 1, 2, 4, 5, 8 and 3; all blockings of head_dim; scores to about 1e4. */
static void test_window_attend_shapes(void **state) {
    (void)state;
    static const shape shapes[] = {{2, 2, 16},  {4, 2, 32},  {8, 2, 64}, {10, 2, 80},
                                   {8, 1, 128}, {2, 1, 256}, {3, 1, 48}};
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
        for (int scaled = 0; scaled < 2; scaled++)
            check_document(shapes[s], 100, 20, t_is_sanitized() ? 150 : 300, scaled ? 5e3f : 1.0f);
}

/* More than one chunk of 64 tiles: in the window, in the sink, and a border between both. */
static void test_window_attend_many_tiles(void **state) {
    (void)state;
    static const int32_t shapes[][2] = {
        {1500, 48}, {17, 1024}, {18, 1008}, {1024, 0}, {1041, 1100}};
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        check_document((shape){2, 1, 16}, shapes[i][0], shapes[i][1],
                       t_is_sanitized() && i > 0 ? 200 : 1700, 4.0f);
}

/* Also the variants against the reference itself, in one buffer. */
static void test_window_attend_matches_reference(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    doc       d;
    doc_init(&d, (shape){8, 2, 64}, 128, 24, 333, 1.0f);
    buffer_init(&d, 333);
    float *want = out_alloc(&d), *out = out_alloc(&d);
    double o[CN_HEAD_DIM_MAX];
    assert_err(ops[0].window_append(&(cn_window_append_args){append_args(&d, 0, 333).w, d.k, d.v,
                                                             d.kv_stride, 0, 333},
                                    NULL),
               CN_OK);
    const cn_window_attend_args ref = attend_args(&d, want, 0, 333),
                                a = attend_args(&d, out, 0, 333);
    assert_err(cn_window_attend_ref(&ref, NULL), CN_OK);
    for (int v = 0; v < variants; v++) {
        assert_err(ops[v].window_attend(&a, NULL), CN_OK);
        for (int64_t t = 0; t < 333; t++)
            for (int32_t h = 0; h < 8; h++) {
                const double tolerance = equation(&d, o, t, h);
                for (int64_t e = t * d.q_stride + h * 64; e < t * d.q_stride + h * 64 + 64; e++)
                    if (!(fabs((double)out[e] - want[e]) <= tolerance))
                        t_fail(__FILE__, __LINE__, "%s: o[%d,%d] = %.9g, want %.9g +- %.3g",
                               cn_isa_name(ops[v].isa), (int)t, h, out[e], want[e], tolerance);
            }
    }
    t_free(want), t_free(out);
    buffer_release(&d);
    doc_release(&d);
}

/* Far from the document's start, past 2^31 tokens, a window gives the bits that it gives near
 * it: positions are 64-bit throughout. */
static void test_window_attend_far_from_the_start(void **state) {
    (void)state;
    enum { TOKENS = 120, WINDOW = 40 };
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    doc       d;
    doc_init(&d, (shape){4, 2, 32}, WINDOW, 0, TOKENS, 1.0f);
    float        *near = out_alloc(&d), *far = out_alloc(&d);
    const int64_t rows = TOKENS - WINDOW;
    for (int v = 1; v < variants; v++) { // the reference would walk from token 0
        t_note("%s", cn_isa_name(ops[v].isa));
        for (int i = 0; i < 2; i++) {
            d.origin = i ? INT64_C(5) << 32 : 0;
            buffer_init(&d, TOKENS);
            const cn_window_append_args append = append_args(&d, 0, TOKENS);
            const cn_window_attend_args attend = attend_args(&d, i ? far : near, WINDOW, rows);
            assert_err(ops[v].window_append(&append, NULL), CN_OK);
            assert_err(ops[v].window_attend(&attend, NULL), CN_OK);
            buffer_release(&d);
        }
        assert_memory_equal(near, far, (size_t)(rows * d.q_stride) * sizeof(float));
    }
    t_free(near), t_free(far);
    doc_release(&d);
}

/* Where the answer is known exactly: a window of 1 gives v, equal scores over ones give 1;
 * and a NaN in q shows in its head alone. */
static void test_window_attend_known_answers(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    for (int v = 0; v < variants; v++) {
        doc d;
        t_note("%s", cn_isa_name(ops[v].isa));
        doc_init(&d, (shape){4, 2, 32}, 1, 0, 50, 1.0f);
        float *out = out_alloc(&d);
        play(&ops[v], &d, out, mixed_runs, 4, NULL);
        for (int64_t t = 0; t < d.tokens; t++)
            for (int32_t i = 0; i < 4 * 32; i++) {
                const float want = d.v[t * d.kv_stride + i / 64 * 32 + i % 32];
                assert_true(out[t * d.q_stride + i] == cn_f32_from_bf16(cn_bf16_from_f32(want)));
            }
        t_free(out);
        doc_release(&d);

        doc_init(&d, (shape){4, 2, 32}, 33, 7, 100, 0.0f);
        out = out_alloc(&d);
        for (int64_t i = 0; i < d.tokens * d.kv_stride; i++) d.v[i] = 1.0f;
        d.q[60 * d.q_stride + 2 * 32 + 9] = NAN;
        play(&ops[v], &d, out, mixed_runs, 4, NULL);
        for (int64_t t = 0; t < d.tokens; t++)
            for (int32_t i = 0; i < 4 * 32; i++) {
                const float got = out[t * d.q_stride + i];
                if (t == 60 && i / 32 == 2)
                    assert_true(got != got);
                else
                    assert_true(got == 1.0f);
            }
        t_free(out);
        doc_release(&d);
    }
}

/* Products that underflow leave -0; the zeros that masked keys add, which depend on what lies
 * beside the visible ones, must not decide the sign. */
static void test_window_attend_zero_has_no_sign(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    doc       d;
    doc_init(&d, (shape){2, 1, 32}, 64, 0, 40, 1.0f);
    for (int64_t t = 0; t < d.tokens; t++)
        for (int32_t i = 0; i < 32; i++) { // token 0 has all the weight, and v = 0
            d.k[t * d.kv_stride + i] = t == 0 ? 8.0f : -8.0f;
            d.v[t * d.kv_stride + i] = t == 0 ? 0.0f : -1e-40f;
        }
    for (int64_t i = 0; i < d.tokens * d.q_stride; i++) d.q[i] = 1.0f;
    float *out = out_alloc(&d);
    for (int v = 1; v < variants; v++) // f64 does not underflow here
        for (int alone = 0; alone < 2; alone++) {
            t_note("%s alone %d", cn_isa_name(ops[v].isa), alone);
            play(&ops[v], &d, out, alone ? one : mixed_runs, alone ? 1 : 4, NULL);
            for (int64_t t = 0; t < d.tokens; t++)
                for (int32_t i = 0; i < 2 * 32; i++)
                    assert_true(out[t * d.q_stride + i] == 0 && !signbit(out[t * d.q_stride + i]));
        }
    t_free(out);
    doc_release(&d);
}

static void test_window_refuses(void **state) {
    (void)state;
    enum { RUN = 16 };
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    doc       d;
    doc_init(&d, (shape){4, 2, 32}, 40, 7, 50, 1.0f);
    buffer_init(&d, RUN);
    const size_t kv_bytes = (size_t)elems(&d) * sizeof(cn_bf16);
    const size_t out_bytes = (size_t)(d.tokens * d.q_stride) * sizeof(float);
    float       *out = out_alloc(&d), *out_before = out_alloc(&d);
    cn_bf16     *k_before = t_alloc(kv_bytes);
    memcpy(k_before, d.w.k, kv_bytes);
    const cn_window_append_args append = append_args(&d, 0, RUN);
    const cn_window_attend_args attend = attend_args(&d, out, 0, RUN);
    for (int v = 0; v < variants; v++) {
        t_note("%s", cn_isa_name(ops[v].isa));
#define REFUSED_WINDOW(field, value)                                                               \
    do {                                                                                           \
        cn_window             bad = d.w;                                                           \
        cn_window_append_args bad_append = append;                                                 \
        cn_window_attend_args bad_attend = attend;                                                 \
        bad.field = (value);                                                                       \
        bad_append.w = bad_attend.w = &bad;                                                        \
        assert_err(ops[v].window_append(&bad_append, NULL), CN_EINVAL);                            \
        assert_err(ops[v].window_attend(&bad_attend, NULL), CN_EINVAL);                            \
    } while (0)
        REFUSED_WINDOW(k, NULL);
        REFUSED_WINDOW(v, NULL);
        REFUSED_WINDOW(k, d.w.k + 8);
        REFUSED_WINDOW(v, d.w.v + 8);
        REFUSED_WINDOW(kv_heads, 0);
        REFUSED_WINDOW(kv_heads, CN_HEADS_MAX + 1);
        REFUSED_WINDOW(head_dim, 0);
        REFUSED_WINDOW(head_dim, 24);
        REFUSED_WINDOW(head_dim, CN_HEAD_DIM_MAX + CN_DIM_MULTIPLE);
        REFUSED_WINDOW(window, 0);
        REFUSED_WINDOW(window, CN_WINDOW_TOKENS_MAX + 1);
        REFUSED_WINDOW(window, d.w.window + 16); // the ring is too small for it
        REFUSED_WINDOW(sink, -1);
        REFUSED_WINDOW(sink, CN_WINDOW_TOKENS_MAX + 1);
        REFUSED_WINDOW(ring_tiles, cn_window_ring_tiles(d.w.window, RUN) - 1);
        REFUSED_WINDOW(ring_tiles, 0);
#undef REFUSED_WINDOW
#define REFUSED(op, base, field, value)                                                            \
    do {                                                                                           \
        cn_##op##_args bad = base;                                                                 \
        bad.field = (value);                                                                       \
        assert_err(ops[v].op(&bad, NULL), CN_EINVAL);                                              \
    } while (0)
        REFUSED(window_append, append, w, NULL);
        REFUSED(window_append, append, k, NULL);
        REFUSED(window_append, append, v, NULL);
        REFUSED(window_append, append, stride, 48);
        REFUSED(window_append, append, stride, 72);
        REFUSED(window_append, append, first, -1);
        REFUSED(window_append, append, rows, -1);
        REFUSED(window_append, append, rows, RUN + 1);
        REFUSED(window_append, append, rows, CN_WINDOW_RUN_MAX + 1);
        REFUSED(window_attend, attend, w, NULL);
        REFUSED(window_attend, attend, out, NULL);
        REFUSED(window_attend, attend, q, NULL);
        REFUSED(window_attend, attend, out, d.q);
        REFUSED(window_attend, attend, out, out + 1);
        REFUSED(window_attend, attend, q, d.q + 1);
        REFUSED(window_attend, attend, out_stride, 112);
        REFUSED(window_attend, attend, out_stride, 136);
        REFUSED(window_attend, attend, q_stride, 112);
        REFUSED(window_attend, attend, q_stride, 136);
        REFUSED(window_attend, attend, first, -1);
        REFUSED(window_attend, attend, rows, -1);
        REFUSED(window_attend, attend, rows, RUN + 1);
        REFUSED(window_attend, attend, rows, CN_WINDOW_RUN_MAX + 1);
        REFUSED(window_attend, attend, heads, 0);
        REFUSED(window_attend, attend, heads, 3);
        REFUSED(window_attend, attend, heads, CN_HEADS_MAX + 2);
        REFUSED(window_attend, attend, scale, 0.0f);
        REFUSED(window_attend, attend, scale, NAN);
        REFUSED(window_attend, attend, scale, INFINITY);
#undef REFUSED
        cn_window_append_args append_none = append;
        cn_window_attend_args attend_none = attend;
        append_none.rows = attend_none.rows = 0; // allowed, and does nothing
        assert_err(ops[v].window_append(&append_none, NULL), CN_OK);
        assert_err(ops[v].window_attend(&attend_none, NULL), CN_OK);
        assert_memory_equal(d.w.k, k_before, kv_bytes);
        assert_memory_equal(d.w.v, k_before, kv_bytes);
        assert_memory_equal(out, out_before, out_bytes);
    }
    t_free(out), t_free(out_before), t_free(k_before);
    buffer_release(&d);
    doc_release(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window_append_matches_reference),
        cmocka_unit_test(test_window_attend_reference_is_the_equation),
        cmocka_unit_test(test_window_attend_matches_reference),
        cmocka_unit_test(test_window_attend_runs_equal_tokens),
        cmocka_unit_test(test_window_attend_shapes),
        cmocka_unit_test(test_window_attend_many_tiles),
        cmocka_unit_test(test_window_attend_far_from_the_start),
        cmocka_unit_test(test_window_attend_known_answers),
        cmocka_unit_test(test_window_attend_zero_has_no_sign),
        cmocka_unit_test(test_window_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
