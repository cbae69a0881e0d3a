/*
 * test_attend.c - Sparse and dense attention of one token: every variant against the
 * reference, and the reference against the equation.
 *
 * Goal: values within the bound that each variant states, dense equal to sparse bit for
 * bit for any cut into pages and any number of threads, nothing read past a page's
 * tokens, nothing written outside out and scratch, and refusal of what attend.h forbids.
 * Counts: the edges of 4 rows, a tile (16), a chunk (256), and enough chunks for the
 * merge to run on the pool (33).
 */
#include "tests/test.h"

#include "kernels/pool.h"

#include <math.h>

typedef struct shape {
    int32_t heads, kv_heads, head_dim;
} shape;

static const shape shapes[] = {{8, 2, 64},  {2, 2, 16},  {4, 2, 32}, {10, 2, 80},
                               {8, 1, 128}, {2, 1, 256}, {7, 1, 48}};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

/* Rows in memory and one token's q. */
typedef struct cache {
    shape    s;
    int64_t  rows, row_elems;
    cn_bf16 *kv;
    float   *q, *out;
    void    *scratch; // for count_max rows, to the byte
} cache;

static void cache_init(cache *c, shape s, int64_t rows, int64_t count_max) {
    *c = (cache){.s = s, .rows = rows, .row_elems = (int64_t)s.kv_heads * s.head_dim * 2};
    c->kv = t_alloc((size_t)(rows * c->row_elems) * sizeof(cn_bf16));
    for (int64_t i = 0; i < rows * c->row_elems; i++) c->kv[i] = cn_bf16_from_f32(t_rand_f32());
    c->q = t_alloc_f32((int64_t)s.heads * s.head_dim, 1.0f);
    c->out = t_alloc_f32((int64_t)s.heads * s.head_dim, 1.0f);
    c->scratch = t_alloc((size_t)cn_attend_scratch_bytes(count_max, s.heads, s.head_dim));
}

static void cache_release(cache *c) {
    t_free(c->kv), t_free(c->q), t_free(c->out), t_free(c->scratch);
}

static int64_t out_bytes(const cache *c) {
    return (int64_t)c->s.heads * c->s.head_dim * (int64_t)sizeof(float);
}

static cn_attend_head head_of(const cache *c, float *out) {
    return (cn_attend_head){.out = out,
                            .q = c->q,
                            .scratch = c->scratch,
                            .heads = c->s.heads,
                            .kv_heads = c->s.kv_heads,
                            .head_dim = c->s.head_dim,
                            .scale = 1.0f / sqrtf((float)c->s.head_dim)};
}

static const cn_bf16 *k_of(const cn_attend_head *a, const cn_bf16 *row, int32_t h) {
    return row + h / (a->heads / a->kv_heads) * a->head_dim;
}

/* What the header of attend_cpu_simd.c promises for head h over these rows. */
static double bound(const cn_attend_head *a, const cn_bf16 *const *rows, int64_t count, int32_t h) {
    double a_max = 0, v_max = 0;
    for (int64_t i = 0; i < count; i++) {
        const cn_bf16 *k = k_of(a, rows[i], h), *v = k + a->kv_heads * a->head_dim;
        double         sum = 0;
        for (int32_t d = 0; d < a->head_dim; d++) {
            sum += fabs((double)a->scale * a->q[h * a->head_dim + d] * cn_f32_from_bf16(k[d]));
            v_max = fmax(v_max, fabs(cn_f32_from_bf16(v[d])));
        }
        a_max = fmax(a_max, sum);
    }
    const double n = (double)(count < 256 ? count : 256) + 3 * (double)((count + 255) / 256);
    return ldexp(2 * (a->head_dim / 16 + 10) * a_max + n + 64, -24) * v_max;
}

