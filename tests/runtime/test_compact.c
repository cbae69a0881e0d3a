/*
 * test_compact.c - Compaction as its users see it: by hand, at the chat's prompt, and on its own.
 *
 * A random model of one token a byte: what it says means nothing, and a conversation is
 * soon a long one.
 */
#include "tests/runtime/cairn.h"

#define TINY "--model " CN_SOURCE_DIR "/tests/golden/tiny-a"
#define SHORT " --max-tokens 20"

static char repo[T_PATH_BYTES], state[T_PATH_BYTES];

static void new_repo(void) {
    static int number;
    snprintf(repo, sizeof(repo), "%s/repo%d", t_tmp_dir(), number);
    snprintf(state, sizeof(state), "%s/state%d", t_tmp_dir(), number++);
    t_walk_repo(repo);
}

static cn_json_doc *ask(const char *options, const char *question) {
    const t_result *r =
        t_cairn("ask --json --state %s -C %s " TINY SHORT " %s %s", state, repo, options, question);
    if (r->status) t_fail(__FILE__, __LINE__, "%s", r->output);
    return t_last_line(r);
}

static void ask_session(const char *options, const char *question, char id_out[80]) {
    cn_json_doc *doc = ask(options, question);
    snprintf(id_out, 80, "%s", cn_json_string(t_member(doc, "session")));
    cn_json_free(doc);
}

static void assert_is(const cn_json_doc *doc, const char *path, const char *want) {
    assert_string_equal(cn_json_string(t_member(doc, path)), want);
}

static void test_by_hand(void **unused) {
    (void)unused;
    char id[80], parent[80], first[900];
    new_repo();
    memset(first, 'x', sizeof(first));
    first[sizeof(first) - 1] = 0;
    ask_session("", first, id);
    for (int i = 2; i <= 4; i++) cn_json_free(ask("-c", "'what does walk do?'"));

    cn_json_doc *doc =
        t_last_line(t_cairn("sessions compact %s --keep 1 --json --state %s " TINY, id, state));
    assert_is(doc, "session", id);
    assert_is(doc, "compaction.how", "extract");
    assert_is(doc, "compaction.why", "the model writes no summaries");
    assert_int_equal(t_int(doc, "compaction.first_turn"), 1);
    assert_int_equal(t_int(doc, "compaction.last_turn"), 3);
    assert_int_equal(t_int(doc, "compaction.kept_turns"), 1);
    const int64_t after = t_int(doc, "compaction.tokens_after");
    assert_true(after < t_int(doc, "compaction.tokens_before"));
    assert_int_equal(t_int(doc, "compaction.bill.prompt_tokens"), after);
    assert_non_null(strstr(cn_json_string(t_member(doc, "compaction.text")),
                           "turn 3: what does walk do?\nanswer"));
    snprintf(parent, sizeof(parent), "%s", cn_json_string(t_member(doc, "compaction.parent")));
    cn_json_free(doc);

    // -c goes on in it; nothing is replayed, nothing prefilled.
    doc = ask("-c", "'and now?'");
    assert_is(doc, "session", id);
    assert_int_equal(t_int(doc, "turn"), 5);
    assert_int_equal(t_int(doc, "bill.prefilled_tokens"), 0);
    assert_true(t_int(doc, "bill.prompt_tokens") < 40);
    cn_json_free(doc);
    // So does its id, and the old one has its own.
    char by_id[100];
    snprintf(by_id, sizeof(by_id), "-s %s", parent);
    doc = ask(by_id, "'and then?'");
    assert_int_equal(t_int(doc, "turn"), 5);
    cn_json_free(doc);
    doc = t_last_line(t_cairn("sessions show %s --json --state %s", parent, state));
    assert_int_equal(cn_json_count(t_member(doc, "turns")), 5);
    cn_json_free(doc);

    // For people; and what cannot be done is said.
    const t_result *r = t_cairn("sessions compact %s --keep 0 --state %s " TINY, parent, state);
    assert_int_equal(r->status, 0);
    assert_non_null(strstr(r->output, "compacted: turns 1 to 5 are now an extract (the model"));
    assert_non_null(strstr(r->output, "; no turn is as it was\nconversation "));
    t_assert_error(t_cairn("sessions compact %s --json --state %s " TINY, parent, state), "EINVAL",
                   "nothing to compact");
    t_assert_error(t_cairn("sessions compact nobody --json --state %s " TINY, state), "ENOTFOUND",
                   "nobody");
    assert_int_equal(t_cairn("sessions compact --state %s", state)->status, 2);
    assert_int_equal(t_cairn("sessions compact x --auto maybe --state %s", state)->status, 2);
}

