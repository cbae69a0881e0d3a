/* test_paths.c - A list of paths: what is put is in, what is removed is not, in any order. */
#include "sessions/paths.h"

#include "base/fault.h"
#include "tests/test.h"

static void test_put_has_remove(void **state) {
    (void)state;
    cn_paths p = {0};
    char     name[16];
    assert_false(cn_paths_has(&p, "a"));
    assert_false(cn_paths_remove(&p, "a"));
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "p%d", i);
        assert_err(cn_paths_put(&p, name), CN_OK);
    }
    name[0] = 'x'; // they are copies
    for (int i = 0; i < 100; i += 2) {
        snprintf(name, sizeof(name), "p%d", i);
        assert_true(cn_paths_remove(&p, name));
        assert_false(cn_paths_remove(&p, name));
    }
    assert_int_equal(p.count, 50);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "p%d", i);
        assert_int_equal(cn_paths_has(&p, name), i % 2);
    }
    assert_string_equal(p.path[0], "p1"); // the order of putting stays
    assert_string_equal(p.path[49], "p99");
    cn_paths_sort(&p);
    assert_string_equal(p.path[1], "p11");
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "p%d", i);
        assert_int_equal(cn_paths_sorted_has(&p, name), i % 2);
    }
    cn_paths all = {0};
    assert_err(cn_paths_put(&all, "first"), CN_OK);
    assert_err(cn_paths_put_all(&all, &p), CN_OK);
    assert_int_equal(all.count, 51);
    assert_string_equal(all.path[0], "first");
    assert_string_equal(all.path[50], p.path[49]);
    cn_paths_release(&all);
    cn_paths_release(&p);
    assert_int_equal(p.count, 0);
    assert_false(cn_paths_sorted_has(&p, "p1"));
    cn_paths_sort(&p);
}

static void test_failing_memory_leaves_the_list(void **state) {
    (void)state;
    cn_paths p = {0};
    for (int n = 1; n <= 2; n++) { // the list's room, then the copy
        cn_fault_arm(CN_FAULT_ONCE, n);
        assert_err(cn_paths_put(&p, "a"), CN_ENOMEM);
        cn_fault_arm(CN_FAULT_OFF, 0);
        assert_int_equal(p.count, 0);
    }
    assert_err(cn_paths_put(&p, "a"), CN_OK);
    assert_true(cn_paths_has(&p, "a"));
    cn_paths_release(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_has_remove),
        cmocka_unit_test(test_failing_memory_leaves_the_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
