/*
 * turn.c - One user message until the answer is complete.
 *
 *   CONTEXT  missing documents are prefilled, a chunk a call; then the view is bound
 *   PROMPT   tokens that the conversation does not hold yet go through the engine, in slices;
 *            the last one has logits
 *   DECODE   sample; the token is the next slice
 *   TOOL     a call is on disk: run it, append its result, back to CONTEXT
 *   DONE     the ledger has the turn; pages and window are kept
 */
#include "sessions/turn_int.h"

#include "base/json.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Beginning -------------------------------------------------------------------- */

/* Keep what is missing now, and why: afterwards nobody can tell. */
static cn_err note_misses(cn_turn *t, cn_diag *diag) {
    cn_context_miss *miss, *more;
    int64_t          misses;
    if (cn_context_get_plan(t->s->context)->missing_documents == 0) return CN_OK;
    CN_TRY(cn_context_explain(t->s->context, &miss, &misses, diag));
    more = realloc(t->miss, (size_t)(t->misses + misses) * sizeof(*more));
    if (!more) {
        cn_context_misses_free(miss, misses);
        return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " missing documents", misses);
    }
    memcpy(more + t->misses, miss, (size_t)misses * sizeof(*more));
    free(miss); // its paths live on
    t->miss = more;
    t->misses += misses;
    return CN_OK;
}

/* Bill what the view needs now: `grown` tokens of documents came in; of all that it holds the
 * plan's misses have to be prefilled. */
static cn_err bill_view(cn_turn *t, int64_t grown, cn_diag *diag) {
    const cn_context_plan *plan = cn_context_get_plan(t->s->context);
    cn_bill               *b = &t->bill;
    b->context_tokens += grown;
    b->prefilled_tokens += plan->missing_tokens;
    b->cached_tokens += grown - plan->missing_tokens;
    if (b->cached_tokens < 0) { // prefilled by this turn, evicted meanwhile: once more
        b->context_tokens -= b->cached_tokens;
        b->cached_tokens = 0;
    }
    t->missing += plan->missing_tokens;
    for (int i = 0; i < CN_MISS_COUNT; i++) {
        b->misses[i].count += plan->misses[i].count;
        b->misses[i].tokens += plan->misses[i].tokens;
    }
    return note_misses(t, diag);
}

/* Drop what no budget has room for; `tokens` of the conversation are still to come. */
static cn_err fit_view(cn_turn *t, int64_t tokens, cn_diag *diag) {
    return cn_session_fit(t->s, t->number,
                          t->s->tokens.count + tokens + t->opts.output_tokens_max -
                              t->bill.output_tokens,
                          &t->dropped, diag);
}

static cn_err begin(cn_turn *t, cn_diag *diag) {
    CN_TRY(cn_session_catch_up(t->s, diag));
    CN_TRY(cn_session_need_writer(t->s, diag));
    CN_TRY(cn_ledger_turn_next(t->s->writer, &t->number, diag));
    CN_TRY(cn_turn_take_question(t, diag));
    cn_turn_charge(t, &t->bill.tokenize_ns);
    CN_TRY(t->s->is_trial && t->s->row->generation ? cn_context_refresh(t->s->context, diag)
                                                   : cn_context_update(t->s->context, diag));
    CN_TRY(fit_view(t, t->question.count, diag));
    CN_TRY(bill_view(t, cn_context_get_plan(t->s->context)->tokens, diag));
    cn_turn_charge(t, &t->bill.context_ns);
    CN_TRY(cn_session_keep_view(t->s, diag));
    cn_turn_charge(t, &t->bill.store_ns);

    // The conversation as far as the store has it; what it lacks is replayed.
    int64_t bytes = 0;
    CN_TRY(cn_session_restore(t->s, &bytes, diag));
    t->bill.bytes_read += bytes;
    const int64_t from = cn_doc_tokens(t->s->doc);
    t->replayed = t->s->tokens.count - from;
    if (t->replayed && cn_tokens_put(&t->pending, t->s->tokens.token + from, t->replayed))
        return CN_FAIL(diag, CN_ENOMEM, "no memory for a conversation");
    cn_turn_charge(t, &t->bill.restore_ns);
    CN_TRY(cn_turn_ask(t, diag));
    cn_turn_charge(t, &t->bill.tokenize_ns);

    const cn_err err = cn_ledger_turn_begin(
        t->s->writer, (cn_ledger_text){t->opts.question, t->opts.question_bytes}, &t->number, diag);
    cn_turn_charge(t, &t->bill.store_ns);
    return err;
}

