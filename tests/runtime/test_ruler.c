/*
 * test_ruler.c - RULER's tasks: each text holds what its question asks for and nothing that makes
 * another answer right; scores by hand; a whole run.
 */
#include "tests/runtime/cairn.h"

#include "base/file.h"
#include "runtime/ruler.h"

#include <math.h>

enum { LENGTH = 4096, UNITS = 120 };

static cn_ruler_sample make(cn_ruler_task task, int64_t units, uint64_t seed) {
    cn_ruler_sample s;
    assert_err(cn_ruler_make(&s, task, units, LENGTH, seed, &t_diag), CN_OK);
    return s;
}

static int count(const char *text, const char *what) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)); p += strlen(what)) n++;
    return n;
}

/* The key and the value of needle `number` of a text; false if there are not so many. */
static bool needle_at(const char *text, int number, char key[32], char value[32]) {
    for (const char *p = text; (p = strstr(p, "One of the special magic numbers for ")); p++)
        if (number-- == 0)
            return sscanf(p, "One of the special magic numbers for %31s is: %31[0-9].", key,
                          value) == 2;
    return false;
}

static bool is_output(const cn_ruler_sample *s, const char *text) {
    for (int32_t i = 0; i < s->outputs; i++)
        if (strcmp(s->output[i], text) == 0) return true;
    return false;
}

/* A needle's value is an answer if and only if its key is asked for. */
static void test_needles(void **unused) {
    (void)unused;
    static const struct {
        cn_ruler_task task;
        int           needles, keys, outputs;
    } cases[] = {{CN_RULER_NIAH_SINGLE, 1, 1, 1},
                 {CN_RULER_NIAH_MULTIKEY, 4, 4, 1},
                 {CN_RULER_NIAH_MULTIVALUE, 4, 1, 4},
                 {CN_RULER_NIAH_MULTIQUERY, 4, 4, 4}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++)
        for (uint64_t seed = 0; seed < 30; seed++) {
            cn_ruler_sample s = make(cases[c].task, UNITS, seed);
            const char     *text = cn_buf_str(&s.text), *question = cn_buf_str(&s.question);
            char            key[32], value[32], first[32] = "";
            int             needles = 0, others = 0;
            t_note("%s, seed %d", cn_ruler_task_name(cases[c].task), (int)seed);
            for (; needle_at(text, needles, key, value); needles++) {
                assert_int_equal(strstr(question, key) != NULL, is_output(&s, value));
                assert_int_equal(count(text, value), 1);
                assert_int_equal(strlen(value), 7);
                if (needles == 0) strcpy(first, key);
                others += strcmp(first, key) != 0;
            }
            assert_int_equal(needles, cases[c].needles);
            assert_int_equal(others, cases[c].keys - 1);
            assert_int_equal(s.outputs, cases[c].outputs);
            assert_int_equal(count(text, "The grass is green."), UNITS);
            assert_int_equal(strstr(question, "are all") != NULL, cases[c].outputs > 1);
            cn_ruler_sample_release(&s);
        }
}

/* Following the assignments from the value on gives the answers, each stands before the next. */
static void test_variables_are_a_chain(void **unused) {
    (void)unused;
    for (uint64_t seed = 0; seed < 30; seed++) {
        cn_ruler_sample s = make(CN_RULER_VT, UNITS, seed);
        const char     *p = cn_buf_str(&s.text);
        char            line[64], value[16];
        assert_int_equal(sscanf(strstr(cn_buf_str(&s.question), "value "), "value %15[0-9]", value),
                         1);
        assert_int_equal(s.outputs, 5);
        for (int i = 0; i < 5; i++) {
            if (i == 0)
                snprintf(line, sizeof(line), "\nVAR %s = %s\n", s.output[0], value);
            else
                snprintf(line, sizeof(line), "\nVAR %s = VAR %s\n", s.output[i], s.output[i - 1]);
            p = strstr(p, line);
            assert_non_null(p);
        }
        assert_int_equal(count(cn_buf_str(&s.text), "VAR "), 9);
        cn_ruler_sample_release(&s);
    }
}