static void compare(const cn_attend_head *a, const cn_bf16 *const *rows, int64_t count,
                    const float *want) {
    for (int32_t h = 0; h < a->heads; h++) {
        const double tolerance = bound(a, rows, count, h);
        for (int32_t d = 0; d < a->head_dim; d++) {
            const float got = a->out[h * a->head_dim + d], ref = want[h * a->head_dim + d];
            if (!(fabs((double)got - ref) <= tolerance))
                t_fail(__FILE__, __LINE__, "o[%d,%d] = %.9g, want %.9g +- %.3g", h, d, got, ref,
                       tolerance);
        }
    }
}

static void random_rows(const cache *c, const cn_bf16 **rows, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        rows[i] = c->kv + t_rand_range(0, c->rows - 1) * c->row_elems;
}

/* The equation as it stands, with libm's exp. */
static void test_attend_reference_is_the_equation(void **state) {
    (void)state;
    const int64_t  counts[] = {1, 2, 40, 300};
    const cn_bf16 *rows[300];
    for (size_t n = 0; n < sizeof(counts) / sizeof(counts[0]); n++) {
        cache c;
        cache_init(&c, (shape){4, 2, 32}, 50, counts[n]);
        random_rows(&c, rows, counts[n]);
        const cn_attend_head head = head_of(&c, c.out);
        assert_err(cn_attend_sparse_ref(&(cn_attend_sparse_args){head, rows, counts[n]}, NULL),
                   CN_OK);
        for (int32_t h = 0; h < head.heads; h++) {
            double sum = 0, o[32] = {0};
            for (int64_t i = 0; i < counts[n]; i++) {
                double score = 0;
                for (int32_t d = 0; d < 32; d++)
                    score += (double)c.q[h * 32 + d] * cn_f32_from_bf16(rows[i][h / 2 * 32 + d]);
                const double p = exp(head.scale * score);
                sum += p;
                for (int32_t d = 0; d < 32; d++)
                    o[d] += p * cn_f32_from_bf16(rows[i][64 + h / 2 * 32 + d]);
            }
            for (int32_t d = 0; d < 32; d++) {
                t_note("count %d, o[%d,%d]", (int)counts[n], h, d);
                assert_true(fabs(c.out[h * 32 + d] - o[d] / sum) <= 1e-7 * fabs(o[d] / sum) + 1e-9);
            }
        }
        cache_release(&c);
    }
}

static void test_attend_sparse_matches_reference(void **state) {
    (void)state;
    static const int64_t counts[] = {1, 2, 3, 15, 16, 17, 31, 100, 255, 256, 257, 300, 512, 600};
    static const float   q_scales[] = {1.0f, 30.0f, 5e3f}; // scores to about 1e4
    const cn_bf16       *rows[600];
    cn_ops               ops[CN_ISA_COUNT];
    const int            variants = t_variants(ops);
    for (int s = 0; s < SHAPES; s++)
        for (size_t n = 0; n < sizeof(counts) / sizeof(counts[0]); n++) {
            cache c;
            cache_init(&c, shapes[s], 300, counts[n]);
            random_rows(&c, rows, counts[n]);
            const float q_scale = q_scales[(n + (size_t)s) % 3];
            for (int32_t i = 0; i < c.s.heads * c.s.head_dim; i++) c.q[i] *= q_scale;
            float                *want = t_alloc((size_t)out_bytes(&c));
            cn_attend_sparse_args a = {head_of(&c, want), rows, counts[n]};
            assert_err(cn_attend_sparse_ref(&a, NULL), CN_OK);
            a.head.out = c.out;
            for (int v = 0; v < variants; v++) {
                t_note("%s shape %d count %d q_scale %g", cn_isa_name(ops[v].isa), s,
                       (int)counts[n], q_scale);
                assert_err(ops[v].attend_sparse(&a, NULL), CN_OK);
                compare(&a.head, rows, counts[n], want);
                t_check_canaries(c.out), t_check_canaries(c.scratch);
            }
            t_free(want);
            cache_release(&c);
        }
}