cn_err cn_turn_begin(cn_turn **out, cn_session *s, const cn_turn_opts *opts, cn_diag *diag) {
    *out = NULL;
    cn_turn *t = calloc(1, sizeof(*t));
    if (!t) return CN_FAIL(diag, CN_ENOMEM, "no memory for a turn");
    t->s = s;
    t->opts = *opts;
    if (t->opts.output_tokens_max <= 0) t->opts.output_tokens_max = CN_TURN_OUTPUT_TOKENS;
    if (t->opts.sampling.top_p == 0) t->opts.sampling.top_p = 1;
    t->begin_ns = t->mark_ns = cn_clock_ns();
    t->step_started_ns = cn_clock_unix_ns();
    t->bill.load_ns = s->host->load_ns;
    s->host->load_ns = 0; // billed once, with the process's first turn
    const cn_err err = begin(t, diag);
    if (err) {
        cn_context_take_back(s->context, s->refs);
        s->is_stale = true;
        cn_turn_free(t);
        return err;
    }
    *out = t;
    return CN_OK;
}

/* ---- Steps ------------------------------------------------------------------------ */

/* What the bill grew by since the last commit. */
static cn_bill difference(const cn_bill *now, const cn_bill *before) {
    // Every member is an int64_t, so a bill is an array of them.
    _Static_assert(sizeof(cn_bill) % sizeof(int64_t) == 0, "a bill is numbers");
    enum { NUMBERS = sizeof(cn_bill) / sizeof(int64_t) };
    int64_t a[NUMBERS], b[NUMBERS];
    cn_bill out;
    memcpy(a, now, sizeof(a));
    memcpy(b, before, sizeof(b));
    for (size_t i = 0; i < NUMBERS; i++) a[i] -= b[i];
    memcpy(&out, a, sizeof(out));
    return out;
}

static cn_err commit(cn_turn *t, cn_stop stop, const cn_ledger_intent *intent, cn_diag *diag) {
    cn_bill_set_wall(&t->bill, cn_clock_ns() - t->begin_ns);
    const cn_bill          step_bill = difference(&t->bill, &t->committed);
    const cn_ledger_commit c = {.step = t->steps,
                                .kind = t->kind,
                                .stop = stop,
                                .token = t->step.token,
                                .tokens = t->step.count,
                                .started_ns = t->step_started_ns,
                                .bill = &step_bill,
                                .turn_bill = &t->bill,
                                .intent = intent,
                                .intents = intent ? 1 : 0,
                                .result = t->has_result ? &t->result : NULL,
                                .results = t->has_result ? 1 : 0,
                                .ref = t->has_ref ? &t->ref : NULL,
                                .refs = t->has_ref ? 1 : 0};
    CN_TRY(cn_ledger_step_commit(t->s->writer, &c, diag));
    t->committed = t->bill;
    if (cn_session_put_tokens(t->s, t->number, t->step.token, t->step.count))
        return CN_FAIL(diag, CN_ENOMEM, "no memory for a conversation");
    t->s->has_open_call = intent != NULL;
    t->step.count = 0;
    t->steps++;
    t->has_result = t->has_ref = false;
    t->s->refs = cn_context_refs(t->s->context);
    t->step_started_ns = cn_clock_unix_ns();
    cn_turn_charge(t, &t->bill.store_ns);
    return CN_OK;
}

/* ---- Prefill of the view ------------------------------------------------------------ */

static bool is_cancelled(const cn_turn *t) {
    return t->cancel && atomic_load(t->cancel);
}

/* A turn that ends before all is prefilled has prefilled less: the bill says how much. */
static void forget_missing(cn_turn *t) {
    t->bill.context_tokens -= t->missing;
    t->bill.prefilled_tokens -= t->missing;
    for (int i = CN_MISS_COUNT - 1; i >= 0; i--) {
        const int64_t tokens = t->bill.misses[i].tokens;
        const int64_t less = tokens < t->missing ? tokens : t->missing;
        t->bill.misses[i].tokens -= less;
        t->missing -= less;
    }
}

