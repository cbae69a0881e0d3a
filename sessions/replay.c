/* replay.c - Steps from the ledger, through the engine, token for token. */
#include "sessions/replay.h"

#include "base/clock.h"
#include "sessions/ref.h"
#include "sessions/session.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const char *cn_replay_state_name(cn_replay_state state) {
    static const char *const names[] = {"identical", "departed", "given", "lost"};
    return (unsigned)state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

/* ---- What was recorded -------------------------------------------------------------- */

typedef struct recorded_step {
    int32_t      turn, step;
    cn_step_kind kind;
    cn_stop      stop;
    int64_t      begin, tokens; // of the conversation
    int64_t      sampled;       // the last ones
    int64_t      generation;
} recorded_step;

typedef struct recorded_turn {
    int32_t   turn;
    cn_stop   stop;
    cn_origin origin;
    int64_t   wall_ns;
    cn_buf    question;
} recorded_turn;

/* A result, or the path of a long part. */
typedef struct recorded_text {
    int32_t turn, part; // of a result: its call, from 1
    int32_t step;       // that sampled the call
    cn_buf  text;
} recorded_text;

typedef struct record {
    cn_tokens      token; // of the conversation
    recorded_step *step;
    recorded_turn *turn;
    recorded_text *result, *ref;
    int64_t        steps, turns, results, refs;
    bool           failed;
} record;

/* Room for one more in an array of `count`: it grows at powers of two. */
static void *grow(void *array, int64_t count, size_t bytes, bool *failed) {
    if (count & (count - 1)) return array;
    void *more = realloc(array, (count ? 2 * (size_t)count : 1) * bytes);
    *failed |= !more;
    return more;
}

static void keep(record *r, cn_buf *to, cn_ledger_text text) {
    cn_buf_put(to, text.data, text.bytes);
    r->failed |= to->err != CN_OK;
}

static void on_turn(void *ctx, const cn_ledger_turn *t) {
    record        *r = ctx;
    recorded_turn *more = grow(r->turn, r->turns, sizeof(*more), &r->failed);
    if (!more) return;
    r->turn = more;
    more[r->turns] = (recorded_turn){
        .turn = t->turn, .stop = t->stop, .origin = t->origin, .wall_ns = t->bill.wall_ns};
    keep(r, &more[r->turns++].question, t->question);
}

static void on_step(void *ctx, const cn_ledger_step *s) {
    record        *r = ctx;
    recorded_step *more = grow(r->step, r->steps, sizeof(*more), &r->failed);
    if (!more) return;
    r->step = more;
    const recorded_step *last = r->steps ? &more[r->steps - 1] : NULL;
    more[r->steps++] = (recorded_step){.turn = s->turn,
                                       .step = s->step,
                                       .kind = s->kind,
                                       .stop = s->stop,
                                       .begin = last ? last->begin + last->tokens : 0,
                                       .tokens = s->tokens,
                                       .sampled = s->bill.output_tokens,
                                       .generation = s->generation};
}

static void on_call(void *ctx, const cn_ledger_call *c) {
    record        *r = ctx;
    recorded_text *more = grow(r->result, r->results, sizeof(*more), &r->failed);
    if (!more) return;
    r->result = more;
    const recorded_text *last = r->results ? &more[r->results - 1] : NULL;
    more[r->results] = (recorded_text){.turn = c->turn,
                                       .part = last && last->turn == c->turn ? last->part + 1 : 1,
                                       .step = c->step};
    keep(r, &more[r->results++].text, c->result);
}

static void on_ref(void *ctx, const cn_ledger_ref *f) {
    record        *r = ctx;
    recorded_text *more = grow(r->ref, r->refs, sizeof(*more), &r->failed);
    if (!more) return;
    r->ref = more;
    more[r->refs] = (recorded_text){.turn = f->turn, .part = f->part};
    keep(r, &more[r->refs++].text, (cn_ledger_text){f->path, strlen(f->path)});
}

