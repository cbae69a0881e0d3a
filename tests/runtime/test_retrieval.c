/*
 * test_retrieval.c - cairn bench retrieval: what counts as right, and whole runs on a small
 * repository with the default model.
 */
#include "tests/runtime/cairn.h"

#include "base/file.h"
#include "runtime/retrieval.h"

#include <dirent.h>
#include <math.h>

enum { BUDGET = 2048 };

static char repo[256], scratch[512], questions[512], out[256];

static void new_repo(void) {
    static int number;
    snprintf(repo, sizeof(repo), "%s/repo%d", t_tmp_dir(), number);
    snprintf(scratch, sizeof(scratch), "%s/scratch%d", t_tmp_dir(), number);
    snprintf(questions, sizeof(questions), "%s/questions%d", t_tmp_dir(), number);
    snprintf(out, sizeof(out), "%s/out%d", t_tmp_dir(), number++);
    t_shell("mkdir -p %s %s/base && cp %s/base/*.[ch] %s/base && cd %s && git init -q . && "
            "git config user.name t && git config user.email t@example.invalid && git add -A && "
            "git commit -qm one",
            scratch, repo, CN_SOURCE_DIR, repo, repo);
}

static void write_questions(const char *text) {
    FILE *f = fopen(questions, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void assert_empty(const char *folder) {
    DIR *d = opendir(folder);
    int  entries = 0;
    assert_non_null(d);
    while (readdir(d)) entries++;
    closedir(d);
    assert_int_equal(entries, 2); // . and ..
}

/* The bench on the questions; the scratch folder must be empty behind it. */
static const t_result *run(const char *options) {
    const t_result *r = t_cairn("bench retrieval --json -C %s --state %s --budget %d "
                                "--max-tokens 60 --questions %s --out %s %s",
                                repo, scratch, BUDGET, questions, out, options);
    assert_empty(scratch);
    return r;
}

static cn_json_doc *run_well(const char *options) {
    const t_result *r = run(options);
    if (r->status) t_fail(__FILE__, __LINE__, "%s", r->output);
    return t_last_line(r);
}

/* Line `line` of the --out file; freed by cn_json_free. */
static cn_json_doc *out_line(int64_t line) {
    const cn_json_limits limits = {1 << 20, 16, 100000};
    cn_buf               buf = {0};
    cn_json_doc         *doc;
    int64_t              number = 0;
    assert_err(cn_file_read(&buf, out, 1 << 22, &t_diag), CN_OK);
    for (char *p = strtok(buf.data, "\n"); p; p = strtok(NULL, "\n")) {
        assert_err(cn_json_parse(&doc, p, strlen(p), "out", &limits, &t_diag), CN_OK);
        assert_true(cn_json_int64(cn_json_get(cn_json_root(doc), "line"), &number));
        if (number == line) break;
        cn_json_free(doc);
    }
    assert_int_equal(number, line);
    cn_buf_release(&buf);
    return doc;
}

static const cn_json *turn_of(const cn_json_doc *line, int turn) {
    const cn_json *v = cn_json_first(t_member(line, "turns"));
    while (turn--) v = cn_json_next(v);
    assert_non_null(v);
    return v;
}

/* ---- Scoring ----------------------------------------------------------------------- */

static void test_an_answer_is_exact_but_for_its_ends(void **unused) {
    (void)unused;
    assert_true(cn_is_answer("a b", "a b"));
    assert_true(cn_is_answer(" \n\ta b\r\n", "a b"));
    assert_true(cn_is_answer("a b", "\v\fa b  "));
    assert_true(cn_is_answer("", " \n"));
    assert_false(cn_is_answer("a  b", "a b"));
    assert_false(cn_is_answer("a b.", "a b"));
    assert_false(cn_is_answer("a", "a b"));
    assert_false(cn_is_answer("a b", "a"));
    assert_false(cn_is_answer("A b", "a b"));
    assert_false(cn_is_answer("a b", ""));
}

/* A parsed value for the length of a test. */
static cn_json_doc *parsed(const char *text) {
    const cn_json_limits limits = {1 << 16, 16, 1000};
    cn_json_doc         *doc;
    assert_err(cn_json_parse(&doc, text, strlen(text), "test", &limits, &t_diag), CN_OK);
    return doc;
}

static void test_a_call_is_valid_json_for_a_tool(void **unused) {
    (void)unused;
    static const struct {
        const char *sampled;
        bool        is_valid, is_same;
    } cases[] = {
        {"{\"name\":\"search\",\"arguments\":{\"query\":\"x\"}}", true, true},
        {" {\"arguments\": {\"query\": \"x\"}, \"name\": \"search\"} ", true, true},
        {"{\"name\":\"search\",\"arguments\":{\"query\":\"y\"}}", true, false},
        {"{\"name\":\"search\",\"arguments\":{\"query\":\"x\",\"path\":\"a\"}}", true, false},
        {"{\"name\":\"list_dir\",\"arguments\":{\"query\":\"x\"}}", true, false},
        {"{\"name\":\"search\",\"arguments\":{}}", true, false},
        {"{\"name\":\"search\",\"arguments\":\"x\"}", false, false},
        {"{\"name\":\"search\"}", false, false},
        {"{\"name\":\"find\",\"arguments\":{\"query\":\"x\"}}", false, false},
        {"{\"arguments\":{\"query\":\"x\"}}", false, false},
        {"{\"name\":\"search\",\"arguments\":{\"query\":\"x\"}", false, false},
        {"[\"search\"]", false, false},
        {"", false, false},
    };
    cn_json_doc *want = parsed("{\"name\":\"search\",\"arguments\":{\"query\":\"x\"}}");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        t_note("%s", cases[i].sampled);
        assert_int_equal(cn_is_valid_call(cases[i].sampled), cases[i].is_valid);
        assert_int_equal(cn_is_call(cases[i].sampled, cn_json_root(want)), cases[i].is_same);
    }
    cn_json_free(want);
}

#define CALL(query) "{\"name\":\"search\",\"arguments\":{\"query\":\"" query "\"}}"

static void test_calls_are_counted_in_order(void **unused) {
    (void)unused;
    static char    x[] = CALL("x"), y[] = CALL("y"), broken[] = "{";
    const cn_asked none = {0}, two = {.call = {x, y}, .calls = 2};
    cn_asked       bad = {.call = {x, broken}, .calls = 2, .bill = {.output_tokens = 7}};
    cn_json_doc   *empty = parsed("[]"), *both = parsed("[" CALL("x") "," CALL("y") "]"),
                *turned = parsed("[" CALL("y") "," CALL("x") "]"), *one = parsed("[" CALL("x") "]");
    assert_true(cn_are_calls(&none, NULL) && cn_are_calls(&none, cn_json_root(empty)));
    assert_false(cn_are_calls(&none, cn_json_root(one)));
    assert_true(cn_are_calls(&two, cn_json_root(both)));
    assert_false(cn_are_calls(&two, cn_json_root(turned)));
    assert_false(cn_are_calls(&two, cn_json_root(one)) || cn_are_calls(&two, NULL));

    // A right answer with a wrong call, a wrong answer with right calls, both right.
    cn_score s = {0};
    bool     right;
    cn_buf_put_str(&bad.text, "yes\n");
    cn_score_turn(&s, &bad, "yes", cn_json_root(both), &right);
    assert_false(right);
    cn_score_turn(&s, &two, "yes", cn_json_root(both), &right);
    assert_false(right);
    bad.calls = 0;
    cn_score_turn(&s, &bad, "yes", NULL, &right);
    assert_true(right);
    assert_int_equal(s.turns, 3);
    assert_int_equal(s.answers_right, 2);
    assert_int_equal(s.calls, 4);
    assert_int_equal(s.calls_valid, 3);
    assert_int_equal(s.call_turns, 2);
    assert_int_equal(s.call_turns_right, 1);
    assert_int_equal(s.output_tokens, 14);
    cn_buf_release(&bad.text);
    cn_json_free(empty);
    cn_json_free(both);
    cn_json_free(turned);
    cn_json_free(one);
}

/* ---- Whole runs --------------------------------------------------------------------- */

static const char where[] = "Where is cn_buf_put defined?", lines[] = "Show lines 1 to 3 of "
                                                                      "base/buf.c.";

/* `object` with its members in the opposite order. */
static void put_turned(cn_json_writer *w, const cn_json *object) {
    const cn_json *member[16];
    int            members = 0;
    int64_t        n;
    for (const cn_json *v = cn_json_first(object); v && members < 16; v = cn_json_next(v))
        member[members++] = v;
    cn_json_open(w, '{');
    while (members--) {
        cn_json_put_key(w, cn_json_key(member[members]));
        if (cn_json_int64(member[members], &n))
            cn_json_put_int64(w, n);
        else
            cn_json_put_string(w, cn_json_string(member[members]));
    }
    cn_json_close(w, '}');
}

/* A question that expects what `line` of the output sampled. */
static void put_question(cn_buf *buf, const char *type, const cn_json_doc *line, bool has_calls,
                         const char *last_answer) {
    cn_json_writer w = cn_json_writer_on(buf);
    cn_json_open(&w, '{');
    cn_json_field_string(&w, "type", type);
    cn_json_field_open(&w, "turns", '[');
    for (const cn_json *t = cn_json_first(t_member(line, "turns")); t; t = cn_json_next(t)) {
        const char *text = cn_json_string(cn_json_get(t, "text"));
        cn_json_open(&w, '{');
        cn_json_field_string(&w, "q", cn_json_string(cn_json_get(t, "q")));
        cn_json_field_string(&w, "answer", cn_json_next(t) || !last_answer ? text : last_answer);
        cn_json_field_open(&w, "calls", '[');
        for (const cn_json *c = cn_json_first(cn_json_get(t, "calls")); c && has_calls;
             c = cn_json_next(c)) {
            cn_json_doc *call = parsed(cn_json_string(cn_json_get(c, "text")));
            cn_json_open(&w, '{');
            cn_json_put_key(&w, "arguments");
            put_turned(&w, cn_json_get(cn_json_root(call), "arguments"));
            cn_json_field_string(&w, "name",
                                 cn_json_string(cn_json_get(cn_json_root(call), "name")));
            cn_json_close(&w, '}');
            cn_json_free(call);
        }
        cn_json_close(&w, ']');
        cn_json_close(&w, '}');
    }
    cn_json_close(&w, ']');
    cn_json_close(&w, '}');
    cn_buf_put_str(buf, "\n");
}

/* What the model says and calls is taken from a first run: then the same is right, and all else
 * is wrong. */
static void test_what_was_sampled_is_right_and_else_wrong(void **unused) {
    (void)unused;
    char text[4096];
    new_repo();
    snprintf(text, sizeof(text),
             "{\"type\":\"a\",\"turns\":[{\"q\":\"%s\",\"answer\":\"\"}]}\n\n"
             "{\"type\":\"b\",\"turns\":[{\"q\":\"%s\",\"answer\":\"\"},"
             "{\"q\":\"%s\",\"answer\":\"\"}]}",
             where, lines, where);
    write_questions(text);
    cn_json_doc *doc = run_well("");
    assert_int_equal(t_int(doc, "total.questions"), 2);
    assert_int_equal(t_int(doc, "total.right"), 0);
    assert_int_equal(t_int(doc, "total.turns"), 3);
    assert_true(t_int(doc, "total.calls") > 0); // the default model reads lines with its tool
    cn_json_free(doc);

    // The same answer as of cairn ask.
    cn_json_doc *first = out_line(1), *second = out_line(3);
    doc = t_last_line(t_cairn("ask --json -C %s --state %s/other --budget %d --max-tokens 60 '%s'",
                              repo, t_tmp_dir(), BUDGET, where));
    const char *answer = cn_json_string(cn_json_get(turn_of(first, 0), "text"));
    assert_string_equal(answer, cn_json_string(t_member(doc, "text")));
    assert_true(answer[0]);
    const cn_json *sampled = cn_json_get(turn_of(first, 0), "sampled");
    assert_int_equal(cn_json_count(sampled), t_int(doc, "bill.output_tokens"));
    assert_int_equal(cn_json_count(cn_json_get(turn_of(first, 0), "gaps")), cn_json_count(sampled));
    assert_int_equal(cn_json_count(t_member(first, "tokens")), // a call's end is prompt, too
                     t_int(doc, "bill.output_tokens") + t_int(doc, "bill.prompt_tokens") -
                         cn_json_count(t_member(doc, "tools")));
    cn_json_free(doc);

    // Those answers and calls, then without calls, then with another answer at the end.
    cn_buf buf = {0};
    put_question(&buf, "same", second, true, NULL);
    put_question(&buf, "no call", second, false, NULL);
    put_question(&buf, "other answer", second, true, "no");
    write_questions(cn_buf_str(&buf));
    doc = run_well("");
    const int64_t call_turns = t_int(doc, "total.call_turns");
    assert_true(call_turns >= 3);
    assert_int_equal(t_int(doc, "total.questions"), 3);
    assert_int_equal(t_int(doc, "total.right"), 1);
    assert_int_equal(t_int(doc, "total.answers_right"), 5);
    assert_int_equal(t_int(doc, "total.call_turns_right"), call_turns - call_turns / 3);
    assert_string_equal(cn_json_string(cn_json_get(cn_json_first(t_member(doc, "types")), "type")),
                        "same");
    cn_json_doc *again = out_line(1);
    assert_true(cn_json_is_equal(t_member(again, "tokens"), t_member(second, "tokens")));
    cn_json_free(again);
    cn_json_free(doc);
    cn_buf_release(&buf);
    cn_json_free(first);
    cn_json_free(second);
}

/* Fewer tokens read than the view holds: the options reach the engine. */
static void test_dense_and_topk_differ(void **unused) {
    (void)unused;
    char text[512];
    new_repo();
    snprintf(text, sizeof(text), "{\"type\":\"a\",\"turns\":[{\"q\":\"%s\",\"answer\":\"\"}]}\n",
             where);
    write_questions(text);
    static const char *const options[] = {"--topk 64", "--topk 4", "--dense", "--topk 4096"};
    cn_json_doc             *line[4];
    for (int i = 0; i < 4; i++) {
        cn_json_free(run_well(options[i]));
        line[i] = out_line(1);
    }
    const cn_json *gaps[4];
    for (int i = 0; i < 4; i++) gaps[i] = cn_json_get(turn_of(line[i], 0), "gaps");
    assert_true(cn_json_is_equal(gaps[2], gaps[3])); // all tokens, in two ways
    assert_false(cn_json_is_equal(gaps[0], gaps[1]));
    assert_false(cn_json_is_equal(gaps[0], gaps[2]));
    for (int i = 0; i < 4; i++) cn_json_free(line[i]);
    assert_int_equal(run("--dense --topk 4")->status, 2);
}

/* What comes out does not depend on how many conversations run side by side. */
static void test_lanes_change_nothing(void **unused) {
    (void)unused;
    enum { QUESTIONS = 10 };
    cn_buf text = {0}, want = {0}, got = {0};
    new_repo();
    for (int i = 0; i < QUESTIONS; i++)
        cn_buf_printf(&text, "{\"type\":\"%d\",\"turns\":[{\"q\":\"%s\",\"answer\":\"\"}%s]}\n",
                      i % 3, i % 4 ? where : lines,
                      i % 3 ? "" : ",{\"q\":\"Find cn_fail\",\"answer\":\"x\"}");
    write_questions(cn_buf_str(&text));
    cn_json_doc *one = run_well("--lanes 1");
    assert_err(cn_file_read(&want, out, 1 << 22, &t_diag), CN_OK);
    cn_json_doc *more = run_well("--lanes 4");
    assert_err(cn_file_read(&got, out, 1 << 22, &t_diag), CN_OK);
    assert_string_equal(cn_buf_str(&want), cn_buf_str(&got));
    assert_int_equal(t_int(one, "total.questions"), QUESTIONS);
    assert_int_equal(t_int(one, "total.turns"), QUESTIONS + 4);
    assert_true(cn_json_is_equal(t_member(one, "types"), t_member(more, "types")));
    cn_json_free(one);
    cn_json_free(more);
    cn_buf_release(&text);
    cn_buf_release(&want);
    cn_buf_release(&got);
    assert_int_equal(run("--lanes 0")->status, 2);
    assert_int_equal(run("--lanes 33")->status, 2);
}

/* Sums over the cells of one kind and mode; topk 0 is dense. */
typedef struct sum {
    int64_t questions, right;
} sum;

static sum sum_of(const cn_json_doc *doc, const char *kind, int64_t topk) {
    sum     s = {0};
    int64_t n;
    for (const cn_json *c = cn_json_first(t_member(doc, "cells")); c; c = cn_json_next(c)) {
        if (strcmp(cn_json_string(cn_json_get(c, "kind")), kind) != 0) continue;
        if (!cn_json_int64(cn_json_get(c, "topk"), &n) || n != topk) continue;
        assert_true(cn_json_int64(cn_json_get(c, "questions"), &n));
        s.questions += n;
        assert_true(cn_json_int64(cn_json_get(c, "right"), &n));
        s.right += n;
    }
    return s;
}

/* Needles stand where they should, are found by the default model, and leave no trace. */
static void test_needles_and_definitions_by_depth(void **unused) {
    (void)unused;
    enum { DEPTHS = 5, NEEDLES = 2, DEFINITIONS = 20 };
    static const char twice[] = "int said_twice(void)\\n{\\n    return 1;\\n}\\n",
                      once[] = "int said_once(void)\\n{\\n    return 1;\\n}\\n";
    int64_t asked_once = 0;
    new_repo();
    t_shell("cd %s && printf '%s%s' > a.c && printf '%s' > b.c && git add -A && git commit -qm two",
            repo, twice, once, twice);
    const t_result *r =
        t_cairn("bench retrieval --json -C %s --state %s --budget 4096 --needles %d "
                "--definitions %d --out %s --plot %s.svg",
                repo, scratch, NEEDLES, DEFINITIONS, out, out);
    if (r->status) t_fail(__FILE__, __LINE__, "%s", r->output);
    cn_json_doc *doc = t_last_line(r);
    assert_empty(scratch);
    t_shell("cd %s && test -z \"$(git status --porcelain)\"", repo);
    assert_int_equal(cn_json_count(t_member(doc, "lengths")), 1);
    int64_t tokens = 0, context, read, read_before = 0, topk;
    assert_true(cn_json_int64(
        cn_json_get(cn_json_first(t_member(doc, "lengths")), "context_tokens"), &tokens));

    // Every mode was asked the same; the longest set leaves tokens out, too.
    static const int64_t topks[] = {0, 256, 512, 1024, 2048};
    const sum            path = sum_of(doc, "where", 0), signature = sum_of(doc, "signature", 0);
    assert_true(path.questions > 0 && path.questions <= DEFINITIONS * DEPTHS);
    assert_true(signature.questions > 0 && signature.questions <= path.questions);
    for (size_t i = 0; i < sizeof(topks) / sizeof(topks[0]); i++) {
        const sum needle = sum_of(doc, "needle", topks[i]);
        assert_int_equal(needle.questions, NEEDLES * DEPTHS);
        assert_true(needle.right > needle.questions / 2); // no chance without the needle
        assert_int_equal(sum_of(doc, "where", topks[i]).questions, path.questions);
    }
    cn_json_free(doc);

    // Where they stood, line by line; right is what the sums say.
    const cn_json_limits limits = {1 << 20, 16, 100000};
    cn_buf               buf = {0};
    int64_t              needles = 0;
    assert_err(cn_file_read(&buf, out, 1 << 22, &t_diag), CN_OK);
    for (char *p = strtok(buf.data, "\n"); p; p = strtok(NULL, "\n")) {
        double depth = 0, share = 0;
        bool   is_right;
        assert_err(cn_json_parse(&doc, p, strlen(p), "out", &limits, &t_diag), CN_OK);
        const cn_json *line = cn_json_root(doc);
        assert_true(cn_json_f64(cn_json_get(line, "depth"), &depth));
        assert_true(cn_json_f64(cn_json_get(line, "share"), &share));
        assert_true(cn_json_bool(cn_json_get(line, "right"), &is_right));
        const bool is_needle = !strcmp(cn_json_string(cn_json_get(line, "kind")), "needle");
        t_note("%s", p);
        assert_true(fabs(share - depth) <= (is_needle ? .15 : .1)); // half a depth, and some lines
        if (is_right)
            assert_true(cn_is_answer(cn_json_string(cn_json_get(line, "text")),
                                     cn_json_string(cn_json_get(line, "answer"))));
        // One needle at a time: what was planted before is out again.  Dense first, and more is
        // read the larger k is.
        assert_true(cn_json_int64(cn_json_get(line, "context_tokens"), &context));
        assert_true(is_needle ? context > tokens && context < tokens + 40 : context == tokens);
        assert_true(cn_json_int64(cn_json_get(line, "bytes_read"), &read));
        assert_true(cn_json_int64(cn_json_get(line, "topk"), &topk));
        if (is_needle && is_right && topk > 256) assert_true(read > read_before);
        if (is_needle && is_right && topk == 256) assert_true(read < read_before);
        read_before = read;
        needles += is_needle;
        assert_null(strstr(cn_json_string(cn_json_get(line, "q")), "said_twice"));
        asked_once += strstr(cn_json_string(cn_json_get(line, "q")), "said_once") != NULL;
        cn_json_free(doc);
    }
    assert_int_equal(needles, 5 * NEEDLES * DEPTHS);
    assert_int_equal(asked_once, 2 * 5); // where and signature
    cn_buf_reset(&buf);
    snprintf(questions, sizeof(questions), "%s.svg", out);
    assert_err(cn_file_read(&buf, questions, 1 << 22, &t_diag), CN_OK);
    assert_true(strstr(cn_buf_str(&buf), "k=2,048") && strstr(cn_buf_str(&buf), "signature"));
    cn_buf_release(&buf);
}

/* A needle within a repository would change it: the scratch folder is refused there. */
static void test_the_copy_is_in_no_repository(void **unused) {
    (void)unused;
    new_repo();
    t_shell("mkdir %s/inside", repo);
    t_assert_error(
        t_cairn("bench retrieval --json -C %s --state %s/inside --budget 4096", repo, repo),
        "EINVAL", "lies in the repository");
    snprintf(scratch, sizeof(scratch), "%s/inside", repo);
    assert_empty(scratch);
}

/* An interrupt ends the run in order: the status says so, and nothing is left. */
static void test_an_interrupt_leaves_nothing(void **unused) {
    (void)unused;
    cn_buf text = {0};
    new_repo();
    for (int i = 0; i < 20000; i++)
        cn_buf_printf(&text, "{\"type\":\"a\",\"turns\":[{\"q\":\"%s\",\"answer\":\"\"}]}\n",
                      where);
    write_questions(cn_buf_str(&text));
    cn_buf_release(&text);
    t_shell("timeout --preserve-status -s INT 3 %s bench retrieval -C %s --state %s --budget %d "
            "--questions %s --out %s > /dev/null; test $? = 130",
            t_cairn_path(), repo, scratch, BUDGET, questions, out);
    assert_empty(scratch);
}

static void test_bad_questions_are_named(void **unused) {
    (void)unused;
    static const struct {
        const char *text, *code, *message;
    } cases[] = {
        {"{\"type\":\"a\",\"turns\":[{\"q\":\"x\"", "ECORRUPT", "line 1"},
        {"\n{\"turns\":[{\"q\":\"x\",\"answer\":\"y\"}]}", "ECORRUPT", "line 2"},
        {"{\"type\":\"a\",\"turns\":[]}", "ETOOBIG", "0 turns"},
        {"{\"type\":\"a\",\"turns\":[{\"q\":\"x\"}]}", "ECORRUPT", "a turn wants"},
        {"{\"type\":\"a\",\"turns\":[{\"q\":\"x\",\"answer\":\"\",\"calls\":[{}]}]}", "ECORRUPT",
         "a turn wants"},
        {"{\"type\":\"a type with too many bytes for a table\",\"turns\":[{\"q\":\"x\","
         "\"answer\":\"\"}]}",
         "ETOOBIG", "limit 31"},
    };
    new_repo();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_questions(cases[i].text);
        t_assert_error(run(""), cases[i].code, cases[i].message);
    }
    t_assert_error(t_cairn("bench retrieval --json -C %s --questions /nowhere/at/all", repo),
                   "ENOTFOUND", "/nowhere/at/all");
    assert_int_equal(t_cairn("bench retrieval -C %s --topk 5", repo)->status, 2);
    assert_int_equal(t_cairn("bench retrieval -C %s --depths 4", repo)->status, 2);
    assert_int_equal(t_cairn("bench retrieval -C %s --needles 101", repo)->status, 2);
    t_assert_error(t_cairn("bench retrieval --json -C %s --questions %s --state /nowhere/at/all",
                           repo, questions),
                   "EIO", "/nowhere/at/all");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_answer_is_exact_but_for_its_ends),
        cmocka_unit_test(test_a_call_is_valid_json_for_a_tool),
        cmocka_unit_test(test_calls_are_counted_in_order),
        cmocka_unit_test(test_what_was_sampled_is_right_and_else_wrong),
        cmocka_unit_test(test_dense_and_topk_differ),
        cmocka_unit_test(test_lanes_change_nothing),
        cmocka_unit_test(test_needles_and_definitions_by_depth),
        cmocka_unit_test(test_the_copy_is_in_no_repository),
        cmocka_unit_test(test_an_interrupt_leaves_nothing),
        cmocka_unit_test(test_bad_questions_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
