/*
 * test_cost.c - What turns in processes of their own cost: each bill of the ledger adds up, however
 * its turn ended, sums are sums, and prices are tokens times the configuration's.
 */
#include "tests/runtime/cairn.h"

static char repo[T_PATH_BYTES], state[T_PATH_BYTES];

static const t_result *ask(const char *options) {
    return t_cairn("ask --json --budget 3000 --model %s/tests/golden/tiny-b --state %s -C %s %s "
                   "'what is here?'",
                   t_source_dir(), state, repo, options);
}

static void new_repo(void) {
    t_new_repo(repo, state);
}

static cn_json_doc *cost(const char *options) {
    return t_last_line(t_cairn("cost --json --model %s/tests/golden/tiny-b --state %s %s",
                               t_source_dir(), state, options));
}

static double number(const cn_json *row, const char *key) {
    double d = 0;
    if (!cn_json_f64(cn_json_get(row, key), &d)) t_fail(__FILE__, __LINE__, "no %s", key);
    return d;
}

/* A turn with its own cairn, which dies at the n-th fault point. */
static void die(int n) {
    char crash[32];
    snprintf(crash, sizeof(crash), "crash:%d", n);
    setenv("CAIRN_FAULT", crash, 1);
    t_shell("%s ask --json --model %s/tests/golden/tiny-b --state %s -C %s -c 'and now?' "
            ">%s/out 2>&1 || true",
            t_cairn_path(), t_source_dir(), state, repo, t_tmp_dir());
    unsetenv("CAIRN_FAULT");
}

/* Turns that end, that are stopped, and that die; a lost cache; a changed file: one ledger. */
static void test_every_turn_of_a_ledger_adds_up(void **unused) {
    (void)unused;
    new_repo();
    cn_json_free(t_last_line(ask("--max-tokens 20")));
    cn_json_free(t_last_line(ask("-c --max-tokens 200")));
    t_shell("sed -i '20i // one more line' %s/base/clock.c", repo);
    cn_json_free(t_last_line(ask("-c --max-tokens 20")));
    for (int n = 100; n < 1000; n += t_is_sanitized() ? 400 : 150) die(n);
    t_shell("rm -rf %s/cache", state);
    cn_json_free(t_last_line(ask("-c --max-tokens 20")));
    // Interrupted, by a signal that comes when it comes.
    t_shell("timeout -s INT 0.3 %s ask --json --model %s/tests/golden/tiny-b --state %s -C %s "
            "--isa ref --max-tokens 1000 'and now?' >%s/out 2>&1 || true",
            t_cairn_path(), t_source_dir(), state, repo, t_tmp_dir());

    cn_json_doc *turns = cost("--by turn"), *sessions = cost("--by session");
    int64_t      rows = 0, output = 0;
    double       wall = 0, saved = 0, without = 0;
    for (const cn_json *c = cn_json_first(t_member(turns, "costs")); c; c = cn_json_next(c)) {
        const cn_json *bill = cn_json_get(c, "bill");
        double         d;
        t_note("turn %g", number(c, "turn"));
        t_check_bill(bill);
        rows++;
        output += (int64_t)number(bill, "output_tokens");
        wall += number(cn_json_get(bill, "ms"), "wall");
        if (cn_json_f64(cn_json_get(bill, "saved_ms"), &d)) saved += d;
        without += cn_json_f64(cn_json_get(bill, "no_cache_ms"), &d)
                       ? d
                       : number(cn_json_get(bill, "ms"), "wall");
    }
    assert_true(rows >= 6);
    // The same sum, from turns and from sessions.
    for (int i = 0; i < 2; i++) {
        const cn_json_doc *doc = i ? sessions : turns;
        assert_int_equal(t_int(doc, "sum.turns"), rows);
        assert_int_equal(t_int(doc, "sum.bill.output_tokens"), output);
        assert_true(fabs(t_f64(doc, "sum.bill.ms.wall") - wall) < 0.01 * (double)rows);
        assert_true(fabs(t_f64(doc, "sum.bill.saved_ms") - saved) < 0.01 * (double)rows);
    }
    assert_true(fabs(t_f64(turns, "sum.bill.no_cache_ms") - without) < 0.01 * (double)rows);
    cn_json_free(turns);
    cn_json_free(sessions);
}

