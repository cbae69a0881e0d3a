/*
 * test_index_scan.c - Every index_scan variant against index_scan_ref.c.
 *
 * Goal: scores within the error that the variants state, nothing written outside
 * them, the same bits for a page alone, in a run and with any number of threads, and
 * refusal of what index_scan.h forbids.  Tokens that a page does not hold are NaN
 * here: none may reach a score.
 */
#include "kernels/pool.h"
#include "tests/test.h"

#include <math.h>

enum { PAGES_MAX = 12 };

typedef struct view { // pages with the keys of one source
    cn_bf16       *keys[PAGES_MAX];
    const cn_bf16 *page_keys[PAGES_MAX];
    int32_t        tokens[PAGES_MAX];
    int64_t        pages, count;
    int32_t        dim;
} view;

static const int32_t edges[] = {0, 256, 1, 15, 16, 0, 17, 63, 64, 65, 255, 0};

static void view_init(view *v, const int32_t *tokens, int64_t pages, int32_t dim) {
    *v = (view){.pages = pages, .dim = dim};
    const cn_page_shape shape = {.index_dim = dim, .sources = 1};
    for (int64_t p = 0; p < pages; p++) {
        const int64_t elems = (int64_t)CN_PAGE_TOKENS * dim;
        v->page_keys[p] = v->keys[p] = t_alloc((size_t)elems * sizeof(cn_bf16));
        v->tokens[p] = tokens[p];
        v->count += tokens[p];
        for (int64_t i = 0; i < elems; i++) v->keys[p][i] = 0x7fc0;
        for (int32_t t = 0; t < tokens[p]; t++)
            for (int32_t d = 0; d < dim; d++)
                v->keys[p][cn_page_key_elem(&shape, t, d)] = cn_bf16_from_f32(t_rand_f32());
    }
}

static void view_release(view *v) {
    for (int64_t p = 0; p < v->pages; p++) t_free(v->keys[p]);
}

static cn_index_scan_args scan_args(const view *v, float *scores, const float *q,
                                    const float *weight, int32_t heads, cn_index_act act) {
    return (cn_index_scan_args){.scores = scores,
                                .q = q,
                                .weight = weight,
                                .page_keys = v->page_keys,
                                .page_tokens = v->tokens,
                                .pages = v->pages,
                                .count = v->count,
                                .heads = heads,
                                .dim = v->dim,
                                .act = act};
}

/* sum_j |w[j]| sum_d |q[j,d] k[d]|: what the error is relative to. */
static double magnitude(const cn_index_scan_args *a, const cn_bf16 *keys, int32_t token) {
    const cn_page_shape shape = {.index_dim = a->dim, .sources = 1};
    double              sum = 0;
    for (int32_t j = 0; j < a->heads; j++)
        for (int32_t d = 0; d < a->dim; d++) {
            const float q = cn_f32_from_bf16(cn_bf16_from_f32(a->q[j * a->dim + d]));
            const float k = cn_f32_from_bf16(keys[cn_page_key_elem(&shape, token, d)]);
            sum += fabs((double)q * k) * (a->weight ? fabsf(a->weight[j]) : 1);
        }
    return sum;
}

static void assert_within_bound(const cn_index_scan_args *a, const float *want) {
    const double relative = (a->dim + a->heads + 4) * 0x1p-24;
    int64_t      at = 0;
    for (int64_t p = 0; p < a->pages; p++)
        for (int32_t t = 0; t < a->page_tokens[p]; t++, at++) {
            const double bound = relative * magnitude(a, a->page_keys[p], t);
            if (!(fabs((double)a->scores[at] - want[at]) <= bound))
                t_fail(__FILE__, __LINE__, "page %lld token %d: %.9g, want %.9g within %.3g",
                       (long long)p, t, a->scores[at], want[at], bound);
        }
}

static void compare_variants(const view *v, int32_t heads, cn_index_act act, bool weighted) {
    cn_ops    ops[CN_ISA_COUNT];
    const int n = t_variants(ops);
    float    *q = t_alloc_f32(heads * v->dim, 1), *weight = t_alloc_f32(heads, 1);
    float    *want = t_alloc((size_t)v->count * 4), *got = t_alloc((size_t)v->count * 4);

    cn_index_scan_args a = scan_args(v, want, q, weighted ? weight : NULL, heads, act);
    assert_err(cn_index_scan_ref(&a, NULL), CN_OK);
    for (int i = 0; i < n; i++) {
        t_note("%s heads=%d dim=%d act=%d weighted=%d pages=%lld", cn_isa_name(ops[i].isa), heads,
               v->dim, act, weighted, (long long)v->pages);
        a.scores = got;
        memset(got, 0xA5, (size_t)v->count * 4);
        assert_err(ops[i].index_scan(&a, NULL), CN_OK);
        assert_within_bound(&a, want);
        t_check_canaries(got);
    }
    t_free(q), t_free(weight), t_free(want), t_free(got);
}

