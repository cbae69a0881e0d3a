/*
 * test_read.c - What a step says of where a token reads: the softmax of its index scores over S.
 */
#include "tests/test.h"

#include "engine/engine_int.h"

#include <math.h>

enum { TOKENS = 300, TALK = 20, VIEW_MAX = 2048 };

/* A document, a view of it, and conversations over it. */
typedef struct bench {
    cn_model  *model;
    cn_engine *engine;
    cn_doc    *doc, *talk[2];
    cn_view   *view[2];
    int32_t    token[TOKENS], said[2][TALK];
} bench;

static void open_bench(bench *b, const char *name, cn_arm arm, cn_engine_opts opts) {
    char path[512];
    snprintf(path, sizeof(path), "%s/tests/golden/%s", t_source_dir(), name);
    *b = (bench){0};
    assert_err(cn_model_open(&b->model, path, &t_diag), CN_OK);
    if (b->model->config.arm != arm) {
        const cn_config c = cn_config_as_arm(&b->model->config, arm);
        cn_model_close(b->model);
        assert_err(cn_model_random(&b->model, &c, 1, &t_diag), CN_OK);
    }
    opts.model = b->model;
    opts.threads = 2;
    opts.view_tokens = VIEW_MAX;
    assert_err(cn_engine_open(&b->engine, &opts, &t_diag), CN_OK);
    const int32_t vocab = b->model->config.vocab;
    for (int i = 0; i < TOKENS; i++) b->token[i] = (int32_t)t_rand_range(0, vocab - 1);
    assert_err(cn_doc_create(&b->doc, b->engine, TOKENS, true, &t_diag), CN_OK);
    cn_page_ref page[2];
    for (int i = 0; i < TOKENS; i += 150) {
        cn_slice s = {.doc = b->doc, .token = b->token + i, .tokens = 150, .wants_read = true};
        assert_err(cn_engine_step(b->engine, &s, 1, NULL, &t_diag), CN_OK);
        assert_int_equal(s.read.tokens, 0); // no view
    }
    for (int i = 0; i < cn_doc_pages(b->doc); i++) page[i] = cn_doc_page(b->doc, i);
    for (int t = 0; t < 2; t++) {
        for (int i = 0; i < TALK; i++) b->said[t][i] = (int32_t)t_rand_range(0, vocab - 1);
        assert_err(cn_doc_create(&b->talk[t], b->engine, VIEW_MAX, false, &t_diag), CN_OK);
        assert_err(cn_view_create(&b->view[t], b->engine, 16, &t_diag), CN_OK);
        assert_err(cn_view_set(b->view[t], page, cn_doc_pages(b->doc), &t_diag), CN_OK);
    }
}

static void close_bench(bench *b) {
    for (int t = 0; t < 2; t++) {
        cn_view_free(b->view[t]);
        cn_doc_free(b->talk[t]);
    }
    cn_doc_free(b->doc);
    cn_engine_close(b->engine);
    cn_model_close(b->model);
}

static cn_slice slice_of(bench *b, int t) {
    return (cn_slice){.doc = b->talk[t],
                      .token = b->said[t],
                      .tokens = TALK,
                      .view = b->view[t],
                      .wants_read = true};
}

/* What the taps showed of each slice. */
typedef struct seen {
    float   scores[2][VIEW_MAX];
    int32_t set[2][VIEW_MAX];
    int64_t tokens[2], count[2];
} seen;

static void on_tap(void *ctx, cn_tap_stage stage, int32_t slice, int32_t layer, const void *data,
                   int64_t rows, int64_t cols) {
    seen *s = ctx;
    (void)layer, (void)rows;
    if (stage == CN_TAP_SCORES) {
        memcpy(s->scores[slice], data, (size_t)cols * sizeof(float));
        s->tokens[slice] = cols;
    }
    if (stage == CN_TAP_SET) {
        memcpy(s->set[slice], data, (size_t)cols * sizeof(int32_t));
        s->count[slice] = cols;
    }
}

/* The weights of slice `t` are the softmax of what the taps showed, in f64. */
static void check_weights(const seen *s, int t, const cn_read *r, double scale) {
    double sum = 0, total = 0;
    assert_int_equal(r->tokens, s->count[t]);
    assert_memory_equal(r->position, s->set[t], (size_t)r->tokens * sizeof(int32_t));
    for (int i = 0; i < r->tokens; i++) sum += exp(scale * (double)s->scores[t][s->set[t][i]]);
    for (int i = 0; i < r->tokens; i++) {
        const double want = exp(scale * (double)s->scores[t][s->set[t][i]]) / sum;
        assert_true(fabs((double)r->weight[i] - want) <= 1e-5 * want + 1e-9);
        assert_true(i == 0 || r->position[i] > r->position[i - 1]);
        total += (double)r->weight[i];
    }
    assert_float_equal(total, 1, 1e-5);
}