static void test_at_the_prompt(void **unused) {
    (void)unused;
    new_repo();
    t_shell("cd %s && { head -c 900 /dev/zero | tr '\\0' y; echo; echo 'b?'; echo 'c?'; "
            "echo '/compact'; echo 'd?'; echo '/compact off'; echo '/compact maybe'; } >lines",
            repo);
    const t_result *r =
        t_cairn("chat --json --state %s -C %s " TINY SHORT " <%s/lines", state, repo, repo);
    assert_int_equal(r->status, 2); // of the last line
    char        *save, text[sizeof(r->output)];
    cn_json_doc *doc[8];
    int          lines = 0;
    snprintf(text, sizeof(text), "%s", r->output);
    for (char *line = strtok_r(text, "\n", &save); line && lines < 8;
         line = strtok_r(NULL, "\n", &save)) {
        const cn_json_limits limits = {1 << 20, 16, 100000};
        if (line[0] != '{') continue;
        assert_err(cn_json_parse(&doc[lines++], line, strlen(line), "line", &limits, &t_diag),
                   CN_OK);
    }
    assert_int_equal(lines, 6);
    assert_int_equal(t_int(doc[3], "compaction.last_turn"), 1);
    assert_int_equal(t_int(doc[3], "compaction.kept_turns"), 2);
    assert_int_equal(t_int(doc[4], "turn"), 4);
    assert_true(t_int(doc[4], "bill.prompt_tokens") < 40);
    bool on = true;
    assert_true(cn_json_bool(t_member(doc[5], "auto"), &on) && !on);
    for (int i = 0; i < lines; i++) cn_json_free(doc[i]);
}

/* Near the limit of a conversation the next turn compacts it first, and says so; not where the
 * session says that it must not. */
static void test_on_its_own(void **unused) {
    (void)unused;
    char id[80], by_id[100];
    new_repo();
    t_shell("cd %s && head -c 53000 /dev/zero | tr '\\0' 'z' | fold >long", repo);
    char question[600];
    snprintf(question, sizeof(question), "- <%s/long", repo);
    for (int i = 0; i < 2; i++) ask_session(i ? "-c" : "", question, id);
    snprintf(by_id, sizeof(by_id), "-s %s", id);
    assert_int_equal(t_cairn("sessions compact %s --auto off --state %s " TINY, id, state)->status,
                     0);
    cn_json_doc *doc = ask(by_id, "'is it long?'");
    assert_null(cn_json_get(cn_json_root(doc), "compaction"));
    cn_json_free(doc);
    assert_int_equal(t_cairn("sessions compact %s --auto on --state %s " TINY, id, state)->status,
                     0);
    doc = ask(by_id, "'is it?'");
    assert_is(doc, "session", id);
    assert_true(t_int(doc, "compaction.tokens_before") > 100000);
    assert_true(t_int(doc, "compaction.tokens_after") < 10000);
    assert_int_equal(t_int(doc, "turn"), 4);
    cn_json_free(doc);
    doc = ask("-c", "'and now?'");
    assert_is(doc, "session", id);
    assert_null(cn_json_get(cn_json_root(doc), "compaction"));
    assert_int_equal(t_int(doc, "turn"), 5);
    cn_json_free(doc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_at_the_prompt),
        cmocka_unit_test(test_on_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