/* Rows cut into pages: page p holds tokens[p] of them, then NaN, which nobody may read. */
typedef struct paged {
    int64_t         pages, count;
    const cn_bf16 **page_rows;
    int32_t        *tokens;
    const cn_bf16 **rows; // all of them, in order
    cn_bf16        *data;
} paged;

static void paged_init(paged *p, const cache *c, const int32_t *tokens, int64_t pages) {
    const int64_t page_elems = CN_PAGE_TOKENS * c->row_elems;
    *p = (paged){.pages = pages};
    for (int64_t i = 0; i < pages; i++) p->count += tokens[i];
    p->page_rows = t_alloc((size_t)pages * sizeof(*p->page_rows));
    p->tokens = t_alloc((size_t)pages * sizeof(*p->tokens));
    p->rows = t_alloc((size_t)p->count * sizeof(*p->rows));
    p->data = t_alloc((size_t)(pages * page_elems) * sizeof(cn_bf16));
    for (int64_t i = 0; i < pages * page_elems; i++) p->data[i] = 0x7fc0;
    int64_t row = 0;
    for (int64_t i = 0; i < pages; i++) {
        cn_bf16 *page = p->data + (pages - 1 - i) * page_elems; // not in order of address
        p->page_rows[i] = page;
        p->tokens[i] = tokens[i];
        for (int32_t t = 0; t < tokens[i]; t++) {
            p->rows[row++] = page + t * c->row_elems;
            for (int64_t d = 0; d < c->row_elems; d++)
                page[t * c->row_elems + d] = cn_bf16_from_f32(t_rand_f32());
        }
    }
}

static void paged_release(paged *p) {
    t_free(p->page_rows), t_free(p->tokens), t_free(p->rows), t_free(p->data);
}

static cn_attend_dense_args dense_args(const cache *c, const paged *p, float *out) {
    return (cn_attend_dense_args){head_of(c, out), p->page_rows, p->tokens, p->pages, p->count};
}

static const int32_t page_cuts[][8] = {
    {1},
    {256},
    {0, 0, 17},
    {256, 1, 256, 15, 256},
    {16, 17, 255, 0, 256, 3},
    {255, 255, 255, 255, 255},
    {1, 15, 16, 17, 255, 256, 0, 100},
};
enum { CUTS = sizeof(page_cuts) / sizeof(page_cuts[0]) };

static void test_attend_dense_matches_reference(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    for (int s = 0; s < SHAPES; s++)
        for (int k = 0; k < CUTS; k++) {
            cache c;
            paged p;
            cache_init(&c, shapes[s], 1, 8 * CN_PAGE_TOKENS);
            paged_init(&p, &c, page_cuts[k], 8);
            float               *want = t_alloc((size_t)out_bytes(&c));
            cn_attend_dense_args a = dense_args(&c, &p, want);
            assert_err(cn_attend_dense_ref(&a, NULL), CN_OK);
            a.head.out = c.out;
            for (int v = 0; v < variants; v++) {
                t_note("%s shape %d cut %d", cn_isa_name(ops[v].isa), s, k);
                assert_err(ops[v].attend_dense(&a, NULL), CN_OK);
                compare(&a.head, p.rows, p.count, want);
                t_check_canaries(c.out), t_check_canaries(c.scratch);
            }
            t_free(want);
            paged_release(&p);
            cache_release(&c);
        }
}

/* Sparse alone gives the bits; dense, other threads and other addresses must give the same. */
static void check_same_bits(const cn_ops *ops, const cache *c, const paged *p) {
    float                      *want = t_alloc((size_t)out_bytes(c));
    const cn_attend_sparse_args first = {head_of(c, want), p->rows, p->count};
    assert_err(ops->attend_sparse(&first, NULL), CN_OK);
    for (int threads = 1; threads <= 3; threads++) {
        cn_pool *pool;
        assert_err(cn_pool_create(&pool, threads, &t_diag), CN_OK);
        const cn_attend_sparse_args sparse = {head_of(c, c->out), p->rows, p->count};
        const cn_attend_dense_args  dense = dense_args(c, p, c->out);
        assert_err(ops->attend_sparse(&sparse, pool), CN_OK);
        assert_memory_equal(c->out, want, (size_t)out_bytes(c));
        memset(c->out, 0, (size_t)out_bytes(c));
        assert_err(ops->attend_dense(&dense, pool), CN_OK);
        assert_memory_equal(c->out, want, (size_t)out_bytes(c));
        cn_pool_free(pool);
    }
    t_free(want);
}