static void on_tokens(void *ctx, int32_t turn, int32_t step, const int32_t *token, int64_t tokens) {
    (void)turn, (void)step;
    record *r = ctx;
    r->failed |= cn_tokens_put(&r->token, token, tokens) != CN_OK;
}

static void release_record(record *r) {
    for (int64_t i = 0; i < r->turns; i++) cn_buf_release(&r->turn[i].question);
    for (int64_t i = 0; i < r->results; i++) cn_buf_release(&r->result[i].text);
    for (int64_t i = 0; i < r->refs; i++) cn_buf_release(&r->ref[i].text);
    free(r->turn), free(r->step), free(r->result), free(r->ref);
    cn_tokens_release(&r->token);
}

static cn_err read_record(record *r, cn_ledger *l, const char *id, cn_diag *diag) {
    CN_TRY(cn_ledger_turns(l, id, 0, on_turn, r, diag));
    CN_TRY(cn_ledger_steps(l, id, 0, on_step, r, diag));
    CN_TRY(cn_ledger_calls(l, id, 0, on_call, r, diag));
    CN_TRY(cn_ledger_refs(l, id, 0, on_ref, r, diag));
    CN_TRY(cn_ledger_tokens(l, id, 0, on_tokens, r, diag));
    if (r->failed) return CN_FAIL(diag, CN_ENOMEM, "no memory for session %s", id);
    for (int64_t i = 0; i < r->steps; i++)
        if (r->step[i].sampled < 0 || r->step[i].sampled > r->step[i].tokens)
            return CN_FAIL(diag, CN_ECORRUPT,
                           "step %d of turn %d has %" PRId64 " tokens, its bill %" PRId64,
                           r->step[i].step, r->step[i].turn, r->step[i].tokens, r->step[i].sampled);
    return CN_OK;
}

/* ---- What texts become --------------------------------------------------------------- */

typedef struct replay {
    const cn_replay_opts *opts;
    cn_replay_result     *out;
    cn_host              *host;
    record                was;
    cn_past              *past;
    cn_view              *view;
    cn_doc               *doc;
    int64_t               generation; // that the view is bound to; -1: none
    const float          *logits;     // behind the last token of doc; NULL: without a view
} replay;

static cn_err encode(const cn_host *h, cn_tokens *to, const char *text, size_t bytes,
                     cn_diag *diag) {
    return cn_tokenizer_encode(h->tokenizer, to, text, bytes, CN_TOKENIZE_TEXT, diag);
}

static const recorded_text *find_text(const recorded_text *list, int64_t count, int32_t turn,
                                      int32_t part) {
    for (int64_t i = 0; i < count; i++)
        if (list[i].turn == turn && list[i].part == part) return &list[i];
    return NULL;
}

/* The file that a recorded text refers to in the place of its middle: "[... more in file: X]". */
static cn_err read_path(const replay *r, const int32_t *token, int64_t tokens, cn_buf *path,
                        cn_diag *diag) {
    static const char mark[] = "\n[... more in file: ";
    cn_detok          d = {.held_bytes = 0};
    cn_buf            text = {0};
    for (int64_t i = 0; i < tokens; i++) cn_detok_put(&d, r->host->tokenizer, token[i], &text);
    cn_detok_end(&d, &text);
    const char *at = strstr(cn_buf_str(&text), mark);
    if (at) {
        at += sizeof(mark) - 1;
        cn_buf_put(path, at, strcspn(at, "]\n"));
        if (!cn_past_has_path(r->past, cn_buf_str(path))) cn_buf_reset(path);
    }
    const cn_err err = text.err ? text.err : path->err;
    cn_buf_release(&text);
    return err ? CN_FAIL(diag, err, "no memory for a text") : CN_OK;
}

