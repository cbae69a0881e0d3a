/*
 * test_cancel.c - Turns that are stopped, and a look at the context between turns.
 */
#include "tests/sessions/session_kit.h"

#include <stdatomic.h>

enum { TURNS = 4 };

/* A model that talks at length and calls tools; the plain one's answers are short. */
static const char *k_talker(void) {
    static char path[256];
    snprintf(path, sizeof(path), "%s/tests/golden/tiny-b", t_source_dir());
    return path;
}

static k_asked ask(cn_host *h, cn_session *s, int number) {
    char question[64];
    snprintf(question, sizeof(question), "question %d: where is cn_buf_put?", number);
    return k_ask(h, s, question, NULL);
}

typedef struct stopper {
    atomic_bool cancel;
    int         texts, texts_max; // cancelled at this piece of text; 0: at the first prefill
    int64_t     prefilled, total;
} stopper;

static void stop_at_text(void *ctx, const char *text, size_t bytes) {
    (void)text, (void)bytes;
    stopper *s = ctx;
    if (s->texts_max && ++s->texts >= s->texts_max) atomic_store(&s->cancel, true);
}

static void stop_at_prefill(void *ctx, int64_t done, int64_t total) {
    stopper *s = ctx;
    s->prefilled = done;
    s->total = total;
    if (!s->texts_max) atomic_store(&s->cancel, true);
}

/* A turn that is cancelled; its bill. */
static cn_bill ask_and_stop(cn_session *s, stopper *stop) {
    const cn_turn_opts opts = {.question = "never mind",
                               .question_bytes = 10,
                               .output_tokens_max = 1000,
                               .on_text = stop_at_text,
                               .on_prefill = stop_at_prefill,
                               .ctx = stop};
    cn_turn           *t;
    assert_err(cn_turn_begin(&t, s, &opts, &t_diag), CN_OK);
    assert_err(cn_turn_run(t, &stop->cancel, &t_diag), CN_OK);
    assert_int_equal(cn_turn_stop(t), CN_STOP_CANCEL);
    const cn_bill bill = *cn_turn_bill(t);
    assert_err(cn_bill_check(&bill, &t_diag), CN_OK);
    cn_turn_free(t);
    return bill;
}

/* Cancelled in the first prefill and in an answer: it stops there, the bill has what was done,
 * and the conversation is as if nobody had asked. */
static void test_a_turn_is_cancelled(void **state) {
    (void)state;
    const char *repo = k_new_repo();
    k_asked     want[TURNS], got;
    k_converse(k_talker(), repo, ask, TURNS, K_ONE_HOST, want);
    cn_host      *h = k_open_host(k_talker(), k_new_state(), 1);
    cn_session   *s = k_open_session(h, repo, false);
    stopper       early = {0}, late = {.texts_max = 3};
    const cn_bill cut = ask_and_stop(s, &early);
    assert_true(early.prefilled > 0 && early.prefilled < early.total);
    assert_int_equal(cut.prefilled_tokens, early.prefilled); // and the misses: cn_bill_check
    assert_int_equal(cut.output_tokens, 0);
    ask_and_stop(s, &late);
    assert_true(late.texts >= late.texts_max && late.texts < 1000);
    for (int i = 0; i < TURNS; i++) {
        got = ask(h, s, i);
        k_assert_same(&want[i], &got, "after a cancelled turn");
        stopper again = {.texts_max = 2};
        ask_and_stop(s, &again);
    }
    cn_session_close(s);
    cn_host_close(h);
}

/* Ask until the model calls a tool, and stop before the tool runs. */
static void stop_before_tool(cn_host *h, cn_session *s) {
    for (int number = 0; number < 50; number++) {
        char question[32];
        snprintf(question, sizeof(question), "question %d", number);
        const cn_turn_opts opts = {
            .question = question, .question_bytes = strlen(question), .output_tokens_max = 1000};
        cn_turn_need need;
        cn_turn     *t;
        assert_err(cn_turn_begin(&t, s, &opts, &t_diag), CN_OK);
        for (;;) {
            cn_step_stats stats;
            assert_err(cn_turn_step(t, &need, &t_diag), CN_OK);
            if (need != CN_TURN_ENGINE) break;
            assert_err(cn_engine_step(h->engine, cn_turn_slice(t), 1, &stats, &t_diag), CN_OK);
            cn_turn_ran(t, &stats);
        }
        if (need == CN_TURN_TOOL) cn_turn_stop_now(t, CN_STOP_CANCEL);
        cn_turn_free(t);
        if (need == CN_TURN_TOOL) return;
    }
    t_fail(__FILE__, __LINE__, "the model never calls a tool");
}

/* A call that was cancelled is answered by the next turn, in this process as in another; a
 * turn that is itself cancelled does not forget it. */
static void test_a_cancelled_call_gets_an_answer(void **state) {
    (void)state;
    const char *repo = k_new_repo();
    k_asked     got[3];
    for (int way = 0; way < 3; way++) {
        const char *folder = k_new_state();
        cn_host    *h = k_open_host(k_talker(), folder, 1);
        cn_session *s = k_open_session(h, repo, false);
        stop_before_tool(h, s);
        if (way == 1) { // in another process
            cn_session_close(s);
            cn_host_close(h);
            h = k_open_host(k_talker(), folder, 1);
            s = k_open_session(h, repo, true);
        }
        stopper stop = {.texts_max = 1};
        if (way == 2) ask_and_stop(s, &stop);
        got[way] = ask(h, s, 0);
        cn_session_close(s);
        cn_host_close(h);
    }
    k_assert_same(&got[0], &got[1], "the same process and another");
    k_assert_same(&got[0], &got[2], "a cancelled turn between");
}

/* A look at the context between two turns takes nothing away: the ledger still learns of the
 * change with the next turn. */
static void test_a_look_at_the_context(void **state) {
    (void)state;
    const char *repo = k_new_repo();
    cn_host    *h = k_open_host(k_plain_model(), k_new_state(), 1);
    cn_session *s = k_open_session(h, repo, false);
    ask(h, s, 0);
    const int64_t before = cn_session_row(s)->generation;
    ask(h, s, 1);
    assert_int_equal(cn_session_row(s)->generation, before);
    t_shell("cd %s && sed -i '20i // one more line' base/buf.c", repo);
    assert_err(cn_context_update(cn_session_context(s), &t_diag), CN_OK);
    assert_true(cn_context_get_plan(cn_session_context(s))->missing_tokens > 0);
    assert_true(ask(h, s, 2).bill.prefilled_tokens > 0);
    assert_true(cn_session_row(s)->generation > before);
    cn_session_close(s);
    cn_host_close(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_turn_is_cancelled),
        cmocka_unit_test(test_a_cancelled_call_gets_an_answer),
        cmocka_unit_test(test_a_look_at_the_context),
    };
    k_isa = t_isa();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
