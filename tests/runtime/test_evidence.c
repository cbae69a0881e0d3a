/*
 * test_evidence.c - Where answers were read, as users see it: the default model on real sources,
 * whose lines must hold what was answered.
 */
#include "tests/runtime/cairn.h"

#include <math.h>

enum { BUDGET = 6144, TOP = 3 };

static char repo[T_PATH_BYTES], state[T_PATH_BYTES];

static cn_json_doc *ask(const char *options, const char *question) {
    const t_result *r = t_cairn("ask --json --state %s -C %s --budget %d %s '%s'", state, repo,
                                BUDGET, options, question);
    if (r->status) t_fail(__FILE__, __LINE__, "%s", r->output);
    return t_last_line(r);
}

/* Whether lines first..last of a file of the repository hold `text`. */
static bool lines_hold(const char *path, int64_t first, int64_t last, const char *text) {
    char command[T_PATH_BYTES + 200], line[1024];
    bool found = false;
    snprintf(command, sizeof(command), "sed -n '%lld,%lldp' %s/%s", (long long)first,
             (long long)last, repo, path);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) found |= strstr(line, text) != NULL;
    assert_int_equal(pclose(f), 0);
    return found;
}

/* One place of an "evidence" array. */
typedef struct place {
    const char *path;
    int64_t     first, last;
    double      share;
} place;

static place read_place(const cn_json *v) {
    place          p = {.path = cn_json_string(cn_json_get(v, "path"))};
    const cn_json *lines = cn_json_get(v, "lines");
    assert_true(p.path && p.path[0]);
    assert_int_equal(cn_json_count(lines), 2);
    assert_true(cn_json_int64(cn_json_first(lines), &p.first));
    assert_true(cn_json_int64(cn_json_next(cn_json_first(lines)), &p.last));
    assert_true(cn_json_f64(cn_json_get(v, "share"), &p.share));
    assert_true(p.first >= 1 && p.last >= p.first && p.share > 0 && p.share <= 1);
    return p;
}

/* Largest first, and the parts are the whole. */
static void check_shares(const cn_json *turn) {
    double sum = 0, before = 1, rest = 0;
    for (const cn_json *v = cn_json_first(cn_json_get(turn, "evidence")); v; v = cn_json_next(v)) {
        const place p = read_place(v);
        assert_true(p.share <= before);
        before = p.share;
        sum += p.share;
    }
    assert_true(sum > 0);
    for (const cn_json *v = cn_json_first(cn_json_get(turn, "evidence_rest")); v;
         v = cn_json_next(v)) {
        assert_true(cn_json_f64(v, &rest) && rest >= 0);
        sum += rest;
    }
    assert_true(fabs(sum - 1) <= .002); // four digits are printed
}

/* A line that holds the whole answer is among the first ranges; for a path, one with the name. */
static void test_what_was_read_holds_the_answer(void **unused) {
    (void)unused;
    static const char *const names[] = {"cn_rand_mix", "cn_clock_unix_ns", "cn_file_read",
                                        "cn_buf_take"};
    enum { NAMES = sizeof(names) / sizeof(names[0]) };
    int signatures = 0, wheres = 0, answers = 0;
    for (int i = 0; i < 2 * NAMES; i++) {
        char question[128];
        snprintf(question, sizeof(question),
                 i % 2 ? "Where is %s defined?" : "What is the signature of %s?", names[i / 2]);
        cn_json_doc *doc = ask("", question);
        const char  *text = cn_json_string(t_member(doc, "text"));
        bool         found = false;
        check_shares(cn_json_root(doc));
        const cn_json *v = cn_json_first(t_member(doc, "evidence"));
        for (int n = 0; v && n < TOP; n++, v = cn_json_next(v)) {
            const place p = read_place(v);
            found |= lines_hold(p.path, p.first, p.last, i % 2 ? names[i / 2] : text);
        }
        t_note("%s -> %s: %s", question, text, found ? "was read" : "was not read");
        *(i % 2 ? &wheres : &signatures) += found;
        answers += strstr(text, names[i / 2]) != NULL;
        cn_json_free(doc);
    }
    assert_int_equal(answers, 2 * NAMES);
    assert_int_equal(signatures, NAMES);
    assert_true(wheres >= NAMES - 1);
}

