/* test_bench_run.c - A run's tokens and contexts, and what a summary makes of times. */
#include "tests/test.h"

#include "runtime/bench_run.h"

static cn_engine *open_arm(cn_arm arm, cn_model **model) {
    size_t     bytes;
    char      *text = t_read_source_file("tests/golden/tiny-b/config.json", &bytes);
    cn_config  c;
    cn_engine *e;
    assert_err(cn_config_parse(&c, text, bytes, &t_diag), CN_OK);
    free(text);
    c = cn_config_as_arm(&c, arm);
    assert_err(cn_model_random(model, &c, 1, &t_diag), CN_OK);
    assert_err(
        cn_engine_open(&e, &(cn_engine_opts){.model = *model, .threads = 2, .view_tokens = 16384},
                       &t_diag),
        CN_OK);
    return e;
}

/* Contexts grow, each decode sees all of them and its own tokens, in every arm. */
static void test_contexts(void **state) {
    (void)state;
    enum { OUTPUTS = 5 };
    static const int64_t context[] = {2048, 4096, 5000};
    for (int arm = 0; arm < CN_ARM_COUNT; arm++) {
        cn_model      *m;
        cn_engine     *e = open_arm((cn_arm)arm, &m);
        cn_run        *run;
        cn_run_prefill prefill;
        cn_run_token   token[OUTPUTS];
        double         last_s = 0;
        t_note("%s", cn_arm_name((cn_arm)arm));
        assert_err(
            cn_run_open(
                &run, &(cn_run_opts){.engine = e, .tokens_max = context[2], .outputs_max = OUTPUTS},
                &t_diag),
            CN_OK);
        for (int i = 0; i < 3; i++) {
            assert_err(cn_run_grow(run, context[i], &prefill, &t_diag), CN_OK);
            assert_true(prefill.s > last_s && !prefill.is_extrapolated);
            last_s = arm == CN_ARM_TRANSFORMER ? 0 : prefill.s; // the others go on from there
            assert_err(cn_run_decode(run, OUTPUTS, token, &t_diag), CN_OK);
            for (int k = 0; k < OUTPUTS; k++) {
                const int64_t tokens = context[i] + CN_RUN_PROMPT_TOKENS + k;
                const int64_t scans = arm == CN_ARM_CLSA ? 1 : arm == CN_ARM_YOCO_PERLAYER ? 2 : 0;
                assert_int_equal(token[k].tokens, tokens);
                assert_int_equal(token[k].stats.scored, scans * tokens);
                assert_int_equal(token[k].stats.selected, scans ? m->config.index_topk : tokens);
                assert_int_equal(token[k].stats.rows, k ? 1 : CN_RUN_PROMPT_TOKENS);
                assert_true(token[k].ns >= token[k].stats.wall_ns);
            }
        }
        cn_run_close(run);
        cn_engine_close(e);
        cn_model_close(m);
    }
}

/* A long transformer context is filled, and that is said; a view too small is refused. */
static void test_long_sequence(void **state) {
    (void)state;
    cn_model      *m;
    cn_engine     *e = open_arm(CN_ARM_TRANSFORMER, &m);
    cn_run        *run;
    cn_run_prefill prefill;
    cn_run_token   token[2];
    assert_err(cn_run_open(&run, &(cn_run_opts){.engine = e, .tokens_max = 12288, .outputs_max = 2},
                           &t_diag),
               CN_OK);
    assert_err(cn_run_grow(run, 12288, &prefill, &t_diag), CN_OK);
    assert_true(prefill.is_extrapolated && prefill.s > 0);
    assert_err(cn_run_decode(run, 2, token, &t_diag), CN_OK);
    assert_int_equal(token[1].stats.selected, 12288 + CN_RUN_PROMPT_TOKENS + 1);
    cn_run_close(run);
    assert_err(cn_run_open(&run, &(cn_run_opts){.engine = e, .tokens_max = 20480, .outputs_max = 2},
                           &t_diag),
               CN_OK);
    assert_err(cn_run_grow(run, 20480, &prefill, &t_diag), CN_ETOOBIG); // the engine has 16,384
    cn_run_close(run);
    cn_engine_close(e);
    cn_model_close(m);
}

