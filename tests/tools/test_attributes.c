/*
 * test_attributes.c - Rules by the book: gitattributes(5).
 *
 * That whole trees are read as git reads them is shown with git in test_repo_list.c.
 */
#include "base/fault.h"
#include "tests/test.h"
#include "tools/attributes.h"

static cn_attributes      *names;
static cn_attribute_rules *rules;

/* The rules of one file that may define macros. */
static void parse(const char *text, size_t bytes) {
    char *copy = t_alloc(bytes);
    memcpy(copy, text, bytes);
    cn_attribute_rules_free(rules);
    cn_attributes_free(names);
    assert_err(cn_attributes_create(&names, &t_diag), CN_OK);
    assert_err(cn_attributes_define(names, copy, bytes, &t_diag), CN_OK);
    assert_err(cn_attributes_parse(names, &rules, copy, bytes, &t_diag), CN_OK);
    t_free(copy); // they keep their own
}

static cn_attribute_value ask(const char *path, cn_attribute attribute) {
    cn_attribute_answer answer = {0};
    cn_attributes_apply(names, rules, path, &answer);
    return answer.value[attribute];
}

static void test_rules(void **state) {
    (void)state;
    static const struct {
        const char        *text, *path;
        cn_attribute       attribute;
        cn_attribute_state want;
    } examples[] = {
        {"a text", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET},
        {"a text", "b/a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET},
        {"/a text", "b/a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNDECIDED},
        {"a -text", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNSET},
        {"a !text", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNSPECIFIED},
        {"a text=auto", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_VALUE},
        {"a text -text", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNSET},
        {"a -text text", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET},
        {"a text\n* -text", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNSET},
        {"* -text\na text", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET},
        {"  a \t text\r\n", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET},
        {"# a text", "#", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNDECIDED},
        {"!a text", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNDECIDED},
        {"a/ text", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNDECIDED},
        {"a", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNDECIDED},
        {"a unknown", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNDECIDED},
        {"a texts atext", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNDECIDED},
        {"a binary", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNSET}, // the built-in macro
        {"a text binary", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNSET},
        {"a binary text", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET},
        {"a -binary", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNDECIDED},
        {"* binary\na -binary", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNDECIDED},
        {"[attr]m text\na m", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET},
        {"a m\n[attr]m text", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET},
        {"[attr]m n\n[attr]n text\na m", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET},
        {"[attr]m m text\na m", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET},
        {"[attr]m text\n[attr]m -text\na m", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNSET},
        {"[attr]binary text\na binary", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET},
        {"[attr] text", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET}, // a pattern: a, t or r
        {"\"a b\" text", "a b", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET},
        {"\"\\303\\251\\t\" text", "\xC3\xA9\t", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET},
        {"\"a\\\"\" text", "a\"", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET},
        {"\"a text", "\"a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET}, // no end: a plain pattern
        {"\"a\\", "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNDECIDED},
        {"\"a\\9\" text", "a9", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_UNDECIDED},
        {"\xEF\xBB\xBF"
         "a text",
         "a", CN_ATTRIBUTE_TEXT, CN_ATTRIBUTE_SET},
        {"a linguist-generated", "a", CN_ATTRIBUTE_GENERATED, CN_ATTRIBUTE_SET},
        {"a linguist-vendored", "a", CN_ATTRIBUTE_VENDORED, CN_ATTRIBUTE_SET},
        {"a filter=x", "a", CN_ATTRIBUTE_FILTER, CN_ATTRIBUTE_VALUE},
        {"a working-tree-encoding=x", "a", CN_ATTRIBUTE_ENCODING, CN_ATTRIBUTE_VALUE},
        {"a eol=lf", "a", CN_ATTRIBUTE_EOL, CN_ATTRIBUTE_VALUE},
        {"a crlf", "a", CN_ATTRIBUTE_CRLF, CN_ATTRIBUTE_SET},
        {"a ident", "a", CN_ATTRIBUTE_IDENT, CN_ATTRIBUTE_SET},
    };
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        t_note("\"%s\" of %s", examples[i].text, examples[i].path);
        parse(examples[i].text, strlen(examples[i].text));
        assert_int_equal(ask(examples[i].path, examples[i].attribute).state, examples[i].want);
    }
    parse("# nothing\n\na unknown\n", 21);
    assert_null(rules);
    assert_int_equal(ask("a", CN_ATTRIBUTE_TEXT).state, CN_ATTRIBUTE_UNDECIDED);
    parse("a text\0\nb text=\0=\n", 18);
    assert_int_equal(ask("a", CN_ATTRIBUTE_TEXT).state, CN_ATTRIBUTE_UNDECIDED);
    assert_int_equal(ask("b", CN_ATTRIBUTE_TEXT).bytes, 2);
}

static void test_values(void **state) {
    (void)state;
    parse("a filter=lfs text=\nb text=true\nc text\nd -text\ne text=True\n", 58);
    const cn_attribute_value filter = ask("a", CN_ATTRIBUTE_FILTER);
    assert_int_equal(filter.bytes, 3);
    assert_memory_equal(filter.text, "lfs", 3);
    cn_attribute_value v = ask("a", CN_ATTRIBUTE_TEXT);
    assert_true(v.state == CN_ATTRIBUTE_VALUE && v.bytes == 0);
    assert_false(cn_attribute_is_on(&v));
    const bool on[] = {true, true, false, false};
    for (int i = 0; i < 4; i++) {
        const char path[] = {(char)('b' + i), 0};
        v = ask(path, CN_ATTRIBUTE_TEXT);
        assert_int_equal(cn_attribute_is_on(&v), on[i]);
    }
    v = ask("f", CN_ATTRIBUTE_TEXT);
    assert_false(cn_attribute_is_on(&v));
}

static void test_limits(void **state) {
    (void)state;
    for (int over = 0; over < 2; over++) {
        char text[CN_ATTRIBUTE_LINE_BYTES_MAX + 2];
        memset(text, ' ', sizeof(text));
        memcpy(text, "a text", 6);
        parse(text, (size_t)CN_ATTRIBUTE_LINE_BYTES_MAX + (size_t)over);
        assert_int_equal(rules == NULL, over);
        memcpy(text, "[attr]m text", 12);
        text[CN_ATTRIBUTE_LINE_BYTES_MAX + over] = 0;
        char both[sizeof(text) + 8];
        snprintf(both, sizeof(both), "%s\na m", text);
        parse(both, strlen(both));
        assert_int_equal(ask("a", CN_ATTRIBUTE_TEXT).state,
                         over ? CN_ATTRIBUTE_UNDECIDED : CN_ATTRIBUTE_SET);
    }
    char text[4000] = "";
    for (int i = 0; i < CN_ATTRIBUTE_NAMES_MAX; i++)
        sprintf(text + strlen(text), "[attr]m%d text\nf%d m%d\n", i, i, i);
    parse(text, strlen(text));
    assert_int_equal(ask("f54", CN_ATTRIBUTE_TEXT).state, CN_ATTRIBUTE_SET);
    assert_int_equal(ask("f55", CN_ATTRIBUTE_TEXT).state, CN_ATTRIBUTE_UNDECIDED);
}

static void test_no_memory(void **state) {
    (void)state;
    static const char text[] = "[attr]m text\na m\nb text\n";
    for (int n = 1;; n++) {
        cn_attributes      *some = NULL;
        cn_attribute_rules *r = NULL;
        cn_fault_arm(CN_FAULT_ONCE, n);
        cn_err err = cn_attributes_create(&some, &t_diag);
        if (!err) err = cn_attributes_define(some, text, sizeof(text) - 1, &t_diag);
        if (!err) err = cn_attributes_parse(some, &r, text, sizeof(text) - 1, &t_diag);
        const bool hit = cn_fault_was_hit();
        t_note("fault %d at %s", n, cn_fault_last_point());
        cn_fault_arm(CN_FAULT_OFF, 0);
        assert_err(err, hit ? CN_ENOMEM : CN_OK);
        assert_int_equal(r == NULL, hit);
        cn_attribute_rules_free(r);
        cn_attributes_free(some);
        if (!hit) {
            assert_true(n > 8);
            break;
        }
    }
    cn_attribute_rules_free(rules);
    cn_attributes_free(names);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
