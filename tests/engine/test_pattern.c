/*
 * test_pattern.c - Patterns mean what they mean to Oniguruma, or are refused.
 *
 * The matches themselves are compared with the reference in test_tokenizer.c; here: sets of code
 * points in full, splits that can be checked by eye, every refusal, limits.
 */
#include "base/fault.h"
#include "engine/pattern_int.h"
#include "tests/test.h"

static size_t put_utf8(char *out, uint32_t code) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    const size_t bytes = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = bytes - 1; i > 0; i--, code >>= 6) out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)((0xF00 >> bytes & 0xF0) | code); // C0, E0, F0
    return bytes;
}

static cn_pattern *compiled(const char *text, bool is_literal) {
    cn_pattern *p;
    t_note("pattern %s", text);
    assert_err(cn_pattern_create(&p, text, is_literal, &t_diag), CN_OK);
    return p;
}

/* The matches of `pattern` in `text`, each in brackets, with what lies between. */
static void assert_matches(const char *pattern, const char *text, const char *want) {
    cn_pattern  *p = compiled(pattern, false);
    cn_match    *m;
    const size_t bytes = strlen(text);
    char         got[512];
    size_t       at = 0, put = 0;
    assert_err(cn_match_create(&m, bytes), CN_OK);
    while (at < bytes) {
        size_t start, end;
        assert_err(cn_pattern_find(p, m, text, bytes, at, &start, &end, &t_diag), CN_OK);
        put += (size_t)snprintf(got + put, sizeof(got) - put, "%.*s", (int)(start - at), text + at);
        if (start < bytes)
            put += (size_t)snprintf(got + put, sizeof(got) - put, "[%.*s]", (int)(end - start),
                                    text + start);
        if (end == start && start < bytes) got[put++] = text[end++], got[put] = 0;
        at = end;
    }
    assert_string_equal(got, want);
    cn_match_free(m);
    cn_pattern_free(p);
}

// As published with the models.
static const char gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
static const char cl100k[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+"
    "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
static const char qwen2[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+"
    "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
static const char o200k[] =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
static const char deepseek[] =
    "[!\"#$%&'()*+,\\-./"
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]"
    "+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static void test_published_patterns_split_right(void **state) {
    (void)state;
    const char text[] = "I'LL read 12345 files,\n  don't  you?\n";
    assert_matches(gpt2, text,
                   "[I]['][LL][ read][ 12345][ files][,][\n ][ don]['t][ ][ you][?][\n]");
    assert_matches(cl100k, text,
                   "[I]['LL][ read][ ][123][45][ files][,\n][ ][ don]['t][ ][ you][?\n]");
    assert_matches(qwen2, text,
                   "[I]['LL][ read][ ][1][2][3][4][5][ files][,\n][ ][ don]['t][ ][ you][?\n]");
    assert_matches(o200k, text, "[I'LL][ read][ ][123][45][ files][,\n][ ][ don't][ ][ you][?\n]");
    assert_matches(o200k, "HTTPServer.x /a//\n", "[HTTPServer][.x][ /][a][//\n]");
    assert_matches(deepseek, "a.b(c)  x\r\n", "[a][.b][(c][)][ ][ x][\r\n]");
    assert_matches("[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F]+",
                   "a\xE4\xBD\xA0\xE5\xA5\xBD"
                   "b",
                   "a[\xE4\xBD\xA0\xE5\xA5\xBD]b");
}

static bool matches(const cn_pattern *p, cn_match *m, const char *text, size_t bytes) {
    size_t start, end;
    assert_err(cn_pattern_find(p, m, text, bytes, 0, &start, &end, &t_diag), CN_OK);
    return start < bytes;
}

/* Each spelling of a space against the White_Space property of Unicode. */
static void test_space_is_white_space(void **state) {
    (void)state;
    static const uint32_t spaces[] = {9,      10,     11,     12,     13,     32,     0x85,
                                      0xA0,   0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004,
                                      0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200A, 0x2028,
                                      0x2029, 0x202F, 0x205F, 0x3000};
    static const struct {
        const char *pattern;
        bool        is_space;
    } spellings[] = {{"\\s", true},  {"[\\s]", true},  {"[^\\S]", true}, {"(?i:\\s)", true},
                     {"\\S", false}, {"[\\S]", false}, {"[^\\s]", false}};
    cn_match *m;
    assert_err(cn_match_create(&m, 8), CN_OK);
    for (size_t s = 0; s < sizeof(spellings) / sizeof(spellings[0]); s++) {
        cn_pattern *p = compiled(spellings[s].pattern, false);
        size_t      next = 0;
        for (uint32_t code = 0; code <= 0x10FFFF;
             code += t_is_sanitized() && code > 0x4000 ? 7 : 1) {
            if (code >= 0xD800 && code < 0xE000) continue;
            char       text[4];
            const bool is_space = next < sizeof(spaces) / sizeof(spaces[0]) && spaces[next] == code;
            next += is_space;
            if (matches(p, m, text, put_utf8(text, code)) != (is_space == spellings[s].is_space))
                t_fail(__FILE__, __LINE__, "%s and U+%04X", spellings[s].pattern, code);
        }
        cn_pattern_free(p);
    }
    cn_match_free(m);
}