/* A question or result as it stands in the conversation (ref.h); `token` is as it was recorded. */
static cn_err put_part(const replay *r, cn_tokens *to, const cn_buf *text, int32_t turn,
                       int32_t part, const int32_t *token, int64_t tokens, cn_diag *diag) {
    const int64_t from = to->count;
    cn_ref_span   middle;
    cn_buf        path = {0}, in_line = {0};
    CN_TRY(encode(r->host, to, cn_buf_str(text), text->bytes, diag));
    if (!r->host->model->config.conversation_refs || to->count - from <= CN_REF_TOKENS)
        return CN_OK;
    CN_TRY(cn_ref_split(r->host->tokenizer, cn_buf_str(text), text->bytes, &middle, diag));
    if (middle.begin == middle.end) return CN_OK;
    const recorded_text *ref = find_text(r->was.ref, r->was.refs, turn, part);
    cn_err               err = CN_OK;
    if (ref)
        cn_cut_put_path(&path, cn_buf_str(&ref->text));
    else
        err = read_path(r, token, tokens, &path, diag);
    cn_ref_put_inline(&in_line, cn_buf_str(text), text->bytes, middle, cn_buf_str(&path));
    if (!err) err = path.err ? path.err : in_line.err;
    to->count = from;
    if (!err) err = encode(r->host, to, cn_buf_str(&in_line), in_line.bytes, diag);
    cn_buf_release(&path);
    cn_buf_release(&in_line);
    return err;
}

static cn_err put_role(cn_tokens *to, int32_t role) {
    return cn_tokens_put(to, &role, 1);
}

/* <tool_result> interrupted... <end>, where a call never got its result; <user> question
 * <assistant>. */
static cn_err put_question(const replay *r, cn_tokens *to, int64_t at, cn_diag *diag) {
    static const char    lost[] = "interrupted: nobody knows how far the tool came";
    const cn_roles      *roles = &r->host->roles;
    const recorded_step *s = &r->was.step[at], *last = at ? s - 1 : NULL;
    int64_t              turn = 0;
    cn_err               err = CN_OK;
    while (r->was.turn[turn].turn != s->turn) turn++;
    if (last && last->stop == CN_STOP_TOOL && last->kind == CN_STEP_GENERATION &&
        roles->tool_result >= 0) {
        err = put_role(to, roles->tool_result);
        if (!err) err = encode(r->host, to, lost, sizeof(lost) - 1, diag);
        if (!err) err = put_role(to, roles->end);
    }
    if (!err) err = put_role(to, roles->user);
    if (!err)
        err = put_part(r, to, &r->was.turn[turn].question, s->turn, 0,
                       r->was.token.token + s->begin, s->tokens - s->sampled, diag);
    return err ? err : put_role(to, roles->assistant);
}

/* <tool_result> text <end> <assistant> */
static cn_err put_result(const replay *r, cn_tokens *to, int64_t at, cn_diag *diag) {
    const recorded_step *s = &r->was.step[at];
    const recorded_text *result = NULL;
    for (int64_t i = 0; i < r->was.results && !result; i++)
        if (r->was.result[i].turn == s->turn && r->was.result[i].step == s->step - 1)
            result = &r->was.result[i];
    if (!result) return CN_OK; // nothing to compare with
    cn_err err = put_role(to, r->host->roles.tool_result);
    if (!err)
        err = put_part(r, to, &result->text, s->turn, result->part, r->was.token.token + s->begin,
                       s->tokens, diag);
    if (!err && to->count > CN_TURN_RESULT_TOKENS_MAX) {
        static const char cut[] = "\n... the rest of the result is cut";
        to->count = CN_TURN_RESULT_TOKENS_MAX;
        err = encode(r->host, to, cut, sizeof(cut) - 1, diag);
    }
    if (!err) err = put_role(to, r->host->roles.end);
    return err ? err : put_role(to, r->host->roles.assistant);
}

/* ---- The engine ---------------------------------------------------------------------- */