static cn_err step_context(cn_turn *t, cn_diag *diag) {
    bool            done;
    cn_context_work work = {0};
    CN_TRY(cn_context_prefill(t->s->context, &done, &work, diag));
    cn_turn_charge(t, &t->bill.prefill_ns);
    t->bill.prefill_ns -= work.store_ns;
    t->bill.store_ns += work.store_ns;
    t->bill.bytes_written += work.bytes_written;
    t->missing -= work.tokens;
    if (work.tokens && t->opts.on_prefill)
        t->opts.on_prefill(t->opts.ctx, t->bill.prefilled_tokens - t->missing,
                           t->bill.prefilled_tokens);
    if (!done) return CN_OK;
    bool gone;
    CN_TRY(cn_context_bind(t->s->context, t->s->view, &gone, diag));
    cn_turn_charge(t, &t->bill.restore_ns);
    if (gone) return bill_view(t, 0, diag); // evicted by another process meanwhile: prefill again
    CN_TRY(cn_evidence_reserve(&t->evidence, cn_view_tokens(t->s->view), diag));
    t->read_ns += cn_turn_charge(t, &t->bill.route_ns);
    t->phase = IN_PROMPT;
    return CN_OK;
}

/* ---- The engine -------------------------------------------------------------------- */

static void prepare_prompt(cn_turn *t) {
    const int64_t left = t->pending.count - t->sent;
    const int64_t here = t->replayed ? t->replayed - t->sent : left;
    const int32_t n = here < CN_STEP_ROWS ? (int32_t)here : CN_STEP_ROWS;
    t->slice = (cn_slice){.doc = t->s->doc,
                          .token = t->pending.token + t->sent,
                          .tokens = n,
                          .view = n == left ? t->s->view : NULL,
                          .wants_read = true};
}

/* The conversation stands as it was before the question: a turn that is stopped, or another fork
 * from here, need not replay it again. */
static void keep_replayed(cn_turn *t) {
    int64_t bytes = 0;
    t->replayed = 0;
    if (!t->s->is_trial) cn_session_store(t->s, &bytes);
    t->bill.bytes_written += bytes;
    cn_turn_charge(t, &t->bill.store_ns);
}

static void prepare_decode(cn_turn *t) {
    t->slice = (cn_slice){
        .doc = t->s->doc, .token = &t->token, .tokens = 1, .view = t->s->view, .wants_read = true};
}

cn_slice *cn_turn_slice(cn_turn *t) {
    return &t->slice;
}

/* A generation begins: all that it reads, less what was prefilled for it. */
static void count_reused(cn_turn *t) {
    const int64_t input = cn_context_get_plan(t->s->context)->tokens + cn_doc_tokens(t->s->doc);
    const int64_t prefilled = t->bill.prefilled_tokens + t->bill.prompt_tokens;
    int64_t       reused = input - (prefilled - t->fresh);
    if (reused < 0) reused = 0; // evicted meanwhile, and prefilled twice
    if (t->bill.output_tokens == 0) t->found = reused;
    t->bill.reused_tokens += reused;
    t->fresh = prefilled;
}

void cn_turn_ran(cn_turn *t, const cn_step_stats *stats) {
    const bool is_prompt = t->phase == IN_PROMPT;
    cn_turn_charge(t, &t->bill.queue_ns); // what of it was not this step
    t->bill.queue_ns -= stats->wall_ns;
    if (is_prompt) {
        t->bill.prefill_ns += stats->self_ns;
        t->bill.prompt_tokens += t->slice.tokens;
        t->sent += t->slice.tokens;
    } else {
        t->bill.decode_ns += stats->self_ns;
    }
    t->bill.route_ns += stats->route_ns;
    t->read_ns += stats->read_ns;
    t->bill.attend_ns += stats->attend_ns;
    t->bill.decode_ns += stats->wall_ns - stats->self_ns - stats->route_ns - stats->attend_ns;
    t->bill.bytes_read += stats->bytes;
    t->logits = t->slice.logits;
    t->read = t->slice.read;
    if (is_prompt && t->sent == t->pending.count) {
        t->pending.count = t->sent = 0;
        t->phase = IN_DECODE;
        count_reused(t);
    }
}

