/*
 * test_ask.c - The product as its users see it: a real repository, the default model, processes.
 */
#include "tests/runtime/cairn.h"

#include <math.h>
#include <sys/stat.h>

enum { BUDGET = 4096, TURNS = 30 };

static char repo[T_PATH_BYTES], state[T_PATH_BYTES];

static void new_repo(void) {
    t_new_repo(repo, state);
}

/* One turn in a process of its own; its bill adds up.  Freed by cn_json_free. */
static cn_json_doc *ask(const char *options, const char *question) {
    const t_result *r = t_cairn("ask --json --state %s -C %s --max-tokens 40 %s '%s'", state, repo,
                                options, question);
    if (r->status) t_fail(__FILE__, __LINE__, "%s", r->output);
    cn_json_doc *doc = t_last_line(r);
    t_check_bill(t_member(doc, "bill"));
    return doc;
}

static void test_a_repository_over_many_turns(void **unused) {
    (void)unused;
    new_repo();
    char first[64];
    snprintf(first, sizeof(first), "--budget %d", BUDGET);
    cn_json_doc  *doc = ask(first, "Where is cn_buf_put defined?");
    const int64_t context = t_int(doc, "bill.context_tokens");
    assert_true(context > BUDGET / 2 && context <= BUDGET + BUDGET / 4);
    assert_int_equal(t_int(doc, "bill.prefilled_tokens"), context);
    cn_json_free(doc);

    // Another process goes on with nothing to prefill.
    doc = ask("-c", "Where is cn_buf_put defined?");
    assert_int_equal(t_int(doc, "bill.prefilled_tokens"), 0);
    assert_int_equal(t_int(doc, "turn"), 2);
    cn_json_free(doc);

    // A new session on the same view: nothing either.
    doc = ask(first, "Where is cn_buf_put defined?");
    assert_int_equal(t_int(doc, "bill.prefilled_tokens"), 0);
    assert_int_equal(t_int(doc, "turn"), 1);
    cn_json_free(doc);

    // An edit of a file that is in the view costs its documents; taken back, nothing.
    char path[256];
    doc = t_last_line(t_cairn("context --json --dry-run --state %s -C %s -c", state, repo));
    snprintf(path, sizeof(path), "%s",
             cn_json_string(cn_json_get(cn_json_first(t_member(doc, "documents")), "path")));
    cn_json_free(doc);
    t_shell("cd %s && sed -i '20i // one more line' %s", repo, path);
    doc = ask("-c", "Where is cn_buf_put defined?");
    const int64_t edited = t_int(doc, "bill.prefilled_tokens");
    assert_true(edited > 0 && edited <= 4200);
    cn_json_free(doc);
    t_shell("cd %s && git checkout -q .", repo);
    doc = ask("-c", "Where is cn_buf_put defined?");
    assert_int_equal(t_int(doc, "bill.prefilled_tokens"), 0);
    cn_json_free(doc);

    // The cache deleted: a prefill, and the same session goes on.
    t_shell("rm -rf %s/cache", state);
    doc = ask("-c", "Where is cn_buf_put defined?");
    assert_int_equal(t_int(doc, "bill.prefilled_tokens"), context);
    assert_int_equal(t_int(doc, "turn"), 4);
    cn_json_free(doc);
}

