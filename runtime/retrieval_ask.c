/* retrieval_ask.c - Turns of several sessions, a step of the engine for all of them. */
#include "base/clock.h"
#include "runtime/retrieval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A session and the turn that runs in it. */
typedef struct lane {
    cn_session *session;
    cn_turn    *turn;                // NULL: none
    bool        is_idle, is_waiting; // no question is left; for the engine
    cn_asked    asked;
    cn_err      token_err;
} lane;

static void on_token(void *ctx, int32_t token, const float *logits, int32_t vocab) {
    lane *l = ctx;
    float first = -INFINITY, second = -INFINITY;
    for (int32_t i = 0; i < vocab; i++) {
        const float x = logits[i], less = x < first ? x : first; // no NaN: the engine checks
        second = less > second ? less : second;
        first = x > first ? x : first;
    }
    const float gap = first - second;
    cn_buf_put(&l->asked.gap, &gap, sizeof(gap));
    if (!l->token_err) l->token_err = cn_tokens_put(&l->asked.token, &token, 1);
}

void cn_asked_release(cn_asked *a) {
    cn_buf_release(&a->text);
    cn_buf_release(&a->gap);
    cn_tokens_release(&a->token);
    for (int32_t i = 0; i < a->calls; i++) free(a->call[i]);
    *a = (cn_asked){0};
}

/* What the turn holds, copied. */
static cn_err keep(lane *l, cn_diag *diag) {
    cn_asked           *a = &l->asked;
    const cn_turn_call *call;
    while ((call = cn_turn_call_at(l->turn, a->calls))) {
        a->call[a->calls] = strdup(call->sampled);
        if (!a->call[a->calls]) return CN_FAIL(diag, CN_ENOMEM, "no memory for a call");
        a->calls++;
    }
    cn_buf_put_str(&a->text, cn_turn_text(l->turn));
    a->stop = cn_turn_stop(l->turn);
    a->bill = *cn_turn_bill(l->turn);
    if (l->token_err || a->text.err || a->gap.err)
        return CN_FAIL(diag, CN_ENOMEM, "no memory for an answer");
    return CN_OK;
}

static cn_err begin(const cn_asker *asker, lane *l, int32_t number, cn_diag *diag) {
    const char *question = NULL;
    CN_TRY(asker->next(asker->ctx, number, &question, diag));
    l->is_idle = !question;
    if (!question) return CN_OK;
    return cn_turn_begin(&l->turn, l->session,
                         &(cn_turn_opts){.question = question,
                                         .question_bytes = strlen(question),
                                         .output_tokens_max = asker->opts.output_tokens_max,
                                         .on_token = on_token,
                                         .ctx = l},
                         diag);
}

static cn_err end(cn_asker *asker, lane *l, int32_t number, cn_diag *diag) {
    CN_TRY(keep(l, diag));
    cn_turn_free(l->turn);
    l->turn = NULL;
    asker->output_tokens += l->asked.token.count;
    const cn_err err = asker->on_asked(asker->ctx, number, &l->asked, diag);
    cn_asked_release(&l->asked);
    return err;
}

/* Go on until the lane wants the engine, or has no question. */
static cn_err advance(cn_asker *asker, lane *l, int32_t number, cn_diag *diag) {
    cn_turn_need need;
    while (!l->is_waiting && !l->is_idle) {
        if (!l->turn) {
            CN_TRY(begin(asker, l, number, diag));
            continue;
        }
        CN_TRY(cn_turn_step(l->turn, &need, diag));
        if (need == CN_TURN_TOOL) CN_TRY(cn_turn_run_tool(l->turn, diag));
        if (need == CN_TURN_DONE) CN_TRY(end(asker, l, number, diag));
        l->is_waiting = need == CN_TURN_ENGINE;
    }
    return CN_OK;
}

/* One step for the lanes that wait, as many as its rows allow; *ran_out: how many. */
static cn_err step(cn_asker *asker, lane *l, int32_t *ran_out, cn_diag *diag) {
    cn_slice      slice[CN_ASK_LANES_MAX];
    lane         *of[CN_ASK_LANES_MAX];
    cn_step_stats stats;
    int32_t       n = 0, rows = 0;
    for (int32_t i = 0; i < asker->lanes; i++) {
        if (!l[i].is_waiting) continue;
        const cn_slice *want = cn_turn_slice(l[i].turn);
        if (rows + want->tokens > CN_STEP_ROWS) continue; // in the next step, where it is first
        rows += want->tokens;
        slice[n] = *want;
        of[n++] = &l[i];
    }
    *ran_out = n;
    if (n == 0) return CN_OK;
    CN_TRY(cn_engine_step(asker->host->engine, slice, n, &stats, diag));
    for (int32_t i = 0; i < n; i++) {
        *cn_turn_slice(of[i]->turn) = slice[i];
        cn_turn_ran(of[i]->turn, &stats);
        of[i]->is_waiting = false;
    }
    asker->steps++;
    asker->step_ns += stats.wall_ns;
    return CN_OK;
}

cn_err cn_ask_run(cn_asker *asker, cn_diag *diag) {
    lane    l[CN_ASK_LANES_MAX] = {0};
    int32_t ran = 1;
    cn_err  err = CN_OK;
    cn_assert(asker->lanes >= 1 && asker->lanes <= CN_ASK_LANES_MAX);
    for (int32_t i = 0; i < asker->lanes; i++) l[i].session = asker->session[i];
    bool is_cancelled = false;
    while (!err && ran > 0 && !is_cancelled) {
        for (int32_t i = 0; !err && i < asker->lanes; i++) err = advance(asker, &l[i], i, diag);
        if (!err) err = step(asker, l, &ran, diag);
        is_cancelled = asker->opts.cancel && atomic_load(asker->opts.cancel);
    }
    for (int32_t i = 0; i < asker->lanes; i++) {
        if (l[i].turn) cn_turn_stop_now(l[i].turn, err ? CN_STOP_ERROR : CN_STOP_CANCEL);
        cn_turn_free(l[i].turn);
        cn_asked_release(&l[i].asked);
    }
    return err;
}

/* ---- Many questions ------------------------------------------------------------------ */

typedef struct each {
    const cn_ask_each_args *args;
    int64_t                 begun;
    int64_t                 at[CN_ASK_LANES_MAX]; // the question of each lane
} each;

static cn_err next_each(void *ctx, int32_t number, const char **question_out, cn_diag *diag) {
    each *e = ctx;
    if (e->begun == e->args->questions) return CN_OK;
    CN_TRY(cn_session_rewind(e->args->session[number], 0, diag));
    e->at[number] = e->begun;
    *question_out = e->args->question[e->begun++];
    return CN_OK;
}

static cn_err give_each(void *ctx, int32_t number, cn_asked *asked, cn_diag *diag) {
    const each *e = ctx;
    return e->args->on_asked(e->args->ctx, e->at[number], asked, diag);
}

cn_err cn_ask_each(const cn_ask_each_args *args, cn_diag *diag) {
    each     e = {.args = args};
    cn_asker asker = {.host = args->host,
                      .session = args->session,
                      .lanes = args->lanes,
                      .opts = args->opts,
                      .next = next_each,
                      .on_asked = give_each,
                      .ctx = &e};
    return cn_ask_run(&asker, diag);
}