/* As price.h says; a row's, and the sum's. */
static void test_prices(void **unused) {
    (void)unused;
    char path[300];
    new_repo();
    cn_json_free(t_last_line(ask("--max-tokens 20")));
    cn_json_free(t_last_line(ask("-c --max-tokens 20")));
    cn_json_doc *doc = cost("");
    assert_null(cn_json_get(t_member(doc, "sum"), "price"));
    cn_json_free(doc);
    assert_null(strstr(t_cairn("cost --state %s", state)->output, "hosted"));

    snprintf(path, sizeof(path), "%s/prices.conf", t_tmp_dir());
    static const struct {
        const char *conf;
        double      write, read;
        const char *currency;
    } cases[] = {{"[prices]\\ncurrency = EUR\\ninput = 3\\ncache_write = 3.75\\ncache_read = 0.3\\n"
                  "output = 15\\n",
                  3.75, 0.3, "EUR"},
                 {"[prices]\\ninput = 3\\noutput = 15\\n", 3, 3, NULL}};
    for (int i = 0; i < 2; i++) {
        char options[400];
        t_shell("printf '%s' >%s", cases[i].conf, path);
        snprintf(options, sizeof(options), "--config %s", path);
        doc = cost(options);
        double cached = 0, no_cache = 0;
        for (const cn_json *c = cn_json_first(t_member(doc, "costs")); c; c = cn_json_next(c)) {
            const cn_json *bill = cn_json_get(c, "bill"), *price = cn_json_get(c, "price");
            const double   fresh = number(bill, "prefilled_tokens") + number(bill, "prompt_tokens");
            const double   reused = number(bill, "reused_tokens");
            const double   output = 15 * number(bill, "output_tokens");
            const char    *currency = cn_json_string(cn_json_get(price, "currency"));
            const double   want = (fresh * cases[i].write + reused * cases[i].read + output) / 1e6;
            const double   all = (3 * (fresh + reused) + output) / 1e6;
            assert_true(fabs(number(price, "cached") - want) < 1e-9 && want > 0);
            assert_true(fabs(number(price, "no_cache") - all) < 1e-9);
            if (cases[i].currency) assert_string_equal(currency, cases[i].currency);
            cached += want;
            no_cache += all;
        }
        assert_true(fabs(t_f64(doc, "sum.price.cached") - cached) < 1e-9);
        assert_true(fabs(t_f64(doc, "sum.price.no_cache") - no_cache) < 1e-9);
        cn_json_free(doc);
    }
    const t_result *r = t_cairn("cost --state %s --config %s", state, path);
    assert_non_null(strstr(r->output, "hosted"));
    assert_non_null(strstr(r->output, "\nsum "));
    // Half a price list is none.
    t_shell("printf '[prices]\\ninput = 3\\n' >%s", path);
    assert_null(strstr(t_cairn("cost --state %s --config %s", state, path)->output, "hosted"));
}

/* The cost line says what was saved only where that is known. */
static void test_a_saving_that_is_not_known(void **unused) {
    (void)unused;
    new_repo();
    cn_json_free(t_last_line(ask("--max-tokens 5 --threads 1")));
    for (int threads = 1; threads <= 2; threads++) {
        char options[64];
        snprintf(options, sizeof(options), "-c --max-tokens 5 --threads %d", threads);
        cn_json_doc   *doc = t_last_line(ask(options));
        const cn_json *bill = t_member(doc, "bill");
        const bool     is_known = threads == 1; // the one that prefilled, and was measured
        assert_int_equal(cn_json_type_of(cn_json_get(bill, "saved_ms")),
                         is_known ? CN_JSON_NUMBER : CN_JSON_NULL);
        cn_json_free(doc);
        const t_result *r = t_cairn("ask -c --model %s/tests/golden/tiny-b --state %s -C %s "
                                    "--max-tokens 5 --threads %d hello",
                                    t_source_dir(), state, repo, threads);
        assert_int_equal(strstr(r->output, "saved ") != NULL, is_known);
        assert_non_null(strstr(r->output, " tok/s)"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_turn_of_a_ledger_adds_up),
        cmocka_unit_test(test_prices),
        cmocka_unit_test(test_a_saving_that_is_not_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
