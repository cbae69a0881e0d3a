/* test_ops.c - The table has no holes, and every op in it is tested. */
#include "tests/test.h"

static const char *const op_names[] = {
#define CN_OP(op) #op,
#define CN_OP_SIMD(op)
#include "kernels/ops.def"
#undef CN_OP
#undef CN_OP_SIMD
    NULL,
};

/* Each op has tests/kernels/test_<op>.c, or a test of that name in a file of its family,
 * that compares every variant with the reference. */
static void test_every_op_is_tested(void **state) {
    (void)state;
    static const char *const families[] = {"window", "attend", "page", "weight"};
    for (int i = 0; op_names[i]; i++) {
        char want[128], path[128];
        snprintf(want, sizeof(want), "cmocka_unit_test(test_%s_matches_reference)", op_names[i]);
        snprintf(path, sizeof(path), "tests/kernels/test_%s.c", op_names[i]);
        for (size_t f = 0; f < sizeof(families) / sizeof(families[0]); f++)
            if (strncmp(op_names[i], families[f], strlen(families[f])) == 0)
                snprintf(path, sizeof(path), "tests/kernels/test_%s.c", families[f]);
        size_t bytes;
        char  *text = t_read_source_file(path, &bytes);
        if (!strstr(text, want)) t_fail(__FILE__, __LINE__, "%s has no %s", path, want);
        free(text);
    }
}

static void test_every_table_is_filled(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int n = t_variants(ops);
    assert_true(n >= 1 && ops[0].isa == CN_ISA_REF);
    for (int i = 0; i < n; i++) {
#define CN_OP(op) assert_true(ops[i].op != NULL);
#define CN_OP_SIMD(op)
#include "kernels/ops.def"
#undef CN_OP
#undef CN_OP_SIMD
    }
    for (int isa = 0; isa < CN_ISA_COUNT; isa++)
        if (!cn_isa_is_supported((cn_isa)isa)) {
            assert_int_equal(cn_ops_init(&ops[0], (cn_isa)isa), CN_EUNSUPPORTED);
            print_message("%s variants: skipped, this processor cannot run them\n",
                          cn_isa_name((cn_isa)isa));
        }
}

/* An entry is the path's own variant where ops.def says that there is one, else the reference. */
static void test_a_table_holds_its_own_variants(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int n = t_variants(ops);
    for (int i = 0; i < n; i++) {
        const cn_isa isa = ops[i].isa;
        cn_ops       want;
#define CN_OP(op) want.op = cn_##op##_ref;
#define CN_OP_SIMD(op)                                                                             \
    want.op = isa == CN_ISA_AVX512 ? cn_##op##_avx512                                              \
              : isa == CN_ISA_AVX2 ? cn_##op##_avx2                                                \
                                   : cn_##op##_ref;
#include "kernels/ops.def"
#undef CN_OP
#undef CN_OP_SIMD
        t_note("%s", cn_isa_name(isa));
#define CN_OP(op) assert_true(ops[i].op == want.op);
#define CN_OP_SIMD(op)
#include "kernels/ops.def"
#undef CN_OP
#undef CN_OP_SIMD
    }
}

static void test_names_and_order(void **state) {
    (void)state;
    assert_string_equal(cn_isa_name(CN_ISA_REF), "ref");
    assert_string_equal(cn_isa_name(CN_ISA_AVX2), "avx2");
    assert_string_equal(cn_isa_name(CN_ISA_AVX512), "avx512");
    assert_string_equal(cn_isa_name(CN_ISA_COUNT), "?");
    // What runs AVX-512 runs AVX2; the best is the last that runs.
    assert_true(cn_isa_is_supported(CN_ISA_AVX2) || !cn_isa_is_supported(CN_ISA_AVX512));
    assert_int_equal(cn_isa_best(), cn_isa_is_supported(CN_ISA_AVX512) ? CN_ISA_AVX512
                                    : cn_isa_is_supported(CN_ISA_AVX2) ? CN_ISA_AVX2
                                                                       : CN_ISA_REF);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_op_is_tested),
        cmocka_unit_test(test_every_table_is_filled),
        cmocka_unit_test(test_a_table_holds_its_own_variants),
        cmocka_unit_test(test_names_and_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
