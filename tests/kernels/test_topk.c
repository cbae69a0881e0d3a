/*
 * test_topk.c - Every topk variant against a full sort.
 *
 * Goal: the set and the threshold of topk.h for every kind of scores, every k and
 * every guess; a NaN found wherever it stands and whatever the guess; nothing written
 * outside the set and the scratch; refusal of what topk.h forbids.  The sort below
 * shares nothing with the variants: it compares floats and positions.
 */
#include "tests/test.h"

#include <float.h>
#include <math.h>

typedef enum kind {
    NORMAL,
    FEW_VALUES,
    ALL_EQUAL,
    INFINITIES,
    SIGNED_ZEROS,
    DENORMALS,
    RISING,
    FALLING,
    ONE_BIT_EACH, // one bit set below 1.0 or in its fraction: the worst case of a split on bits
    VERY_LOW,     // what lies past the end, zeros or canaries, would win
    ANY_BITS,     // any float but NaN
    KINDS
} kind;

static float make_score(kind how, int64_t i) {
    const int64_t r = t_rand_range(0, 999);
    uint32_t      bits = 0x3f800000;
    float         f;
    switch (how) {
    case FEW_VALUES:
        return (float)(r % 5) - 2;
    case ALL_EQUAL:
        return -1.5f;
    case INFINITIES:
        return r < 50 ? INFINITY : r < 100 ? -INFINITY : t_rand_f32();
    case SIGNED_ZEROS:
        return r < 450 ? 0.0f : r < 900 ? -0.0f : t_rand_f32();
    case DENORMALS:
        bits = (uint32_t)t_rand_range(0, 20) | (r % 2 ? 0x80000000u : 0);
        break;
    case RISING:
        return (float)i;
    case FALLING:
        return (float)-i;
    case ONE_BIT_EACH:
        if (r < 23)
            bits |= 1u << r;
        else if (r < 40)
            bits >>= r - 23;
        break;
    case VERY_LOW:
        return -1000 * (float)(1 + r);
    case ANY_BITS:
        bits = (uint32_t)t_rand();
        if ((bits & 0x7f800000) == 0x7f800000) bits &= 0xff800000;
        break;
    default:
        return t_rand_f32();
    }
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static const float *sort_scores;

static int by_rank(const void *x, const void *y) {
    const int32_t i = *(const int32_t *)x, j = *(const int32_t *)y;
    if (sort_scores[i] != sort_scores[j]) return sort_scores[i] > sort_scores[j] ? -1 : 1;
    return i < j ? -1 : i > j;
}

static int by_position(const void *x, const void *y) {
    const int32_t i = *(const int32_t *)x, j = *(const int32_t *)y;
    return i < j ? -1 : i > j;
}

typedef struct problem {
    float   *scores;
    int32_t *ranked; // every position, the best first
    void    *scratch;
    int64_t  count;
} problem;

static void problem_init(problem *p, kind how, int64_t count) {
    p->count = count;
    p->scores = t_alloc((size_t)count * 4);
    p->ranked = t_alloc((size_t)count * 4);
    p->scratch = t_alloc((size_t)cn_topk_scratch_bytes(count));
    for (int64_t i = 0; i < count; i++) {
        p->scores[i] = make_score(how, i);
        p->ranked[i] = (int32_t)i;
    }
    sort_scores = p->scores;
    if (count > 0) qsort(p->ranked, (size_t)count, sizeof(int32_t), by_rank);
}

static void problem_release(problem *p) {
    t_free(p->scores), t_free(p->ranked), t_free(p->scratch);
}

static void run_and_compare(const cn_ops *ops, const problem *p, const int32_t *want, int32_t k,
                            float guess) {
    const int64_t size = k < p->count ? k : p->count;
    const float   threshold = k < p->count ? p->scores[p->ranked[k - 1]] : -INFINITY;
    int32_t      *set = t_alloc((size_t)size * 4);
    float         got = NAN;
    assert_err(ops->topk(&(cn_topk_args){.set = set,
                                         .threshold_out = &got,
                                         .scores = p->scores,
                                         .scratch = p->scratch,
                                         .count = p->count,
                                         .k = k,
                                         .guess = guess},
                         NULL),
               CN_OK);
    for (int64_t i = 0; i < size; i++)
        if (set[i] != want[i])
            t_fail(__FILE__, __LINE__, "guess %g: set[%lld] = %d, want %d", guess, (long long)i,
                   set[i], want[i]);
    if (got != threshold)
        t_fail(__FILE__, __LINE__, "guess %g: threshold %.9g, want %.9g", guess, got, threshold);
    t_check_canaries(p->scratch);
    t_free(set);
}

static void compare_all_guesses(const cn_ops *ops, int n, const problem *p, int32_t k) {
    const int64_t size = k < p->count ? k : p->count;
    int32_t      *want = t_alloc((size_t)size * 4);
    memcpy(want, p->ranked, (size_t)size * 4);
    if (size > 0) qsort(want, (size_t)size, sizeof(int32_t), by_position);

    const float exact = size > 0 ? p->scores[p->ranked[size - 1]] : 0;
    const float guesses[] = {NAN,           exact,          nextafterf(exact, -INFINITY),
                             exact - 0.05f, exact + 0.05f,  nextafterf(exact, INFINITY),
                             -0.0f,         exact * 2 + 10, exact * 2 - 10,
                             INFINITY,      -INFINITY,      -FLT_MAX};
    // The reference does not look at the guess: a few are enough, and it is slow.
    for (int v = 0; v < n; v++)
        for (size_t g = 0; g < (v == 0 ? 2 : sizeof(guesses) / sizeof(guesses[0])); g++)
            run_and_compare(&ops[v], p, want, k, guesses[g]);
    t_free(want);
}

static void test_topk_matches_reference(void **state) {
    (void)state;
    static const int64_t counts[] = {0, 1, 2, 15, 16, 17, 255, 4096, 131072};
    cn_ops               ops[CN_ISA_COUNT];
    const int            n = t_variants(ops);
    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
        const int64_t count = counts[c];
        for (int how = 0; how < KINDS; how++) {
            if (t_is_sanitized() && count > 4096 && how % 3 != 0) continue;
            problem p;
            problem_init(&p, (kind)how, count);
            const int64_t ks[] = {1, 2, 16, 2048, count - 1, count, count + 5};
            for (size_t i = 0; i < sizeof(ks) / sizeof(ks[0]); i++) {
                if (ks[i] < 1 || (i < 4 && ks[i] >= count)) continue;
                t_note("count=%lld kind=%d k=%lld", (long long)count, how, (long long)ks[i]);
                compare_all_guesses(ops, n, &p, (int32_t)ks[i]);
            }
            problem_release(&p);
        }
    }
}

