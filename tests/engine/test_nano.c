/*
 * test_nano.c - The first real model over real files: greedy answers equal the reference's.
 *
 * tests/golden/nano.* holds 20 prompts over real sources, 2K to 8K tokens each, and the answers of
 * an independent f32 implementation; CN_NANO=STEM names other prompts of the same maker.  The
 * engine is fed the reference's tokens, so that every step is compared, also those behind a near
 * tie; a step whose first two reference logits are closer than GAP may choose either.
 */
#include "tests/test.h"

#include "engine/engine.h"
#include "engine/tokenizer.h"
#include "tests/gold.h"

enum { DOCS_MAX = 64, ANSWER_MAX = 64, TOKENS_MAX = 1 << 16 };

static const float GAP = 0.05f;

static t_gold open_gold(void) {
    const char *stem = getenv("CN_NANO");
    return t_gold_open(stem ? stem : "tests/golden/nano");
}

static int prompts_of(const t_gold *g) {
    return *(const int32_t *)t_gold_get(g, "i32", NULL, "prompts");
}

static const int32_t *widen(const t_gold *g, int64_t *count_out, const char *what, int i) {
    static int32_t  wide[3][TOKENS_MAX];
    static int      turn;
    const uint16_t *ids = t_gold_get(g, "u16", count_out, "prompt%d.%s", i, what);
    int32_t        *out = wide[turn++ % 3];
    assert_true(*count_out <= TOKENS_MAX);
    for (int64_t t = 0; t < *count_out; t++) out[t] = ids[t];
    return out;
}

static const float *append(cn_engine *e, cn_doc *doc, const int32_t *token, int64_t tokens,
                           cn_view *view) {
    const float *logits = NULL;
    for (int64_t at = 0; at < tokens; at += CN_STEP_ROWS) {
        const int64_t left = tokens - at;
        const int32_t n = left < CN_STEP_ROWS ? (int32_t)left : CN_STEP_ROWS;
        cn_slice      slice = {
                 .doc = doc, .token = token + at, .tokens = n, .view = n == left ? view : NULL};
        assert_err(cn_engine_step(e, &slice, 1, NULL, &t_diag), CN_OK);
        logits = slice.logits;
    }
    return logits;
}

typedef struct tally {
    int64_t steps, equal, ties, context, wrong;
} tally;

static void run_prompt(cn_engine *e, const t_gold *g, int i, const char *arm, tally *sum) {
    int64_t        docs, tokens, talk_tokens, answer_tokens, at = 0, pages = 0;
    const int32_t *doc_tokens = t_gold_get(g, "i32", &docs, "prompt%d.documents", i);
    const int32_t *token = widen(g, &tokens, "tokens", i);
    const int32_t *talk = widen(g, &talk_tokens, "conversation", i);
    char           name[32];
    snprintf(name, sizeof(name), "%sanswer", arm);
    const int32_t *answer = widen(g, &answer_tokens, name, i);
    const float   *gap = t_gold_get(g, "f32", NULL, "prompt%d.%sgap", i, arm);
    cn_doc        *doc[DOCS_MAX], *conversation;
    cn_view       *view;
    cn_page_ref    page[DOCS_MAX * 8];
    assert_true(docs <= DOCS_MAX);
    assert_err(cn_view_create(&view, e, DOCS_MAX * 8 + 64, &t_diag), CN_OK);
    assert_err(cn_doc_create(&conversation, e, 4096, false, &t_diag), CN_OK);
    for (int64_t d = 0; d < docs; d++) {
        assert_err(cn_doc_create(&doc[d], e, 2048, true, &t_diag), CN_OK);
        append(e, doc[d], token + at, doc_tokens[d], NULL);
        at += doc_tokens[d];
        for (int64_t p = 0; p < cn_doc_pages(doc[d]); p++) page[pages++] = cn_doc_page(doc[d], p);
    }
    assert_int_equal(at, tokens);
    assert_err(cn_view_set(view, page, pages, &t_diag), CN_OK);
    sum->context += tokens;

    const float *logits = append(e, conversation, talk, talk_tokens, view);
    for (int64_t t = 0; t < answer_tokens; t++) {
        int32_t best;
        t_note("prompt %d %s, token %lld, gap %g", i, arm, (long long)t, (double)gap[t]);
        assert_err(cn_engine_sample(e, logits, &(cn_sampling){.top_p = 1}, &best, &t_diag), CN_OK);
        sum->steps++;
        sum->equal += best == answer[t];
        sum->ties += gap[t] < GAP;
        if (best != answer[t] && gap[t] >= GAP) {
            sum->wrong++;
            print_error("prompt %d %stoken %lld: %d, the reference says %d with a gap of %g\n", i,
                        arm, (long long)t, best, answer[t], (double)gap[t]);
        }
        if (t + 1 < answer_tokens) logits = append(e, conversation, answer + t, 1, view);
    }
    for (int64_t d = 0; d < docs; d++) cn_doc_free(doc[d]);
    cn_doc_free(conversation);
    cn_view_free(view);
}