static void test_rewritten_sets(void **state) {
    (void)state;
    assert_matches("\\w+", "a_1 \xCC\x81\xC2\xBD-\xE2\x80\xBF",
                   "[a_1] [\xCC\x81\xC2\xBD]-[\xE2\x80\xBF]");
    assert_matches("[\\w.]+", "a.\xC2\xBD", "[a.]\xC2\xBD"); // in a class, one half is no word
    assert_matches("\\W+", "a-\xC2\xBD+", "a[-]\xC2\xBD[+]");
    assert_matches("\\d\\D", "1a22\xD9\xA1", "[1a]22\xD9\xA1"); // Arabic-Indic one is a digit
    assert_matches("[\\d\\-]+[^\\d]", "1-a", "[1-a]");
    assert_matches("\\p{Han}+", "\xE4\xBD\xA0\xE3\x80\x81\xE3\x80\x85",
                   "[\xE4\xBD\xA0]\xE3\x80\x81[\xE3\x80\x85]");
    assert_matches("\\p{^L}|\\P{Lu}", "aA1", "[a]A[1]");
    assert_matches("^b$|a.", "a\nb\nab", "a\n[b]\n[ab]");
    assert_matches("(?<=a)|b{1,2}?", "aab", "a[]a[]b");
    assert_matches("\\x41\\x{42}|[\\x43-\\x{44}]", "ABCD", "[AB][C][D]");
    assert_matches("{|a{b|{,}|x{1", "{ a{b", "[{] [a{b]");
    assert_matches("(?>a+)b|(?:c(d))|(?=z)|(?!.)|(?<!.)", "aabcd", "[aab][cd]");
    assert_matches("(?i:a(b))c", "ABc ABC", "[ABc] ABC");
    assert_matches("[-a][b-]\\-", "-b-", "[-b-]");
    assert_matches("[\\]\\[\\\\a-c]+\\.", "[]\\b.", "[[]\\b.]");
    assert_matches("\\t\\r\\n\\f\\a\\e\\A|x\\z", "xx", "x[x]");
}

static void test_a_literal_matches_itself(void **state) {
    (void)state;
    cn_pattern *p = compiled("a.\\s(", true);
    cn_match   *m;
    size_t      start, end;
    assert_err(cn_match_create(&m, 16), CN_OK);
    assert_err(cn_pattern_find(p, m, "ab a.\\s(", 8, 0, &start, &end, NULL), CN_OK);
    assert_int_equal(start, 3);
    assert_int_equal(end, 8);
    assert_err(cn_pattern_find(p, m, "ab a.\\s(", 7, 0, &start, &end, NULL), CN_OK);
    assert_int_equal(start, 7);
    assert_int_equal(end, 7);
    cn_match_free(m);
    cn_pattern_free(p);
}

static void assert_refused(const char *text, cn_err want, const char *say) {
    cn_pattern *p = (cn_pattern *)&p;
    t_note("pattern %.80s", text);
    t_diag = (cn_diag){0};
    assert_err(cn_pattern_create(&p, text, false, &t_diag), want);
    assert_null(p);
    assert_int_equal(t_diag.err, want);
    if (!strstr(t_diag.text, say))
        t_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", t_diag.text, say);
}

