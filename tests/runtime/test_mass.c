/*
 * test_mass.c - cairn bench retrieval --mass: the sums by hand, and whole runs in which some
 * numbers must be exact.
 */
#include "tests/runtime/cairn.h"

#include "runtime/mass.h"

#include <math.h>

static char repo[256], state[256], questions[300];

static void new_repo(void) {
    static int number;
    snprintf(repo, sizeof(repo), "%s/repo%d", t_tmp_dir(), number);
    snprintf(state, sizeof(state), "%s/state%d", t_tmp_dir(), number);
    snprintf(questions, sizeof(questions), "%s/questions%d", t_tmp_dir(), number++);
    t_shell("mkdir -p %s %s/base && cp %s/base/*.[ch] %s/base", state, repo, CN_SOURCE_DIR, repo);
}

static void test_top_sums(void **unused) {
    (void)unused;
    static const float   key[] = {1, 5, 3, 5, 2, 3}, value[] = {.1f, .2f, .3f, .4f, .5f, .6f};
    static const int32_t k[] = {1, 2, 4, 6, 9};
    cn_mass_item         scratch[6];
    double               sum[5];
    // By key: 1 and 3 (a tie, the lower first), 2 and 5 (likewise), 4, 0.
    cn_mass_top_sums(key, value, 6, k, 5, scratch, sum);
    assert_float_equal(sum[0], .2, 1e-6);
    assert_float_equal(sum[1], .6, 1e-6);
    assert_float_equal(sum[2], 1.5, 1e-6);
    assert_float_equal(sum[3], 2.1, 1e-6);
    assert_float_equal(sum[4], 2.1, 1e-6);
    cn_mass_top_sums(key, value, 0, k, 5, scratch, sum);
    assert_true(sum[0] == 0 && sum[4] == 0);
}

/* Against a plain selection, with many ties. */
static void test_top_sums_of_many(void **unused) {
    (void)unused;
    enum { COUNT = 700, SETS = 3 };
    static float         key[COUNT], value[COUNT];
    static cn_mass_item  scratch[COUNT];
    static const int32_t k[SETS] = {3, 100, 450};
    t_seed(3);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < COUNT; i++) {
            key[i] = (float)t_rand_range(0, round % 2 ? 20 : 1 << 20);
            value[i] = t_rand_f32();
        }
        double got[SETS];
        cn_mass_top_sums(key, value, COUNT, k, SETS, scratch, got);
        for (int s = 0; s < SETS; s++) {
            double want = 0;
            for (int i = 0; i < COUNT; i++) {
                int before = 0;
                for (int j = 0; j < COUNT; j++)
                    before += key[j] > key[i] || (key[j] == key[i] && j < i);
                if (before < k[s]) want += (double)value[i];
            }
            assert_float_equal(got[s], want, 1e-3);
        }
    }
}

static void test_cross_entropy(void **unused) {
    (void)unused;
    static const float even[] = {7, 7, 7, 7}, one[] = {100, 0, -100};
    assert_float_equal(cn_mass_cross_entropy(even, 4, 2), log(4), 1e-9);
    assert_float_equal(cn_mass_cross_entropy(one, 3, 0), 0, 1e-9);
    assert_float_equal(cn_mass_cross_entropy(one, 3, 1), 100, 1e-9);
}

static cn_json_doc *run(int budget, const char *options) {
    const t_result *r = t_cairn("bench retrieval --mass --json -C %s --state %s --budget %d %s",
                                repo, state, budget, options);
    if (r->status) t_fail(__FILE__, __LINE__, "%s", r->output);
    return t_last_line(r);
}

static double number_of(const cn_json *set, const char *key) {
    double d = NAN;
    assert_true(cn_json_f64(cn_json_get(set, key), &d));
    return d;
}

/* No set holds more than the best of its kind, a larger one not less; all is at most 1. */
static void check_order(const cn_json_doc *doc) {
    double       before[3] = {0};
    const double local = t_f64(doc, "local_mass");
    assert_true(local < 1 && (local > 0) == (t_f64(doc, "index_local") > 0));
    assert_int_equal(cn_json_count(t_member(doc, "sets")), CN_MASS_SETS);
    for (const cn_json *s = cn_json_first(t_member(doc, "sets")); s; s = cn_json_next(s)) {
        const double share[] = {number_of(s, "index"), number_of(s, "oracle"),
                                number_of(s, "oracle_by_layer")};
        assert_true(share[0] <= share[1] + 1e-5 && share[1] <= share[2] + 1e-5);
        for (int i = 0; i < 3; i++) {
            assert_true(share[i] >= before[i] && share[i] + local <= 1 + 1e-4);
            before[i] = share[i];
        }
        assert_float_equal(number_of(s, "index_with_local"), share[0] + local, 1e-5);
        assert_true(number_of(s, "ce_error") >= 0);
    }
}

