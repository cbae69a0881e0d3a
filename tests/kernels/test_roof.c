/* test_roof.c - The timed loops do the work that is counted, and the roofs are numbers. */
#include "kernels/roof.h"
#include "kernels/roof_int.h"
#include "tests/test.h"

#include <math.h>

static int loop_sets(const cn_roof_loops *sets[CN_ISA_COUNT]) {
    int n = 0;
    sets[n++] = &cn_roof_loops_ref;
    if (cn_isa_is_supported(CN_ISA_AVX2)) sets[n++] = &cn_roof_loops_avx2;
    if (cn_isa_is_supported(CN_ISA_AVX512)) sets[n++] = &cn_roof_loops_avx512;
    return n;
}

/* Each multiply-add of 1 x 1 adds 1, and a multiply-add is 2 ops. */
static void test_roof_chains_do_what_is_counted(void **state) {
    (void)state;
    const cn_roof_loops *sets[CN_ISA_COUNT];
    for (int i = loop_sets(sets) - 1; i >= 0; i--)
        for (int64_t steps = 0; steps < 1000; steps = steps * 3 + 1) {
            t_note("set %d steps %lld", i, (long long)steps);
            assert_true(sets[i]->bf16(steps) == (double)(steps * sets[i]->bf16_ops / 2));
            assert_true(sets[i]->int8(steps) == (double)(steps * sets[i]->int8_ops / 2));
            assert_true(sets[i]->f32(steps) == (double)(steps * sets[i]->f32_ops / 2));
        }
}

static void test_roof_read_sees_every_byte(void **state) {
    (void)state;
    const int64_t        sizes[] = {0, 1, 63, 64, 65, 511, 512, 513, 2049};
    const cn_roof_loops *sets[CN_ISA_COUNT];
    for (int i = loop_sets(sets) - 1; i >= 0; i--)
        for (int s = 0; s < 9; s++) {
            t_note("set %d bytes %lld", i, (long long)sizes[s]);
            uint8_t *p = t_alloc((size_t)sizes[s]), want = 0;
            for (int64_t b = 0; b < sizes[s]; b++) want ^= p[b] = (uint8_t)t_rand();
            assert_int_equal(sets[i]->read(p, sizes[s]), want);
            t_free(p);
        }
}

static void test_roofs_are_measured(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int n = t_variants(ops);
    cn_pool  *pools[2] = {NULL};
    assert_err(cn_pool_create(&pools[1], 2, &t_diag), CN_OK);
    for (int v = 0; v < n; v++)
        for (int p = 0; p < 2; p++) {
            const cn_isa isa = ops[v].isa;
            const double roofs[] = {cn_roof_bandwidth(isa, 1, pools[p]),
                                    cn_roof_bandwidth(isa, 100001, pools[p]),
                                    cn_roof_bf16(isa, pools[p]), cn_roof_int8(isa, pools[p]),
                                    cn_roof_f32(isa, pools[p])};
            for (int i = 0; i < 5; i++) {
                t_note("%s threads %d roof %d", cn_isa_name(isa), p + 1, i);
                assert_true(isfinite(roofs[i]) && roofs[i] > 0);
            }
            assert_true(cn_roof_bandwidth(isa, 0, pools[p]) == 0);
            assert_true(cn_roof_bandwidth(isa, -1, pools[p]) == 0);
        }
    cn_pool_free(pools[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roof_chains_do_what_is_counted),
        cmocka_unit_test(test_roof_read_sees_every_byte),
        cmocka_unit_test(test_roofs_are_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
