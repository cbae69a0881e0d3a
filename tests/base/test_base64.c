/* test_base64.c - Bytes as text and back, and what is refused. */
#include "base/base64.h"
#include "tests/test.h"

/* RFC 4648, section 10. */
static void test_the_vectors_of_the_rfc(void **state) {
    (void)state;
    static const char *const vector[][2] = {{"", ""},
                                            {"f", "Zg=="},
                                            {"fo", "Zm8="},
                                            {"foo", "Zm9v"},
                                            {"foob", "Zm9vYg=="},
                                            {"fooba", "Zm9vYmE="},
                                            {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof(vector) / sizeof(vector[0]); i++) {
        cn_buf text = {0}, back = {0};
        cn_base64_put(&text, vector[i][0], strlen(vector[i][0]));
        assert_string_equal(cn_buf_str(&text), vector[i][1]);
        assert_int_equal(text.bytes, strlen(vector[i][1]));
        assert_err(cn_base64_read(&back, text.data, text.bytes), CN_OK);
        assert_string_equal(cn_buf_str(&back), vector[i][0]);
        cn_buf_release(&text), cn_buf_release(&back);
    }
}

static void test_any_bytes_come_back(void **state) {
    (void)state;
    cn_buf text = {0}, back = {0};
    for (int n = 0; n < 300; n++) {
        uint8_t bytes[300];
        for (int i = 0; i < n; i++) bytes[i] = (uint8_t)t_rand();
        cn_buf_reset(&text), cn_buf_reset(&back);
        cn_buf_put_str(&text, "> ");
        cn_buf_put_str(&back, "< ");
        cn_base64_put(&text, bytes, (size_t)n);
        assert_err(cn_base64_read(&back, text.data + 2, text.bytes - 2), CN_OK);
        assert_int_equal(back.bytes, n + 2);
        assert_memory_equal(back.data + 2, bytes, n);
    }
    cn_buf_release(&text), cn_buf_release(&back);
}

static void test_only_the_one_form_is_read(void **state) {
    (void)state;
    static const char *const bad[] = {"Zg",       "Zg=",  "Zg= =", "Zh==", "Zg==\n", "Z\ng=",
                                      "Zg==Zg==", "Zm9_", "====",  "Zm8",  "Zm9v=",  "Zm9vZ==="};
    cn_buf                   to = {0};
    cn_buf_put_str(&to, "kept");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        t_note("%s", bad[i]);
        assert_err(cn_base64_read(&to, bad[i], strlen(bad[i])), CN_EINVAL);
        assert_string_equal(cn_buf_str(&to), "kept");
    }
    cn_buf_release(&to);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_vectors_of_the_rfc),
        cmocka_unit_test(test_any_bytes_come_back),
        cmocka_unit_test(test_only_the_one_form_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
