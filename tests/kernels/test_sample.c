/*
 * test_sample.c - What sample.h promises, for every variant.
 *
 * Greedy against a plain loop; min_p and top_p against a full sort; the draw against
 * the probabilities themselves, over fixed seeds, with a chi-square bound; the same
 * token for the same (seed, counter); every error.  softmax is computed here with
 * libm's exp.
 */
#include "tests/test.h"

#include <math.h>

enum { COUNT = 1000, DRAWS = 20000 };

static cn_sample_args args_of(int32_t *token, const float *logits, void *scratch, int32_t count) {
    return (cn_sample_args){.token_out = token,
                            .logits = logits,
                            .scratch = scratch,
                            .count = count,
                            .temperature = 1,
                            .top_p = 1,
                            .min_p = 0,
                            .seed = 1,
                            .counter = 0};
}

static void *new_scratch(int32_t count) {
    return t_alloc((size_t)cn_sample_scratch_bytes(count));
}

static const double *sort_p;

static int by_p(const void *x, const void *y) {
    const int32_t i = *(const int32_t *)x, j = *(const int32_t *)y;
    if (sort_p[i] != sort_p[j]) return sort_p[i] > sort_p[j] ? -1 : 1;
    return i < j ? -1 : i > j;
}

/* The distribution that sample.h defines, with everything sorted. */
static void expected_p(double *p, const cn_sample_args *a) {
    static int32_t order[COUNT];
    double         max = -INFINITY, sum = 0, kept = 0, run = 0;
    for (int32_t i = 0; i < a->count; i++) max = fmax(max, a->logits[i]);
    for (int32_t i = 0; i < a->count; i++) {
        p[i] = exp((a->logits[i] - max) / a->temperature);
        if (p[i] < a->min_p) p[i] = 0;
        sum += p[i];
        order[i] = i;
    }
    sort_p = p;
    qsort(order, (size_t)a->count, sizeof(order[0]), by_p);
    for (int32_t i = 0; i < a->count; i++) {
        const bool is_kept = a->top_p == 1 || run < a->top_p * sum;
        run += p[order[i]];
        if (!is_kept) p[order[i]] = 0;
        kept += p[order[i]];
    }
    for (int32_t i = 0; i < a->count; i++) p[i] /= kept;
}

/* DRAWS draws against p: no token of probability 0, and the chi-square statistic over the
 * tokens that are expected 10 times or more (the others pooled) below mean + 5 deviations. */
static void check_draws(const cn_ops *ops, cn_sample_args a) {
    static int32_t hits[COUNT];
    static double  p[COUNT];
    int32_t        token, pooled_hits = 0, cells = 0;
    double         pooled = 0, chi = 0;
    memset(hits, 0, sizeof(hits));
    expected_p(p, &a);
    a.token_out = &token;
    for (int i = 0; i < DRAWS; i++) {
        a.counter = (uint64_t)i;
        assert_err(ops->sample(&a, NULL), CN_OK);
        assert_in_range(token, 0, a.count - 1);
        hits[token]++;
    }
    for (int32_t i = 0; i < a.count; i++) {
        const double want = p[i] * DRAWS;
        if (p[i] == 0 && hits[i] > 0)
            t_fail(__FILE__, __LINE__, "token %d was dropped and drawn %d times", i, hits[i]);
        if (want < 10) {
            pooled += want, pooled_hits += hits[i];
        } else {
            chi += (hits[i] - want) * (hits[i] - want) / want;
            cells++;
        }
    }
    if (pooled >= 10) chi += (pooled_hits - pooled) * (pooled_hits - pooled) / pooled, cells++;
    if (!(chi <= cells + 5 * sqrt(2.0 * cells)))
        t_fail(__FILE__, __LINE__, "chi-square %.1f over %d cells", chi, cells);
}