/* Thirty turns with tool calls: every bill holds (ask checks it), and the ledger agrees. */
static void test_thirty_turns_add_up(void **unused) {
    (void)unused;
    static const char *const questions[] = {
        "Where is cn_buf_put defined?",           "What files are in base?",
        "Show the last commits of base/buf.c",    "Find cn_fail",
        "What is the value of CN_BUF_BYTES_MAX?", "Show lines 1 to 5 of base/buf.c"};
    const int turns = t_is_sanitized() ? 3 : TURNS;
    int64_t   output = 0, prompt = 0, calls = 0;
    double    wall = 0;
    char      id[64] = "";
    new_repo();
    for (int i = 0; i < turns; i++) {
        cn_json_doc *doc = ask(i ? "-c" : "--budget 2048", questions[i % 6]);
        snprintf(id, sizeof(id), "%s", cn_json_string(t_member(doc, "session")));
        assert_int_equal(t_int(doc, "turn"), i + 1);
        assert_true(i == 0 || t_int(doc, "bill.prefilled_tokens") == 0);
        output += t_int(doc, "bill.output_tokens");
        prompt += t_int(doc, "bill.prompt_tokens");
        wall += t_f64(doc, "bill.ms.wall");
        calls += cn_json_count(t_member(doc, "tools"));
        cn_json_free(doc);
    }
    assert_true(t_is_sanitized() || calls > 0); // the model does call tools
    cn_json_doc *doc = t_last_line(t_cairn("cost --json --by session --state %s -s %s", state, id));
    const cn_json *row = cn_json_first(t_member(doc, "costs"));
    int64_t        n = 0;
    double         d = 0;
    assert_non_null(row);
    assert_true(cn_json_int64(cn_json_get(row, "turns"), &n) && n == turns);
    const cn_json *bill = cn_json_get(row, "bill");
    assert_true(cn_json_int64(cn_json_get(bill, "output_tokens"), &n) && n == output);
    assert_true(cn_json_int64(cn_json_get(bill, "prompt_tokens"), &n) && n == prompt);
    assert_true(cn_json_f64(cn_json_get(cn_json_get(bill, "ms"), "wall"), &d));
    assert_true(fabs(d - wall) <= 1e-3 * wall);
    cn_json_free(doc);
    doc = t_last_line(t_cairn("sessions show %s --json --state %s", id, state));
    assert_int_equal(cn_json_count(t_member(doc, "turns")), turns);
    assert_int_equal(cn_json_count(t_member(doc, "tools")), calls);
    cn_json_free(doc);
}

static void test_context_says_the_price_first(void **unused) {
    (void)unused;
    new_repo();
    cn_json_doc *doc = t_last_line(
        t_cairn("context --json --dry-run --state %s -C %s --budget %d", state, repo, BUDGET));
    const int64_t tokens = t_int(doc, "context_tokens");
    assert_int_equal(t_int(doc, "missing_tokens"), tokens);
    assert_int_equal(t_int(doc, "prefilled_tokens"), 0);
    assert_true(t_int(doc, "left_files") > 0);
    assert_int_equal(cn_json_count(t_member(doc, "left")), t_int(doc, "left_files"));
    int64_t sum = 0, first_line = 0, next_line = 0, lines = 0, n = 0;
    for (const cn_json *d = cn_json_first(t_member(doc, "documents")); d; d = cn_json_next(d)) {
        assert_true(cn_json_int64(cn_json_get(d, "tokens"), &n) && n > 0);
        sum += n;
        assert_true(cn_json_int64(cn_json_get(d, "first_line"), &first_line));
        assert_true(cn_json_int64(cn_json_get(d, "lines"), &lines));
        assert_true(first_line == 1 || first_line == next_line); // pieces follow each other
        next_line = first_line + lines;
        assert_non_null(cn_json_string(cn_json_get(d, "path")));
    }
    assert_int_equal(sum, tokens);
    cn_json_free(doc);
    doc = t_last_line(t_cairn("context --json --state %s -C %s --budget %d", state, repo, BUDGET));
    assert_int_equal(t_int(doc, "prefilled_tokens"), tokens);
    cn_json_free(doc);
    doc = t_last_line(
        t_cairn("context --json --dry-run --state %s -C %s --budget %d", state, repo, BUDGET));
    assert_int_equal(t_int(doc, "cached_tokens"), tokens);
    assert_int_equal(t_int(doc, "files_read"), 0); // the ledger remembers how each blob is cut
    cn_json_free(doc);
}

static void test_failures_are_clear(void **unused) {
    (void)unused;
    new_repo();
    t_assert_error(t_cairn("ask --json --state %s -C /nowhere/at/all hello", state), "ENOTFOUND",
                   "/nowhere/at/all");
    t_assert_error(t_cairn("ask --json --state %s -C %s -c hello", state, repo), "ENOTFOUND", "");
    t_assert_error(t_cairn("ask --json --state %s -s nobody hello", state), "ENOTFOUND", "nobody");
    assert_int_equal(t_cairn("ask --state %s", state)->status, 2);
    assert_int_equal(t_cairn("ask --state %s -c -s x hello", state)->status, 2);
    assert_int_equal(t_cairn("cost --state %s --by weather", state)->status, 2);
    t_shell("printf x > %s/file", t_tmp_dir()); // a state folder that is a file
    t_assert_error(t_cairn("ask --json --state %s/file/state -C %s hello", t_tmp_dir(), repo),
                   "EIO", "file");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_repository_over_many_turns),
        cmocka_unit_test(test_thirty_turns_add_up),
        cmocka_unit_test(test_context_says_the_price_first),
        cmocka_unit_test(test_failures_are_clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