static void test_attend_dense_equals_sparse(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    for (int s = 0; s < SHAPES; s++)
        for (int k = 0; k < CUTS; k++) {
            cache c;
            paged p;
            cache_init(&c, shapes[s], 1, 8 * CN_PAGE_TOKENS);
            paged_init(&p, &c, page_cuts[k], 8);
            for (int v = 0; v < variants; v++) {
                t_note("%s shape %d cut %d", cn_isa_name(ops[v].isa), s, k);
                check_same_bits(&ops[v], &c, &p);
            }
            paged_release(&p);
            cache_release(&c);
        }
}

/* So many that a task is a run of chunks, for each number of threads. */
static void check_many_chunks(shape s) {
    enum { PAGES = 150 };
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    int32_t   tokens[PAGES];
    for (int i = 0; i < PAGES; i++) tokens[i] = i % 4 == 1 ? (int32_t)t_rand_range(0, 256) : 256;
    cache c;
    paged p;
    cache_init(&c, s, 1, PAGES * CN_PAGE_TOKENS);
    paged_init(&p, &c, tokens, PAGES);
    float               *want = t_alloc((size_t)out_bytes(&c));
    cn_attend_dense_args a = dense_args(&c, &p, want);
    assert_err(cn_attend_dense_ref(&a, NULL), CN_OK);
    assert_true(p.count > 128 * CN_ATTEND_CHUNK);
    for (int v = 0; v < variants; v++) {
        t_note("%s, %d/%d x %d", cn_isa_name(ops[v].isa), s.heads, s.kv_heads, s.head_dim);
        check_same_bits(&ops[v], &c, &p);
        a.head.out = c.out;
        compare(&a.head, p.rows, p.count, want);
    }
    t_free(want);
    paged_release(&p);
    cache_release(&c);
}

static void test_attend_many_chunks(void **state) {
    (void)state;
    check_many_chunks((shape){4, 2, 16});
    check_many_chunks((shape){15, 3, 48});
    check_many_chunks((shape){8, 2, 64});
}

/* A head's bits depend on its own q and its K/V head alone, not on the heads beside it, and
 * not on where the rows lie. */
static void test_attend_head_alone_gives_the_same_bits(void **state) {
    (void)state;
    enum { COUNT = 300 };
    cn_ops         ops[CN_ISA_COUNT];
    const int      variants = t_variants(ops);
    const cn_bf16 *rows[COUNT], *moved[COUNT];
    for (int s = 0; s < SHAPES; s++) {
        cache c;
        cache_init(&c, shapes[s], COUNT, COUNT);
        random_rows(&c, rows, COUNT);
        const int32_t dim = c.s.head_dim, group = c.s.heads / c.s.kv_heads;
        cn_bf16      *one_head = t_alloc((size_t)COUNT * (size_t)dim * 4); // K|V of one K/V head
        float        *out = t_alloc((size_t)dim * 4), *q = t_alloc((size_t)dim * 4);
        for (int v = 0; v < variants; v++) {
            const cn_attend_head head = head_of(&c, c.out);
            assert_err(ops[v].attend_sparse(&(cn_attend_sparse_args){head, rows, COUNT}, NULL),
                       CN_OK);
            for (int32_t h = 0; h < c.s.heads; h++) {
                t_note("%s shape %d head %d", cn_isa_name(ops[v].isa), s, h);
                for (int i = 0; i < COUNT; i++) {
                    const cn_bf16 *k = rows[i] + h / group * dim;
                    cn_bf16       *to = one_head + (int64_t)(COUNT - 1 - i) * dim * 2;
                    memcpy(to, k, (size_t)dim * 2);
                    memcpy(to + dim, k + c.s.kv_heads * dim, (size_t)dim * 2);
                    moved[i] = to;
                }
                memcpy(q, c.q + h * dim, (size_t)dim * 4);
                const cn_attend_head alone = {out, q, c.scratch, 1, 1, dim, head.scale};
                assert_err(
                    ops[v].attend_sparse(&(cn_attend_sparse_args){alone, moved, COUNT}, NULL),
                    CN_OK);
                assert_memory_equal(out, c.out + h * dim, (size_t)dim * 4);
            }
        }
        t_free(one_head), t_free(out), t_free(q);
        cache_release(&c);
    }
}

