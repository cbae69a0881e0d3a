/* test_opbench.c - The op bench covers the table and states a roof for each case. */
#include "tests/test.h"

#include "engine/opbench.h"

static const char *const op_names[] = {
#define CN_OP(op) #op,
#define CN_OP_SIMD(op)
#include "kernels/ops.def"
#undef CN_OP
#undef CN_OP_SIMD
};

enum { OPS = sizeof(op_names) / sizeof(op_names[0]) };

static void on_row(void *ctx, const cn_opbench_row *row) {
    int *seen = ctx;
    t_note("%s %s", row->op, row->shape);
    assert_true(row->us > 0 && row->us_median >= row->us);
    assert_true(row->gb_s > 0 && row->roof_us > 0 && row->percent > 0);
    assert_true(row->shape[0] && row->bound[0]);
    for (int i = 0; i < OPS; i++) seen[i] += strcmp(op_names[i], row->op) == 0;
}

static cn_config small_config(void) {
    size_t    bytes;
    char     *text = t_read_source_file("tests/golden/tiny-a/config.json", &bytes);
    cn_config c;
    assert_err(cn_config_parse(&c, text, bytes, &t_diag), CN_OK);
    free(text);
    return c;
}

static void test_every_op_is_timed(void **state) {
    (void)state;
    const cn_config  c = small_config();
    int              seen[OPS] = {0};
    cn_opbench_roofs roofs;
    cn_opbench_opts  opts = {
         .config = &c, .threads = 2, .case_ms = 1, .on_row = on_row, .ctx = seen};
    assert_err(cn_opbench_run(&opts, &roofs, &t_diag), CN_OK);
    for (int i = 0; i < OPS; i++)
        if (!seen[i]) t_fail(__FILE__, __LINE__, "no case for %s", op_names[i]);
    assert_true(roofs.threads == 2 && roofs.bf16_gop_s > 0 && roofs.int8_gop_s > 0);
    assert_true(roofs.f32_gop_s > 0 && roofs.weights_gb_s > 0 && roofs.weights_bytes > 0);
}

static void test_only_and_refusals(void **state) {
    (void)state;
    const cn_config  c = small_config();
    int              seen[OPS] = {0}, cases = 0;
    cn_opbench_roofs roofs;
    cn_opbench_opts  opts = {
         .config = &c, .case_ms = 1, .only = "rope", .on_row = on_row, .ctx = seen};
    assert_err(cn_opbench_run(&opts, &roofs, &t_diag), CN_OK);
    for (int i = 0; i < OPS; i++) cases += seen[i];
    assert_int_equal(cases, 1);
    cn_ops    ops[CN_ISA_COUNT];
    const int n = t_variants(ops);
    for (int i = 0; i < n; i++) { // each path has roofs of its own
        opts.isa = cn_isa_name(ops[i].isa);
        assert_err(cn_opbench_run(&opts, &roofs, &t_diag), CN_OK);
        t_note("%s: bf16 %g, int8 %g", opts.isa, roofs.bf16_gop_s, roofs.int8_gop_s);
        assert_true(roofs.bf16_gop_s > 0 && roofs.int8_gop_s > 0 && roofs.f32_gop_s > 0);
    }
    opts.isa = "abacus";
    assert_err(cn_opbench_run(&opts, &roofs, &t_diag), CN_EINVAL);
    opts.isa = NULL;
    opts.threads = -1;
    assert_err(cn_opbench_run(&opts, &roofs, &t_diag), CN_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_op_is_timed),
        cmocka_unit_test(test_only_and_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
