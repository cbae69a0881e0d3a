/*
 * test_quote.c - The price before it is paid, as its users see it: cached, to prefill, seconds,
 * and a reason for each missing document; and a view that is pinned.
 */
#include "tests/runtime/cairn.h"

#include "runtime/quote.h"

static char repo[T_PATH_BYTES], state[T_PATH_BYTES];

static int new_repo(void **unused) {
    (void)unused;
    t_new_repo(repo, state);
    return 0;
}

#define cairn(command, fmt, ...) t_cairn(command " --state %s -C %s " fmt, state, repo, __VA_ARGS__)
#define ask(options) cairn("ask", "--max-tokens 4 %s \"what is here?\"", options)

static const t_result *done(const t_result *r) {
    if (r->status) t_fail(__FILE__, __LINE__, "%s", r->output);
    return r;
}

static void assert_says(const t_result *r, const char *text) {
    if (!strstr(done(r)->output, text))
        t_fail(__FILE__, __LINE__, "no \"%s\" in %s", text, r->output);
}

/* ---- Of a session ---------------------------------------------------------------------- */

static void test_the_price_of_a_session(void **unused) {
    (void)unused;
    // Nobody has measured yet how long a token takes.
    const t_result *r = cairn("context", "--dry-run %s", "--budget 4096");
    assert_says(r, "to prefill, no rate measured yet\n  new ");
    cn_json_doc *doc = t_last_line(done(cairn("context", "--json --dry-run %s", "--budget 4096")));
    assert_int_equal(cn_json_type_of(t_member(doc, "price.expected_s")), CN_JSON_NULL);
    const int64_t tokens = t_int(doc, "context_tokens");
    assert_int_equal(t_int(doc, "price.to_prefill_tokens"), tokens);
    assert_int_equal(cn_json_count(t_member(doc, "missed")), t_int(doc, "missing_documents"));
    cn_json_free(doc);

    doc = t_last_line(done(ask("--json --budget 4096")));
    assert_int_equal(t_int(doc, "price.to_prefill_tokens"), tokens);
    int64_t sum = 0;
    for (const cn_json *m = cn_json_first(t_member(doc, "missed")); m; m = cn_json_next(m)) {
        int64_t n = 0;
        assert_true(cn_json_int64(cn_json_get(m, "tokens"), &n));
        assert_string_equal(cn_json_string(cn_json_get(m, "reason")), "new");
        sum += n;
    }
    assert_int_equal(sum, t_int(doc, "bill.prefilled_tokens"));
    cn_json_free(doc);

    // A resume says that it costs nothing; with a rate, seconds are expected.
    assert_says(ask("-c"), "cached, 0 to prefill\n");
    t_shell("cd %s && sed -i '2i// moved' base/buf.h && git mv base/utf8.h base/letters.h", repo);
    r = cairn("context", "-c --dry-run %s", "");
    assert_says(r, " to prefill, about ");
    assert_says(r, "  changed   1 document, ");
    assert_says(r, "base/buf.h (line 2, token ");
    assert_says(r, "base/letters.h (was base/utf8.h)");
    r = ask("-c --verbose");
    assert_says(r, " to prefill, about ");
    assert_says(r, "base/buf.h lines 1-");
    assert_says(r, ": changed, line 2, token ");
    assert_says(r, "base/letters.h lines 1-");
    assert_says(r, ": new, was base/utf8.h\n");

    // What it was has left the store.
    t_shell("rm -rf %s/cache && sed -i '3i// again' %s/base/buf.h", state, repo);
    doc = t_last_line(done(cairn("context", "-c --json --dry-run %s", "")));
    bool was_found = false;
    for (const cn_json *m = cn_json_first(t_member(doc, "missed")); m; m = cn_json_next(m)) {
        const bool is_it = strcmp(cn_json_string(cn_json_get(m, "path")), "base/buf.h") == 0;
        assert_string_equal(cn_json_string(cn_json_get(m, "reason")),
                            is_it ? "changed" : "evicted");
        if (is_it) assert_int_equal(cn_json_type_of(cn_json_get(m, "line")), CN_JSON_NULL);
        was_found |= is_it;
    }
    assert_true(was_found);
    assert_true(t_f64(doc, "price.expected_s") > 0);
    cn_json_free(doc);
    assert_says(cairn("context", "-c --dry-run %s", ""), "where is not known");
}

