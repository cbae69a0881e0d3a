/* test_help.c - Help, man pages, the version, and words that are nearly right. */
#include "tests/runtime/cairn.h"

#include "base/version.h"

typedef struct names {
    char name[64][64]; // "bench ops"
    int  count;
} names;

/* Every command, those of groups included. */
static names all_commands(void) {
    names           n = {0};
    static t_result top;
    char           *save, *save2;
    top = *t_cairn("help --commands");
    assert_int_equal(top.status, 0);
    for (char *word = strtok_r(top.output, "\n", &save); word; word = strtok_r(NULL, "\n", &save)) {
        snprintf(n.name[n.count++], sizeof(n.name[0]), "%s", word);
        static t_result sub;
        sub = *t_cairn("%s help --commands 2>/dev/null", word);
        if (sub.status) continue; // no group
        for (char *w = strtok_r(sub.output, "\n", &save2); w; w = strtok_r(NULL, "\n", &save2))
            snprintf(n.name[n.count++], sizeof(n.name[0]), "%s %s", word, w);
    }
    assert_true(n.count >= 10 && n.count < 64);
    return n;
}

static void assert_order(const char *text, const char *first, const char *second) {
    const char *a = strstr(text, first), *b = strstr(text, second);
    if (!a || !b || a > b)
        t_fail(__FILE__, __LINE__, "want \"%s\" before \"%s\" in:\n%s", first, second, text);
}

/* Examples first, then options; `cairn help X` is `cairn X --help`. */
static void test_every_command_has_help(void **state) {
    (void)state;
    const names n = all_commands();
    for (int i = 0; i < n.count; i++) {
        char            example[80];
        static t_result help;
        help = *t_cairn("help %s", n.name[i]);
        assert_int_equal(help.status, 0);
        assert_string_equal(t_cairn("%s --help", n.name[i])->output, help.output);
        assert_int_equal(strncmp(help.output, "usage: cairn ", 13), 0);
        if (strcmp(n.name[i], "bench") == 0) continue; // a list of others
        snprintf(example, sizeof(example), "\n  cairn %s", n.name[i]);
        assert_order(help.output, "\nexamples:\n", example);
        assert_order(help.output, example, "\noptions:\n");
        assert_order(help.output, "\noptions:\n", "\n      --json ");
    }
}

/* Each page is troff without a complaint, and has the command's own options and examples. */
static void test_every_page_renders(void **state) {
    (void)state;
    if (system("command -v groff >/dev/null") != 0) {
        print_message("groff is not installed: skipped\n");
        skip();
    }
    names n = all_commands();
    n.name[n.count++][0] = 0; // cairn itself
    for (int i = 0; i < n.count; i++) {
        const t_result *r = t_cairn("help --man %s >%s/page && groff -k -man -ww -Tutf8 -z %s/page",
                                    n.name[i], t_tmp_dir(), t_tmp_dir());
        assert_string_equal(r->output, ""); // warnings
        assert_int_equal(r->status, 0);
        t_shell("groff -k -man -Tutf8 -P-cbou %s/page >%s/text", t_tmp_dir(), t_tmp_dir());
        t_shell("grep -q '^NAME' %s/text && grep -q '^SEE ALSO' %s/text && grep -q '%s' %s/text",
                t_tmp_dir(), t_tmp_dir(), CN_VERSION, t_tmp_dir());
        const bool is_list = strcmp(n.name[i], "bench") == 0 || !n.name[i][0];
        if (!is_list)
            t_shell("grep -q '^EXAMPLES' %s/text && grep -q -e '--state DIR' %s/text", t_tmp_dir(),
                    t_tmp_dir());
    }
    // Every word of a paragraph arrives, and what troff would take for its own.
    t_shell("%s help --man chat | groff -k -man -Tutf8 -P-cbou | grep -q -F '\\ before Enter'",
            t_cairn_path());
    t_shell("%s help --man chat | groff -k -man -Tutf8 -P-cbou | tr -s ' \\n' '  ' | "
            "grep -q 'From a pipe the exit status is that of the worst turn'",
            t_cairn_path());
}

static void test_version(void **state) {
    (void)state;
    assert_string_equal(t_cairn("--version")->output, "cairn " CN_VERSION "\n");
    assert_int_equal(t_cairn("--version")->status, 0);
}

static void test_a_word_that_is_nearly_right(void **state) {
    (void)state;
    static const struct {
        const char *word, *meant; // NULL: nothing is near
    } cases[] = {{"caht", "\"chat\""},
                 {"sesions", "\"sessions\""},
                 {"contxet", "\"context\""},
                 {"cos", "\"cost\""},
                 {"as", "\"ask\""},
                 {"benchh", "\"bench\""},
                 {"modle", "\"model\""},
                 {"sess", "\"sessions\""},
                 {"dance", NULL},
                 {"x", NULL},
                 {"serendipity", NULL},
                 {"bench opps", "\"ops\""},
                 {"bench decoed", "\"decode\""}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const t_result *r = t_cairn("%s", cases[i].word);
        assert_int_equal(r->status, 2);
        const char *said = strstr(r->output, "did you mean ");
        if (!cases[i].meant) assert_null(said);
        if (cases[i].meant && (!said || strncmp(said + 13, cases[i].meant, strlen(cases[i].meant))))
            t_fail(__FILE__, __LINE__, "%s: %s", cases[i].word, r->output);
    }
    char word[200];
    memset(word, 'a', sizeof(word) - 1);
    word[sizeof(word) - 1] = 0;
    assert_int_equal(t_cairn("%s", word)->status, 2);
    assert_int_equal(t_cairn("help dance")->status, 2);
    assert_int_equal(t_cairn("help a b c d e f g h i j")->status, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_command_has_help),
        cmocka_unit_test(test_every_page_renders),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_a_word_that_is_nearly_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