/* What a turn said, the ledger says again, to both kinds of readers. */
static void test_the_ledger_says_the_same(void **unused) {
    (void)unused;
    char         id[64], line[128];
    cn_json_doc *doc[2] = {ask("", "What is the signature of cn_rand_mix?")};
    snprintf(id, sizeof(id), "%s", cn_json_string(t_member(doc[0], "session")));
    doc[1] = ask("-c", "Where is cn_buf_take defined?");
    cn_json_doc *shown =
        t_last_line(t_cairn("sessions show %s --evidence --json --state %s", id, state));
    const cn_json *turn = cn_json_first(t_member(shown, "evidence"));
    for (int i = 0; i < 2; i++) {
        int64_t number;
        assert_true(cn_json_int64(cn_json_get(turn, "turn"), &number) && number == i + 1);
        assert_true(cn_json_is_equal(cn_json_get(turn, "evidence"), t_member(doc[i], "evidence")));
        assert_true(cn_json_is_equal(cn_json_get(turn, "evidence_rest"),
                                     t_member(doc[i], "evidence_rest")));
        turn = cn_json_next(turn);
    }
    assert_null(turn);
    cn_json_free(shown);

    const place p = read_place(cn_json_first(t_member(doc[0], "evidence")));
    snprintf(line, sizeof(line), "read  %5.1f %%  %s:%lld", 100 * p.share, p.path,
             (long long)p.first);
    const t_result *r = t_cairn("sessions show %s --evidence --state %s", id, state);
    assert_non_null(strstr(r->output, line));
    assert_non_null(strstr(r->output, "this conversation\n"));
    r = t_cairn("sessions show %s --state %s", id, state);
    assert_null(strstr(r->output, "this conversation"));
    cn_json_free(doc[0]);
    cn_json_free(doc[1]);

    // The last turn, in a chat.
    snprintf(line, sizeof(line), "%s/questions", t_tmp_dir());
    t_shell("printf '/evidence\\nWhat is the signature of cn_rand_mix?\\n/evidence\\n' >%s", line);
    r = t_cairn("chat --json --state %s -C %s --budget %d <%s", state, repo, BUDGET, line);
    assert_non_null(strstr(r->output, "nothing was asked yet"));
    const char *answer = strstr(r->output, "{\"session\"");
    assert_non_null(answer);
    cn_json_doc *last = t_last_line(r);
    turn = cn_json_first(t_member(last, "evidence"));
    check_shares(turn);
    const place q = read_place(cn_json_first(cn_json_get(turn, "evidence")));
    assert_string_equal(q.path, "base/rand.h");
    cn_json_free(last);
}

/* On stderr, behind the answer: a pipe gets the answer alone. */
static void test_ask_prints_it(void **unused) {
    (void)unused;
    static const char question[] = "What is the signature of cn_rand_mix?";
    const char       *cairn = t_cairn_path();
    char              in[2 * T_PATH_BYTES + 64];
    snprintf(in, sizeof(in), "--state %s -C %s", state, repo);
    t_shell("cd %s && %s ask --evidence %s --budget %d '%s' >out 2>err && ! grep rand.h out && "
            "grep -q '^read  .* %%  base/rand.h:' err && grep -q ' elsewhere: ' err && "
            "%s ask -c %s '%s' 2>err && ! grep elsewhere err",
            t_tmp_dir(), cairn, in, BUDGET, question, cairn, in, question);
}

/* One repository and one cache for all of them. */
static int set_up(void **unused) {
    (void)unused;
    t_new_repo(repo, state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_read_holds_the_answer),
        cmocka_unit_test(test_the_ledger_says_the_same),
        cmocka_unit_test(test_ask_prints_it),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