/* Where the answer is known exactly: one row, and equal scores over V of ones. */
static void test_attend_known_answers(void **state) {
    (void)state;
    enum { COUNT = 600 };
    cn_ops         ops[CN_ISA_COUNT];
    const int      variants = t_variants(ops);
    const cn_bf16 *rows[COUNT];
    for (int s = 0; s < SHAPES; s++) {
        cache         c;
        const int32_t dim = shapes[s].head_dim, group = shapes[s].heads / shapes[s].kv_heads;
        cache_init(&c, shapes[s], COUNT, COUNT);
        random_rows(&c, rows, COUNT);
        for (int v = 0; v < variants; v++) {
            t_note("%s shape %d", cn_isa_name(ops[v].isa), s);
            const cn_attend_head head = head_of(&c, c.out);
            assert_err(ops[v].attend_sparse(&(cn_attend_sparse_args){head, rows, 1}, NULL), CN_OK);
            for (int32_t i = 0; i < c.s.heads * dim; i++)
                assert_true(
                    c.out[i] ==
                    cn_f32_from_bf16(rows[0][c.row_elems / 2 + i / dim / group * dim + i % dim]));
        }
        for (int64_t i = 0; i < COUNT * c.row_elems; i++)
            if (i % c.row_elems >= c.row_elems / 2) c.kv[i] = cn_bf16_from_f32(1.0f);
        memset(c.q, 0, (size_t)out_bytes(&c));
        for (int v = 0; v < variants; v++) {
            t_note("%s shape %d, ones", cn_isa_name(ops[v].isa), s);
            const cn_attend_head head = head_of(&c, c.out);
            assert_err(ops[v].attend_sparse(&(cn_attend_sparse_args){head, rows, COUNT}, NULL),
                       CN_OK);
            for (int32_t i = 0; i < c.s.heads * dim; i++) assert_true(c.out[i] == 1.0f);
        }
        cache_release(&c);
    }
}

/* A NaN in one head's q shows in all that head's outputs and nowhere else. */
static void test_attend_nan_is_not_hidden(void **state) {
    (void)state;
    enum { COUNT = 270, HEAD = 2 };
    cn_ops         ops[CN_ISA_COUNT];
    const int      variants = t_variants(ops);
    const cn_bf16 *rows[COUNT];
    cache          c;
    cache_init(&c, (shape){8, 2, 64}, COUNT, COUNT);
    random_rows(&c, rows, COUNT);
    c.q[HEAD * 64 + 5] = NAN;
    for (int v = 0; v < variants; v++) {
        t_note("%s", cn_isa_name(ops[v].isa));
        const cn_attend_head head = head_of(&c, c.out);
        assert_err(ops[v].attend_sparse(&(cn_attend_sparse_args){head, rows, COUNT}, NULL), CN_OK);
        for (int32_t i = 0; i < 8 * 64; i++) assert_int_equal(c.out[i] != c.out[i], i / 64 == HEAD);
    }
    cache_release(&c);
}

