/*
 * test_json.c - The reader takes RFC 8259 and nothing else; the writer's text comes back equal.
 */
#include "base/fault.h"
#include "base/json.h"
#include "tests/test.h"

#include <float.h>
#include <locale.h>
#include <math.h>

static const cn_json_limits wide = {
    .bytes_max = (size_t)1 << 30, .depth_max = CN_JSON_DEPTH_MAX, .values_max = 1 << 30};

/* Parse a copy that ends where its memory ends, so that a sanitizer sees one byte too far. */
static cn_err parse(cn_json_doc **out, const char *text, size_t bytes, const cn_json_limits *l,
                    cn_diag *diag) {
    char *copy = malloc(bytes > 0 ? bytes : 1);
    assert_non_null(copy);
    memcpy(copy, text, bytes);
    const cn_err err = cn_json_parse(out, bytes > 0 ? copy : NULL, bytes, "x.json", l, diag);
    memset(copy, '!', bytes); // the document must not point into the text
    free(copy);
    assert_int_equal(*out == NULL, err != CN_OK);
    return err;
}

static cn_json_doc *parsed(const char *text) {
    cn_json_doc *doc;
    assert_err(parse(&doc, text, strlen(text), &wide, &t_diag), CN_OK);
    return doc;
}

/* ---- What is JSON ------------------------------------------------------------------ */

static void test_strict_json_is_accepted(void **state) {
    (void)state;
    static const char *const texts[] = {
        "null",
        " \t\r\n true \t\r\n ",
        "false",
        "0",
        "-0",
        "-0.0e-0",
        "1E+2",
        "0.5",
        "123456789012345678901234567890",
        "1e308",
        "1e-999", // underflow is a number: 0
        "\"\"",
        "[]",
        "{}",
        "[ ]",
        "{ }",
        "[[],{},[[]]]",
        "{\"\":0}", // the empty key is a key
        "{\"a\":1,\"A\":2,\"a \":3}",
        "{\"a\":{\"a\":{\"a\":1}},\"b\":[{\"a\":1},{\"a\":1}]}", // one "a" for each object
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0001\\uFFFF\"",
        "\"\\uD83D\\uDE00\\udbff\\udfff\"",
        "\"\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\"", // the ends of each size
        "\"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\"",
        "\"\xE2\x80\xA8\"", // U+2028
        "[1,\"1\",true,null,{\"k\":[]}]",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        t_note("%s", texts[i]);
        cn_json_free(parsed(texts[i]));
    }
}

static void assert_corrupt(const char *text, size_t bytes, size_t at, const char *what) {
    cn_json_doc *doc;
    cn_diag      diag = {0};
    char         want[300];
    t_note("%.*s", (int)bytes, text);
    assert_err(parse(&doc, text, bytes, &wide, &diag), CN_ECORRUPT);
    assert_int_equal(diag.err, CN_ECORRUPT);
    snprintf(want, sizeof(want), "x.json: byte %zu: %s", at, what);
    assert_string_equal(diag.text, want);
    assert_err(parse(&doc, text, bytes, &wide, NULL), CN_ECORRUPT);
}

