/*
 * test_context.c - cairn context on a session, as its users see it: what the view holds, long
 * questions too, what is added and dropped, and what the next turn pays for it.
 */
#include "tests/runtime/cairn.h"

enum { BUDGET = 2048 };

static char repo[T_PATH_BYTES], state[T_PATH_BYTES], model[T_PATH_BYTES];

static int find_model(void **unused) {
    (void)unused;
    snprintf(model, sizeof(model), "%s/examples/models/cairn-nano", t_source_dir());
    return 0;
}

static int new_repo(void **unused) {
    (void)unused;
    t_new_repo(repo, state);
    return 0;
}

/* `cairn COMMAND ...` on this model and state; it must work. */
#define cairn(command, fmt, ...)                                                                   \
    t_cairn(command " --json --model %s --state %s -C %s " fmt, model, state, repo, __VA_ARGS__)

static cn_json_doc *done(const t_result *r) {
    if (r->status) t_fail(__FILE__, __LINE__, "%s", r->output);
    return t_last_line(r);
}

static cn_json_doc *ask(const char *options, const char *question) {
    return done(cairn("ask", "--max-tokens 4 %s \"%s\"", options, question));
}

/* A file of this project, asked as a question. */
static cn_json_doc *ask_file(const char *options, const char *path) {
    return done(cairn("ask", "--max-tokens 4 %s \"$(cat %s/%s)\"", options, CN_SOURCE_DIR, path));
}

static int64_t take_int(cn_json_doc *doc, const char *path) {
    const int64_t n = t_int(doc, path);
    cn_json_free(doc);
    return n;
}

static void test_a_session_and_its_parts(void **unused) {
    (void)unused;
    char first[32];
    snprintf(first, sizeof(first), "--budget %d", BUDGET);
    const int64_t all = take_int(ask_file(first, "base/json.h"), "bill.prefilled_tokens");
    cn_json_doc  *doc = done(cairn("context", "-c --dry-run %s", ""));
    assert_int_equal(t_int(doc, "context_tokens"), all);
    assert_int_equal(t_int(doc, "missing_tokens"), 0);
    assert_int_equal(t_int(doc, "refs"), 1);
    assert_true(t_int(doc, "ref_tokens") > 512);
    assert_int_equal(t_int(doc, "file_tokens") + t_int(doc, "ref_tokens"), all);
    const int64_t question = t_int(doc, "ref_tokens");
    cn_json_free(doc);
    assert_int_equal(take_int(ask("-c", "and why?"), "bill.prefilled_tokens"), 0);
    const t_result *r =
        t_cairn("context --model %s --state %s -C %s -c --dry-run", model, state, repo);
    assert_non_null(strstr(r->output, "turn-1/question.txt lines 1-"));
    assert_non_null(strstr(r->output, "1 long parts of the conversation"));
    t_shell("rm -rf %s/cache", state);
    assert_int_equal(take_int(ask("-c", "and then?"), "bill.prefilled_tokens"), all);

    // Dropped for nothing.
    doc = done(cairn("context drop", "-c %s", "turn-1/question.txt"));
    assert_int_equal(t_int(doc, "context_tokens"), all - question);
    assert_int_equal(t_int(doc, "left_refs"), 1);
    const cn_json *dropped = cn_json_first(t_member(doc, "dropped"));
    int64_t        tokens = 0;
    assert_string_equal(cn_json_string(cn_json_get(dropped, "path")), "turn-1/question.txt");
    assert_true(cn_json_int64(cn_json_get(dropped, "tokens"), &tokens) && tokens == question);
    cn_json_free(doc);
    doc = ask("-c", "and now?");
    assert_int_equal(t_int(doc, "bill.prefilled_tokens"), 0);
    assert_int_equal(t_int(doc, "bill.context_tokens"), all - question);
    cn_json_free(doc);
}

