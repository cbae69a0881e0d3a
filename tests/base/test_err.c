/*
 * test_err.c - Every error has its name, text, status and retry bit; a diag is filled whole.
 */
#include "tests/test.h"

static void test_every_err_has_its_row(void **state) {
    (void)state;
    static const struct {
        cn_err      err;
        const char *name, *text;
        int         http;
        bool        retry;
    } want[] = {
#define X(name, http, retry, text) {CN_##name, #name, text, http, retry},
        CN_ERR_LIST(X)
#undef X
    };
    assert_int_equal(sizeof(want) / sizeof(want[0]), CN_ERR_COUNT);
    for (int i = 0; i < CN_ERR_COUNT; i++) {
        t_note("%s", want[i].name);
        assert_int_equal(want[i].err, i);
        assert_string_equal(cn_err_name(want[i].err), want[i].name);
        assert_string_equal(cn_err_text(want[i].err), want[i].text);
        assert_int_equal(cn_err_http(want[i].err), want[i].http);
        assert_int_equal(cn_err_can_retry(want[i].err), want[i].retry);
    }
    // And the list itself, at both ends of the contract.
    assert_int_equal(CN_OK, 0);
    assert_int_equal(cn_err_http(CN_ETOOBIG), 413);
    assert_true(cn_err_can_retry(CN_EBUSY) && !cn_err_can_retry(CN_ECORRUPT));
}

static void test_unknown_err_is_answered(void **state) {
    (void)state;
    const int unknown[] = {-1, CN_ERR_COUNT, 1 << 20};
    for (int i = 0; i < 3; i++) {
        const cn_err err = (cn_err)unknown[i];
        assert_string_equal(cn_err_name(err), "?");
        assert_string_equal(cn_err_text(err), "unknown error");
        assert_int_equal(cn_err_http(err), 500);
        assert_false(cn_err_can_retry(err));
    }
}

static void test_fail_fills_the_diag(void **state) {
    (void)state;
    cn_diag   diag = {0};
    const int line = __LINE__ + 1;
    assert_int_equal(CN_FAIL(&diag, CN_ENOMEM, "%d of %s", 7, "nine"), CN_ENOMEM);
    assert_int_equal(diag.err, CN_ENOMEM);
    assert_int_equal(diag.line, line);
    assert_string_equal(diag.file, __FILE__);
    assert_string_equal(diag.text, "7 of nine");
    assert_int_equal(CN_FAIL(NULL, CN_EIO, "nobody listens"), CN_EIO);
}

/* One character of every size, moved over the end of the text. */
static void test_long_text_is_cut_at_a_character(void **state) {
    (void)state;
    static const char *const chars[] = {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (int k = 0; k < 4; k++)
        for (size_t lead = CN_DIAG_TEXT_BYTES - 8; lead < CN_DIAG_TEXT_BYTES + 2; lead++) {
            char   text[CN_DIAG_TEXT_BYTES + 64];
            size_t bytes = lead;
            memset(text, '.', lead);
            for (int i = 0; i < 5; i++) {
                memcpy(text + bytes, chars[k], strlen(chars[k]));
                bytes += strlen(chars[k]);
            }
            text[bytes] = 0;
            t_note("%zu bytes, then characters of %zu", lead, strlen(chars[k]));

            cn_diag *diag = t_alloc(sizeof(*diag));
            assert_int_equal(CN_FAIL(diag, CN_EINVAL, "%s", text), CN_EINVAL);
            const size_t got = strlen(diag->text);
            size_t       want = lead; // as many whole characters as fit
            while (want + strlen(chars[k]) < CN_DIAG_TEXT_BYTES && want < bytes)
                want += strlen(chars[k]);
            if (want > CN_DIAG_TEXT_BYTES - 1) want = CN_DIAG_TEXT_BYTES - 1;
            assert_int_equal(got, want);
            assert_memory_equal(diag->text, text, got);
            t_free(diag);
        }
}

static cn_err try_twice(int *calls, cn_err first) {
    ++*calls;
    CN_TRY(first);
    ++*calls;
    return CN_OK;
}

static void test_try_returns_at_once(void **state) {
    (void)state;
    int calls = 0;
    assert_err(try_twice(&calls, CN_EBUSY), CN_EBUSY);
    assert_int_equal(calls, 1);
    assert_err(try_twice(&calls, CN_OK), CN_OK);
    assert_int_equal(calls, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_err_has_its_row),
        cmocka_unit_test(test_unknown_err_is_answered),
        cmocka_unit_test(test_fail_fills_the_diag),
        cmocka_unit_test(test_long_text_is_cut_at_a_character),
        cmocka_unit_test(test_try_returns_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