static void test_sample_matches_reference(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int n = t_variants(ops);
    float    *logits = t_alloc_f32(COUNT, 3);
    void     *scratch = new_scratch(COUNT);
    int32_t   want, got;
    for (uint64_t i = 0; i < 200; i++) {
        cn_sample_args a = args_of(&want, logits, scratch, 1 + (int32_t)(i * 37 % COUNT));
        a.temperature = (float)(i % 4) / 2, a.top_p = i % 3 ? 1 : 0.9f, a.counter = i;
        assert_err(cn_sample_ref(&a, NULL), CN_OK);
        a.token_out = &got;
        for (int v = 0; v < n; v++) {
            t_note("%s case %d", cn_isa_name(ops[v].isa), (int)i);
            assert_err(ops[v].sample(&a, NULL), CN_OK);
            assert_int_equal(got, want);
        }
    }
    t_free(logits), t_free(scratch);
}

/* A vocabulary of many blocks, from peaked to flat, with cuts and ties: the same token. */
static void test_sample_large_rows_match(void **state) {
    (void)state;
    enum { LARGE = 5003 };
    static const float spreads[] = {0, 0.3f, 2, 12, 300};
    static const float top_ps[] = {1, 0.95f, 0.5f, 0.999999f, 1e-6f};
    cn_ops             ops[CN_ISA_COUNT];
    const int          n = t_variants(ops);
    void              *scratch = new_scratch(LARGE);
    int32_t            want, got;
    for (int s = 0; s < 5; s++) {
        float *logits = t_alloc_f32(LARGE, spreads[s]);
        for (int32_t i = 0; i < LARGE; i += 3) logits[i] = roundf(logits[i] * 4) / 4;
        for (int32_t i = 0; i < 600; i++) logits[1000 + i] = -INFINITY;
        for (uint64_t i = 0; i < (t_is_sanitized() ? 20u : 200u); i++) {
            cn_sample_args a = args_of(&want, logits, scratch, LARGE - (int32_t)i % 17);
            a.temperature = i % 2 ? 1 : 0.7f, a.top_p = top_ps[i % 5], a.counter = i;
            a.min_p = i % 7 ? 0 : 0.01f;
            assert_err(cn_sample_ref(&a, NULL), CN_OK);
            a.token_out = &got;
            for (int v = 1; v < n; v++) {
                t_note("%s spread %g case %d", cn_isa_name(ops[v].isa), spreads[s], (int)i);
                assert_err(ops[v].sample(&a, NULL), CN_OK);
                assert_int_equal(got, want);
            }
        }
        t_free(logits);
    }
    t_free(scratch);
}

static void test_sample_greedy(void **state) {
    (void)state;
    static const int32_t counts[] = {1, 2, 15, 16, 17, 33, COUNT};
    cn_ops               ops[CN_ISA_COUNT];
    const int            n = t_variants(ops);
    void                *scratch = new_scratch(COUNT);
    for (int v = 0; v < n; v++)
        for (int i = 0; i < 7 * 40; i++) {
            const int32_t count = counts[i % 7];
            float        *logits = t_alloc((size_t)count * 4);
            int32_t       want = 0, got = -1;
            // Small integers: many ties, zeros of both signs; half of the rows are negative.
            for (int32_t t = 0; t < count; t++) {
                logits[t] = (float)t_rand_range(-3, i % 2 ? 3 : 0);
                if (logits[t] == 0 && t_rand() % 2) logits[t] = -0.0f;
                if (t_rand() % 5 == 0 && t > 0) logits[t] = -INFINITY;
                if (logits[t] > logits[want]) want = t;
            }
            cn_sample_args a = args_of(&got, logits, scratch, count);
            a.temperature = 0, a.counter = (uint64_t)i;
            t_note("%s count=%d row %d", cn_isa_name(ops[v].isa), count, i);
            assert_err(ops[v].sample(&a, NULL), CN_OK);
            assert_int_equal(got, want);
            t_free(logits);
        }
    t_free(scratch);
}

