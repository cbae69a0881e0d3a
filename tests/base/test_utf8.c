/* test_utf8.c - All of Unicode is taken, and nothing else. */
#include "base/utf8.h"
#include "tests/test.h"

/* Every code point encoded by the definition, surrogates and the first one too high among
 * them; then the forms that no code point has. */
static void test_utf8_knows_every_code_point(void **state) {
    (void)state;
    for (uint32_t point = 0; point <= 0x110000; point++) {
        char         c[4];
        const size_t bytes = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
        const bool   is_char = point <= 0x10FFFF && (point < 0xD800 || point > 0xDFFF);
        if (bytes == 1)
            c[0] = (char)point;
        else
            c[0] = (char)((0xF00 >> bytes) | (point >> (6 * (bytes - 1))));
        for (size_t i = 1; i < bytes; i++)
            c[i] = (char)(0x80 | ((point >> (6 * (bytes - 1 - i))) & 0x3F));
        if (cn_utf8_bytes(c, bytes) != (is_char ? bytes : 0))
            t_fail(__FILE__, __LINE__, "U+%04X", (unsigned)point);
        if (cn_utf8_bytes(c, bytes - 1) != 0) t_fail(__FILE__, __LINE__, "U+%04X cut", point);
    }
    static const char *const bad[] = {
        "\x80",
        "\xBF",
        "\xC0\x80",
        "\xC1\xBF",
        "\xC3(",
        "\xE0\x9F\xBF",
        "\xED\xA0\x80",
        "\xED\xBF\xBF",
        "\xE2\x82(",
        "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80",
        "\xF8\x88\x80\x80\x80",
        "\xFE",
        "\xFF",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (cn_utf8_bytes(bad[i], strlen(bad[i])) != 0)
            t_fail(__FILE__, __LINE__, "bad form %zu is taken", i);
    assert_int_equal(cn_utf8_bytes("", 0), 0);
}

static void test_utf8_is_cut_between_characters(void **state) {
    (void)state;
    const char  *text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"; // borders at 0 1 3 6 10
    const size_t want[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10};
    for (size_t bytes = 0; bytes <= 10; bytes++)
        assert_int_equal(cn_utf8_cut(text, bytes), want[bytes]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_knows_every_code_point),
        cmocka_unit_test(test_utf8_is_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