/* A file that the budget left out, added; the price is said first, then paid by the next turn. */
static void test_a_file_is_added(void **unused) {
    (void)unused;
    char first[32], path[256];
    snprintf(first, sizeof(first), "--budget %d", BUDGET);
    const int64_t  before = take_int(ask(first, "what is here?"), "bill.context_tokens");
    cn_json_doc   *doc = done(cairn("context", "-c --dry-run %s", ""));
    const cn_json *left = cn_json_first(t_member(doc, "left"));
    assert_non_null(left);
    snprintf(path, sizeof(path), "%s", cn_json_string(cn_json_get(left, "path")));
    char id[64];
    snprintf(id, sizeof(id), "%s", cn_json_string(t_member(doc, "session")));
    cn_json_free(doc);

    doc = done(cairn("context add", "-s %s %s", id, path));
    const int64_t added = t_int(doc, "missing_tokens");
    assert_true(added > 0);
    assert_int_equal(t_int(doc, "context_tokens"), before + added);
    assert_int_equal(t_int(doc, "over_tokens"),
                     before + added > BUDGET ? before + added - BUDGET : 0);
    assert_int_equal(t_int(doc, "prefilled_tokens"), 0);
    int64_t tokens = 0;
    assert_true(
        cn_json_int64(cn_json_get(cn_json_first(t_member(doc, "added")), "tokens"), &tokens));
    assert_int_equal(tokens, added);
    cn_json_free(doc);
    doc = ask("-c", "and that?");
    assert_int_equal(t_int(doc, "bill.prefilled_tokens"), added);
    assert_int_equal(t_int(doc, "bill.cached_tokens"), before);
    cn_json_free(doc);
    const t_result *r =
        t_cairn("context drop --model %s --state %s -s %s %s", model, state, id, path);
    assert_int_equal(r->status, 0);
    assert_non_null(strstr(r->output, "dropped "));
    assert_non_null(strstr(r->output, path));
    doc = ask("-c", "and that?");
    assert_int_equal(t_int(doc, "bill.context_tokens"), before);
    assert_int_equal(t_int(doc, "bill.prefilled_tokens"), 0);
    cn_json_free(doc);
}

static void test_the_budget_of_parts_is_said(void **unused) {
    (void)unused;
    cn_json_free(ask_file("--budget 1024 --refs-budget 1500", "base/json.h"));
    cn_json_doc   *doc = ask_file("-c", "base/json.c");
    const cn_json *dropped = cn_json_first(t_member(doc, "dropped"));
    assert_int_equal(cn_json_count(t_member(doc, "dropped")), 1);
    assert_string_equal(cn_json_string(cn_json_get(dropped, "path")), "turn-1/question.txt");
    cn_json_free(doc);
    const t_result *r = t_cairn("ask --model %s --state %s -C %s -c --max-tokens 4 \"$(cat "
                                "%s/base/json.h)\"",
                                model, state, repo, CN_SOURCE_DIR);
    assert_int_equal(r->status, 0);
    assert_non_null(strstr(r->output, "dropped turn-2/question.txt ("));
    doc = ask("-c", "what is left?");
    assert_int_equal(cn_json_count(t_member(doc, "dropped")), 0);
    cn_json_free(doc);
}

static void test_wrong_edits_are_refused(void **unused) {
    (void)unused;
    cn_json_free(ask("--budget 1024", "what is here?"));
    t_assert_error(cairn("context drop", "-c %s", "nowhere.c"), "ENOTFOUND", "nowhere.c");
    t_assert_error(cairn("context add", "-c %s", "turn-9/result-1.txt"), "ENOTFOUND", "turn-9");
    t_assert_error(cairn("context add", "-s nobody %s", "base/buf.c"), "ENOTFOUND", "nobody");
    assert_int_equal(cairn("context add", "%s", "base/buf.c")->status, 2); // of which session?
    assert_int_equal(cairn("context drop", "-c %s", "")->status, 2);
    assert_int_equal(cairn("context dance", "-c %s", "x")->status, 2);
    assert_int_equal(cairn("context", "-c -s %s", "x")->status, 2);
    assert_int_equal(cairn("context", "-c --budget %d", 1)->status, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_session_and_its_parts, new_repo),
        cmocka_unit_test_setup(test_a_file_is_added, new_repo),
        cmocka_unit_test_setup(test_the_budget_of_parts_is_said, new_repo),
        cmocka_unit_test_setup(test_wrong_edits_are_refused, new_repo),
    };
    return cmocka_run_group_tests(tests, find_model, NULL);
}