/* ---- Sampling ---------------------------------------------------------------------- */

/* {"name":"...","arguments":{...}}: the arguments' text is kept as it was written. */
static cn_err read_call(cn_turn *t) {
    const cn_json_limits limits = {CN_TOOL_ARGUMENT_BYTES_MAX, 32, 10000};
    cn_json_doc         *doc;
    const char          *text = cn_buf_str(&t->call);
    cn_buf_reset(&t->call_name);
    cn_buf_reset(&t->call_arguments);
    if (cn_json_parse(&doc, text, t->call.bytes, "tool call", &limits, NULL) == CN_OK) {
        const char *name = cn_json_string(cn_json_get(cn_json_root(doc), "name"));
        if (name) cn_buf_put_str(&t->call_name, name);
        cn_json_free(doc);
        const char *arguments = strstr(text, "\"arguments\"");
        const char *open = arguments ? strchr(arguments, '{') : NULL;
        const char *close = strrchr(text, '}');
        if (name && open && close && close > open)
            cn_buf_put(&t->call_arguments, open, (size_t)(close - open));
    }
    if (!t->call_name.bytes) cn_buf_put_str(&t->call_name, "?");
    if (!t->call_arguments.bytes) cn_buf_put_str(&t->call_arguments, "{}");
    return t->call_name.err ? t->call_name.err : t->call_arguments.err;
}

static void say(cn_turn *t, size_t from) {
    if (t->opts.on_text && t->answer.bytes > from)
        t->opts.on_text(t->opts.ctx, t->answer.data + from, t->answer.bytes - from);
}

/* The step ends: with a call, or the turn with it. */
static cn_err end_generation(cn_turn *t, cn_stop stop, cn_diag *diag) {
    const size_t from = t->answer.bytes;
    cn_detok_end(&t->detok, &t->answer);
    say(t, from);
    cn_turn_charge(t, &t->bill.tokenize_ns);
    CN_TRY(cn_evidence_fold(&t->evidence, t->s->context, diag));
    t->read_ns += cn_turn_charge(t, &t->bill.route_ns);
    if (!t->in_call || stop != CN_STOP_END) {
        CN_TRY(commit(t, stop, NULL, diag));
        t->stop = stop;
        t->phase = IN_END;
        return CN_OK;
    }
    t->in_call = false;
    if (t->call_count == CN_TURN_CALLS_MAX) {
        CN_TRY(commit(t, CN_STOP_LENGTH, NULL, diag));
        t->stop = CN_STOP_LENGTH;
        t->phase = IN_END;
        return CN_OK;
    }
    if (read_call(t)) return CN_FAIL(diag, CN_ENOMEM, "no memory for a tool call");
    const cn_ledger_intent intent = {.name = cn_buf_str(&t->call_name),
                                     .arguments = {t->call_arguments.data, t->call_arguments.bytes},
                                     .sampled = {t->call.data, t->call.bytes}};
    CN_TRY(commit(t, CN_STOP_TOOL, &intent, diag));
    cn_turn_call *call = &t->calls[t->call_count++];
    snprintf(call->name, sizeof(call->name), "%s", intent.name);
    call->sampled = strdup(cn_buf_str(&t->call));
    if (!call->sampled) return CN_FAIL(diag, CN_ENOMEM, "no memory for a tool call");
    call->state = CN_CALL_INTENT;
    t->phase = IN_TOOL;
    return CN_OK;
}