/* The form with heads and weights, and the paper's; two sequences in a step keep apart. */
static void test_softmax_of_scores(void **state) {
    (void)state;
    static const char *const names[] = {"tiny-a", "tiny-b"};
    static seen              s;
    for (int m = 0; m < 2; m++) {
        bench b;
        t_seed(21);
        open_bench(&b, names[m], CN_ARM_CLSA, (cn_engine_opts){.topk = 24});
        const cn_config *c = &b.model->config;
        const double     scale = 1 / sqrt(c->index_dim * (c->index_weighted ? c->index_heads : 1));
        cn_slice         slice[2] = {slice_of(&b, 0), slice_of(&b, 1)};
        cn_step_stats    stats;
        t_note("%s", names[m]);
        cn_engine_set_tap(b.engine, on_tap, &s);
        assert_err(cn_engine_step(b.engine, slice, 2, &stats, &t_diag), CN_OK);
        assert_int_equal(s.count[0], 24 + c->index_local);
        assert_memory_not_equal(s.scores[0], s.scores[1], TOKENS * sizeof(float));
        for (int t = 0; t < 2; t++) check_weights(&s, t, &slice[t].read, scale);
        assert_true(stats.read_ns > 0 && stats.read_ns <= stats.route_ns);
        close_bench(&b);
    }
}

/* A view of no more than k tokens: S is all of it, and has scores all the same. */
static void test_small_view_is_read_whole(void **state) {
    (void)state;
    static seen s;
    bench       b;
    t_seed(22);
    open_bench(&b, "tiny-b", CN_ARM_CLSA, (cn_engine_opts){.topk = 1024});
    cn_slice slice = slice_of(&b, 0);
    cn_engine_set_tap(b.engine, on_tap, &s);
    assert_err(cn_engine_step(b.engine, &slice, 1, NULL, &t_diag), CN_OK);
    assert_int_equal(slice.read.tokens, TOKENS + TALK);
    for (int i = 0; i < slice.read.tokens; i++) assert_int_equal(slice.read.position[i], i);
    check_weights(&s, 0, &slice.read, 1 / sqrt(b.model->config.index_dim));
    close_bench(&b);
}

/* Nothing is said where nobody asks, where attention is dense, and by the other arms; and the
 * logits are the same whether somebody asks or not. */
static void test_nothing_to_say(void **state) {
    (void)state;
    static const struct {
        cn_arm         arm;
        cn_engine_opts opts;
        bool           wants;
    } ways[] = {{CN_ARM_CLSA, {.topk = 24}, false},
                {CN_ARM_CLSA, {.dense = true}, true},
                {CN_ARM_YOCO, {0}, true},
                {CN_ARM_YOCO_PERLAYER, {.topk = 24}, true}};
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        bench b;
        t_seed(23);
        t_note("way %zu", i);
        open_bench(&b, "tiny-a", ways[i].arm, ways[i].opts);
        cn_slice slice = slice_of(&b, 0);
        slice.wants_read = ways[i].wants;
        slice.read.tokens = 7; // of a step before
        cn_step_stats stats;
        assert_err(cn_engine_step(b.engine, &slice, 1, &stats, &t_diag), CN_OK);
        assert_int_equal(slice.read.tokens, 0);
        assert_null(slice.read.position);
        assert_int_equal(stats.read_ns, 0);
        if (i == 0) {
            const size_t bytes = (size_t)b.model->config.vocab * sizeof(float);
            float       *want = malloc(bytes);
            assert_non_null(want);
            memcpy(want, slice.logits, bytes);
            cn_doc_reset(b.talk[0]);
            slice.wants_read = true;
            assert_err(cn_engine_step(b.engine, &slice, 1, NULL, &t_diag), CN_OK);
            assert_int_equal(slice.read.tokens, 24 + b.model->config.index_local);
            assert_memory_equal(want, slice.logits, bytes);
            free(want);
        }
        close_bench(&b);
    }
}

static void test_scores_that_are_no_numbers(void **state) {
    (void)state;
    const float   scores[][4] = {{1, 2, INFINITY, 3}, {1, NAN, 2, 3}, {-INFINITY, -INFINITY, 0, 0}};
    const int32_t set[] = {0, 1, 2, 3};
    float         weight[4];
    for (int i = 0; i < 2; i++)
        assert_int_equal(cn_read_weigh(weight, scores[i], set, 4, 1).tokens, 0);
    assert_int_equal(cn_read_weigh(weight, scores[2], set, 2, 1).tokens, 0);
    assert_int_equal(cn_read_weigh(weight, scores[2], set, 4, 1).tokens, 4); // minus infinity is 0
    assert_true(weight[0] == 0 && weight[2] == .5f);
    assert_int_equal(cn_read_weigh(weight, scores[0], set, 2, 1e30f).tokens, 2); // no overflow
    assert_true(weight[0] == 0 && weight[1] == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_softmax_of_scores),
        cmocka_unit_test(test_small_view_is_read_whole),
        cmocka_unit_test(test_nothing_to_say),
        cmocka_unit_test(test_scores_that_are_no_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
