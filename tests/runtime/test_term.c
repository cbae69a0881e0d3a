/* test_term.c - No byte of a text can make a terminal obey. */
#include "runtime/term.h"
#include "tests/test.h"

/* Filtered in one piece, and in pieces of every size: the same. */
static const char *filter(const char *text, size_t bytes) {
    static cn_buf out;
    cn_buf_reset(&out);
    for (size_t piece = bytes; piece > 0; piece--) {
        cn_term_filter f = {0};
        cn_buf         now = {0};
        for (size_t at = 0; at < bytes; at += piece)
            cn_term_filter_put(&f, &now, text + at, piece < bytes - at ? piece : bytes - at);
        t_note("%zu bytes in pieces of %zu: \"%s\"", bytes, piece, cn_buf_str(&now));
        if (piece == bytes)
            cn_buf_put(&out, now.data, now.bytes);
        else
            assert_true(now.bytes == out.bytes && memcmp(now.data, out.data, now.bytes) == 0);
        cn_buf_release(&now);
    }
    return cn_buf_str(&out);
}

static void test_what_is_shown(void **state) {
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"plain text\n\twith a tab\n", "plain text\n\twith a tab\n"},
        {"na\xC3\xAFve \xE2\x82\xAC \xF0\x9F\x98\x80.",
         "na\xC3\xAFve \xE2\x82\xAC \xF0\x9F\x98\x80."},
        {"\033]0;title\007 \033[2J\033[31mred", "^[]0;title^G ^[[2J^[[31mred"},
        {"dos\r\nlines\r\n", "dos\nlines\n"},
        {"over\rwritten\r\r\n.", "over^Mwritten^M\n."},
        {"back\b\bspace \x7F.", "back^H^Hspace ^?."},
        {"\xC2\x9B"
         "31m \xC2\x85.",
         "<U+009B>31m <U+0085>."},
        {"\x9B"
         "31m \xFF\xC3(",
         "\xEF\xBF\xBD"
         "31m \xEF\xBF\xBD\xEF\xBF\xBD("},
        {"a\xE2\x80\xAE"
         "b\xE2\x81\xA6"
         "c\xE2\x80\xA8.",
         "a<U+202E>b<U+2066>c<U+2028>."},
        {"\xED\xA0\x80.", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD."},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(filter(cases[i].text, strlen(cases[i].text)), cases[i].want);
    assert_string_equal(filter("a\0b", 3), "a^@b");
}

/* Random bytes, many of them dangerous: what comes out is UTF-8 without controls. */
static void test_nothing_harmful_comes_out(void **state) {
    (void)state;
    static const char parts[] = "\033\r\n\x9B\xC2\xE2\x80\xAE\xF0\x9F\x07[]a";
    t_seed(7);
    for (int round = 0; round < 2000; round++) {
        char           text[3000];
        const size_t   bytes = (size_t)t_rand_range(1, round % 100 ? 40 : 3000);
        cn_term_filter f = {0};
        cn_buf         out = {0};
        for (size_t i = 0; i < bytes; i++)
            text[i] = round % 2 ? (char)t_rand() : parts[t_rand() % (sizeof(parts) - 1)];
        cn_term_filter_put(&f, &out, text, bytes);
        assert_true(f.held_bytes < sizeof(f.held));
        for (size_t i = 0; i < out.bytes; i++) {
            const unsigned char c = (unsigned char)out.data[i];
            assert_true((c >= 0x20 && c != 0x7F) || c == '\n' || c == '\t');
            if (c == 0xC2) assert_true((unsigned char)out.data[i + 1] >= 0xA0);
        }
        cn_buf_release(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_shown),
        cmocka_unit_test(test_nothing_harmful_comes_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
