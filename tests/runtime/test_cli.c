/* test_cli.c - The command line as its users see it: output, exit status, errors as JSON. */
#include "tests/runtime/cairn.h"

static void test_usage(void **state) {
    (void)state;
    assert_int_equal(t_cairn("%s", "")->status, 2);
    assert_int_equal(t_cairn("--help")->status, 0);
    assert_non_null(strstr(t_cairn("--help")->output, "model"));
    assert_int_equal(t_cairn("dance")->status, 2);
    assert_non_null(strstr(t_cairn("dance")->output, "\"dance\""));
    assert_int_equal(t_cairn("model")->status, 2);
    assert_int_equal(t_cairn("model dance")->status, 2);
    assert_int_equal(t_cairn("model info --dance")->status, 2);
    assert_int_equal(t_cairn("model info --threads many")->status, 2);
    assert_int_equal(t_cairn("model --help")->status, 0);
    assert_non_null(strstr(t_cairn("model --help")->output, "--json"));
    assert_int_equal(t_cairn("bench")->status, 2);
}

static void test_model_info(void **state) {
    (void)state;
    const t_result *r = t_cairn("model info --json");
    cn_json_doc    *doc = t_last_line(r);
    int64_t         parameters = 0;
    assert_int_equal(r->status, 0);
    assert_true(cn_json_int64(cn_json_get(cn_json_root(doc), "parameters"), &parameters));
    assert_true(parameters > 1000000);
    assert_int_equal(strlen(cn_json_string(cn_json_get(cn_json_root(doc), "id"))), 64);
    cn_json_free(doc);
    assert_non_null(strstr(t_cairn("model info")->output, "parameters"));
}

static void test_model_is_found_or_named(void **state) {
    (void)state;
    char arguments[512];
    t_assert_error(t_cairn("model info --json --model /nowhere/at/all"), "ENOTFOUND",
                   "/nowhere/at/all");
    snprintf(arguments, sizeof(arguments), "model info --json --model %s", t_tmp_dir());
    t_assert_error(t_cairn("%s", arguments), "ENOTFOUND", "config.json");
    assert_int_equal(t_cairn("model info --model /nowhere/at/all")->status, 1);
    snprintf(arguments, sizeof(arguments), "model info --json --model %s/tests/golden/tiny-b",
             CN_SOURCE_DIR);
    cn_json_doc *doc = t_last_line(t_cairn("%s", arguments));
    assert_string_equal(cn_json_string(cn_json_get(cn_json_root(doc), "weights")), "bf16");
    cn_json_free(doc);
}

static void test_model_verify(void **state) {
    (void)state;
    char        arguments[512];
    const char *names[] = {"tests/golden/tiny-a", "tests/golden/tiny-b",
                           "examples/models/cairn-nano"};
    for (int i = 0; i < (t_is_sanitized() ? 2 : 3); i++) {
        snprintf(arguments, sizeof(arguments), "model verify --json --model %s/%s", CN_SOURCE_DIR,
                 names[i]);
        const t_result *r = t_cairn("%s", arguments);
        cn_json_doc    *doc = t_last_line(r);
        bool            ok = false;
        if (r->status) t_fail(__FILE__, __LINE__, "%s", r->output);
        assert_true(cn_json_bool(cn_json_get(cn_json_root(doc), "ok"), &ok) && ok);
        assert_true(cn_json_count(cn_json_get(cn_json_root(doc), "checks")) >= 6);
        cn_json_free(doc);
    }
}

/* One flipped bit in the weights of a copy: another id, or a clear refusal. */
static void test_model_verify_sees_damage(void **state) {
    (void)state;
    char command[2048], arguments[512];
    snprintf(command, sizeof(command),
             "cp %s/tests/golden/tiny-b/*.json "
             "%s/tests/golden/tiny-b/*.safetensors %s && truncate -s -1 %s/model.safetensors",
             CN_SOURCE_DIR, CN_SOURCE_DIR, t_tmp_dir(), t_tmp_dir());
    assert_int_equal(system(command), 0);
    snprintf(arguments, sizeof(arguments), "model verify --json --model %s", t_tmp_dir());
    t_assert_error(t_cairn("%s", arguments), "ECORRUPT", "model.safetensors");
}

static void test_bench_ops(void **state) {
    (void)state;
    const t_result *r = t_cairn("bench ops --json --ms 1 --only topk");
    cn_json_doc    *doc = t_last_line(r);
    assert_int_equal(r->status, 0);
    assert_int_equal(cn_json_count(cn_json_get(cn_json_root(doc), "ops")), 2);
    assert_non_null(cn_json_get(cn_json_get(cn_json_root(doc), "roofs"), "bf16_gop_s"));
    cn_json_free(doc);
}

static void test_bench_decode(void **state) {
    (void)state;
    const t_result *r =
        t_cairn("bench decode --json --tokens 8192 --model %s/tests/golden/tiny-b", CN_SOURCE_DIR);
    cn_json_doc   *doc = t_last_line(r);
    const cn_json *row = cn_json_first(t_member(doc, "decode"));
    double         n = 0;
    assert_int_equal(r->status, 0);
    assert_int_equal(cn_json_count(t_member(doc, "decode")), 1);
    assert_true(cn_json_f64(cn_json_get(row, "context_tokens"), &n) && n == 8192);
    assert_true(cn_json_f64(cn_json_get(row, "decode_floor_us"), &n) && n > 0);
    assert_true(cn_json_f64(cn_json_get(row, "decode_percent"), &n) && n > 0);
    assert_true(cn_json_f64(cn_json_get(row, "prefill_percent"), &n) && n > 0);
    assert_true(cn_json_f64(cn_json_get(row, "peak_memory_bytes"), &n) && n > 1e6);
    assert_true(cn_json_f64(cn_json_get(row, "prefill_minor_faults"), &n) && n > 0);
    assert_true(cn_json_f64(cn_json_get(row, "prefill_major_faults"), &n) && n >= 0);
    assert_true(cn_json_f64(cn_json_get(row, "decode_minor_faults"), &n) && n >= 0);
    assert_true(cn_json_f64(cn_json_get(row, "decode_major_faults"), &n) && n >= 0);
    cn_json_free(doc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_model_info),
        cmocka_unit_test(test_model_is_found_or_named),
        cmocka_unit_test(test_model_verify),
        cmocka_unit_test(test_model_verify_sees_damage),
        cmocka_unit_test(test_bench_ops),
        cmocka_unit_test(test_bench_decode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
