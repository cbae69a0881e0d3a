/*
 * test_ignore.c - Patterns by the book: gitignore(5), line by line.
 *
 * That whole trees are ignored as git ignores them is shown with git in test_repo_list.c.
 */
#include "base/fault.h"
#include "tests/test.h"
#include "tools/ignore.h"

static cn_ignore *parse(const char *text, size_t bytes) {
    cn_ignore *ignore;
    char      *copy = t_alloc(bytes);
    memcpy(copy, text, bytes);
    assert_err(cn_ignore_parse(&ignore, copy, bytes, &t_diag), CN_OK);
    t_free(copy); // it keeps its own
    return ignore;
}

typedef struct example {
    const char *text, *path;
    bool        is_folder;
    char        want; // 'o' out, 'i' in, '-' silent
} example;

static void assert_examples(const example *e, size_t n) {
    for (size_t i = 0; i < n; i++) {
        cn_ignore *ignore = parse(e[i].text, strlen(e[i].text));
        t_note("\"%s\" of %s", e[i].text, e[i].path);
        assert_int_equal("-oi"[cn_ignore_match(ignore, e[i].path, e[i].is_folder)], e[i].want);
        cn_ignore_free(ignore);
    }
}

static void test_lines(void **state) {
    (void)state;
    const example examples[] = {
        {"", "a", false, '-'},
        {"\n\n\n", "a", false, '-'},
        {"#a", "#a", false, '-'},
        {"\\#a", "#a", false, 'o'},
        {"a", "a", false, 'o'},
        {"a", "b/a", false, 'o'},
        {"a", "a/b", false, '-'}, // but the folder a is out
        {"a\r\nb", "a", false, 'o'},
        {"a  ", "a", false, 'o'},
        {"a\\ ", "a ", false, 'o'},
        {"a\\ \\ ", "a  ", false, 'o'},
        {"a\t", "a\t", false, 'o'},
        {" a", " a", false, 'o'},
        {"\xEF\xBB\xBF"
         "a",
         "a", false, 'o'},
        {"!a", "a", false, 'i'},
        {"\\!a", "!a", false, 'o'},
        {"a\n!a", "a", false, 'i'},
        {"!a\na", "a", false, 'o'}, // the last one decides
        {"a/", "a", false, '-'},
        {"a/", "a", true, 'o'},
        {"a/", "b/a", true, 'o'},
        {"/a", "a", false, 'o'},
        {"/a", "b/a", false, '-'},
        {"b/a", "b/a", false, 'o'},
        {"b/a", "c/b/a", false, '-'},
        {"b/a/", "b/a", true, 'o'},
        {"/", "a", true, '-'},
        {"//", "a", true, '-'},
        {"!", "a", false, '-'},
        {"!/", "a", true, '-'},
        {"a\\", "a", false, '-'},
        {"a\\", "a\\", false, '-'},
        {"\\a", "a", false, 'o'},
    };
    assert_examples(examples, sizeof(examples) / sizeof(examples[0]));
    cn_ignore *ignore = parse("# nothing\n\n", 11);
    assert_null(ignore);
    assert_int_equal(cn_ignore_match(NULL, "a", false), CN_IGNORE_SILENT);
    assert_false(cn_ignore_has(NULL, "a", false));
    cn_ignore_free(NULL);
    ignore = parse("a\0b\nc", 5); // a NUL is a byte like any other
    assert_int_equal(cn_ignore_match(ignore, "a", false), CN_IGNORE_SILENT);
    assert_int_equal(cn_ignore_match(ignore, "c", false), CN_IGNORE_OUT);
    cn_ignore_free(ignore);
}