static void test_a_pin_is_said(void **unused) {
    (void)unused;
    done(ask("--budget 2048"));
    t_shell("cd %s && rm base/buf.h && git commit -qam less", repo);
    const t_result *r = ask("-c --pin");
    assert_says(r, "\nview pinned at ");
    assert_says(r, "cached, 0 to prefill");
    assert_says(cairn("context", "-c --dry-run %s", ""), "pinned: the view stays as it was");
    cn_json_doc *doc = t_last_line(done(ask("-c --json")));
    bool         is_pinned = false;
    assert_true(cn_json_bool(t_member(doc, "pinned"), &is_pinned) && is_pinned);
    const int64_t tokens = t_int(doc, "bill.context_tokens");
    cn_json_free(doc);
    r = ask("-c --unpin");
    assert_null(strstr(done(r)->output, "pinned"));
    doc = t_last_line(done(ask("-c --json")));
    assert_true(t_int(doc, "bill.context_tokens") != tokens);
    cn_json_free(doc);
    assert_int_equal(ask("-c --pin --unpin")->status, 2);
    assert_int_equal(ask("-c -s x")->status, 2);
}

static void test_a_session_moves_with_its_repository(void **unused) {
    (void)unused;
    char         id[64], there[T_PATH_BYTES];
    cn_json_doc *doc = t_last_line(done(ask("--json --budget 2048")));
    snprintf(id, sizeof(id), "%s", cn_json_string(t_member(doc, "session")));
    cn_json_free(doc);
    snprintf(there, sizeof(there), "%s/there", t_tmp_dir());
    t_shell("mv %s %s", repo, there);
    t_assert_error(t_cairn("ask --json --state %s -s %s x", state, id), "ENOTFOUND",
                   "nothing is lost");
    t_assert_error(t_cairn("ask --json --state %s -C %s -c x", state, there), "ENOTFOUND", id);
    assert_says(t_cairn("ask --max-tokens 4 --state %s -C %s -s %s x", state, there, id),
                " has moved from ");
    assert_says(t_cairn("ask --max-tokens 4 --state %s -C %s -c x", state, there),
                "cached, 0 to prefill");
}

/* ---- Of numbers ------------------------------------------------------------------------ */

static void test_files_are_named_up_to_a_few(void **unused) {
    (void)unused;
    cn_context_miss miss[7] = {{.path = "a", .tokens = 1000, .why = CN_MISS_EVICTED},
                               {.path = "a", .tokens = 500, .why = CN_MISS_EVICTED},
                               {.path = "b", .tokens = 1, .why = CN_MISS_EVICTED},
                               {.path = "c", .tokens = 1, .why = CN_MISS_EVICTED},
                               {.path = "d", .tokens = 1, .why = CN_MISS_EVICTED},
                               {.path = "e", .tokens = 1, .why = CN_MISS_EVICTED},
                               {.path = "f", .tokens = 7, .why = CN_MISS_CHANGED}};
    const cn_quote  q = {10, 1511, 2e7, miss, 7};
    char           *text;
    size_t          bytes;
    FILE           *f = open_memstream(&text, &bytes);
    cn_quote_print(f, &q);
    assert_int_equal(fclose(f), 0);
    assert_string_equal(text, "context 1,521 tok: 10 cached, 1,511 to prefill, about 30 s\n"
                              "  changed   1 document, 7 tok: f (where is not known: what it was "
                              "has left the store)\n"
                              "  evicted   6 documents, 1,504 tok: a, b, c and 2 files more\n");
    free(text);
    assert_true(cn_quote_seconds(&q) > 30.2 && cn_quote_seconds(&q) < 30.3);
    assert_true(cn_quote_seconds(&(cn_quote){.missing_tokens = 1}) < 0);
    assert_true(cn_quote_seconds(&(cn_quote){.cached_tokens = 1}) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_the_price_of_a_session, new_repo),
        cmocka_unit_test_setup(test_a_pin_is_said, new_repo),
        cmocka_unit_test_setup(test_a_session_moves_with_its_repository, new_repo),
        cmocka_unit_test(test_files_are_named_up_to_a_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