/* All prompts (their `part`-th part), or the first one on a slow path or build. */
static void check_arm(const char *arm, bool dense, const char *isa, int part) {
    cn_model  *m;
    cn_engine *e;
    tally      sum = {0};
    t_gold     g = open_gold();
    assert_err(cn_model_open(&m, CN_SOURCE_DIR "/examples/models/cairn-nano", &t_diag), CN_OK);
    assert_err(cn_engine_open(
                   &e,
                   &(cn_engine_opts){.model = m, .isa = isa, .view_tokens = 16384, .dense = dense},
                   &t_diag),
               CN_OK);
    const bool is_slow = t_is_sanitized() || strcmp(cn_engine_isa(e), "ref") == 0;
    const int  prompts_max = prompts_of(&g) / part, prompts = is_slow ? 1 : prompts_max;
    for (int i = 0; i < prompts; i++) run_prompt(e, &g, i, arm, &sum);
    print_message("%s, %s: %d prompts, %lld context tokens: %lld of %lld answer tokens equal, %lld "
                  "near ties\n",
                  cn_engine_isa(e), dense ? "dense" : "sparse", prompts, (long long)sum.context,
                  (long long)sum.equal, (long long)sum.steps, (long long)sum.ties);
    if (prompts < prompts_max)
        print_message("%d prompts: skipped, this build or path is slow\n", prompts_max - prompts);
    assert_int_equal(sum.wrong, 0);
    cn_engine_close(e);
    cn_model_close(m);
    t_gold_close(&g);
}

static void test_sparse_answers_equal_the_reference(void **state) {
    (void)state;
    check_arm("", false, t_isa(), 1);
}

static void test_dense_answers_equal_the_reference(void **state) {
    (void)state;
    check_arm("dense.", true, t_isa(), 1);
}

/* Some prompts on the other fast paths. */
static void test_every_path_answers_alike(void **state) {
    (void)state;
    for (int isa = CN_ISA_REF + 1; isa < (int)cn_isa_best(); isa++)
        check_arm("", false, cn_isa_name((cn_isa)isa), 4);
}

/* The ids of the golden prompts come from another tokenizer, written from the same rules. */
static void test_tokenizer_reads_back_the_prompts(void **state) {
    (void)state;
    cn_tokenizer *tok;
    t_gold        g = open_gold();
    assert_err(cn_tokenizer_open(&tok, CN_SOURCE_DIR "/examples/models/cairn-nano", &t_diag),
               CN_OK);
    for (int i = 0; i < prompts_of(&g); i++) {
        int64_t        tokens;
        const int32_t *token = widen(&g, &tokens, "conversation", i);
        cn_buf         text = {0};
        cn_tokens      again = {0};
        for (int64_t t = 0; t < tokens; t++) {
            size_t      bytes;
            const char *part = cn_tokenizer_bytes(tok, token[t], &bytes);
            cn_buf_put(&text, part, bytes);
        }
        assert_err(cn_tokenizer_encode(tok, &again, cn_buf_str(&text), text.bytes,
                                       CN_TOKENIZE_SPECIAL, &t_diag),
                   CN_OK);
        t_note("prompt %d: %s", i, cn_buf_str(&text));
        assert_int_equal(again.count, tokens);
        assert_memory_equal(again.token, token, (size_t)tokens * sizeof(int32_t));
        cn_tokens_release(&again);
        cn_buf_release(&text);
    }
    cn_tokenizer_close(tok);
    t_gold_close(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sparse_answers_equal_the_reference),
        cmocka_unit_test(test_dense_answers_equal_the_reference),
        cmocka_unit_test(test_every_path_answers_alike),
        cmocka_unit_test(test_tokenizer_reads_back_the_prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