/* One token: sampled, appended to the step, and what it means. */
static cn_err step_decode(cn_turn *t, cn_diag *diag) {
    const cn_host *h = t->s->host;
    cn_sampling    sampling = t->opts.sampling;
    sampling.counter = (uint64_t)t->bill.output_tokens;
    CN_TRY(cn_engine_sample(h->engine, t->logits, &sampling, &t->token, diag));
    if (t->opts.on_token)
        t->opts.on_token(t->opts.ctx, t->token, t->logits, h->model->config.vocab);
    if (t->bill.output_tokens++ == 0) t->bill.ttft_ns = cn_clock_ns() - t->begin_ns;
    if (cn_tokens_put(&t->step, &t->token, 1))
        return CN_FAIL(diag, CN_ENOMEM, "no memory for a token");
    cn_turn_charge(t, &t->bill.decode_ns);

    if (t->token == h->roles.tool_call && !t->in_call) {
        t->in_call = true;
        cn_buf_reset(&t->call);
    } else if (t->token != h->roles.end && t->in_call) {
        cn_detok_put(&t->detok, h->tokenizer, t->token, &t->call);
    } else if (t->token != h->roles.end) {
        const size_t from = t->answer.bytes;
        cn_detok_put(&t->detok, h->tokenizer, t->token, &t->answer);
        say(t, from);
        cn_turn_charge(t, &t->bill.tokenize_ns);
        cn_evidence_add(&t->evidence, &t->read);
        t->read_ns += cn_turn_charge(t, &t->bill.route_ns);
    }
    cn_turn_charge(t, &t->bill.tokenize_ns);
    if (t->answer.err || t->call.err) return CN_FAIL(diag, CN_ENOMEM, "no memory for an answer");

    // The last token goes through the engine with what comes next: a result, or the next turn.
    const bool is_full = t->s->tokens.count + t->step.count + CN_STEP_ROWS >= CN_SESSION_TOKENS_MAX;
    if (t->token == h->roles.end || t->bill.output_tokens >= t->opts.output_tokens_max || is_full) {
        if (cn_tokens_put(&t->pending, &t->token, 1))
            return CN_FAIL(diag, CN_ENOMEM, "no memory for a token");
        return end_generation(t, t->token == h->roles.end ? CN_STOP_END : CN_STOP_LENGTH, diag);
    }
    prepare_decode(t);
    return CN_OK;
}

/* ---- Tools ------------------------------------------------------------------------- */

/* The result's documents come into the view. */
static cn_err grow_view(cn_turn *t, cn_diag *diag) {
    CN_TRY(cn_context_refresh(t->s->context, diag));
    CN_TRY(fit_view(t, 0, diag));
    CN_TRY(bill_view(t, cn_context_ref_find(t->s->context, t->ref_name)->tokens, diag));
    cn_turn_charge(t, &t->bill.context_ns);
    CN_TRY(cn_session_keep_view(t->s, diag));
    cn_turn_charge(t, &t->bill.store_ns);
    t->phase = IN_CONTEXT;
    return CN_OK;
}

cn_err cn_turn_run_tool(cn_turn *t, cn_diag *diag) {
    cn_assert(t->phase == IN_TOOL);
    cn_turn_call  *call = &t->calls[t->call_count - 1];
    cn_tool_ctx    ctx = {.repo = cn_context_repo(t->s->context), .cancel = t->cancel};
    const cn_tool *tool = t->s->host->find_tool(call->name);
    const int64_t  started_ns = cn_clock_unix_ns();
    cn_tool_state  state = CN_TOOL_FAILED;
    cn_err         err = CN_OK;
    const char    *arguments = cn_buf_str(&t->call_arguments);
    if (t->opts.on_call) t->opts.on_call(t->opts.ctx, call->name, arguments, CN_CALL_INTENT);
    cn_buf_reset(&t->result_text);
    if (tool)
        err = cn_tool_run(tool, &ctx, arguments, t->call_arguments.bytes, &t->result_text, &state,
                          diag);
    else
        cn_buf_printf(&t->result_text, "no tool of the name %s", call->name);
    if (!err && t->result_text.err) err = CN_FAIL(diag, CN_ENOMEM, "no memory for a tool's result");
    call->ns = cn_turn_charge(t, &t->bill.tool_ns);
    if (err) goto out;
    call->state = state == CN_TOOL_DONE ? CN_CALL_DONE : CN_CALL_FAILED;
    if (t->opts.on_call) t->opts.on_call(t->opts.ctx, call->name, arguments, call->state);
    t->result = (cn_ledger_result){.step = t->steps - 1,
                                   .call = 0,
                                   .state = call->state,
                                   .exit = state == CN_TOOL_DONE ? 0 : 1,
                                   .result = {t->result_text.data, t->result_text.bytes},
                                   .started_ns = started_ns,
                                   .ns = call->ns};
    t->has_result = true;
    err = cn_turn_append_result(t, &ctx, diag);
    cn_turn_charge(t, &t->bill.tokenize_ns);
    const bool is_long = t->has_ref;
    t->kind = CN_STEP_TOOL;
    if (!err) err = commit(t, CN_STOP_TOOL, NULL, diag);
    t->kind = CN_STEP_GENERATION;
    t->phase = IN_PROMPT;
    if (!err && is_long) err = grow_view(t, diag);
out:
    cn_tool_ctx_release(&ctx);
    return err;
}