static void test_all_else_is_refused_by_byte(void **state) {
    (void)state;
    static const struct {
        size_t      at;
        const char *what, *text;
    } cases[] = {
        // values and the text around them
        {0, "a value expected, but the text ends", ""},
        {2, "a value expected, but the text ends", " \n"},
        {0, "a value expected, found byte 0xef", "\xEF\xBB\xBF{}"}, // a byte order mark
        {0, "a value expected, found byte 0x0c", "\f1"},
        {0, "a value expected, found byte 0xc2",
         "\xC2\xA0"
         "1"},
        {0, "a value expected, found '''", "'a'"},
        {0, "a value expected, found 'N'", "NaN"},
        {0, "a value expected, found 'I'", "Infinity"},
        {0, "a value expected, found '/'", "/**/1"},
        {0, "a value expected, found 't'", "tru"},
        {0, "a value expected, found 'n'", "nul"},
        {0, "a value expected, found 'f'", "falsE"},
        {0, "a value expected, found 'T'", "True"},
        {4, "the end expected, found 'x'", "truex"},
        {2, "the end expected, found '1'", "1 1"},
        {2, "the end expected, found '}'", "{}}"},
        {3, "the end expected, found ','", "[1],"},
        {2, "the end expected, found '/'", "1 // one"},
        // arrays and objects
        {1, "a value expected, but the text ends", "["},
        {2, "',' or ']' expected, but the text ends", "[1"},
        {3, "a value expected, found ']'", "[1,]"},
        {1, "a value expected, found ','", "[,1]"},
        {3, "',' or ']' expected, found '2'", "[1 2]"},
        {2, "',' or ']' expected, found '}'", "[1}"},
        {4, "',' or ']' expected, found ':'", "[\"a\":1]"},
        {1, "a key expected, but the text ends", "{"},
        {1, "a key expected, found '1'", "{1:2}"},
        {1, "a key expected, found 'a'", "{a:2}"},
        {1, "a key expected, found ','", "{,}"},
        {4, "':' expected, found '}'", "{\"a\"}"},
        {4, "':' expected, found ','", "{\"a\",1}"},
        {5, "a value expected, found '}'", "{\"a\":}"},
        {5, "a value expected, found ':'", "{\"a\"::1}"},
        {6, "',' or '}' expected, but the text ends", "{\"a\":1"},
        {7, "a key expected, found '}'", "{\"a\":1,}"},
        {6, "',' or '}' expected, found ']'", "{\"a\":1]"},
        // numbers
        {1, "a number with a leading 0", "[01]"},
        {0, "a number with a leading 0", "-01"},
        {0, "a number with a leading 0", "00"},
        {1, "a digit expected, but the text ends", "-"},
        {1, "a digit expected, found '-'", "--1"},
        {1, "a digit expected, found 'I'", "-Infinity"},
        {0, "a value expected, found '+'", "+1"},
        {0, "a value expected, found '.'", ".5"},
        {2, "a digit expected, but the text ends", "1."},
        {3, "a digit expected, found ']'", "[1.]"},
        {2, "a digit expected, found 'e'", "1.e1"},
        {2, "a digit expected, but the text ends", "1e"},
        {3, "a digit expected, but the text ends", "1e+"},
        {3, "the end expected, found '.'", "1.5.5"},
        {3, "the end expected, found '.'", "1e1.5"},
        {1, "the end expected, found 'x'", "0x10"},
        {1, "the end expected, found '_'", "1_000"},
        {1, "a number that overflows a double", "[1e999]"},
        {0, "a number that overflows a double", "-1.8e308"},
        {0, "a number that overflows a double", "1e99999999999999999999"},
        // strings
        {0, "a string without end", "\""},
        {1, "a string without end", "[\"abc"},
        {0, "a string without end", "\"\\\""},
        {1, "not an escape", "\"\\"},
        {1, "not an escape", "\"\\x41\""},
        {1, "not an escape", "\"\\'\""},
        {1, "not an escape", "\"\\U0041\""},
        {1, "not an escape", "\"\\u12\""},
        {1, "not an escape", "\"\\u12g4\""},
        {1, "not an escape", "\"\\u 123\""},
        {1, "not an escape", "\"\\u-123\""},
        {1, "not an escape", "\"\\u00"},
        {4, "NUL in a string", "\"abc\\u0000def\""},
        {2, "NUL in a string", "{\"\\u0000\":1}"},
        {1, "half a surrogate pair", "\"\\ud800\""},
        {1, "half a surrogate pair", "\"\\uDBFFx\""},
        {1, "half a surrogate pair", "\"\\udc00\""},
        {1, "half a surrogate pair", "\"\\uDE00\\uD83D\""},
        {1, "half a surrogate pair", "\"\\ud800\\ud800\""},
        {1, "half a surrogate pair", "\"\\ud800\\n\""},
        {1, "half a surrogate pair", "\"\\ud800\\u0041\""},
        {1, "half a surrogate pair", "\"\\ud800\\ue000\""},
        {1, "half a surrogate pair", "\"\\ud83d\xF0\x9F\x98\x80\""},
        {2, "a control character in a string", "\"a\nb\""},
        {1, "a control character in a string", "\"\t\""},
        {1, "a control character in a string", "\"\x1F\""},
        {1, "not UTF-8", "\"\x80\""},
        {1, "not UTF-8", "\"\xFF\""},
        {1, "not UTF-8", "\"\xC0\x80\""},
        {1, "not UTF-8", "\"\xE0\x80\x80\""},
        {1, "not UTF-8", "\"\xED\xA0\x80\""},
        {1, "not UTF-8", "\"\xF4\x90\x80\x80\""},
        {3, "not UTF-8", "{\"a\xFE\":1}"},
        {1, "not UTF-8", "\"\xE2\x82\""},
        {1, "not UTF-8", "\"\xE2\x82"},
        // keys
        {7, "duplicate key \"a\"", "{\"a\":1,\"a\":1}"},
        {19, "duplicate key \"a\"", "{\"a\":1,\"b\":{\"a\":2},\"a\":3}"},
        {7, "duplicate key \"a\"", "{\"a\":1,\"\\u0061\":1}"}, // the same key, written otherwise
        {6, "duplicate key \"\"", "{\"\":1,\"\":1}"},
        {21, "duplicate key \"\xC3\xA9\"", "[{\"z\":{\"x\":[],\"\xC3\xA9\":1,\"\\u00e9\":{}}}]"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_corrupt(cases[i].text, strlen(cases[i].text), cases[i].at, cases[i].what);
    assert_corrupt("1\0", 2, 1, "the end expected, found byte 0x00");
    assert_corrupt("\0", 1, 0, "a value expected, found byte 0x00");
    assert_corrupt("\"a\0\"", 4, 2, "a control character in a string");
    assert_corrupt("\"\\\0\"", 4, 1, "not an escape");
}

/* Any prefix of a document is no document, and no prefix is read past its end. */
static void test_no_prefix_is_accepted(void **state) {
    (void)state;
    const char *text =
        "{\"k\\n\\u00e9\":[true,false,null,-1.5e+3,\"\xF0\x9F\x98\x80\\ud83d\\ude00\"],"
        "\"m\":{\"n\":\"\"}}";
    for (size_t bytes = 0; bytes <= strlen(text); bytes++) {
        cn_json_doc *doc;
        t_note("%zu bytes", bytes);
        assert_err(parse(&doc, text, bytes, &wide, &t_diag),
                   bytes < strlen(text) ? CN_ECORRUPT : CN_OK);
        cn_json_free(doc);
    }
}

/* ---- Limits ------------------------------------------------------------------------ */

static void assert_limit(const char *text, cn_json_limits limits, const char *message) {
    cn_json_doc *doc;
    cn_diag      diag = {0};
    t_note("%s", text);
    assert_err(parse(&doc, text, strlen(text), &limits, &diag), message ? CN_ETOOBIG : CN_OK);
    assert_string_equal(diag.text, message ? message : "");
    cn_json_free(doc);
}

static void test_limits_are_exact(void **state) {
    (void)state;
    assert_limit("[1,2]", (cn_json_limits){5, 1, 3}, NULL);
    assert_limit("[1,2]", (cn_json_limits){4, 1, 3}, "x.json: 5 bytes, limit 4");
    assert_limit("[1,2]", (cn_json_limits){5, 0, 3}, "x.json: byte 0: nested 1 deep, limit 0");
    assert_limit("[1,2]", (cn_json_limits){5, 1, 2}, "x.json: byte 3: value number 3, limit 2");
    assert_limit("7", (cn_json_limits){1, 0, 1}, NULL);
    assert_limit("7", (cn_json_limits){1, 0, 0}, "x.json: byte 0: value number 1, limit 0");
    assert_limit("[[],{\"a\":[]}]", (cn_json_limits){99, 3, 4}, NULL);
    assert_limit("[[],{\"a\":[]}]", (cn_json_limits){99, 2, 4},
                 "x.json: byte 9: nested 3 deep, limit 2");
    assert_limit("[[],[],[],[],[]]", (cn_json_limits){99, 2, 6}, NULL); // wide is not deep
}

static void test_deepest_nesting_works(void **state) {
    (void)state;
    char text[2 * CN_JSON_DEPTH_MAX + 3];
    for (int depth = CN_JSON_DEPTH_MAX; depth <= CN_JSON_DEPTH_MAX + 1; depth++) {
        cn_json_doc *doc;
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        assert_err(parse(&doc, text, 2 * (size_t)depth, &wide, &t_diag),
                   depth <= CN_JSON_DEPTH_MAX ? CN_OK : CN_ETOOBIG);
        cn_json_free(doc);
    }
    cn_json_doc *doc; // what is deep and broken is refused at the limit, not at the end
    char        *open = malloc(1 << 20);
    memset(open, '[', 1 << 20);
    assert_err(parse(&doc, open, 1 << 20, &wide, &t_diag), CN_ETOOBIG);
    free(open);
}

/* ---- Reading values ---------------------------------------------------------------- */

static void test_integers_are_exact(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool        is_int64;
        int64_t     value;
        double      f64;
    } cases[] = {
        {"0", true, 0, 0},
        {"-0", true, 0, -0.0},
        {"7", true, 7, 7},
        {"-151643", true, -151643, -151643},
        {"9007199254740992", true, INT64_C(9007199254740992), 9007199254740992.0},
        {"9007199254740993", true, INT64_C(9007199254740993), 9007199254740992.0},
        {"-9007199254740993", true, -INT64_C(9007199254740993), -9007199254740992.0},
        {"9223372036854775807", true, INT64_MAX, 9223372036854775808.0},
        {"-9223372036854775808", true, INT64_MIN, -9223372036854775808.0},
        {"9223372036854775808", false, 0, 9223372036854775808.0},
        {"-9223372036854775809", false, 0, -9223372036854775808.0},
        {"18446744073709551616", false, 0, 18446744073709551616.0},
        {"1.0", false, 0, 1},
        {"1e3", false, 0, 1000},
        {"1E0", false, 0, 1},
        {"0.1", false, 0, 0.1},
        {"-2.5e-3", false, 0, -0.0025},
        {"5e-324", false, 0, 5e-324},
        {"1e-999", false, 0, 0},
        {"1.7976931348623157e308", false, 0, DBL_MAX},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cn_json_doc   *doc = parsed(cases[i].text);
        const cn_json *v = cn_json_root(doc);
        int64_t        n = 4242;
        double         f = 4242;
        bool           b = true;
        t_note("%s", cases[i].text);
        assert_int_equal(cn_json_type_of(v), CN_JSON_NUMBER);
        assert_int_equal(cn_json_int64(v, &n), cases[i].is_int64);
        assert_true(n == (cases[i].is_int64 ? cases[i].value : 4242));
        assert_true(cn_json_f64(v, &f));
        assert_memory_equal(&f, &cases[i].f64, sizeof(f)); // the sign of zero too
        assert_null(cn_json_string(v));
        assert_false(cn_json_bool(v, &b));
        assert_int_equal(cn_json_count(v), 0);
        cn_json_free(doc);
    }

    // Without an exponent too: 10^308 is a double, 9 * 10^308 and 10^309 are none.
    char         many[310];
    cn_json_doc *doc;
    double       f;
    memset(many, '0', sizeof(many));
    many[0] = '1';
    assert_err(parse(&doc, many, 309, &wide, &t_diag), CN_OK);
    assert_true(cn_json_f64(cn_json_root(doc), &f) && f == 1e308);
    cn_json_free(doc);
    assert_err(parse(&doc, many, 310, &wide, &t_diag), CN_ECORRUPT);
    many[0] = '9';
    assert_err(parse(&doc, many, 309, &wide, &t_diag), CN_ECORRUPT);
}

static void test_values_are_what_they_are(void **state) {
    (void)state;
    cn_json_doc *doc = parsed("{\"n\":null,\"t\":true,\"f\":false,\"i\":1,\"s\":\"1\",\"e\":\"\","
                              "\"a\":[1,[2,3],{}],\"o\":{\"x\":1,\"y\":2}}");
    static const struct {
        const char  *key;
        cn_json_type type;
        const char  *name;
        int64_t      count;
    } want[] = {
        {"n", CN_JSON_NULL, "null", 0},     {"t", CN_JSON_BOOL, "bool", 0},
        {"f", CN_JSON_BOOL, "bool", 0},     {"i", CN_JSON_NUMBER, "number", 0},
        {"s", CN_JSON_STRING, "string", 0}, {"e", CN_JSON_STRING, "string", 0},
        {"a", CN_JSON_ARRAY, "array", 3},   {"o", CN_JSON_OBJECT, "object", 2},
    };
    const cn_json *root = cn_json_root(doc), *member = cn_json_first(root);
    assert_null(cn_json_key(root));
    assert_null(cn_json_next(root));
    assert_int_equal(cn_json_count(root), 8);
    for (int i = 0; i < 8; i++, member = cn_json_next(member)) {
        int64_t    n = 42;
        double     f = 42;
        bool       b = i % 2;
        const bool before = b;
        t_note("%s", want[i].key);
        assert_string_equal(cn_json_key(member), want[i].key);
        assert_ptr_equal(cn_json_get(root, want[i].key), member);
        const cn_json_type type = cn_json_type_of(member);
        assert_int_equal(type, want[i].type);
        assert_string_equal(cn_json_type_name(type), want[i].name);
        assert_int_equal(cn_json_count(member), want[i].count);
        assert_int_equal(cn_json_string(member) != NULL, type == CN_JSON_STRING);
        assert_int_equal(cn_json_int64(member, &n), type == CN_JSON_NUMBER);
        assert_int_equal(cn_json_f64(member, &f), type == CN_JSON_NUMBER);
        assert_true(n == (type == CN_JSON_NUMBER ? 1 : 42) && f == (double)n);
        assert_int_equal(cn_json_bool(member, &b), type == CN_JSON_BOOL);
        assert_int_equal(b, type == CN_JSON_BOOL ? want[i].key[0] == 't' : before);
    }
    assert_null(member);
    assert_string_equal(cn_json_string(cn_json_get(root, "s")), "1");
    assert_string_equal(cn_json_string(cn_json_get(root, "e")), "");
    assert_null(cn_json_get(root, "N")); // byte-exact
    assert_null(cn_json_get(root, ""));
    assert_null(cn_json_get(cn_json_get(root, "a"), "x")); // an array has no keys
    assert_null(cn_json_key(cn_json_first(cn_json_get(root, "a"))));

    // Look-ups chain over what is absent.
    const cn_json *none = cn_json_get(cn_json_get(root, "absent"), "x");
    int64_t        n;
    double         f;
    bool           b;
    assert_null(none);
    assert_int_equal(cn_json_type_of(none), CN_JSON_NULL);
    assert_true(!cn_json_int64(none, &n) && !cn_json_f64(none, &f) && !cn_json_bool(none, &b));
    assert_true(!cn_json_string(none) && !cn_json_key(none) && cn_json_count(none) == 0);
    assert_true(!cn_json_first(none) && !cn_json_next(none));
    assert_string_equal(cn_json_type_name((cn_json_type)17), "?");
    cn_json_free(doc);
    cn_json_free(NULL);
}

static void test_escapes_are_decoded(void **state) {
    (void)state;
    cn_json_doc *doc = parsed("{\"\\u006b\\\"\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0001\\u00e9\\u20AC"
                              "\\ud83d\\ude00\xC3\xA9\\uffff\"}");
    assert_string_equal(
        cn_json_string(cn_json_get(cn_json_root(doc), "k\"")),
        "\"\\/\b\f\n\r\t\x01\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xC3\xA9\xEF\xBF\xBF");
    cn_json_free(doc);
}

/* ---- Large objects ------------------------------------------------------------------ */

static void put_members(cn_buf *buf, int members) {
    cn_buf_put_str(buf, "{");
    for (int i = 0; i < members; i++) cn_buf_printf(buf, "%s\"token %d\":%d", i ? "," : "", i, i);
    cn_buf_put_str(buf, "}");
}

/* A vocabulary: the size at which quadratic work would take minutes. */
static void test_large_objects_are_read(void **state) {
    (void)state;
    enum { MEMBERS = 200000 };
    cn_buf buf = {0};
    put_members(&buf, MEMBERS);
    cn_json_doc *doc;
    assert_err(parse(&doc, buf.data, buf.bytes, &wide, &t_diag), CN_OK);
    int64_t i = 0, n;
    for (const cn_json *v = cn_json_first(cn_json_root(doc)); v; v = cn_json_next(v), i++) {
        char key[32];
        snprintf(key, sizeof(key), "token %d", (int)i);
        assert_string_equal(cn_json_key(v), key);
        assert_true(cn_json_int64(v, &n) && n == i);
    }
    assert_int_equal(i, MEMBERS);
    cn_json_free(doc);

    // The last key repeats one in the middle: found, at its byte.
    char want[128];
    snprintf(want, sizeof(want), "x.json: byte %zu: duplicate key \"token 100000\"", buf.bytes);
    buf.data[buf.bytes - 1] = ',';
    cn_buf_put_str(&buf, "\"token 100000\":0}");
    assert_err(parse(&doc, buf.data, buf.bytes, &wide, &t_diag), CN_ECORRUPT);
    assert_string_equal(t_diag.text, want);
    cn_buf_release(&buf);
}

/* Many small objects with the same keys are not each other's duplicates. */
static void test_many_equal_objects_are_read(void **state) {
    (void)state;
    cn_buf buf = {0};
    cn_buf_put_str(&buf, "[{\"id\":0,\"content\":\"\"}");
    for (int i = 1; i < 50000; i++) cn_buf_printf(&buf, ",{\"id\":%d,\"content\":\"\"}", i);
    cn_buf_put_str(&buf, "]");
    cn_json_doc *doc;
    assert_err(parse(&doc, buf.data, buf.bytes, &wide, &t_diag), CN_OK);
    assert_int_equal(cn_json_count(cn_json_root(doc)), 50000);
    cn_json_free(doc);
    cn_buf_release(&buf);
}

/* ---- Failures ----------------------------------------------------------------------- */

static void test_no_memory_is_told(void **state) {
    (void)state;
    const cn_fault_mode modes[] = {CN_FAULT_ONCE, CN_FAULT_FOREVER};
    cn_buf              buf = {0};
    put_members(&buf, 100);
    for (int m = 0; m < 2; m++)
        for (int n = 1;; n++) {
            cn_json_doc *doc;
            cn_diag      diag = {0};
            cn_fault_arm(modes[m], n);
            const cn_err err = parse(&doc, buf.data, buf.bytes, &wide, &diag);
            const bool   hit = cn_fault_was_hit();
            t_note("mode %d fault %d at %s", m, n, cn_fault_last_point());
            cn_fault_arm(CN_FAULT_OFF, 0);
            cn_json_free(doc);
            if (!hit) {
                assert_err(err, CN_OK);
                assert_true(n > 8); // else the fault points were compiled out
                break;
            }
            assert_err(err, CN_ENOMEM);
            assert_true(diag.err == err && strncmp(diag.text, "x.json: ", 8) == 0);
        }
    cn_buf_release(&buf);
}

/* ---- Writing ------------------------------------------------------------------------ */

static void test_writer_places_commas(void **state) {
    (void)state;
    cn_buf         buf = {0};
    cn_json_writer w = cn_json_writer_on(&buf);
    cn_json_open(&w, '{');
    cn_json_put_key(&w, "a");
    cn_json_put_int64(&w, INT64_MIN);
    cn_json_put_key(&w, "b");
    cn_json_open(&w, '[');
    cn_json_put_null(&w);
    cn_json_put_bool(&w, true);
    cn_json_put_bool(&w, false);
    cn_json_put_string(&w, "s");
    cn_json_put_string(&w, NULL);
    cn_json_open(&w, '[');
    cn_json_close(&w, ']');
    cn_json_open(&w, '{');
    cn_json_close(&w, '}');
    cn_json_put_f64(&w, 0.5, 3);
    cn_json_close(&w, ']');
    cn_json_put_key(&w, "c\"");
    cn_json_open(&w, '{');
    cn_json_put_key(&w, "d");
    cn_json_put_bytes(&w, "xyz", 2);
    cn_json_close(&w, '}');
    cn_json_close(&w, '}');
    assert_string_equal(buf.data,
                        "{\"a\":-9223372036854775808,\"b\":[null,true,false,\"s\",null,[],{},"
                        "0.5],\"c\\\"\":{\"d\":\"xy\"}}");
    cn_json_free(parsed(buf.data));
    cn_buf_release(&buf);
}

static void assert_written(const char *text, size_t bytes, const char *want) {
    cn_buf         buf = {0};
    cn_json_writer w = cn_json_writer_on(&buf);
    char          *copy = malloc(bytes > 0 ? bytes : 1);
    memcpy(copy, text, bytes);
    cn_json_put_bytes(&w, copy, bytes);
    free(copy);
    assert_string_equal(buf.data, want);
    cn_json_free(parsed(buf.data));
    cn_buf_release(&buf);
}

static void test_strings_are_escaped(void **state) {
    (void)state;
#define BAD "\xEF\xBF\xBD"
    assert_written("", 0, "\"\"");
    assert_written("a\"b\\c/\b\f\n\r\t\x01\x1F\x7F", 14,
                   "\"a\\\"b\\\\c/\\b\\f\\n\\r\\t\\u0001\\u001f\x7F\"");
    assert_written("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 9,
                   "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"");
    assert_written("a\0b", 3, "\"a" BAD "b\"");
    assert_written("\xFF\x80x", 3, "\"" BAD BAD "x\"");
    assert_written("\xE2\x82", 2, "\"" BAD BAD "\""); // cut in the middle
    assert_written("\xED\xA0\x80", 3, "\"" BAD BAD BAD "\"");
    assert_written("\xC3\"", 2, "\"" BAD "\\\"\""); // the quote is not its tail
#undef BAD
    // Every byte, alone and before a quote, makes a string that the reader takes.
    for (int c = 0; c < 256; c++) {
        cn_buf         buf = {0};
        cn_json_writer w = cn_json_writer_on(&buf);
        const char     text[2] = {(char)c, '"'};
        cn_json_open(&w, '[');
        cn_json_put_bytes(&w, text, 1);
        cn_json_put_bytes(&w, text, 2);
        cn_json_close(&w, ']');
        cn_json_doc *doc = parsed(buf.data);
        const char  *back = cn_json_string(cn_json_first(cn_json_root(doc)));
        if (c > 0 && c < 0x80)
            assert_true(back[0] == c && back[1] == 0);
        else
            assert_string_equal(back, "\xEF\xBF\xBD");
        cn_json_free(doc);
        cn_buf_release(&buf);
    }
}

static void test_f64_is_short_and_exact(void **state) {
    (void)state;
    static const struct {
        double      value;
        int         digits;
        const char *text;
    } cases[] = {
        {0, 17, "0"},
        {-0.0, 17, "-0"},
        {0.1, 17, "0.1"},
        {0.1, 1, "0.1"},
        {2.0 / 3, 3, "0.667"},
        {2.0 / 3, 17, "0.6666666666666666"},
        {0.1 + 0.2, 17, "0.30000000000000004"},
        {0.1 + 0.2, 16, "0.3"},
        {1500, 17, "1500"},
        {1500, 1, "2e+03"},
        {1e300, 17, "1e+300"},
        {5e-324, 17, "4.94065645841247e-324"},
        {DBL_MAX, 17, "1.7976931348623157e+308"},
        {DBL_MAX, 2, "1.79769e+308"}, // 1.8e+308 is no double
        {NAN, 17, "null"},
        {INFINITY, 17, "null"},
        {-INFINITY, 1, "null"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cn_buf         buf = {0};
        cn_json_writer w = cn_json_writer_on(&buf);
        t_note("%.17g at %d", cases[i].value, cases[i].digits);
        cn_json_put_f64(&w, cases[i].value, cases[i].digits);
        assert_string_equal(buf.data, cases[i].text);
        cn_json_free(parsed(buf.data));
        cn_buf_release(&buf);
    }
    const int tries = t_is_sanitized() ? 2000 : 20000;
    for (int i = 0; i < tries; i++) { // any bits, there and back
        const uint64_t bits = t_rand();
        double         value, back;
        memcpy(&value, &bits, sizeof(value));
        if (!isfinite(value)) continue;
        cn_buf         buf = {0};
        cn_json_writer w = cn_json_writer_on(&buf);
        cn_json_put_f64(&w, value, 17);
        cn_json_doc *doc = parsed(buf.data);
        assert_true(cn_json_f64(cn_json_root(doc), &back));
        assert_memory_equal(&back, &value, sizeof(value));
        cn_json_free(doc);
        cn_buf_release(&buf);
    }
}

static void test_writer_errors_stay_in_the_buf(void **state) {
    (void)state;
    cn_buf         buf = {.bytes_max = 12};
    cn_json_writer w = cn_json_writer_on(&buf);
    cn_json_open(&w, '[');
    for (int i = 0; i < 10; i++) {
        cn_json_put_string(&w, "four");
        cn_json_put_f64(&w, 0.25, 17);
    }
    cn_json_close(&w, ']');
    assert_int_equal(buf.err, CN_ETOOBIG);
    assert_true(buf.bytes <= 12);
    cn_buf_release(&buf);
}

/* A program that speaks German writes and reads the same numbers. */
static void test_locale_does_not_matter(void **state) {
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "ru_RU.UTF-8"};
    const char              *set = NULL;
    for (int i = 0; i < 3 && !set; i++) set = setlocale(LC_NUMERIC, names[i]);
    if (!set) {
        print_message("locale: skipped, no locale with a decimal comma is installed\n");
        skip();
    }
    double         f;
    cn_buf         buf = {0};
    cn_json_writer w = cn_json_writer_on(&buf);
    cn_json_doc   *doc = parsed("[1.5,2.5e0]");
    assert_true(cn_json_f64(cn_json_first(cn_json_root(doc)), &f) && f == 1.5);
    cn_json_free(doc);
    cn_json_put_f64(&w, 1.5, 17);
    assert_string_equal(buf.data, "1.5");
    cn_buf_release(&buf);
    setlocale(LC_NUMERIC, "C");
}

static void test_equal_values(void **state) {
    (void)state;
    static const struct {
        const char *a, *b;
        bool        equal;
    } cases[] = {
        {"null", "null", true},
        {"null", "false", false},
        {"true", "true", true},
        {"true", "false", false},
        {"1", "1", true},
        {"1", "2", false},
        {"1", "1.0", true},
        {"1", "10e-1", true},
        {"1", "\"1\"", false},
        {"0.1", "0.2", false},
        {"9007199254740993", "9007199254740992", false}, // one double
        {"9007199254740993.0", "9007199254740992", true},
        {"\"a\"", "\"\\u0061\"", true},
        {"\"a\"", "\"A\"", false},
        {"[1,2]", "[1,2]", true},
        {"[1,2]", "[2,1]", false},
        {"[1,2]", "[1]", false},
        {"[]", "{}", false},
        {"{\"a\":1,\"b\":[{\"c\":null}]}", "{\"b\":[{\"c\":null}],\"a\":1}", true},
        {"{\"a\":1,\"b\":[{\"c\":null}]}", "{\"b\":[{\"c\":0}],\"a\":1}", false},
        {"{\"a\":1}", "{\"a\":1,\"b\":1}", false},
        {"{\"a\":1,\"c\":1}", "{\"a\":1,\"b\":1}", false},
        {"{\"a\":null}", "{\"b\":null}", false}, // absent is not null
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cn_json_doc   *a = parsed(cases[i].a), *b = parsed(cases[i].b);
        const cn_json *x = cn_json_root(a), *y = cn_json_root(b);
        t_note("%s and %s", cases[i].a, cases[i].b);
        assert_int_equal(cn_json_is_equal(x, y), cases[i].equal);
        assert_int_equal(cn_json_is_equal(y, x), cases[i].equal);
        cn_json_free(a);
        cn_json_free(b);
    }
    assert_true(cn_json_is_equal(NULL, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strict_json_is_accepted),
        cmocka_unit_test(test_all_else_is_refused_by_byte),
        cmocka_unit_test(test_no_prefix_is_accepted),
        cmocka_unit_test(test_limits_are_exact),
        cmocka_unit_test(test_deepest_nesting_works),
        cmocka_unit_test(test_integers_are_exact),
        cmocka_unit_test(test_values_are_what_they_are),
        cmocka_unit_test(test_escapes_are_decoded),
        cmocka_unit_test(test_equal_values),
        cmocka_unit_test(test_large_objects_are_read),
        cmocka_unit_test(test_many_equal_objects_are_read),
        cmocka_unit_test(test_no_memory_is_told),
        cmocka_unit_test(test_writer_places_commas),
        cmocka_unit_test(test_strings_are_escaped),
        cmocka_unit_test(test_f64_is_short_and_exact),
        cmocka_unit_test(test_writer_errors_stay_in_the_buf),
        cmocka_unit_test(test_locale_does_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