/* The document holds the conversation's first `tokens` tokens; with a view also their logits. */
static cn_err feed(replay *r, const int32_t *token, int64_t tokens, cn_view *view, cn_diag *diag) {
    r->logits = NULL;
    for (int64_t at = cn_doc_tokens(r->doc); at < tokens;) {
        const int64_t left = tokens - at;
        const int32_t n = left < CN_STEP_ROWS ? (int32_t)left : CN_STEP_ROWS;
        cn_slice      slice = {
                 .doc = r->doc, .token = token + at, .tokens = n, .view = n == left ? view : NULL};
        if (r->opts->cancel && atomic_load(r->opts->cancel)) return CN_ECANCELLED;
        CN_TRY(cn_engine_step(r->host->engine, &slice, 1, NULL, diag));
        r->logits = slice.logits;
        at += n;
    }
    return CN_OK;
}

static cn_err choose(const replay *r, int32_t *out, cn_diag *diag) {
    const int32_t vocab = r->host->model->config.vocab;
    if (!r->logits) return CN_FAIL(diag, CN_ECORRUPT, "a sampled token with nothing before it");
    if (r->opts->choose) {
        *out = r->opts->choose(r->opts->ctx, cn_doc_tokens(r->doc), r->logits, vocab);
        return CN_OK;
    }
    return cn_engine_sample(r->host->engine, r->logits, &(cn_sampling){.top_p = 1}, out, diag);
}

/* Bind the view that a step ran over; whether it could be had. */
static cn_err bind(replay *r, const recorded_step *s, cn_replay_turn *t, bool *had, cn_diag *diag) {
    if (r->generation != s->generation) {
        r->generation = -1;
        CN_TRY(cn_past_bind(r->past, s->generation, r->view, diag));
        r->generation = s->generation;
        const cn_past_found *f = cn_past_get_found(r->past);
        t->prefilled_tokens += f->prefilled_tokens;
        if (f->assumed > t->assumed) t->assumed = f->assumed;
    }
    *had = cn_past_get_found(r->past)->lost_documents == 0;
    if (!*had) t->lost = cn_past_get_found(r->past);
    return CN_OK;
}

/* ---- Departures ---------------------------------------------------------------------- */