/* k within a run of equal scores, at every place of the run: the lower positions win. */
static void test_topk_ties_take_lower_positions(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int n = t_variants(ops);
    problem   p;
    problem_init(&p, FEW_VALUES, 300);
    for (int32_t k = 1; k < 300; k++) {
        t_note("k=%d", k);
        compare_all_guesses(ops, n, &p, k);
    }
    problem_release(&p);
}

static void test_topk_refuses_nan(void **state) {
    (void)state;
    static const int64_t  counts[] = {1, 2, 16, 17, 255, 4096, 131072};
    static const uint32_t nan_bits[] = {0x7fc00000, 0xffc00000, 0x7f800001, 0xffffffff};
    cn_ops                ops[CN_ISA_COUNT];
    const int             n = t_variants(ops);
    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
        const int64_t count = counts[c], at[] = {0, count / 2, count - 1};
        problem       p;
        problem_init(&p, NORMAL, count);
        int32_t    *set = t_alloc((size_t)count * 4);
        const float exact = p.scores[p.ranked[count > 2048 ? 2047 : 0]];
        for (int bad = 0; bad < 3 * 4; bad++) {
            const float good = p.scores[at[bad / 4]];
            memcpy(&p.scores[at[bad / 4]], &nan_bits[bad % 4], 4);
            const int32_t ks[] = {1, 2048, (int32_t)count};
            const float   guesses[] = {NAN, exact, INFINITY, -INFINITY, 0};
            for (int v = 0; v < n; v++)
                for (int i = 0; i < 3 * 5; i++) {
                    t_note("%s count=%lld k=%d guess=%g NaN %d", cn_isa_name(ops[v].isa),
                           (long long)count, ks[i / 5], guesses[i % 5], bad);
                    assert_err(ops[v].topk(&(cn_topk_args){.set = set,
                                                           .scores = p.scores,
                                                           .scratch = p.scratch,
                                                           .count = count,
                                                           .k = ks[i / 5],
                                                           .guess = guesses[i % 5]},
                                           NULL),
                               CN_ENUMERIC);
                }
            t_check_canaries(set);
            p.scores[at[bad / 4]] = good;
        }
        t_free(set);
        problem_release(&p);
    }
}

static void test_topk_refuses(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int n = t_variants(ops);
    float     scores[8] = {0}, threshold = 7;
    int32_t   set[8];
    uint8_t  *scratch = t_alloc((size_t)cn_topk_scratch_bytes(8));
    memset(set, 0xA5, sizeof(set));
    const cn_topk_args good = {.set = set,
                               .threshold_out = &threshold,
                               .scores = scores,
                               .scratch = scratch,
                               .count = 8,
                               .k = 2,
                               .guess = NAN};
    cn_topk_args       bad[8];
    int                cases = 0;
#define BAD(field, value) bad[cases] = good, bad[cases++].field = (value)
    BAD(set, NULL);
    BAD(scores, NULL);
    BAD(scratch, NULL);
    BAD(scratch, scratch + 32);
    BAD(count, -1);
    BAD(count, (int64_t)CN_TOPK_SCORES_MAX + 1);
    BAD(k, 0);
    BAD(k, -1);
#undef BAD
    for (int v = 0; v < n; v++) {
        for (int c = 0; c < cases; c++) {
            t_note("%s case %d", cn_isa_name(ops[v].isa), c);
            assert_err(ops[v].topk(&bad[c], NULL), CN_EINVAL);
            assert_true(threshold == 7);
        }
        for (size_t i = 0; i < sizeof(set); i++) assert_int_equal(((uint8_t *)set)[i], 0xA5);
    }
    t_free(scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topk_matches_reference),
        cmocka_unit_test(test_topk_ties_take_lower_positions),
        cmocka_unit_test(test_topk_refuses_nan),
        cmocka_unit_test(test_topk_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