static void test_index_scan_matches_reference(void **state) {
    (void)state;
    static const int32_t dims[] = {16, 64, 128, 48, CN_INDEX_DIM_MAX};
    static const int32_t heads[] = {1, 2, 3, 4, 5, 8, CN_INDEX_HEADS_MAX};
    const int            dims_n = t_is_sanitized() ? 2 : 5;
    for (int d = 0; d < dims_n; d++) {
        view v;
        view_init(&v, edges, d < 2 ? PAGES_MAX : 5, dims[d]);
        for (size_t h = 0; h < sizeof(heads) / sizeof(heads[0]); h++) {
            if (heads[h] == CN_INDEX_HEADS_MAX && d != 0) continue; // the reference is slow
            compare_variants(&v, heads[h], CN_INDEX_ACT_NONE, h % 2);
            compare_variants(&v, heads[h], CN_INDEX_ACT_RELU, true);
        }
        view_release(&v);
    }
    view empty;
    view_init(&empty, edges, 0, 16);
    compare_variants(&empty, 1, CN_INDEX_ACT_NONE, false);
    view_init(&empty, edges, 1, 16); // a page of no tokens
    compare_variants(&empty, 1, CN_INDEX_ACT_NONE, false);
    view_release(&empty);
}

/* Small integers are exact everywhere, so that all variants must give what pencil and
 * paper give.  The layout is written out here and not taken from page.h. */
static void test_index_scan_by_hand(void **state) {
    (void)state;
    enum { DIM = 16, TOKENS = 40 };
    cn_ops         ops[CN_ISA_COUNT];
    const int      n = t_variants(ops);
    cn_bf16       *keys = t_alloc(256 * DIM * 2);
    float         *q = t_alloc(2 * DIM * 4), *scores = t_alloc(TOKENS * 4);
    const float    weight[2] = {2, -0.5f};
    const cn_bf16 *page_keys[1] = {keys};
    const int32_t  page_tokens[1] = {TOKENS};
    memset(keys, 0, 256 * DIM * 2);
    for (int t = 0; t < TOKENS; t++) { // token t: t + 1 in dimension t % 16
        const int d = t % DIM;
        keys[(t / 16) * (DIM * 16) + (d / 2) * 32 + (t % 16) * 2 + d % 2] =
            cn_bf16_from_f32((float)(t + 1));
    }
    for (int d = 0; d < DIM; d++) q[d] = (float)(d - 8);
    for (int d = 0; d < DIM; d++) q[DIM + d] = d % 2 ? 1 + 0x1p-9f : -1; // rounds to 1
    for (int i = 0; i < n; i++) {
        cn_index_scan_args a = {.scores = scores,
                                .q = q,
                                .weight = weight,
                                .page_keys = page_keys,
                                .page_tokens = page_tokens,
                                .pages = 1,
                                .count = TOKENS,
                                .heads = 2,
                                .dim = DIM,
                                .act = CN_INDEX_ACT_RELU};
        t_note("%s", cn_isa_name(ops[i].isa));
        assert_err(ops[i].index_scan(&a, NULL), CN_OK);
        for (int t = 0; t < TOKENS; t++) {
            const int d = t % DIM, first = (d - 8) * (t + 1), second = d % 2 ? t + 1 : 0;
            assert_true(scores[t] == 2 * (float)(first > 0 ? first : 0) - 0.5f * (float)second);
        }
        a.act = CN_INDEX_ACT_NONE, a.heads = 1, a.weight = NULL;
        assert_err(ops[i].index_scan(&a, NULL), CN_OK);
        for (int t = 0; t < TOKENS; t++) assert_true(scores[t] == (float)((t % DIM - 8) * (t + 1)));
    }
    t_free(keys), t_free(q), t_free(scores);
}

/* A NaN in a key is that token's score, through relu too, and no other's. */
static void test_index_scan_nan_stays_in_its_token(void **state) {
    (void)state;
    enum { DIM = 32, TOKEN = 21 };
    cn_ops        ops[CN_ISA_COUNT];
    const int     n = t_variants(ops);
    const int32_t tokens[] = {40};
    view          v;
    view_init(&v, tokens, 1, DIM);
    const cn_page_shape shape = {.index_dim = DIM, .sources = 1};
    v.keys[0][cn_page_key_elem(&shape, TOKEN, 5)] = 0x7fc0;
    float *q = t_alloc_f32(4 * DIM, 1), *scores = t_alloc(40 * 4);
    for (int i = 0; i < n; i++)
        for (int act = CN_INDEX_ACT_NONE; act <= CN_INDEX_ACT_RELU; act++) {
            cn_index_scan_args a = scan_args(&v, scores, q, NULL, 4, (cn_index_act)act);
            assert_err(ops[i].index_scan(&a, NULL), CN_OK);
            for (int t = 0; t < 40; t++) assert_int_equal(isnan(scores[t]) != 0, t == TOKEN);
        }
    view_release(&v);
    t_free(q), t_free(scores);
}