/* How often a word stands, between blanks or at a line's end. */
static int times(const char *text, const char *word) {
    int          n = 0;
    const size_t bytes = strlen(word);
    for (const char *p = text; (p = strstr(p, word)); p += bytes)
        n += p > text && p[-1] == ' ' && strchr(" \n", p[bytes]) != NULL;
    return n;
}

static void test_common_words_are_common(void **unused) {
    (void)unused;
    cn_ruler_sample s = make(CN_RULER_CWE, UNITS, 5);
    const char     *text = cn_buf_str(&s.text);
    assert_int_equal(s.outputs, 10);
    for (int i = 0; i < 10; i++) assert_int_equal(times(text, s.output[i]), 30);
    // Every word of the list: numbered from 1, 30 or 3 times.
    const char *p = strstr(text, "\n1. ");
    char        word[32];
    int         number, words = 0;
    assert_non_null(p);
    for (int used; sscanf(p, " %d. %31s%n", &number, word, &used) == 2; p += used) {
        assert_int_equal(number, ++words);
        assert_int_equal(times(text, word), is_output(&s, word) ? 30 : 3);
    }
    assert_int_equal(words, 10 * 30 + (UNITS - 10) * 3);
    cn_ruler_sample_release(&s);
}

static void test_frequent_words_are_the_most_frequent(void **unused) {
    (void)unused;
    cn_ruler_sample s = make(CN_RULER_FWE, 1000, 7);
    const char     *text = cn_buf_str(&s.text), *p = strstr(text, "coded words. ");
    char            word[32];
    assert_int_equal(s.outputs, 3);
    assert_non_null(p);
    p += strlen("coded words.");
    const int first = times(p, s.output[0]), third = times(p, s.output[2]);
    assert_true(first > times(p, s.output[1]) && times(p, s.output[1]) > third);
    assert_int_equal(first, (int)(1000 / 1.6449341 / 4)); // zeta: 1 / (zeta(2) 2^2) of all
    for (int used; sscanf(p, " %31s%n", word, &used) == 1; p += used)
        if (strcmp(word, "...") != 0 && !is_output(&s, word))
            assert_true(times(text, word) < third);
    assert_true(times(text, "...") > first);
    cn_ruler_sample_release(&s);
}

static void test_a_seed_is_a_text(void **unused) {
    (void)unused;
    for (int task = 0; task < CN_RULER_TASKS; task++) {
        cn_ruler_sample a = make((cn_ruler_task)task, UNITS, 1),
                        b = make((cn_ruler_task)task, UNITS, 1),
                        c = make((cn_ruler_task)task, UNITS, 2), bad;
        t_note("%s", cn_ruler_task_name((cn_ruler_task)task));
        assert_string_equal(cn_buf_str(&a.text), cn_buf_str(&b.text));
        assert_string_equal(cn_buf_str(&a.question), cn_buf_str(&b.question));
        assert_string_not_equal(cn_buf_str(&a.text), cn_buf_str(&c.text));
        cn_ruler_sample_release(&a), cn_ruler_sample_release(&b), cn_ruler_sample_release(&c);
        assert_err(cn_ruler_make(&bad, (cn_ruler_task)task, 2, LENGTH, 1, &t_diag), CN_EINVAL);
        assert_err(cn_ruler_make(&bad, (cn_ruler_task)task, UNITS, 100, 1, &t_diag), CN_EINVAL);
        assert_null(bad.text.data);
    }
}