/* ---- The end ------------------------------------------------------------------------ */

/* What the turn would have cost otherwise, as bill.h says. */
static void count_otherwise(cn_turn *t) {
    const int32_t layers = t->s->host->model->config.cross_layers;
    const double  prefill_ns = t->s->host->prefill_ns;
    if (t->found == 0 || prefill_ns > 0) {
        t->bill.no_cache_ns = t->bill.wall_ns + (int64_t)((double)t->found * prefill_ns);
        t->bill.saved_ns = t->bill.no_cache_ns - t->bill.wall_ns;
    }
    if (t->bill.route_ns > t->read_ns)
        t->bill.per_layer_routing_ns =
            t->bill.wall_ns + (t->bill.route_ns - t->read_ns) * (layers - 1);
}

/* Best effort: a turn that is over is not lost for want of its evidence. */
static void finish_evidence(cn_turn *t) {
    const int64_t begin = cn_clock_ns();
    cn_diag       diag;
    if (cn_evidence_fold(&t->evidence, t->s->context, &diag))
        cn_log(CN_LOG_WARN, "turn %d: evidence is lost: %s", t->number, diag.text);
    cn_evidence_finish(&t->evidence);
    const int64_t ns = cn_clock_ns() - begin;
    t->bill.route_ns += ns;
    t->read_ns += ns;
}

static cn_err finish(cn_turn *t, cn_stop stop, cn_diag *diag) {
    cn_bill_set_wall(&t->bill, cn_clock_ns() - t->begin_ns);
    count_otherwise(t);
    t->stop = stop;
    t->is_over = true;
    return cn_ledger_turn_finish(t->s->writer, stop,
                                 (cn_ledger_text){t->answer.data, t->answer.bytes}, &t->bill,
                                 t->evidence.read, t->evidence.reads, diag);
}

/* The token that ended the answer goes into the conversation's pages now, so that they can be
 * kept whole; then they are. */
static cn_err step_end(cn_turn *t, cn_diag *diag) {
    while (t->sent < t->pending.count) {
        cn_step_stats stats;
        prepare_prompt(t);
        t->slice.view = NULL;
        CN_TRY(cn_engine_step(t->s->host->engine, &t->slice, 1, &stats, diag));
        t->sent += t->slice.tokens;
    }
    t->pending.count = t->sent = 0;
    cn_turn_charge(t, &t->bill.decode_ns);
    int64_t bytes = 0;
    if (!t->s->is_trial) cn_session_store(t->s, &bytes);
    t->bill.bytes_written += bytes;
    cn_turn_charge(t, &t->bill.store_ns);
    finish_evidence(t);
    return finish(t, t->stop, diag);
}

static cn_err step(cn_turn *t, cn_turn_need *need, cn_diag *diag) {
    *need = CN_TURN_ENGINE;
    for (;;) switch (t->phase) {
        case IN_CONTEXT:
            if (is_cancelled(t)) return CN_ECANCELLED;
            CN_TRY(step_context(t, diag));
            continue;
        case IN_PROMPT:
            if (t->replayed && t->sent == t->replayed) keep_replayed(t);
            prepare_prompt(t);
            return CN_OK;
        case IN_DECODE:
            CN_TRY(step_decode(t, diag));
            if (t->phase == IN_DECODE) return CN_OK;
            continue;
        case IN_TOOL:
            *need = CN_TURN_TOOL;
            return CN_OK;
        case IN_END:
            if (!t->is_over) CN_TRY(step_end(t, diag));
            *need = CN_TURN_DONE;
            return CN_OK;
        }
}

/* What has run since the last mark and failed, or, for another stop, waited. */
static int64_t *part_of_rest(cn_turn *t, cn_stop stop) {
    if (stop != CN_STOP_ERROR) return &t->bill.queue_ns;
    switch (t->phase) {
    case IN_CONTEXT:
    case IN_PROMPT:
        return &t->bill.prefill_ns;
    case IN_DECODE:
        return &t->bill.decode_ns;
    case IN_TOOL:
        return &t->bill.tool_ns;
    case IN_END:
        return &t->bill.store_ns;
    }
    return &t->bill.other_ns;
}