/* A view in which the largest set leaves nothing out: it holds all, and costs nothing, to the bit;
 * the smallest one does not. */
static void test_a_set_of_all_is_dense(void **unused) {
    (void)unused;
    new_repo();
    cn_json_doc *doc = run(2048, "--places 24");
    check_order(doc);
    assert_int_equal(t_int(doc, "places"), 24);
    assert_true(t_f64(doc, "view_tokens") > 1024 && t_f64(doc, "view_tokens") < 2048);
    assert_true(t_f64(doc, "dense_ce") > 0);
    const double local = t_f64(doc, "local_mass");
    int          sets = 0;
    for (const cn_json *s = cn_json_first(t_member(doc, "sets")); s; s = cn_json_next(s), sets++) {
        if (sets == 0) {
            assert_true(number_of(s, "index") + local < .999);
            assert_true(number_of(s, "ce_change") != 0 && number_of(s, "ce_error") > 0);
        }
        if (sets < CN_MASS_SETS - 1) continue;
        assert_float_equal(number_of(s, "index") + local, 1, 1e-4);
        assert_float_equal(number_of(s, "oracle_by_layer") + local, 1, 1e-4);
        assert_true(number_of(s, "ce_change") == 0 && number_of(s, "ce_error") == 0);
    }
    cn_json_free(doc);
}

/* What the index takes is far better than chance: most of what any set could hold. */
static void test_the_index_is_near_the_best(void **unused) {
    (void)unused;
    new_repo();
    cn_json_doc *doc = run(4096, "--places 24");
    check_order(doc);
    const cn_json *set = cn_json_first(t_member(doc, "sets"));
    assert_true(number_of(set, "index") > .6 * number_of(set, "oracle"));
    assert_true(number_of(set, "oracle") < number_of(set, "oracle_by_layer"));
    assert_true(t_f64(doc, "dense_ce") < 4); // of 9.7 nats by chance: what follows is what is asked
    cn_json_free(doc);
}

/* The tokens of an answer and its end are predicted; a turn with a call is not. */
static void test_answers(void **unused) {
    (void)unused;
    static const char item[] =
        "{\"type\":\"a\",\"turns\":[{\"q\":\"Where is cn_buf_put defined?\","
        "\"answer\":\"cn_buf_put is defined in base/buf.c\"},"
        "{\"q\":\"List "
        "base\",\"calls\":[{\"name\":\"list_dir\",\"arguments\":{\"path\":\"base\"}}],"
        "\"answer\":\"x\"}]}\n";
    char options[400];
    new_repo();
    FILE *f = fopen(questions, "w");
    assert_non_null(f);
    assert_true(fputs(item, f) >= 0 && fclose(f) == 0);
    snprintf(options, sizeof(options), "--questions %s", questions);
    cn_json_doc *doc = run(2048, options);
    check_order(doc);
    assert_int_equal(t_int(doc, "sequences"), 1);
    assert_int_equal(t_int(doc, "passed"), 1);
    assert_true(t_int(doc, "places") > 5 && t_int(doc, "places") < 30);
    cn_json_free(doc);

    f = fopen(questions, "a");
    assert_true(f && fputs("{}\n", f) >= 0 && fclose(f) == 0);
    t_assert_error(t_cairn("bench retrieval --mass --json -C %s --state %s --budget 2048 %s", repo,
                           state, options),
                   "ECORRUPT", "line 2");
}

static void test_models_without_a_shared_index_are_refused(void **unused) {
    (void)unused;
    new_repo();
    t_assert_error(t_cairn("bench retrieval --mass --json -C %s --state %s --model "
                           "%s/tests/golden/tiny-b-yoco",
                           repo, state, CN_SOURCE_DIR),
                   "EUNSUPPORTED", "");
    t_shell("test -z \"$(ls -A %s)\"", state);
    assert_int_equal(t_cairn("bench retrieval --mass --places 0 -C %s", repo)->status, 2);
    assert_int_equal(t_cairn("bench retrieval --mass --dense -C %s", repo)->status, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_top_sums),
        cmocka_unit_test(test_top_sums_of_many),
        cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_a_set_of_all_is_dense),
        cmocka_unit_test(test_the_index_is_near_the_best),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_models_without_a_shared_index_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