static void test_attend_refuses(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int variants = t_variants(ops);
    cache     c;
    paged     p;
    cache_init(&c, (shape){8, 2, 64}, 1, 2 * CN_PAGE_TOKENS);
    paged_init(&p, &c, (const int32_t[]){256, 3}, 2);
    float *before = t_alloc((size_t)out_bytes(&c));
    memcpy(before, c.out, (size_t)out_bytes(&c));
    for (int v = 0; v < variants; v++) {
        t_note("%s", cn_isa_name(ops[v].isa));
        const cn_attend_sparse_args sparse = {head_of(&c, c.out), p.rows, p.count};
        const cn_attend_dense_args  dense = dense_args(&c, &p, c.out);
#define REFUSED_HEAD(field, value)                                                                 \
    do {                                                                                           \
        cn_attend_sparse_args bad_sparse = sparse;                                                 \
        cn_attend_dense_args  bad_dense = dense;                                                   \
        bad_sparse.head.field = bad_dense.head.field = (value);                                    \
        assert_err(ops[v].attend_sparse(&bad_sparse, NULL), CN_EINVAL);                            \
        assert_err(ops[v].attend_dense(&bad_dense, NULL), CN_EINVAL);                              \
    } while (0)
        REFUSED_HEAD(kv_heads, 0);
        REFUSED_HEAD(kv_heads, 3);
        REFUSED_HEAD(heads, 0);
        REFUSED_HEAD(heads, CN_HEADS_MAX + 2);
        REFUSED_HEAD(head_dim, 0);
        REFUSED_HEAD(head_dim, 24);
        REFUSED_HEAD(head_dim, CN_HEAD_DIM_MAX + CN_DIM_MULTIPLE);
        REFUSED_HEAD(scale, 0.0f);
        REFUSED_HEAD(scale, -1.0f);
        REFUSED_HEAD(scale, NAN);
        REFUSED_HEAD(scale, INFINITY);
        REFUSED_HEAD(out, NULL);
        REFUSED_HEAD(q, NULL);
        REFUSED_HEAD(scratch, NULL);
        REFUSED_HEAD(out, c.q);
        REFUSED_HEAD(out, c.out + 1);
        REFUSED_HEAD(q, c.q + 1);
        REFUSED_HEAD(scratch, (char *)c.scratch + 4);
#undef REFUSED_HEAD
#define REFUSED(op, base, field, value)                                                            \
    do {                                                                                           \
        cn_##op##_args bad = base;                                                                 \
        bad.field = (value);                                                                       \
        assert_err(ops[v].op(&bad, NULL), CN_EINVAL);                                              \
    } while (0)
        REFUSED(attend_sparse, sparse, rows, NULL);
        REFUSED(attend_sparse, sparse, count, 0);
        REFUSED(attend_dense, dense, page_rows, NULL);
        REFUSED(attend_dense, dense, page_tokens, NULL);
        REFUSED(attend_dense, dense, pages, 0);
        REFUSED(attend_dense, dense, count, 0);
        REFUSED(attend_dense, dense, count, p.count - 1);
        REFUSED(attend_dense, dense, page_tokens, ((const int32_t[]){257, 2}));
        REFUSED(attend_dense, dense, page_tokens, ((const int32_t[]){-1, 260}));
#undef REFUSED
        assert_memory_equal(c.out, before, (size_t)out_bytes(&c));
    }
    t_free(before);
    paged_release(&p);
    cache_release(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attend_reference_is_the_equation),
        cmocka_unit_test(test_attend_sparse_matches_reference),
        cmocka_unit_test(test_attend_dense_matches_reference),
        cmocka_unit_test(test_attend_dense_equals_sparse),
        cmocka_unit_test(test_attend_many_chunks),
        cmocka_unit_test(test_attend_head_alone_gives_the_same_bits),
        cmocka_unit_test(test_attend_known_answers),
        cmocka_unit_test(test_attend_nan_is_not_hidden),
        cmocka_unit_test(test_attend_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