static void test_scores(void **unused) {
    (void)unused;
    const cn_ruler_sample two = {.output = {"1234567", "AbC"}, .outputs = 2};
    assert_true(cn_ruler_match_all("It is 1234567.", &two) == .5);
    assert_true(cn_ruler_match_all("aBc and 91234567", &two) == 1); // a part of a word counts
    assert_true(cn_ruler_match_all("123456, ab c", &two) == 0);
    assert_true(cn_ruler_match_all("", &two) == 0);
    assert_true(cn_ruler_match_part("It is 1234567.", &two) == 1);
    assert_true(cn_ruler_match_part("aBc and 91234567", &two) == 1);
    assert_true(cn_ruler_match_part("nothing", &two) == 0);
}

/* Texts fill their length and no more; each line's score is that of its strings; nothing stays. */
static void test_a_whole_run(void **unused) {
    (void)unused;
    char state[300], out[300];
    snprintf(state, sizeof(state), "%s/state", t_tmp_dir());
    snprintf(out, sizeof(out), "%s/out", t_tmp_dir());
    t_shell("mkdir %s", state);
    const t_result *r = t_cairn("bench retrieval --ruler --json --lengths 1024,2048 --samples 1 "
                                "--state %s --out %s",
                                state, out);
    if (r->status) t_fail(__FILE__, __LINE__, "%s", r->output);
    cn_json_doc *doc = t_last_line(r);
    t_shell("test -z \"$(ls -A %s)\"", state);
    assert_int_equal(cn_json_count(t_member(doc, "cells")), 2 * CN_RULER_TASKS);
    int asked = 0;
    for (const cn_json *c = cn_json_first(t_member(doc, "cells")); c; c = cn_json_next(c)) {
        const char *task = cn_json_string(cn_json_get(c, "task"));
        int64_t     length, samples;
        double      tokens, score;
        t_note("%s", task);
        assert_true(cn_json_int64(cn_json_get(c, "length"), &length));
        assert_true(cn_json_int64(cn_json_get(c, "samples"), &samples));
        assert_true(cn_json_f64(cn_json_get(c, "context_tokens"), &tokens));
        asked += (int)samples;
        if (samples) { // at most one more line, or word, would have fitted, and room for an answer
            assert_true(tokens < (double)length && tokens > (double)length * .75);
            assert_true(cn_json_f64(cn_json_get(c, "score"), &score) && score >= 0 && score <= 1);
        } else { // 300 common words do not fit
            assert_string_equal(task, "cwe");
        }
    }
    assert_true(asked >= 2 * CN_RULER_TASKS - 2);
    cn_json_free(doc);

    const cn_json_limits limits = {1 << 20, 16, 100000};
    cn_buf               buf = {0};
    int                  lines = 0;
    assert_err(cn_file_read(&buf, out, 1 << 22, &t_diag), CN_OK);
    for (char *p = strtok(buf.data, "\n"); p; p = strtok(NULL, "\n"), lines++) {
        assert_err(cn_json_parse(&doc, p, strlen(p), "out", &limits, &t_diag), CN_OK);
        const cn_json *outputs = t_member(doc, "outputs");
        const char    *pred = cn_json_string(t_member(doc, "pred"));
        int            found = 0;
        for (const cn_json *o = cn_json_first(outputs); o; o = cn_json_next(o))
            found += strcasestr(pred, cn_json_string(o)) != NULL;
        assert_float_equal(t_f64(doc, "score"), (double)found / (double)cn_json_count(outputs),
                           1e-6);
        assert_true(t_f64(doc, "part") == (found > 0));
        cn_json_free(doc);
    }
    assert_int_equal(lines, asked);
    cn_buf_release(&buf);
    static const char *const wrong[] = {"4096,", "x", "100", "4096;8192", "4096,1000000"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(t_cairn("bench retrieval --ruler --lengths '%s'", wrong[i])->status, 2);
    assert_int_equal(t_cairn("bench retrieval --ruler --mass")->status, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_needles),
        cmocka_unit_test(test_variables_are_a_chain),
        cmocka_unit_test(test_common_words_are_common),
        cmocka_unit_test(test_frequent_words_are_the_most_frequent),
        cmocka_unit_test(test_a_seed_is_a_text),
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_a_whole_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
