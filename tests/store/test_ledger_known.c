/* test_ledger_known.c - Keys that were stored once, and blobs under other keys. */
#include "tests/store/ledger_kit.h"

#include "store/ledger_known.h"

static cn_hash key_of(const char *text) {
    return cn_hash_of(text, strlen(text));
}

static bool was_stored(cn_ledger *l, const char *text) {
    const cn_hash key = key_of(text);
    bool          was = false;
    assert_err(cn_ledger_stored_has(l, &key, &was, &t_diag), CN_OK);
    return was;
}

static void test_stored_keys_are_remembered(void **state) {
    (void)state;
    const char   *dir = k_new_path();
    cn_ledger    *l = k_open(dir);
    const cn_hash key[] = {key_of("a"), key_of("b"), key_of("a")};
    assert_false(was_stored(l, "a"));
    assert_err(cn_ledger_stored_put(l, key, 0, &t_diag), CN_OK);
    assert_false(was_stored(l, "a"));
    assert_err(cn_ledger_stored_put(l, key, 3, &t_diag), CN_OK); // one twice
    assert_err(cn_ledger_stored_put(l, key, 1, &t_diag), CN_OK); // and again
    cn_ledger_close(l);
    l = k_open(dir);
    assert_true(was_stored(l, "a") && was_stored(l, "b") && !was_stored(l, "c"));
    assert_int_equal(k_sql_int(dir, "SELECT count(*) FROM stored"), 2);

    // Very many later the oldest are forgotten.
    char sql[96];
    snprintf(sql, sizeof(sql), "UPDATE stored SET key = %d WHERE key = 2",
             CN_LEDGER_STORED_MAX + 1);
    k_sql(dir, sql);
    const cn_hash last = key_of("c");
    assert_err(cn_ledger_stored_put(l, &last, 1, &t_diag), CN_OK);
    assert_true(!was_stored(l, "a") && was_stored(l, "b") && was_stored(l, "c"));
    cn_ledger_close(l);
}

static bool is_q(void *ctx, const cn_hash *key) {
    const cn_hash q = key_of("q");
    ++*(int *)ctx;
    return cn_hash_is_equal(&q, key);
}

/* The same blob cut under two weights, two layouts, two versions, for two tenants. */
static void test_a_blob_is_known_elsewhere(void **state) {
    (void)state;
    cn_ledger          *l = k_open(k_new_path());
    const cn_hash       one = key_of("one"), two = key_of("two");
    const cn_ledger_cut mine = {key_of("1x"), "", 1, &one, "x"},
                        layout = {key_of("1y"), "", 1, &one, "y"},
                        version = {key_of("1x"), "", 2, &one, "x"},
                        weights = {key_of("2x"), "", 1, &two, "x"},
                        tenant = {key_of("1z"), "t", 1, &one, "x"},
                        unsaid = {.model = key_of("?"), .tenant = ""};
    const cn_ledger_cut *others[] = {&layout, &version, &weights, &tenant, &unsaid, &mine};
    const cn_known       want[] = {CN_KNOWN_FORMAT, CN_KNOWN_FORMAT, CN_KNOWN_MODEL,
                                   CN_KNOWN_NOT,    CN_KNOWN_NOT,    CN_KNOWN_NOT};
    for (int i = 0; i < 6; i++) {
        char name[8];
        int  asked = 0;
        snprintf(name, sizeof(name), "f%d", i);
        const cn_ledger_piece     piece[] = {{key_of("p"), 5, 1, 1}, {key_of(name), 5, 1, 1}};
        const cn_ledger_blob      blob = {name, "\1", 1, piece, 2};
        const cn_ledger_elsewhere args = {
            .cut = &mine, .blob = &blob, .is_held = is_q, .ctx = &asked};
        cn_known known;
        t_note("%d", i);
        assert_err(cn_ledger_blobs_put(l, others[i], &blob, 1, &t_diag), CN_OK);
        assert_err(cn_ledger_blob_elsewhere(l, &args, &known, &t_diag), CN_OK);
        assert_int_equal(known, CN_KNOWN_NOT); // cut, and never stored
        assert_int_equal(asked, want[i] ? 2 : 0);
        assert_err(cn_ledger_stored_put(l, &piece[1].key, 1, &t_diag), CN_OK);
        assert_err(cn_ledger_blob_elsewhere(l, &args, &known, &t_diag), CN_OK);
        assert_int_equal(known, want[i]);
    }
    // A key that the caller holds; of the same weights before the others.
    const cn_ledger_piece     q = {key_of("q"), 5, 1, 1};
    const cn_ledger_blob      blob = {"g", "\2", 1, &q, 1};
    int                       asked;
    const cn_ledger_elsewhere args = {.cut = &mine, .blob = &blob, .is_held = is_q, .ctx = &asked};
    cn_known                  known;
    assert_err(cn_ledger_blobs_put(l, &layout, &blob, 1, &t_diag), CN_OK);
    assert_err(cn_ledger_blobs_put(l, &weights, &blob, 1, &t_diag), CN_OK);
    assert_err(cn_ledger_blob_elsewhere(l, &args, &known, &t_diag), CN_OK);
    assert_int_equal(known, CN_KNOWN_FORMAT);
    cn_ledger_close(l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stored_keys_are_remembered),
        cmocka_unit_test(test_a_blob_is_known_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
