/* test_buf.c - Bytes come out as they went in; the first failure stays and harms nothing. */
#include "base/buf.h"
#include "base/fault.h"
#include "tests/test.h"

static void assert_buf(const cn_buf *buf, const char *want) {
    assert_int_equal(buf->bytes, strlen(want));
    assert_string_equal(cn_buf_str(buf), want);
    if (buf->data) assert_int_equal(buf->data[buf->bytes], 0);
}

static void test_puts_append(void **state) {
    (void)state;
    cn_buf buf = {0};
    assert_buf(&buf, "");
    assert_null(buf.data);
    cn_buf_put(&buf, "abcd", 2);
    cn_buf_put_str(&buf, "-");
    cn_buf_printf(&buf, "%d%s", 42, "!");
    char *room = cn_buf_grow(&buf, 3);
    assert_non_null(room);
    memcpy(room, "xyz", 3);
    assert_buf(&buf, "ab-42!xyz");
    assert_int_equal(buf.err, CN_OK);

    cn_buf_put(&buf, "a\0b", 3); // a NUL is a byte like any other
    assert_int_equal(buf.bytes, 12);
    assert_memory_equal(buf.data, "ab-42!xyza\0b", 13);
    cn_buf_release(&buf);
    assert_true(buf.data == NULL && buf.bytes == 0 && buf.room == 0);
}

static void test_putting_nothing_is_something(void **state) {
    (void)state;
    cn_buf buf = {0};
    cn_buf_put(&buf, NULL, 0);
    assert_non_null(buf.data);
    assert_buf(&buf, "");
    char *text = cn_buf_take(&buf);
    assert_string_equal(text, "");
    free(text);
    assert_null(cn_buf_take(&buf));
    cn_buf_release(&buf);
}

/* Many sizes over many growths, against one large array. */
static void test_growth_keeps_every_byte(void **state) {
    (void)state;
    enum { ALL = 300000 };
    uint8_t *want = t_alloc(ALL);
    for (int i = 0; i < ALL; i++) want[i] = (uint8_t)t_rand();
    cn_buf buf = {0};
    for (size_t at = 0, n = 0; at < ALL; at += n) {
        n = (size_t)t_rand_range(0, 700);
        if (n > ALL - at) n = ALL - at;
        cn_buf_put(&buf, want + at, n);
        assert_true(buf.room > buf.bytes);
    }
    assert_int_equal(buf.bytes, ALL);
    assert_memory_equal(buf.data, want, ALL);
    assert_true(buf.room < 3 * (size_t)ALL);
    cn_buf_release(&buf);
    t_free(want);
}

static void test_printf_takes_any_length(void **state) {
    (void)state;
    cn_buf buf = {0};
    for (int n = 0; n < 300; n++) { // every length around every growth
        cn_buf_reset(&buf);
        cn_buf_printf(&buf, "%*s|", n, "");
        assert_int_equal(buf.bytes, n + 1);
        assert_int_equal(buf.data[n], '|');
        assert_int_equal(buf.data[n + 1], 0);
    }
    cn_buf_release(&buf);
}

static void test_limit_is_exact_and_sticks(void **state) {
    (void)state;
    cn_buf buf = {.bytes_max = 5};
    cn_buf_put_str(&buf, "abc");
    cn_buf_put_str(&buf, "de");
    assert_int_equal(buf.err, CN_OK);
    assert_non_null(cn_buf_grow(&buf, 0));
    cn_buf_put_str(&buf, "f");
    assert_int_equal(buf.err, CN_ETOOBIG);
    assert_buf(&buf, "abcde"); // what was there stays
    cn_buf_put(&buf, "", 0);
    cn_buf_printf(&buf, "%s", "");
    assert_null(cn_buf_grow(&buf, 0));
    assert_int_equal(buf.err, CN_ETOOBIG);
    assert_null(cn_buf_take(&buf)); // nobody takes half a text
    assert_buf(&buf, "abcde");

    cn_buf_reset(&buf);
    assert_int_equal(buf.err, CN_OK);
    assert_buf(&buf, "");
    cn_buf_put_str(&buf, "vwxyz!");
    assert_int_equal(buf.err, CN_ETOOBIG);
    assert_buf(&buf, "");
    cn_buf_release(&buf);
    assert_int_equal(buf.bytes_max, 5); // the limit outlives release, take and reset
    cn_buf_put_str(&buf, "123");
    free(cn_buf_take(&buf));
    assert_int_equal(buf.bytes_max, 5);

    // Sums that would pass SIZE_MAX, and the limit of a buf that names none.
    cn_buf_put_str(&buf, "1");
    assert_null(cn_buf_grow(&buf, SIZE_MAX));
    assert_int_equal(buf.err, CN_ETOOBIG);
    cn_buf_release(&buf);
    cn_buf whole = {0};
    assert_null(cn_buf_grow(&whole, CN_BUF_BYTES_MAX + 1));
    assert_int_equal(whole.err, CN_ETOOBIG);
    cn_buf_release(&whole);
}

static void test_take_moves_the_data(void **state) {
    (void)state;
    cn_buf buf = {0};
    cn_buf_put_str(&buf, "mine");
    char *text = cn_buf_take(&buf);
    assert_true(buf.data == NULL && buf.bytes == 0 && buf.room == 0);
    cn_buf_put_str(&buf, "other");
    assert_string_equal(text, "mine");
    free(text);
    cn_buf_release(&buf);
}

static void test_no_memory_keeps_what_was_there(void **state) {
    (void)state;
    const cn_fault_mode modes[] = {CN_FAULT_ONCE, CN_FAULT_FOREVER};
    for (int m = 0; m < 2; m++)
        for (int n = 1;; n++) {
            cn_buf buf = {0};
            size_t before = 0;
            bool   failed = false;
            t_note("mode %d fault %d", m, n);
            cn_fault_arm(modes[m], n);
            for (int i = 0; i < 1000; i++) {
                cn_buf_put(&buf, "ab", 2);
                if (failed || buf.err) {
                    assert_int_equal(buf.err, CN_ENOMEM); // also when memory is back
                    assert_int_equal(buf.bytes, before);
                    failed = true;
                }
                before = buf.bytes;
            }
            const bool hit = cn_fault_was_hit();
            cn_fault_arm(CN_FAULT_OFF, 0);
            assert_int_equal(hit, failed);
            for (size_t i = 0; i < buf.bytes; i++) assert_int_equal(buf.data[i], "ab"[i % 2]);
            if (buf.data) assert_int_equal(buf.data[buf.bytes], 0);
            if (hit) {
                assert_null(cn_buf_take(&buf));
                cn_buf_reset(&buf);
                cn_buf_put_str(&buf, "again");
                assert_buf(&buf, "again");
            }
            cn_buf_release(&buf);
            if (!hit) {
                assert_true(n > 4); // else the fault points were compiled out
                break;
            }
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_puts_append),
        cmocka_unit_test(test_putting_nothing_is_something),
        cmocka_unit_test(test_growth_keeps_every_byte),
        cmocka_unit_test(test_printf_takes_any_length),
        cmocka_unit_test(test_limit_is_exact_and_sticks),
        cmocka_unit_test(test_take_moves_the_data),
        cmocka_unit_test(test_no_memory_keeps_what_was_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