void cn_turn_stop_now(cn_turn *t, cn_stop stop) {
    // After an error nobody knows what the ledger has: the next turn looks.
    t->s->is_stale |= stop == CN_STOP_ERROR;
    if (t->is_over) return;
    cn_turn_charge(t, part_of_rest(t, stop));
    // The conversation is what was committed; its document is restored by the next turn.
    t->s->is_restored = false;
    forget_missing(t);
    finish_evidence(t);
    cn_context_take_back(t->s->context, t->s->refs);
    t->phase = IN_END;
    const cn_err err = finish(t, stop, NULL);
    if (!err) return;
    t->s->is_stale = true;
    cn_log(CN_LOG_ERROR, "turn %d stays open: %s", t->number, cn_err_name(err));
}

cn_err cn_turn_step(cn_turn *t, cn_turn_need *need_out, cn_diag *diag) {
    const cn_err err = step(t, need_out, diag);
    if (err) {
        *need_out = CN_TURN_DONE;
        cn_turn_stop_now(t, err == CN_ECANCELLED ? CN_STOP_CANCEL : CN_STOP_ERROR);
    }
    return err;
}

cn_err cn_turn_run(cn_turn *t, const atomic_bool *cancel, cn_diag *diag) {
    cn_turn_need need;
    cn_err       err = CN_OK;
    t->cancel = cancel;
    while (!err) {
        err = cn_turn_step(t, &need, diag);
        if (err || need == CN_TURN_DONE) break;
        if (is_cancelled(t)) {
            err = CN_ECANCELLED;
        } else if (need == CN_TURN_TOOL) {
            err = cn_turn_run_tool(t, diag);
        } else {
            cn_step_stats stats;
            err = cn_engine_step(t->s->host->engine, cn_turn_slice(t), 1, &stats, diag);
            if (!err) cn_turn_ran(t, &stats);
        }
    }
    if (err) cn_turn_stop_now(t, err == CN_ECANCELLED ? CN_STOP_CANCEL : CN_STOP_ERROR);
    return err == CN_ECANCELLED ? CN_OK : err;
}

const cn_context_miss *cn_turn_missed(const cn_turn *t, int64_t *count_out) {
    *count_out = t->misses;
    return t->miss;
}

const char *cn_turn_dropped_at(const cn_turn *t, int64_t i, int64_t *tokens_out) {
    if (i >= t->dropped.count) return NULL;
    *tokens_out = cn_context_ref_find(t->s->context, t->dropped.path[i])->tokens;
    return t->dropped.path[i];
}

int32_t cn_turn_number(const cn_turn *t) {
    return t->number;
}

const cn_bill *cn_turn_bill(const cn_turn *t) {
    return &t->bill;
}

cn_stop cn_turn_stop(const cn_turn *t) {
    return t->stop;
}

const char *cn_turn_text(const cn_turn *t) {
    return cn_buf_str(&t->answer);
}

const cn_turn_call *cn_turn_call_at(const cn_turn *t, int32_t i) {
    return i >= 0 && i < t->call_count ? &t->calls[i] : NULL;
}

const cn_evidence *cn_turn_evidence(const cn_turn *t) {
    return &t->evidence;
}

const float *cn_turn_logits(const cn_turn *t) {
    return t->logits;
}

void cn_turn_free(cn_turn *t) {
    if (!t) return;
    cn_tokens_release(&t->question);
    cn_paths_release(&t->dropped);
    cn_context_misses_free(t->miss, t->misses);
    for (int32_t i = 0; i < t->call_count; i++) free((char *)(uintptr_t)t->calls[i].sampled);
    cn_tokens_release(&t->pending);
    cn_tokens_release(&t->step);
    cn_buf_release(&t->answer);
    cn_buf_release(&t->call);
    cn_buf_release(&t->call_name);
    cn_buf_release(&t->call_arguments);
    cn_buf_release(&t->result_text);
    cn_evidence_release(&t->evidence);
    free(t);
}