static void test_sample_draws_softmax(void **state) {
    (void)state;
    static const struct {
        float temperature, top_p, min_p;
    } cases[] = {
        {1, 1, 0},       {0.7f, 1, 0},  {2, 1, 0},        {1, 0.9f, 0},      {1, 0.5f, 0},
        {100, 0.99f, 0}, {1, 1, 0.05f}, {1, 0.8f, 0.02f}, {1, 0.999999f, 0}, {1.3f, 1, 0.3f},
    };
    cn_ops        ops[CN_ISA_COUNT];
    const int     n = t_variants(ops);
    const int32_t counts[] = {40, 250};
    float        *logits = t_alloc_f32(COUNT, 1.5f);
    void         *scratch = new_scratch(COUNT);
    for (int32_t i = 0; i < COUNT; i += 7) logits[i] = logits[0]; // ties across every cut
    logits[3] = -INFINITY, logits[39] = -1000;
    for (int v = 0; v < n; v++)
        for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
            const bool     is_long = c % 2 && !t_is_sanitized();
            cn_sample_args a = args_of(NULL, logits, scratch, counts[is_long]);
            a.temperature = cases[c].temperature;
            a.top_p = cases[c].top_p, a.min_p = cases[c].min_p, a.seed = c;
            t_note("%s case %d", cn_isa_name(ops[v].isa), (int)c);
            check_draws(&ops[v], a);
        }
    t_free(logits), t_free(scratch);
}

/* Limits: each of these leaves the largest logit, and of equal ones the lowest token. */
static void test_sample_limits_keep_one(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int n = t_variants(ops);
    float    *logits = t_alloc_f32(COUNT, 2);
    void     *scratch = new_scratch(COUNT);
    int32_t   token;
    logits[700] = logits[300] = 20;
    for (int v = 0; v < n; v++)
        for (uint64_t i = 0; i < 200; i++) {
            cn_sample_args a = args_of(&token, logits, scratch, COUNT);
            a.counter = i;
            t_note("%s draw %d", cn_isa_name(ops[v].isa), (int)i);

            a.top_p = 1e-30f; // one token, whatever the temperature
            a.temperature = 100;
            assert_err(ops[v].sample(&a, NULL), CN_OK);
            assert_int_equal(token, 300);

            a.top_p = 1, a.min_p = 1, a.temperature = 1; // the largest, and its equals
            assert_err(ops[v].sample(&a, NULL), CN_OK);
            assert_true(token == 300 || token == 700);

            a.min_p = 0, a.temperature = 1e-3f;
            assert_err(ops[v].sample(&a, NULL), CN_OK);
            assert_true(token == 300 || token == 700);

            a.count = 1; // a vocabulary of one
            a.temperature = 1, a.top_p = 0.5f;
            assert_err(ops[v].sample(&a, NULL), CN_OK);
            assert_int_equal(token, 0);
        }
    t_free(logits), t_free(scratch);
}

/* All logits equal: p is flat, every token is a candidate of top_p, ties decide the cut. */
static void test_sample_flat_row(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int n = t_variants(ops);
    float    *logits = t_alloc(64 * 4);
    void     *scratch = new_scratch(64);
    int32_t   token, highest = 0;
    for (int i = 0; i < 64; i++) logits[i] = -3;
    for (int v = 0; v < n; v++) {
        for (uint64_t i = 0; i < 2000; i++) {
            cn_sample_args a = args_of(&token, logits, scratch, 64);
            a.top_p = 0.25f, a.counter = i;
            assert_err(ops[v].sample(&a, NULL), CN_OK);
            highest = token > highest ? token : highest;
        }
        assert_int_equal(highest, 15);
    }
    t_free(logits), t_free(scratch);
}

static void test_sample_is_a_function_of_seed_and_counter(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int n = t_variants(ops);
    float    *logits = t_alloc_f32(COUNT, 0.1f);
    void     *scratch = new_scratch(COUNT), *other = new_scratch(COUNT);
    int32_t   token[3][50];
    for (int v = 0; v < n; v++) {
        int same = 0;
        for (int i = 0; i < 50; i++) {
            cn_sample_args a = args_of(&token[0][i], logits, scratch, COUNT);
            a.counter = (uint64_t)i;
            assert_err(ops[v].sample(&a, NULL), CN_OK);
            a.token_out = &token[1][i], a.scratch = other;
            assert_err(ops[v].sample(&a, NULL), CN_OK);
            a.token_out = &token[2][i], a.seed = 2;
            assert_err(ops[v].sample(&a, NULL), CN_OK);
            same += token[2][i] == token[0][i] || (i > 0 && token[0][i] == token[0][i - 1]);
            // Seeds that differ by one do not run through the same sequence, shifted.
            same += i > 0 && token[2][i - 1] == token[0][i];
        }
        assert_memory_equal(token[0], token[1], sizeof(token[0]));
        assert_true(same < 10);
    }
    t_free(logits), t_free(scratch), t_free(other);
}

