/*
 * test_ref.c - A long part: where its edges end, and what stands between them.
 */
#include "sessions/ref.h"

#include "base/utf8.h"
#include "sessions/cut.h"
#include "tests/test.h"

static cn_tokenizer *open_tokenizer(const char *folder) {
    char          path[512];
    cn_tokenizer *t;
    snprintf(path, sizeof(path), "%s/%s", CN_SOURCE_DIR, folder);
    assert_err(cn_tokenizer_open(&t, path, &t_diag), CN_OK);
    return t;
}

static int64_t tokens_of(const cn_tokenizer *t, const char *text, size_t bytes) {
    cn_tokens tokens = {0};
    assert_err(cn_tokenizer_encode(t, &tokens, text, bytes, CN_TOKENIZE_TEXT, &t_diag), CN_OK);
    const int64_t count = tokens.count;
    cn_tokens_release(&tokens);
    return count;
}

static cn_ref_span split(const cn_tokenizer *t, const char *text, size_t bytes) {
    cn_ref_span middle;
    assert_err(cn_ref_split(t, text, bytes, &middle, &t_diag), CN_OK);
    return middle;
}

static void assert_span(cn_ref_span got, size_t begin, size_t end) {
    assert_int_equal(got.begin, begin);
    assert_int_equal(got.end, end);
}

/* `bytes` bytes 'x' with a newline at each place of `newline` (ended by -1). */
static char *text_with(size_t bytes, const int64_t *newline) {
    char *text = malloc(bytes + 1);
    assert_non_null(text);
    memset(text, 'x', bytes);
    text[bytes] = 0;
    for (; *newline >= 0; newline++) text[*newline] = '\n';
    return text;
}

static void test_names(void **state) {
    (void)state;
    char name[CN_REF_NAME_BYTES];
    cn_ref_name(name, 3, 0);
    assert_string_equal(name, "turn-3/question.txt");
    cn_ref_name(name, 12, 4);
    assert_string_equal(name, "turn-12/result-4.txt");
    cn_ref_name(name, INT32_MAX, INT32_MAX);
    assert_string_equal(name, "turn-2147483647/result-2147483647.txt");
}

/* A tokenizer of bytes: the edges are counted by hand. */
static void test_edges_end_at_lines(void **state) {
    (void)state;
    enum { BYTES = 2000, EDGE = CN_REF_EDGE_TOKENS, TAIL = BYTES - EDGE };
    cn_tokenizer *t = open_tokenizer("tests/golden/tiny-a");
    const struct {
        int64_t newline[5];
        size_t  begin, end;
    } tries[] = {
        {{-1}, EDGE, TAIL},                               // one line: at a token
        {{100, 200, 1800, 1900, -1}, 201, 1801},          // the longest whole lines
        {{EDGE - 1, TAIL - 1, -1}, EDGE, TAIL},           // all of an edge is lines
        {{EDGE - 1, TAIL - 1, TAIL + 9, -1}, EDGE, TAIL}, // more of them
        {{EDGE, TAIL - 2, -1}, EDGE, TAIL},               // newlines just outside are none of it
        {{0, BYTES - 1, -1}, 1, TAIL},                    // a first line that is empty; the text's
                                                          // own last newline is no place to begin
        {{0, BYTES - 2, BYTES - 1, -1}, 1, BYTES - 1},    // an empty last line
    };
    for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
        char *text = text_with(BYTES, tries[i].newline);
        t_note("try %zu", i);
        assert_span(split(t, text, BYTES), tries[i].begin, tries[i].end);
        free(text);
    }
    cn_tokenizer_close(t);
}

