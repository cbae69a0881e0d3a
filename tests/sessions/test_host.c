/* test_host.c - A host opens whole, or not at all and says why; the next one opens. */
#include "base/fault.h"
#include "tests/sessions/session_kit.h"

#include <sys/stat.h>

static void assert_salt(const char *state, uint8_t salt[CN_HASH_KEY_BYTES]) {
    char        path[300];
    struct stat st;
    snprintf(path, sizeof(path), "%s/salt", state);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, CN_HASH_KEY_BYTES);
    assert_int_equal(st.st_mode & 0777, 0600);
    FILE *f = fopen(path, "rb");
    assert_true(f && fread(salt, CN_HASH_KEY_BYTES, 1, f) == 1);
    fclose(f);
}

static void test_the_secret_is_made_once(void **state) {
    (void)state;
    const char *folder = k_new_state();
    uint8_t     first[CN_HASH_KEY_BYTES], second[CN_HASH_KEY_BYTES];
    cn_host_close(k_open_host(k_plain_model(), folder, 1));
    assert_salt(folder, first);
    cn_host_close(k_open_host(k_plain_model(), folder, 1));
    assert_salt(folder, second);
    assert_memory_equal(first, second, sizeof(first));
    t_shell("[ \"$(ls %s)\" = \"$(printf 'cache\\nledger\\nsalt')\" ]", folder); // and nothing else
}

static void test_opening_fails_whole(void **state) {
    (void)state;
    const int step = t_is_sanitized() ? 7 : 1;
    int       refused = 0;
    bool      hit = true;
    for (int n = 1; hit; n += step) {
        const char        *folder = k_new_state();
        const cn_host_opts opts = {.model_folder = k_plain_model(),
                                   .state_folder = folder,
                                   .threads = 1,
                                   .cache_bytes = 256 << 20};
        cn_host           *h;
        cn_diag            diag = {0};
        uint8_t            salt[CN_HASH_KEY_BYTES];
        cn_fault_arm(CN_FAULT_ONCE, n);
        const cn_err err = cn_host_open(&h, &opts, &diag);
        hit = cn_fault_was_hit();
        t_note("fault %d at %s: %s", n, cn_fault_last_point(), diag.text);
        cn_fault_arm(CN_FAULT_OFF, 0);
        if (err) {
            refused++;
            assert_null(h);
            if (!hit || diag.err != err || !diag.text[0])
                t_fail(__FILE__, __LINE__, "%s, but the diag says %s: %s", cn_err_name(err),
                       cn_err_name(diag.err), diag.text);
        }
        cn_host_close(h);
        cn_host_close(k_open_host(k_plain_model(), folder, 1));
        assert_salt(folder, salt);
        t_shell("rm -rf %s", folder);
    }
    assert_true(refused > 20 / step);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_secret_is_made_once),
        cmocka_unit_test(test_opening_fails_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
