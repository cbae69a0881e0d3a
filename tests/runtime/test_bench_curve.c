/* test_bench_curve.c - Four arms measured by the command: what is counted, what is said, what is
 * written, at dims that take seconds. */
#include "tests/runtime/cairn.h"

#include <math.h>

enum { VOCAB = 32, INDEX_DIM = 16, LAYERS = 3, PROMPT = 32 };

/* Dims with three cross layers, small enough for a transformer at 32K. */
static const char *small_dims(void) {
    static char path[300];
    snprintf(path, sizeof(path), "%s/dims.json", t_tmp_dir());
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "{\"model_type\": \"clsa\", \"hidden_size\": 16, \"intermediate_size\": 16, "
            "\"num_self_layers\": 1, \"num_cross_layers\": %d, \"num_attention_heads\": 1, "
            "\"num_key_value_heads\": 1, \"head_dim\": 16, \"vocab_size\": %d, "
            "\"index_head_dim\": %d, \"index_topk\": 64, \"quantization\": \"int8_rows\"}\n",
            LAYERS, VOCAB, INDEX_DIM);
    assert_int_equal(fclose(f), 0);
    return path;
}

static double number(const cn_json *row, const char *key) {
    double d;
    if (!cn_json_f64(cn_json_get(row, key), &d)) t_fail(__FILE__, __LINE__, "no %s", key);
    return d;
}

static const char *string(const cn_json *row, const char *key) {
    const char *s = cn_json_string(cn_json_get(row, key));
    if (!s) t_fail(__FILE__, __LINE__, "no %s", key);
    return s;
}

static bool is_near(double a, double b) {
    return fabs(a - b) <= 1e-6 * fabs(b);
}

/* How many sets of index keys a step of this arm reads. */
static int scans_of(const char *arm) {
    return strcmp(arm, "clsa") == 0 ? 1 : strcmp(arm, "yoco-perlayer") == 0 ? LAYERS : 0;
}

static void check_row(const cn_json *row, double context) {
    const char  *arm = string(row, "arm");
    const double outputs = number(row, "output_tokens"), scans = scans_of(arm);
    t_note("%s, %g outputs", arm, outputs);
    assert_true(number(row, "context_tokens") == context);
    assert_string_equal(string(row, "prefill"), "measured");
    // Index keys: counted at the scans, of the longest view.
    assert_true(number(row, "index_key_scans") == scans);
    assert_true(number(row, "index_key_bytes") ==
                scans * (context + PROMPT + outputs - 1) * INDEX_DIM * 2);
    assert_int_equal(number(row, "route_us") > 0, scans > 0);
    assert_true(number(row, "attend_us") > 0 && number(row, "head_us") > 0);
    assert_int_equal(number(row, "window_us") > 0, strcmp(arm, "transformer") != 0);
    const double best = number(row, "token_us_best"), p50 = number(row, "token_us_p50");
    assert_true(best > 0 && best <= p50 && p50 <= number(row, "token_us_p99"));
    // What belongs together.
    const double prefill_s = number(row, "prefill_s");
    assert_true(is_near(number(row, "prefill_tok_s"), context / prefill_s));
    assert_true(is_near(number(row, "ttft_ms"), prefill_s * 1e3 + number(row, "ttft_cached_ms")));
    const double floor = number(row, "decode_floor_us");
    assert_true(floor > 0 && is_near(number(row, "decode_percent_best"), 100 * floor / best));
    assert_true(is_near(number(row, "decode_percent_p50"), 100 * floor / p50));
    const double decode_s = (outputs - 1) / number(row, "decode_tok_s");
    assert_true(is_near(outputs / number(row, "end_to_end_tok_s"),
                        prefill_s + number(row, "ttft_cached_ms") / 1e3 + decode_s));
    assert_true(number(row, "peak_resident_bytes") > 1e6);
    assert_true(number(row, "prefill_minor_faults") > 0);
    // A transformer has K and V in each layer.
    const double attends = strcmp(arm, "transformer") == 0 ? LAYERS + 1 : LAYERS;
    const double rows = scans > 0 ? 64 : context;
    assert_true(number(row, "row_bytes") == rows * 64 * attends);
}

static void check_csv(const char *path, const cn_json *rows) {
    static char line[2][4096];
    FILE       *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(line[0], sizeof(line[0]), f));
    assert_int_equal(strncmp(line[0], "arm,prefill,context_tokens,", 27), 0);
    for (const cn_json *row = cn_json_first(rows); row; row = cn_json_next(row)) {
        assert_non_null(fgets(line[1], sizeof(line[1]), f));
        char *key = line[0], *value = line[1];
        for (;;) { // column by column
            const size_t k = strcspn(key, ",\n"), v = strcspn(value, ",\n");
            const bool   is_last = key[k] == '\n';
            char         name[64];
            snprintf(name, sizeof(name), "%.*s", (int)k, key);
            assert_int_equal(key[k], value[v]);
            double d;
            if (cn_json_f64(cn_json_get(row, name), &d))
                assert_true(is_near(strtod(value, NULL), d));
            else
                assert_int_equal(strncmp(value, string(row, name), v), 0);
            if (is_last) break;
            key += k + 1, value += v + 1;
        }
    }
    assert_null(fgets(line[1], sizeof(line[1]), f));
    fclose(f);
}

