/* test_log.c - Lines reach the sink whole, one at a time, and only up to the level. */
#include "base/log.h"
#include "tests/test.h"

#include <pthread.h>
#include <sched.h>

typedef struct sink {
    int          lines;
    int          depth; // of calls at one moment; over 1: they overlapped
    int          depth_max;
    int          bad; // lines that are not what a writer sent
    cn_log_level level;
    char         last[CN_LOG_LINE_BYTES];
} sink;

static void keep(void *ctx, cn_log_level level, const char *line) {
    sink *s = ctx;
    s->lines++;
    s->level = level;
    snprintf(s->last, sizeof(s->last), "%s", line);
}

static void test_level_decides(void **state) {
    (void)state;
    static sink s;
    for (int max = CN_LOG_ERROR; max <= CN_LOG_DEBUG; max++) {
        cn_log_set_sink(keep, &s, (cn_log_level)max);
        for (int level = CN_LOG_ERROR; level <= CN_LOG_DEBUG; level++) {
            s = (sink){0};
            cn_log((cn_log_level)level, "line %d of %s", level, "four");
            assert_int_equal(cn_log_is_on((cn_log_level)level), level <= max);
            assert_int_equal(s.lines, level <= max);
            if (level > max) continue;
            char want[32];
            snprintf(want, sizeof(want), "line %d of four", level);
            assert_string_equal(s.last, want);
            assert_int_equal(s.level, level);
        }
    }
    s = (sink){0};
    cn_log_set_sink(NULL, NULL, CN_LOG_DEBUG);
    assert_false(cn_log_is_on(CN_LOG_ERROR));
    cn_log(CN_LOG_ERROR, "nobody listens");
    assert_int_equal(s.lines, 0);
}

static void test_a_line_is_one_line_of_bounded_size(void **state) {
    (void)state;
    static sink s;
    cn_log_set_sink(keep, &s, CN_LOG_INFO);
    cn_log(CN_LOG_INFO, "a\nb\r\x1B[0m\tc\x7F \xC3\xA9");
    assert_string_equal(s.last, "a b  [0m c  \xC3\xA9");

    char text[CN_LOG_LINE_BYTES + 8];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = 0;
    cn_log(CN_LOG_INFO, "%s", text);
    assert_int_equal(strlen(s.last), CN_LOG_LINE_BYTES - 1);
    memcpy(text + CN_LOG_LINE_BYTES - 2, "\xC3\xA9", 2); // two bytes where one fits
    cn_log(CN_LOG_INFO, "%s", text);
    assert_int_equal(strlen(s.last), CN_LOG_LINE_BYTES - 2);
    cn_log_set_sink(NULL, NULL, CN_LOG_ERROR);
}

static void test_levels_have_names(void **state) {
    (void)state;
    assert_string_equal(cn_log_level_name(CN_LOG_ERROR), "error");
    assert_string_equal(cn_log_level_name(CN_LOG_WARN), "warn");
    assert_string_equal(cn_log_level_name(CN_LOG_INFO), "info");
    assert_string_equal(cn_log_level_name(CN_LOG_DEBUG), "debug");
    assert_string_equal(cn_log_level_name((cn_log_level)9), "?");
}

/* Counters without a lock of their own: cn_log's must be enough. */
static void count(void *ctx, cn_log_level level, const char *line) {
    sink *s = ctx;
    (void)level;
    if (++s->depth > s->depth_max) s->depth_max = s->depth;
    if (strlen(line) != 200 || strspn(line, (char[]){line[0], 0}) != 200) s->bad++;
    const int lines = s->lines;
    sched_yield(); // let another thread in, if it can
    s->lines = lines + 1;
    s->depth--;
}

enum { THREADS = 4, LINES = 2000 };

static void *write_lines(void *letter) {
    char text[201];
    memset(text, *(char *)letter, 200);
    text[200] = 0;
    for (int i = 0; i < LINES; i++) cn_log(CN_LOG_WARN, "%s", text);
    return NULL;
}

static void test_threads_do_not_mix_lines(void **state) {
    (void)state;
    static sink s;
    pthread_t   threads[THREADS];
    char        letters[THREADS];
    s = (sink){0};
    cn_log_set_sink(count, &s, CN_LOG_WARN);
    for (int i = 0; i < THREADS; i++) {
        letters[i] = (char)('a' + i);
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &letters[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    cn_log_set_sink(NULL, NULL, CN_LOG_ERROR);
    assert_int_equal(s.lines, THREADS * LINES);
    assert_int_equal(s.depth_max, 1);
    assert_int_equal(s.bad, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_level_decides),
        cmocka_unit_test(test_a_line_is_one_line_of_bounded_size),
        cmocka_unit_test(test_levels_have_names),
        cmocka_unit_test(test_threads_do_not_mix_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