static void test_globs(void **state) {
    (void)state;
    const example examples[] = {
        {"*", "a", false, 'o'},
        {"*.c", "b/a.c", false, 'o'},
        {"*.c", "a.cc", false, '-'},
        {"*a*b*", "xaxbx", false, 'o'},
        {"*a*b*", "xbxax", false, '-'},
        {"a?c", "abc", false, 'o'},
        {"a?c", "ac", false, '-'},
        {"b/*", "b/a", false, 'o'},
        {"b/*", "b/c/a", false, '-'}, // '*' does not cross a '/'
        {"b/*/a", "b/c/a", false, 'o'},
        {"b/*/a", "b/a", false, '-'},
        {"b?a", "b/a", false, '-'},
        {"[abc]", "b", false, 'o'},
        {"[a-c]", "d", false, '-'},
        {"[!a-c]", "d", false, 'o'},
        {"[^a-c]", "b", false, '-'},
        {"[]]", "]", false, 'o'},
        {"[!]]", "]", false, '-'},
        {"[a-]", "-", false, 'o'},
        {"[\\]a]", "]", false, 'o'},
        {"[a\\-c]", "b", false, '-'},
        {"[a", "[a", false, '-'},
        {"[[:digit:]x]", "7", false, 'o'},
        {"[[:digit:]x]", "x", false, 'o'},
        {"[[:digit:]x]", "y", false, '-'},
        {"[![:alpha:]]", "7", false, 'o'},
        {"[[:nonsense:]]", "n", false, '-'},
        {"[[:alpha:]]", "\xE9", false, '-'},
        {"caf?", "caf\xE9", false, 'o'},
        {"\\*", "*", false, 'o'},
        {"\\*", "a", false, '-'},
        {"**", "b/a", false, 'o'},
        {"**/a", "a", false, 'o'},
        {"**/a", "b/c/a", false, 'o'},
        {"**/a/b", "c/a/b", false, 'o'},
        {"a/**", "a", true, '-'},
        {"a/**", "a/b", false, 'o'},
        {"a/**", "a/b/c", false, 'o'},
        {"a/**/b", "a/b", false, 'o'},
        {"a/**/b", "a/c/d/b", false, 'o'},
        {"a/**/b", "a/c/d", false, '-'},
        {"a/**/b/**/c", "a/b/x/b/y/c", false, 'o'},
        {"a/**/**/b", "a/b", false, 'o'},
        {"x/a**b", "x/acb", false, 'o'},
        {"x/a**b", "x/a/b", false, '-'},
        {"/**", "a/b", false, 'o'},
        {"/**/", "a", false, '-'},
        {"/**/", "a", true, 'o'},
    };
    assert_examples(examples, sizeof(examples) / sizeof(examples[0]));
}

static void test_what_is_in_a_folder_that_is_out(void **state) {
    (void)state;
    cn_ignore *ignore = parse("docs/\n/a/b\n*.csv\n!keep.csv\n", 26);
    const struct {
        const char *path;
        bool        is_folder, is_out;
    } paths[] = {
        {"docs", true, true},           {"docs", false, false},   {"docs/x", false, true},
        {"x/docs/y/z", false, true},    {"a/b", false, true},     {"a/b/c", false, true},
        {"x/a/b", false, false},        {"x.csv", false, true},   {"keep.csv", false, false},
        {"docs/keep.csv", false, true}, {"x.csv/f", false, true}, {"a", true, false}};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        t_note("%s", paths[i].path);
        assert_int_equal(cn_ignore_has(ignore, paths[i].path, paths[i].is_folder), paths[i].is_out);
    }
    cn_ignore_free(ignore);
}

/* Backtracking into every star would take 2^200 steps, or so. */
static void test_hostile_patterns_are_cheap(void **state) {
    (void)state;
    char stars[2000] = "", path[2000] = "", folders[2000] = "", deep[2000] = "";
    for (int i = 0; i < 200; i++) {
        strcat(stars, "*a");
        strcat(path, "aa");
        strcat(folders, "**/a/");
        strcat(deep, "a/a/");
    }
    strcat(stars, "b");
    strcat(path, "c");
    strcat(folders, "b");
    strcat(deep, "c");
    cn_ignore *ignore = parse(stars, strlen(stars));
    assert_int_equal(cn_ignore_match(ignore, path, false), CN_IGNORE_SILENT);
    cn_ignore_free(ignore);
    ignore = parse(folders, strlen(folders));
    assert_int_equal(cn_ignore_match(ignore, deep, false), CN_IGNORE_SILENT);
    cn_ignore_free(ignore);
}

static void test_no_memory(void **state) {
    (void)state;
    cn_ignore *ignore = (cn_ignore *)1;
    cn_fault_arm(CN_FAULT_ONCE, 1);
    const cn_err err = cn_ignore_parse(&ignore, "a", 1, &t_diag);
    cn_fault_arm(CN_FAULT_OFF, 0);
    assert_err(err, CN_ENOMEM);
    assert_null(ignore);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_globs),
        cmocka_unit_test(test_what_is_in_a_folder_that_is_out),
        cmocka_unit_test(test_hostile_patterns_are_cheap),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