static void test_four_arms(void **state) {
    (void)state;
    static const char *const arms[] = {"clsa", "yoco-perlayer", "yoco", "transformer"};
    const t_result *r = t_cairn("bench curve --json --dims %s --tokens 3000 --csv %s/c.csv "
                                "--plot %s/c.svg",
                                small_dims(), t_tmp_dir(), t_tmp_dir());
    assert_int_equal(r->status, 0);
    cn_json_doc   *doc = t_last_line(r);
    const cn_json *rows = t_member(doc, "rows");
    int            i = 0;
    assert_int_equal(cn_json_count(rows), 8);
    for (const cn_json *row = cn_json_first(rows); row; row = cn_json_next(row), i++) {
        assert_string_equal(string(row, "arm"), arms[i / 2]);
        assert_true(number(row, "output_tokens") == (i % 2 ? 512 : 128));
        check_row(row, 3000);
    }
    // The bill: once a token, times the layers, against what each layer really took.
    const cn_json *bill = cn_json_first(t_member(doc, "routing"));
    const cn_json *clsa = cn_json_next(cn_json_first(rows)),
                  *perlayer = cn_json_next(cn_json_next(clsa));
    const double shared = number(clsa, "route_us"), each = number(perlayer, "route_us");
    assert_int_equal(cn_json_count(t_member(doc, "routing")), 1);
    assert_true(is_near(number(bill, "shared_us"), shared));
    assert_true(is_near(number(bill, "per_layer_us"), each));
    assert_true(is_near(number(bill, "counterfactual_us"), shared * LAYERS));
    assert_true(fabs(number(bill, "per_layer_to_counterfactual") - each / (shared * LAYERS)) <
                1e-4);
    assert_int_equal(cn_json_count(t_member(doc, "token_to_clsa")), 3);

    char path[300];
    snprintf(path, sizeof(path), "%s/c.csv", t_tmp_dir());
    check_csv(path, rows);
    snprintf(path, sizeof(path), "%s/c.svg", t_tmp_dir());
    static char svg[1 << 16];
    FILE       *f = fopen(path, "r");
    assert_non_null(f);
    svg[fread(svg, 1, sizeof(svg) - 1, f)] = 0;
    fclose(f);
    for (i = 0; i < 4; i++) assert_non_null(strstr(svg, arms[i]));
    cn_json_free(doc);
}

/* A transformer's long context is not prefilled whole, and every form of output says so. */
static void test_extrapolation_is_said(void **state) {
    (void)state;
    const char     *dims = small_dims();
    const t_result *r =
        t_cairn("bench curve --json --dims %s --tokens 32768 --arm transformer", dims);
    assert_int_equal(r->status, 0);
    cn_json_doc   *doc = t_last_line(r);
    const cn_json *row = cn_json_first(t_member(doc, "rows"));
    assert_int_equal(cn_json_count(t_member(doc, "rows")), 4);
    assert_int_equal(cn_json_count(t_member(doc, "routing")), 0);
    for (int i = 0; i < 4; i++, row = cn_json_next(row)) {
        assert_true(number(row, "context_tokens") == (i < 2 ? 8192 : 32768));
        assert_string_equal(string(row, "prefill"), i < 2 ? "measured" : "extrapolated");
    }
    cn_json_free(doc);
    r = t_cairn("bench curve --dims %s --tokens 32768 --arm transformer", dims);
    assert_non_null(strstr(r->output, "*: extrapolated"));
    r = t_cairn("bench curve --dims %s --tokens 8192 --arm transformer", dims);
    assert_null(strstr(r->output, "extrapolated"));
}

/* Two arms alone are enough for the routing bill. */
static void test_some_arms(void **state) {
    (void)state;
    const t_result *r = t_cairn("bench curve --json --dims %s --tokens 2048 --arm "
                                "yoco-perlayer,clsa",
                                small_dims());
    cn_json_doc    *doc = t_last_line(r);
    const cn_json  *row = cn_json_first(t_member(doc, "rows"));
    assert_int_equal(cn_json_count(t_member(doc, "rows")), 4);
    assert_string_equal(string(row, "arm"), "clsa");
    assert_string_equal(string(cn_json_next(cn_json_next(row)), "arm"), "yoco-perlayer");
    const cn_json *b = cn_json_first(t_member(doc, "routing"));
    assert_int_equal(cn_json_count(t_member(doc, "routing")), 1);
    assert_true(is_near(number(b, "counterfactual_us"), LAYERS * number(b, "shared_us")));
    const double ratio = number(b, "per_layer_us") / number(b, "counterfactual_us");
    assert_true(fabs(number(b, "per_layer_to_counterfactual") / ratio - 1) < 1e-4);
    cn_json_free(doc);
}

static void test_refusals(void **state) {
    (void)state;
    const char     *dims = small_dims();
    const t_result *r = t_cairn("bench curve --arm mamba");
    assert_int_equal(r->status, 2);
    assert_non_null(strstr(r->output, "mamba"));
    assert_non_null(strstr(r->output, "yoco-perlayer"));
    static const char *const wrong[] = {"clsa,", ",clsa", "clsa,mamba", "cls", "clsaa", "''"};
    for (int i = 0; i < 6; i++)
        assert_int_equal(t_cairn("bench curve --arm %s", wrong[i])->status, 2);
    assert_int_equal(t_cairn("bench curve twice")->status, 2);
    t_assert_error(t_cairn("bench curve --json --dims /nowhere.json"), "ENOTFOUND",
                   "/nowhere.json");
    t_assert_error(
        t_cairn("bench curve --json --dims %s/tests/golden/tiny-b-transformer/config.json",
                CN_SOURCE_DIR),
        "EUNSUPPORTED", "transformer");
    t_assert_error(
        t_cairn("bench curve --json --dims %s --tokens 2048 --arm yoco --csv /nowhere/c", dims),
        "EIO", "/nowhere/c");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_four_arms),
        cmocka_unit_test(test_extrapolation_is_said),
        cmocka_unit_test(test_some_arms),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