static void test_what_reads_in_two_ways_is_refused(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"[\\p{L}&&[^\\p{Han}]]", "byte 6: && in a class"},
        {"[a[bc]]", "byte 2: [ in a class"},
        {"[[:alpha:]]", "[ in a class"},
        {"[]a]", "] first"},
        {"[^]a]", "] first"},
        {"[^\\W]", "\\W in a class"},
        {"[a-\\s]", "a set as the end"},
        {"[\\s-a]", "a set as the end"},
        {"[\\p{L}-a]", "a set as the end"},
        {"[a-\\p{L}]", "a set as the end"},
        {"[\\A]", "an anchor in a class"},
        {"(?i:\\p{Lu})", "a property within (?i:"},
        {"(?i:(?:a(\\p{Lu})))", "a property within (?i:"},
        {"\\pL", "a property without braces"},
        {"\\p{L", "a property without braces"},
        {"(*UTF)a", "(*"},
        {"(?i)a", "a group"},
        {"(?#x)a", "a group"},
        {"(?<n>a)", "a group"},
        {"(?m:a)", "a group"},
        {"(?~a)", "a group"},
        {"(?R)", "a group"},
        {"(a)\\1", "an escape"},
        {"\\h", "an escape"},
        {"\\R", "an escape"},
        {"\\X", "an escape"},
        {"\\K", "an escape"},
        {"\\G", "an escape"},
        {"\\b", "an escape"},
        {"\\Qa\\E", "an escape"},
        {"\\v", "an escape"},
        {"\\N", "an escape"},
        {"\\u0041", "an escape"},
        {"\\0", "an escape"},
        {"\\x4", "\\x that"},
        {"\\x80", "\\x that"},
        {"\\xff", "\\x that"},
        {"a{1}+", "{n}+"},
        {"a{1,3}+", "{n}+"},
        {"a{2}?", "{n}?"},
        {"a{,3}", "{,n}"},
        {"\\p{Nonsense}", "property"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_refused(cases[i][0], CN_EUNSUPPORTED, cases[i][1]);
    char deep[2 * (CN_PATTERN_GROUPS_MAX + 1) + 1];
    memset(deep, '(', CN_PATTERN_GROUPS_MAX + 1);
    memset(deep + CN_PATTERN_GROUPS_MAX + 1, ')', CN_PATTERN_GROUPS_MAX + 1);
    deep[sizeof(deep) - 1] = 0;
    assert_refused(deep, CN_EUNSUPPORTED, "too many groups");
    deep[sizeof(deep) - 2] = 0; // one fewer of each is enough
    cn_pattern_free(compiled(deep + 1, false));
}

static void test_what_does_not_compile_is_corrupt(void **state) {
    (void)state;
    static const char *const cases[] = {"(",      ")",     "(?:a",        "a)",   "[a", "*a",
                                        "a{2,1}", "[z-a]", "\\x{110000}", "\\x{", "a\\"};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_refused(cases[i], CN_ECORRUPT, i == 10 ? "backslash" : "does not compile");
}

static void test_limits_are_kept(void **state) {
    (void)state;
    cn_pattern *p;
    cn_match   *m;
    size_t      start, end;
    char       *text = malloc(CN_PATTERN_BYTES_MAX + 2);
    assert_non_null(text);
    memset(text, 'a', CN_PATTERN_BYTES_MAX + 1);
    text[CN_PATTERN_BYTES_MAX + 1] = 0;
    assert_refused(text, CN_ETOOBIG, "65537 bytes, limit 65536");
    assert_err(cn_pattern_create(&p, text, true, NULL), CN_ETOOBIG);

    // A match too deep for the JIT's stack is found all the same.
    p = compiled("(?:(?:a|x)(?:a|y))+", false);
    assert_err(cn_match_create(&m, CN_PATTERN_BYTES_MAX), CN_OK);
    assert_err(cn_pattern_find(p, m, text, CN_PATTERN_BYTES_MAX, 0, &start, &end, &t_diag), CN_OK);
    assert_int_equal(start, 0);
    assert_int_equal(end, CN_PATTERN_BYTES_MAX);
    cn_pattern_free(p);

    p = compiled("(?:a|aa|aaa)+[cd]", false);
    assert_err(cn_pattern_find(p, m, text, 100, 0, &start, &end, &t_diag), CN_ETOOBIG);
    assert_non_null(strstr(t_diag.text, "ran away at byte 0 of 100"));
    assert_true(start == 100 && end == 100);
    cn_pattern_free(p);
    cn_match_free(m);
    free(text);
}

static void test_failing_memory(void **state) {
    (void)state;
    cn_pattern *p;
    cn_match   *m;
    for (int n = 1; n <= 2; n++) { // the rewritten text, the compiler's context
        cn_fault_arm(CN_FAULT_ONCE, n);
        assert_err(cn_pattern_create(&p, "a", false, NULL), CN_ENOMEM);
        assert_null(p);
    }
    cn_fault_arm(CN_FAULT_ONCE, 1);
    assert_err(cn_match_create(&m, 1), CN_ENOMEM);
    assert_null(m);
    cn_fault_arm(CN_FAULT_OFF, 0);
    cn_pattern_free(NULL);
    cn_match_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_patterns_split_right),
        cmocka_unit_test(test_space_is_white_space),
        cmocka_unit_test(test_rewritten_sets),
        cmocka_unit_test(test_a_literal_matches_itself),
        cmocka_unit_test(test_what_reads_in_two_ways_is_refused),
        cmocka_unit_test(test_what_does_not_compile_is_corrupt),
        cmocka_unit_test(test_limits_are_kept),
        cmocka_unit_test(test_failing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