/* The whole view in one run, then page by page, then with threads: memcmp. */
static void test_index_scan_same_bits(void **state) {
    (void)state;
    cn_ops               ops[CN_ISA_COUNT];
    const int            n = t_variants(ops);
    static const int32_t heads[] = {1, 4, 7};
    for (size_t h = 0; h < 3; h++)
        for (int i = 0; i < n; i++) {
            view v;
            view_init(&v, edges, PAGES_MAX, 64);
            const size_t bytes = (size_t)v.count * 4;
            float       *q = t_alloc_f32(heads[h] * 64, 1), *w = t_alloc_f32(heads[h], 1);
            float       *all = t_alloc(bytes), *part = t_alloc(bytes);
            t_note("%s heads=%d", cn_isa_name(ops[i].isa), heads[h]);
            cn_index_scan_args a = scan_args(&v, all, q, w, heads[h], CN_INDEX_ACT_RELU);
            assert_err(ops[i].index_scan(&a, NULL), CN_OK);

            float *at = part;
            for (int64_t p = 0; p < v.pages; p++) {
                cn_index_scan_args one = a;
                one.scores = at, one.page_keys += p, one.page_tokens += p;
                one.pages = 1, one.count = v.tokens[p];
                assert_err(ops[i].index_scan(&one, NULL), CN_OK);
                at += v.tokens[p];
            }
            assert_memory_equal(all, part, bytes);

            // A page that grows: its tokens meet in blocks of other sizes.
            for (int32_t first = 1; first <= 256; first += first < 17 ? 1 : 5) {
                cn_index_scan_args one = a;
                one.scores = part, one.page_keys += 1, one.page_tokens = &first;
                one.pages = 1, one.count = first;
                assert_err(ops[i].index_scan(&one, NULL), CN_OK);
                assert_memory_equal(all, part, (size_t)first * 4);
            }
            for (int32_t threads = 1; threads <= 3; threads++) {
                cn_pool *pool;
                assert_err(cn_pool_create(&pool, threads, &t_diag), CN_OK);
                a.scores = part;
                memset(part, 0xA5, bytes);
                assert_err(ops[i].index_scan(&a, pool), CN_OK);
                assert_memory_equal(all, part, bytes);
                cn_pool_free(pool);
            }
            t_free(q), t_free(w), t_free(all), t_free(part);
            view_release(&v);
        }
}

static void test_index_scan_refuses(void **state) {
    (void)state;
    cn_ops        ops[CN_ISA_COUNT];
    const int     n = t_variants(ops);
    const int32_t tokens[] = {3, 4}, over[] = {3, CN_PAGE_TOKENS + 1}, under[] = {8, -1};
    view          v;
    view_init(&v, tokens, 2, 16);
    const cn_bf16 *null_keys[] = {v.keys[0], NULL}, *odd_keys[] = {v.keys[0], v.keys[1] + 16};
    float         *q = t_alloc_f32(64, 1), *scores = t_alloc(300 * 4);
    const cn_index_scan_args good = scan_args(&v, scores, q, NULL, 2, CN_INDEX_ACT_NONE);
    cn_index_scan_args       bad[24];
    int                      cases = 0;
#define BAD(field, value) bad[cases] = good, bad[cases++].field = (value)
    BAD(pages, -1);
    BAD(heads, 0);
    BAD(heads, CN_INDEX_HEADS_MAX + 1);
    BAD(dim, 0);
    BAD(dim, 24);
    BAD(dim, CN_INDEX_DIM_MAX + 16);
    BAD(act, (cn_index_act)2);
    BAD(q, NULL);
    BAD(q, q + 1);
    BAD(scores, NULL);
    BAD(page_keys, NULL);
    BAD(page_keys, null_keys);
    BAD(page_keys, odd_keys);
    BAD(page_tokens, NULL);
    BAD(count, 6);
    BAD(count, 8);
    BAD(page_tokens, over);
    bad[cases - 1].count = 3 + CN_PAGE_TOKENS + 1;
    BAD(page_tokens, under);
#undef BAD
    for (int i = 0; i < n; i++) {
        for (int c = 0; c < cases; c++) {
            t_note("%s case %d", cn_isa_name(ops[i].isa), c);
            assert_err(ops[i].index_scan(&bad[c], NULL), CN_EINVAL);
        }
        for (int s = 0; s < 300 * 4; s++) assert_int_equal(((uint8_t *)scores)[s], 0xA5);
    }
    view_release(&v);
    t_free(q), t_free(scores);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index_scan_matches_reference),
        cmocka_unit_test(test_index_scan_by_hand),
        cmocka_unit_test(test_index_scan_nan_stays_in_its_token),
        cmocka_unit_test(test_index_scan_same_bits),
        cmocka_unit_test(test_index_scan_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
