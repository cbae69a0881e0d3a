/* test_rand.c - The outputs that others publish for splitmix64, in order and by number. */
#include "tests/test.h"

#include "base/rand.h"

static void test_published_outputs(void **state) {
    (void)state;
    // rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64, seed 1234567
    static const uint64_t want[] = {6457827717110365317u, 3203168211198807973u,
                                    9817491932198370423u, 4593380528125082431u,
                                    16408922859458223821u};
    uint64_t              seed = 1234567;
    for (uint64_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        assert_true(cn_rand_mix(1234567 + (i + 1) * CN_RAND_STEP) == want[i]);
        assert_true(cn_rand_next(&seed) == want[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_outputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