static void test_characters_stay_whole(void **state) {
    (void)state;
    static const char *const characters[] = {"\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    cn_tokenizer            *t = open_tokenizer("tests/golden/tiny-a");
    for (size_t c = 0; c < 3; c++)
        for (int shift = 0; shift < 4; shift++) { // every place of a border in a character
            const size_t n = strlen(characters[c]);
            cn_buf       b = {0};
            cn_buf_put(&b, "xxxx", (size_t)shift);
            while (b.bytes < 1500) cn_buf_put(&b, characters[c], n);
            const cn_ref_span middle = split(t, b.data, b.bytes);
            t_note("%zu bytes a character, %d before", n, shift);
            assert_in_range(middle.begin, CN_REF_EDGE_TOKENS - n + 1, CN_REF_EDGE_TOKENS);
            assert_in_range(b.bytes - middle.end, CN_REF_EDGE_TOKENS - n + 1, CN_REF_EDGE_TOKENS);
            assert_int_equal((middle.begin - (size_t)shift) % n, 0);
            assert_int_equal((middle.end - (size_t)shift) % n, 0);
            cn_buf_release(&b);
        }
    // No characters at all: the edges are found all the same, and stay within their tokens.
    char bytes[1500];
    memset(bytes, 0x80, sizeof(bytes));
    const cn_ref_span middle = split(t, bytes, sizeof(bytes));
    assert_in_range(middle.begin, CN_REF_EDGE_TOKENS - 4, CN_REF_EDGE_TOKENS);
    assert_in_range(sizeof(bytes) - middle.end, CN_REF_EDGE_TOKENS - 4, CN_REF_EDGE_TOKENS);
    cn_tokenizer_close(t);
}

/* A real vocabulary: what the rule promises, on real text and at random places. */
static void test_edges_of_real_text(void **state) {
    (void)state;
    static const char *const paths[] = {"sessions/cut.c", "README.md", "tests/golden/nano.txt",
                                        "examples/models/cairn-nano/tokenizer.json"};
    cn_tokenizer            *t = open_tokenizer("examples/models/cairn-nano");
    int                      tried = 0;
    t_seed(7);
    for (size_t f = 0; f < 4; f++) {
        size_t bytes;
        char  *file = t_read_source_file(paths[f], &bytes);
        for (int i = 0; i < 20; i++) {
            const size_t size = bytes < 30000 ? bytes : 30000;
            const size_t from = (size_t)t_rand_range(0, (int64_t)(bytes - size));
            const size_t n = (size_t)t_rand_range((int64_t)size / 2, (int64_t)size);
            const char  *text = file + from;
            if (tokens_of(t, text, n) <= CN_REF_TOKENS) continue;
            const cn_ref_span m = split(t, text, n);
            t_note("%s at %zu, %zu bytes", paths[f], from, n);
            tried++;
            assert_true(m.begin < m.end && m.end <= n);
            assert_true(tokens_of(t, text, m.begin) <= CN_REF_EDGE_TOKENS);
            assert_true(tokens_of(t, text + m.end, n - m.end) <= CN_REF_EDGE_TOKENS);
            // One more line, or one more character where there is none, would be too much.
            const char *next = memchr(text + m.begin, '\n', m.end - m.begin);
            if (m.begin && text[m.begin - 1] == '\n' && next)
                assert_true(tokens_of(t, text, (size_t)(next + 1 - text)) > CN_REF_EDGE_TOKENS);
            else
                assert_true(tokens_of(t, text, m.begin + 2) > CN_REF_EDGE_TOKENS - 2);
            const char *before = m.end > 1 ? memrchr(text, '\n', m.end - 1) : NULL;
            if (text[m.end - 1] == '\n' && before)
                assert_true(tokens_of(t, before + 1, n - (size_t)(before + 1 - text)) >
                            CN_REF_EDGE_TOKENS);
        }
        free(file);
    }
    assert_true(tried > 40);
    cn_tokenizer_close(t);
}

static void assert_inline(const char *text, cn_ref_span middle, const char *path,
                          const char *want) {
    cn_buf b = {0};
    cn_ref_put_inline(&b, text, strlen(text), middle, path);
    assert_string_equal(cn_buf_str(&b), want);
    cn_buf_release(&b);
}

static void test_the_line_between(void **state) {
    (void)state;
    assert_inline("one\ntwo\nthree\n", (cn_ref_span){4, 8}, "turn-1/question.txt",
                  "one\n[... more in file: turn-1/question.txt]\nthree\n");
    assert_inline("onetwothree", (cn_ref_span){3, 6}, "src/a.c",
                  "one\n[... more in file: src/a.c]\nthree");
    assert_inline("onetwo", (cn_ref_span){0, 3}, "a", "\n[... more in file: a]\ntwo");
    // A path that would not stand on one line is written as the header writes it.
    cn_buf path = {0};
    cn_cut_put_path(&path, "a\nb");
    assert_inline("onetwo", (cn_ref_span){3, 6}, path.data,
                  "one\n[... more in file: \"a\\012b\"]\n");
    cn_buf_release(&path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_edges_end_at_lines),
        cmocka_unit_test(test_characters_stay_whole),
        cmocka_unit_test(test_edges_of_real_text),
        cmocka_unit_test(test_the_line_between),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