static void test_sample_refuses_broken_logits(void **state) {
    (void)state;
    static const float   temperatures[] = {0, 1};
    static const int32_t at[] = {0, 15, 16, 40};
    cn_ops               ops[CN_ISA_COUNT];
    const int            n = t_variants(ops);
    float               *logits = t_alloc_f32(41, 1);
    void                *scratch = new_scratch(41);
    int32_t              token = -7;
    for (int v = 0; v < n; v++)
        for (int t = 0; t < 2; t++) {
            cn_sample_args a = args_of(&token, logits, scratch, 41);
            a.temperature = temperatures[t];
            for (int i = 0; i < 4; i++) {
                const float good = logits[at[i]];
                t_note("%s temperature %g token %d", cn_isa_name(ops[v].isa), temperatures[t],
                       at[i]);
                logits[at[i]] = NAN;
                assert_err(ops[v].sample(&a, NULL), CN_ENUMERIC);
                logits[at[i]] = -NAN;
                assert_err(ops[v].sample(&a, NULL), CN_ENUMERIC);
                logits[at[i]] = INFINITY;
                assert_err(ops[v].sample(&a, NULL), CN_ENUMERIC);
                logits[at[i]] = good;
            }
            float lowest[20];
            for (int i = 0; i < 20; i++) lowest[i] = -INFINITY;
            a.logits = lowest, a.count = 20;
            assert_err(ops[v].sample(&a, NULL), CN_ENUMERIC);
            assert_int_equal(token, -7);
            lowest[17] = -1e30f; // one finite logit is enough
            assert_err(ops[v].sample(&a, NULL), CN_OK);
            assert_int_equal(token, 17);
            token = -7;
        }
    t_free(logits), t_free(scratch);
}

static void test_sample_refuses(void **state) {
    (void)state;
    cn_ops               ops[CN_ISA_COUNT];
    const int            n = t_variants(ops);
    float               *logits = t_alloc_f32(40, 1);
    uint8_t             *scratch = new_scratch(40);
    int32_t              token = -7;
    const cn_sample_args good = args_of(&token, logits, scratch, 40);
    cn_sample_args       bad[24];
    int                  cases = 0;
#define BAD(field, value) bad[cases] = good, bad[cases++].field = (value)
    BAD(token_out, NULL);
    BAD(logits, NULL);
    BAD(scratch, NULL);
    BAD(scratch, scratch + 32);
    BAD(count, 0);
    BAD(count, CN_SAMPLE_COUNT_MAX + 1);
    BAD(temperature, -1);
    BAD(temperature, 0.9e-3f);
    BAD(temperature, 100.5f);
    BAD(temperature, NAN);
    BAD(top_p, 0);
    BAD(top_p, -0.5f);
    BAD(top_p, 1.01f);
    BAD(top_p, NAN);
    BAD(min_p, -0.01f);
    BAD(min_p, 1.01f);
    BAD(min_p, NAN);
#undef BAD
    for (int v = 0; v < n; v++)
        for (int c = 0; c < cases; c++) {
            t_note("%s case %d", cn_isa_name(ops[v].isa), c);
            assert_err(ops[v].sample(&bad[c], NULL), CN_EINVAL);
            assert_int_equal(token, -7);
        }
    t_free(logits), t_free(scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sample_matches_reference),
        cmocka_unit_test(test_sample_large_rows_match),
        cmocka_unit_test(test_sample_greedy),
        cmocka_unit_test(test_sample_draws_softmax),
        cmocka_unit_test(test_sample_limits_keep_one),
        cmocka_unit_test(test_sample_flat_row),
        cmocka_unit_test(test_sample_is_a_function_of_seed_and_counter),
        cmocka_unit_test(test_sample_refuses_broken_logits),
        cmocka_unit_test(test_sample_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
