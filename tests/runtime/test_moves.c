/* test_moves.c - cairn context --turn N: the documents that came and went with a turn. */
#include "tests/runtime/cairn.h"

static char repo[T_PATH_BYTES], state[T_PATH_BYTES];

static int new_repo(void **unused) {
    (void)unused;
    t_new_repo(repo, state);
    return 0;
}

static void ask(const char *options) {
    const t_result *r = t_cairn("ask --state %s -C %s --max-tokens 2 %s x", state, repo, options);
    if (r->status) t_fail(__FILE__, __LINE__, "%s", r->output);
}

static const t_result *of_turn(const char *options, int turn) {
    return t_cairn("context --state %s -C %s -c --turn %d %s", state, repo, turn, options);
}

static int64_t tokens_of(const cn_json_doc *doc, const char *list, const char *path) {
    int64_t sum = 0;
    for (const cn_json *m = cn_json_first(t_member(doc, list)); m; m = cn_json_next(m)) {
        int64_t n = 0;
        assert_true(cn_json_int64(cn_json_get(m, "tokens"), &n));
        if (!path || strcmp(path, cn_json_string(cn_json_get(m, "path"))) == 0) sum += n;
    }
    return sum;
}

static void test_what_came_and_went(void **unused) {
    (void)unused;
    ask("--budget 4096");
    ask("-c");
    t_shell("cd %s && git branch -q -M moved && sed -i '3i// x' base/buf.h && git mv base/utf8.h "
            "base/letters.h && git commit -qam two",
            repo);
    ask("-c");
    t_shell("cd %s && git checkout -q HEAD~1", repo);
    ask("-c");

    cn_json_doc  *doc = t_last_line(of_turn("--json", 1)); // all of it came
    const int64_t tokens = t_int(doc, "context_tokens");
    assert_int_equal(tokens_of(doc, "came", NULL), tokens);
    assert_int_equal(cn_json_count(t_member(doc, "came")), t_int(doc, "documents"));
    assert_int_equal(cn_json_count(t_member(doc, "went")), 0);
    cn_json_free(doc);
    doc = t_last_line(of_turn("--json", 2));
    assert_int_equal(cn_json_count(t_member(doc, "came")) + cn_json_count(t_member(doc, "went")),
                     0);
    cn_json_free(doc);

    doc = t_last_line(of_turn("--json", 3));
    assert_string_equal(cn_json_string(t_member(doc, "branch")), "moved");
    assert_int_equal(strlen(cn_json_string(t_member(doc, "commit"))), 40);
    assert_int_equal(cn_json_count(t_member(doc, "came")), 2);
    assert_int_equal(cn_json_count(t_member(doc, "went")), 2);
    assert_true(tokens_of(doc, "came", "base/buf.h") > tokens_of(doc, "went", "base/buf.h"));
    assert_true(tokens_of(doc, "came", "base/letters.h") > 0);
    assert_true(tokens_of(doc, "went", "base/utf8.h") > 0);
    assert_int_equal(tokens + tokens_of(doc, "came", NULL) - tokens_of(doc, "went", NULL),
                     t_int(doc, "context_tokens"));
    const int64_t came = tokens_of(doc, "came", NULL);
    cn_json_free(doc);
    doc = t_last_line(of_turn("--json", 4)); // and back, on no branch
    assert_string_equal(cn_json_string(t_member(doc, "branch")), "");
    assert_int_equal(tokens_of(doc, "went", NULL), came);
    cn_json_free(doc);

    const t_result *r = of_turn("", 3);
    assert_int_equal(r->status, 0);
    assert_non_null(strstr(r->output, " (moved) · "));
    assert_non_null(strstr(r->output, ": 2 came ("));
    assert_non_null(strstr(r->output, "\nwent "));
    t_assert_error(of_turn("--json", 9), "ENOTFOUND", "no turn 9");
    assert_int_equal(t_cairn("context --state %s -C %s --turn 1", state, repo)->status, 2);
    assert_int_equal(of_turn("drop x", 1)->status, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_what_came_and_went, new_repo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