static void put_text(const replay *r, cn_buf *to, const int32_t *token, int64_t tokens) {
    cn_detok d = {.held_bytes = 0};
    for (int64_t i = 0; i < tokens; i++) {
        size_t      bytes;
        const char *text = cn_tokenizer_bytes(r->host->tokenizer, token[i], &bytes);
        if (cn_tokenizer_is_special(r->host->tokenizer, token[i])) {
            cn_detok_end(&d, to);
            cn_buf_put(to, text, bytes);
        } else {
            cn_detok_put(&d, r->host->tokenizer, token[i], to);
        }
    }
    cn_detok_end(&d, to);
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* What the model goes on with where it departs; then the document is as it was.  `at` counts the
 * conversation's tokens before the departure. */
static cn_err speak(replay *r, int64_t at, int32_t token, cn_tokens *out, cn_diag *diag) {
    cn_tokens all = {0};
    cn_err    err = cn_tokens_put(&all, r->was.token.token, at);
    for (int i = 0; !err && i < CN_REPLAY_TEXT_TOKENS; i++) {
        err = cn_tokens_put(&all, &token, 1);
        if (!err) err = cn_tokens_put(out, &token, 1);
        if (err || token == r->host->roles.end || all.count >= CN_SESSION_TOKENS_MAX) break;
        err = feed(r, all.token, all.count, r->view, diag);
        if (!err) err = choose(r, &token, diag);
    }
    cn_tokens_release(&all);
    cn_doc_reset(r->doc);
    return err ? err : feed(r, r->was.token.token, at, NULL, diag);
}

static cn_err note_first(replay *r, const recorded_step *s, int64_t at, const cn_tokens *other,
                         bool is_given, cn_diag *diag) {
    cn_replay_departure *d = &r->out->first;
    const int32_t       *token = r->was.token.token + s->begin;
    const int64_t        given = s->tokens - s->sampled, end = is_given ? given : s->tokens,
                  before = least(s->begin + at, CN_REPLAY_TEXT_TOKENS);
    d->turn = s->turn;
    d->step = s->step;
    d->token = at;
    d->is_given = is_given;
    d->recorded = at < end ? token[at] : -1;
    d->replayed = other->count ? other->token[0] : -1;
    put_text(r, &d->before, token + at - before, before);
    put_text(r, &d->recorded_text, token + at, least(end - at, CN_REPLAY_TEXT_TOKENS));
    put_text(r, &d->replayed_text, other->token, least(other->count, CN_REPLAY_TEXT_TOKENS));
    const cn_err err = d->before.err          ? d->before.err
                       : d->recorded_text.err ? d->recorded_text.err
                                              : d->replayed_text.err;
    return err ? CN_FAIL(diag, err, "no memory for a departure") : CN_OK;
}

static bool is_over(const replay *r) {
    return r->out->departed && !r->opts->goes_on;
}

/* ---- Steps --------------------------------------------------------------------------- */

/* The tokens that were put before the model spoke. */
static cn_err judge_given(replay *r, int64_t i, cn_replay_turn *t, cn_diag *diag) {
    const recorded_step *s = &r->was.step[i];
    const int32_t       *token = r->was.token.token + s->begin;
    const int64_t        given = s->tokens - s->sampled;
    cn_tokens            want = {0};
    cn_err               err = CN_OK;
    if (s->kind == CN_STEP_TOOL)
        err = put_result(r, &want, i, diag);
    else if (s->step == 0)
        err = put_question(r, &want, i, diag);
    if (!err && want.count) {
        int64_t at = 0;
        while (at < given && at < want.count && token[at] == want.token[at]) at++;
        t->given += given;
        if (at < given || at < want.count) {
            const cn_tokens rest = {.token = want.token + at, .count = want.count - at};
            t->departed++;
            if (r->out->departed++ == 0) err = note_first(r, s, at, &rest, true, diag);
        }
    }
    cn_tokens_release(&want);
    return err;
}

static cn_err judge_sampled(replay *r, const recorded_step *s, cn_replay_turn *t, cn_diag *diag) {
    const int32_t *all = r->was.token.token;
    const int64_t  first = s->begin + s->tokens - s->sampled, end = s->begin + s->tokens;
    for (int64_t at = first; at < end && !is_over(r); at++) {
        int32_t   token;
        cn_tokens spoken = {0};
        CN_TRY(feed(r, all, at, r->view, diag));
        CN_TRY(choose(r, &token, diag));
        t->sampled++;
        if (token == all[at]) continue;
        t->departed++;
        if (r->out->departed++) continue;
        cn_err err = speak(r, at, token, &spoken, diag);
        if (!err) err = note_first(r, s, at - s->begin, &spoken, false, diag);
        cn_tokens_release(&spoken);
        CN_TRY(err);
    }
    return CN_OK;
}

static cn_err run_step(replay *r, int64_t i, cn_replay_turn *t, cn_diag *diag) {
    const recorded_step *s = &r->was.step[i];
    bool                 had = true;
    t->steps++;
    // A generation that chose nothing is a copy: the bill of what it chose is elsewhere.
    const bool is_copy = s->kind == CN_STEP_GENERATION && s->sampled == 0;
    if (t->origin != CN_ORIGIN_ASKED || is_copy) return CN_OK;
    CN_TRY(bind(r, s, t, &had, diag));
    CN_TRY(judge_given(r, i, t, diag));
    if (!had) {
        t->not_judged += s->sampled;
        return CN_OK;
    }
    return judge_sampled(r, s, t, diag);
}

static void end_turn(replay *r, cn_replay_turn *t) {
    cn_replay_result *out = r->out;
    const bool        is_given = t->origin != CN_ORIGIN_ASKED || (t->steps && !t->sampled);
    t->state = t->departed     ? CN_REPLAY_DEPARTED
               : t->not_judged ? CN_REPLAY_LOST
               : is_given      ? CN_REPLAY_GIVEN
                               : CN_REPLAY_SAME;
    out->turns++;
    out->same += t->state == CN_REPLAY_SAME;
    out->departed_turns += t->state == CN_REPLAY_DEPARTED;
    out->given_turns += t->state == CN_REPLAY_GIVEN;
    out->lost_turns += t->not_judged > 0;
    out->compared += t->sampled + t->given;
    if (r->opts->on_turn) r->opts->on_turn(r->opts->ctx, t);
}

static cn_err run_all(replay *r, cn_diag *diag) {
    int64_t step = 0;
    for (int64_t i = 0; i < r->was.turns && !is_over(r); i++) {
        const recorded_turn *was = &r->was.turn[i];
        const int64_t        begin_ns = cn_clock_ns();
        cn_replay_turn       t = {.turn = was->turn,
                                  .origin = was->origin,
                                  .stop = was->stop,
                                  .recorded_ns = was->wall_ns};
        for (; step < r->was.steps && r->was.step[step].turn == was->turn && !is_over(r); step++)
            CN_TRY(run_step(r, step, &t, diag));
        t.ns = cn_clock_ns() - begin_ns;
        end_turn(r, &t);
        r->out->is_whole = i + 1 == r->was.turns;
    }
    if (r->was.turns == 0) r->out->is_whole = true;
    return CN_OK;
}

/* ---- The session --------------------------------------------------------------------- */

static cn_err check_model(const replay *r, const cn_ledger_session *row, cn_diag *diag) {
    if (cn_hash_is_equal(&row->model, &r->host->model_id)) return CN_OK;
    char was[CN_HASH_HEX_BYTES], is[CN_HASH_HEX_BYTES];
    cn_hash_hex(was, &row->model);
    cn_hash_hex(is, &r->host->model_id);
    return CN_FAIL(diag, CN_EINVAL, "session %s was recorded with model %.16s..., this is %.16s...",
                   row->id, was, is);
}

static cn_err run(replay *r, cn_diag *diag) {
    cn_ledger         *l = r->opts->ledger ? r->opts->ledger : r->host->ledger;
    cn_ledger_session *row;
    CN_TRY(cn_ledger_session_find(l, r->opts->session, &row, diag));
    cn_err err = check_model(r, row, diag);
    if (!err) err = read_record(&r->was, l, row->id, diag);
    if (!err)
        err = cn_past_open(&r->past, r->host, l, row->id,
                           r->opts->folder ? r->opts->folder : row->repo, diag);
    if (!err) err = cn_view_create(&r->view, r->host->engine, CN_VIEW_PAGES_MAX, diag);
    if (!err) err = cn_doc_create(&r->doc, r->host->engine, CN_SESSION_TOKENS_MAX, false, diag);
    if (!err) err = run_all(r, diag);
    cn_ledger_session_free(row);
    return err;
}

cn_err cn_replay(const cn_replay_opts *opts, cn_replay_result *out, cn_diag *diag) {
    replay r = {.opts = opts, .out = out, .host = opts->host, .generation = -1};
    *out = (cn_replay_result){0};
    const cn_err err = run(&r, diag);
    cn_doc_free(r.doc);
    cn_view_free(r.view);
    cn_past_close(r.past);
    release_record(&r.was);
    return err;
}

void cn_replay_release(cn_replay_result *r) {
    cn_buf_release(&r->first.before);
    cn_buf_release(&r->first.recorded_text);
    cn_buf_release(&r->first.replayed_text);
    *r = (cn_replay_result){0};
}