static void test_summary(void **state) {
    (void)state;
    enum { OUTPUTS = 101 };
    cn_run_token   token[OUTPUTS] = {0};
    cn_run_summary s;
    for (int i = 0; i < OUTPUTS; i++) {
        // Behind the first token (5 ms): 1000, 1001, ..., 1099 us in another order.
        const int64_t us = i == 0 ? 5000 : 1000 + i * 37 % 100;
        token[i] = (cn_run_token){.ns = us * 1000, .tokens = 500 + i};
        token[i].stats = (cn_step_stats){.wall_ns = us * 1000 - 1,
                                         .self_ns = 400000,
                                         .window_ns = 100000,
                                         .route_ns = (200 + i % 3) * 1000,
                                         .attend_ns = 300000,
                                         .cross_ns = 50000,
                                         .head_ns = 40000,
                                         .scored = 500 + i,
                                         .key_bytes = 128 * (500 + i)};
    }
    token[7].stats.scored *= 3;
    assert_err(cn_run_summarise(&s, token, OUTPUTS, &t_diag), CN_OK);
    assert_true(s.best_us == 1000 && s.p50_us == 1050 && s.p99_us == 1098);
    assert_true(s.first_ms == 5);
    assert_true(s.s > 0.10994 && s.s < 0.10996); // 5 ms + 100 x 1,049.5 us
    assert_true(s.key_scans == 3 && s.key_bytes == 128 * 600);
    assert_true(s.part_us[CN_PART_WINDOW] == 100 && s.part_us[CN_PART_ROUTE] == 201);
    assert_true(s.part_us[CN_PART_ATTEND] == 300 && s.part_us[CN_PART_HEAD] == 40);
    assert_true(s.part_us[CN_PART_WEIGHTS] > 400 && s.part_us[CN_PART_WEIGHTS] < 420);
    assert_true(s.least_us[CN_PART_ROUTE] == 200 && s.least_us[CN_PART_HEAD] == 40);
}

/* Every second token is evidence, and its time is in the token's; the others know nothing of it. */
static void test_tokens_that_are_read(void **state) {
    (void)state;
    enum { OUTPUTS = 6 };
    for (int arm = 0; arm < 2; arm++) {
        cn_model      *m;
        cn_engine     *e = open_arm(arm ? CN_ARM_YOCO : CN_ARM_CLSA, &m);
        cn_run        *run;
        cn_run_prefill prefill;
        cn_run_token   token[OUTPUTS];
        assert_err(
            cn_run_open(&run,
                        &(cn_run_opts){.engine = e, .tokens_max = 2048, .outputs_max = OUTPUTS},
                        &t_diag),
            CN_OK);
        assert_err(cn_run_grow(run, 2048, &prefill, &t_diag), CN_OK);
        assert_err(cn_run_decode_read(run, OUTPUTS, token, &t_diag), CN_OK);
        for (int i = 0; i < OUTPUTS; i++) {
            const bool is_read = i % 2 == 1;
            assert_int_equal(token[i].read_ns > 0, is_read);
            assert_int_equal(token[i].stats.read_ns > 0, is_read && arm == 0);
            assert_true(token[i].read_ns < token[i].ns);
        }
        cn_run_close(run);
        cn_engine_close(e);
        cn_model_close(m);
    }
    cn_run_token token[10];
    for (int i = 0; i < 10; i++)
        token[i] = (cn_run_token){.ns = i == 0 ? 9000000 : (i % 2 ? 103000 : 100000) + i * 100,
                                  .read_ns = i % 2 ? 2000 + i : 0};
    cn_run_read_cost cost;
    assert_err(cn_run_compare_read(&cost, token, 10, &t_diag), CN_OK);
    assert_float_equal(cost.with_us, 103.5, 1e-9);    // of 1, 3, 5, 7, 9
    assert_float_equal(cost.without_us, 100.6, 1e-9); // of 2, 4, 6, 8: the upper of the two
    assert_float_equal(cost.least_us, 2.001, 1e-9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contexts),
        cmocka_unit_test(test_long_sequence),
        cmocka_unit_test(test_summary),
        cmocka_unit_test(test_tokens_that_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
