/* test_clock.c - Durations go forward at the speed of the wall; dates are of this century. */
#include "base/clock.h"
#include "tests/test.h"

#include <time.h>

static void test_clocks_count_nanoseconds(void **state) {
    (void)state;
    const int64_t         start = cn_clock_ns(), unix_start = cn_clock_unix_ns();
    const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
    nanosleep(&pause, NULL);
    const int64_t took = cn_clock_ns() - start, unix_took = cn_clock_unix_ns() - unix_start;
    assert_true(took >= 20 * 1000 * 1000 && took < INT64_C(20) * 1000 * 1000 * 1000);
    assert_true(unix_took > 0 && unix_took < INT64_C(20) * 1000 * 1000 * 1000);
    assert_true(unix_start / 1000000000 >= (int64_t)time(NULL) - 60);
    assert_true(unix_start / 1000000000 <= (int64_t)time(NULL));
}

static void test_durations_never_go_back(void **state) {
    (void)state;
    int64_t before = cn_clock_ns();
    for (int i = 0; i < 10000; i++) {
        const int64_t now = cn_clock_ns();
        assert_true(now >= before);
        before = now;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clocks_count_nanoseconds),
        cmocka_unit_test(test_durations_never_go_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
