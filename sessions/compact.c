/*
 * compact.c - A summary in the place of a conversation.
 *
 *   PROMPT   the conversation (what its document lacks) and the request go through the engine,
 *   DECODE   the model writes; both only if it can
 *   MAKE     the new conversation: summary or extract, then the turns that are kept
 *   PREFILL  it goes through the engine, without a view
 *   COMMIT   its pages are stored, then the ledger has it
 */
#include "sessions/compact.h"

#include "base/clock.h"
#include "base/log.h"
#include "sessions/extract.h"
#include "sessions/ref.h"
#include "sessions/session_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char request[] =
    "Sum up this conversation for somebody who goes on with it: what was asked and found, which "
    "files and names matter, what is still open.  At most 200 words.";

typedef enum { IN_PROMPT, IN_DECODE, IN_MAKE, IN_PREFILL, IN_COMMIT, IN_DONE } phase;

struct cn_compact {
    cn_session       *s;
    phase             phase;
    cn_compact_report report;
    cn_bill           bill;
    int64_t           begin_ns, mark_ns, started_ns;

    cn_extract said;     // the conversation
    int64_t    replaced; // its first turns, which the summary stands for
    int64_t    room;     // tokens that the limit leaves to a conversation
    cn_paths   gone;     // long parts of these turns

    // The model's summary.
    cn_view     *view; // of no documents
    cn_tokens    pending;
    int64_t      sent;
    cn_slice     slice;
    const float *logits;
    int32_t      token;
    cn_detok     detok;
    bool         is_cut, has_call;

    cn_buf    text;   // of the summary
    cn_tokens tokens; // the new conversation
    bool      is_doc_changed;
};

static int64_t charge(cn_compact *c, int64_t *part) {
    const int64_t now = cn_clock_ns(), ns = now - c->mark_ns;
    *part += ns;
    c->mark_ns = now;
    return ns;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* ---- The limit --------------------------------------------------------------------- */

typedef struct view_tokens {
    int64_t         files, refs;
    const cn_paths *of; // refs of these paths are counted
} view_tokens;

static void on_document(void *ctx, const cn_ledger_document *d) {
    view_tokens *v = ctx;
    if (d->kind == CN_DOCUMENT_FILE)
        v->files += d->piece.tokens;
    else if (v->of && cn_paths_has(v->of, d->path))
        v->refs += d->piece.tokens;
}

/* What the last view held, by the ledger: nobody looks at the folder for this. */
static cn_err count_view(cn_session *s, view_tokens *v, cn_diag *diag) {
    if (s->row->generation == 0) return CN_OK;
    return cn_ledger_documents(s->host->ledger, s->row->id, 0, on_document, v, diag);
}

/* Tokens that a conversation can have; its long parts can leave the view. */
static int64_t room_of(const cn_session *s, const view_tokens *v) {
    const int64_t left = cn_engine_view_tokens(s->host->engine) - v->files;
    return left < 0 ? 0 : least(left, CN_SESSION_TOKENS_MAX);
}

cn_err cn_compact_is_due(cn_session *s, size_t question_bytes, int32_t output_tokens_max, bool *out,
                         cn_diag *diag) {
    enum { BYTES_A_TOKEN = 3 }; // few enough for text of every kind
    view_tokens v = {0};
    *out = false;
    CN_TRY(cn_session_catch_up(s, diag));
    if (s->is_compacted_by_hand || s->tokens.count < CN_COMPACT_TOKENS_MIN) return CN_OK;
    CN_TRY(count_view(s, &v, diag));
    int64_t question = (int64_t)(question_bytes / BYTES_A_TOKEN);
    if (s->host->model->config.conversation_refs && question > CN_REF_TOKENS)
        question = CN_REF_TOKENS; // the rest is documents
    const int64_t answer = output_tokens_max > 0 ? output_tokens_max : CN_TURN_OUTPUT_TOKENS;
    *out = (s->tokens.count + question + answer) * 100 > room_of(s, &v) * CN_COMPACT_AT_PERCENT;
    return CN_OK;
}

/* ---- Beginning --------------------------------------------------------------------- */

/* The last turns stay, as many as fit, but never all. */
static cn_err choose_kept(cn_compact *c, int32_t keep, cn_diag *diag) {
    const int64_t tokens_max = least(CN_COMPACT_KEEP_TOKENS, c->room / 4);
    int64_t       turns = c->said.turns, tokens = 0, last = turns;
    if (keep == 0) keep = CN_COMPACT_KEEP_TURNS;
    while (last > 1 && turns - last < keep && tokens + c->said.turn[last - 1].tokens <= tokens_max)
        tokens += c->said.turn[--last].tokens;
    c->replaced = last;
    const cn_extract_turn *first = &c->said.turn[0];
    const bool             is_compact =
        first->origin == CN_ORIGIN_SUMMARY || first->origin == CN_ORIGIN_EXTRACT;
    if (turns == 0 || (last == 1 && is_compact))
        return CN_FAIL(diag, CN_EINVAL,
                       turns ? "nothing to compact: %" PRId64 " turns since the last time are kept"
                             : "nothing to compact: %" PRId64 " turns",
                       turns ? turns - 1 : turns);
    c->report.turns = (int32_t)last;
    c->report.first_turn = cn_extract_first_turn(&c->said);
    c->report.last_turn = c->said.turn[last - 1].turn;
    c->report.kept_turns = (int32_t)(turns - last);
    c->report.kept_first = last < turns ? c->said.turn[last].turn : 0;
    c->report.kept_last = last < turns ? c->said.turn[turns - 1].turn : 0;
    c->report.kept_tokens = tokens;
    return CN_OK;
}

/* Long parts of the turns that go. */
static cn_err list_gone(cn_compact *c, cn_diag *diag) {
    const cn_context *context = c->s->context;
    for (int64_t i = 0; i < c->s->refs; i++) {
        const cn_context_ref *r = cn_context_ref_at(context, i);
        if (r->turn <= c->report.last_turn && cn_paths_put(&c->gone, r->path))
            return CN_FAIL(diag, CN_ENOMEM, "no memory for %s", r->path);
    }
    view_tokens v = {.of = &c->gone};
    CN_TRY(count_view(c->s, &v, diag));
    c->report.dropped_refs = c->gone.count;
    c->report.dropped_ref_tokens = v.refs;
    return CN_OK;
}

static cn_err put_role(cn_tokens *to, int32_t role) {
    return cn_tokens_put(to, &role, 1);
}

static cn_err put_text(cn_compact *c, cn_tokens *to, const char *text, cn_diag *diag) {
    return cn_tokenizer_encode(c->s->host->tokenizer, to, text, strlen(text), CN_TOKENIZE_TEXT,
                               diag);
}

/* Why the model is not asked; NULL if it is. */
static const char *why_not_asked(const cn_compact *c, const cn_compact_opts *opts) {
    if (opts->is_extract) return "an extract was asked for";
    if (!c->s->host->model->config.conversation_summaries) return "the model writes no summaries";
    const int64_t limit = least(CN_SESSION_TOKENS_MAX, cn_engine_view_tokens(c->s->host->engine));
    return c->s->tokens.count + c->pending.count + CN_COMPACT_SUMMARY_TOKENS > limit
               ? "no room for the model's summary"
               : NULL;
}

/* What the model has to see: the conversation as far as its document lacks it, the request. */
static cn_err begin_summary(cn_compact *c, const cn_compact_opts *opts, cn_diag *diag) {
    cn_session     *s = c->s;
    const cn_roles *r = &s->host->roles;
    cn_tokens       ask = {0};
    int64_t         bytes = 0;
    cn_err          err = put_role(&ask, r->user);
    if (!err) err = put_text(c, &ask, request, diag);
    if (!err) err = put_role(&ask, r->assistant);
    charge(c, &c->bill.tokenize_ns);
    c->phase = IN_MAKE;
    c->report.why = why_not_asked(c, opts);
    if (err || c->report.why) goto out;
    c->is_doc_changed = true;
    err = cn_session_restore(s, &bytes, diag);
    if (err) goto out;
    c->bill.bytes_read += bytes;
    const int64_t held = cn_doc_tokens(s->doc);
    err = cn_tokens_put(&c->pending, s->tokens.token + held, s->tokens.count - held);
    if (!err) err = cn_tokens_put(&c->pending, ask.token, ask.count);
    if (!err)
        err = cn_view_create(&c->view, s->host->engine, CN_SESSION_TOKENS_MAX / CN_PAGE_TOKENS + 1,
                             diag);
    charge(c, &c->bill.restore_ns);
    c->phase = IN_PROMPT;
out:
    cn_tokens_release(&ask);
    return err;
}

static cn_err begin(cn_compact *c, const cn_compact_opts *opts, cn_diag *diag) {
    view_tokens v = {0};
    CN_TRY(cn_session_catch_up(c->s, diag));
    CN_TRY(cn_session_need_writer(c->s, diag));
    CN_TRY(count_view(c->s, &v, diag));
    c->room = room_of(c->s, &v);
    CN_TRY(cn_extract_load(&c->said, c->s->host->ledger, c->s->row->id, diag));
    c->report.tokens_before = c->s->tokens.count;
    if (c->said.turns == 0) return CN_FAIL(diag, CN_EINVAL, "nothing to compact: no turn yet");
    CN_TRY(choose_kept(c, opts->keep_turns, diag));
    CN_TRY(list_gone(c, diag));
    charge(c, &c->bill.context_ns);
    return begin_summary(c, opts, diag);
}

cn_err cn_compact_begin(cn_compact **out, cn_session *s, const cn_compact_opts *opts,
                        cn_diag *diag) {
    *out = NULL;
    cn_compact *c = calloc(1, sizeof(*c));
    if (!c) return CN_FAIL(diag, CN_ENOMEM, "no memory to compact a conversation");
    c->s = s;
    c->begin_ns = c->mark_ns = cn_clock_ns();
    c->started_ns = cn_clock_unix_ns();
    c->bill.load_ns = s->host->load_ns;
    const cn_err err = begin(c, opts, diag);
    if (err) {
        cn_compact_free(c);
        return err;
    }
    s->host->load_ns = 0; // billed once, with what the process does first
    *out = c;
    return CN_OK;
}

/* ---- The engine -------------------------------------------------------------------- */

static void prepare_pending(cn_compact *c, cn_view *view) {
    const int64_t left = c->pending.count - c->sent;
    const int32_t n = left < CN_STEP_ROWS ? (int32_t)left : CN_STEP_ROWS;
    c->slice = (cn_slice){.doc = c->s->doc,
                          .token = c->pending.token + c->sent,
                          .tokens = n,
                          .view = n == left ? view : NULL};
}

cn_slice *cn_compact_slice(cn_compact *c) {
    return &c->slice;
}

void cn_compact_ran(cn_compact *c, const cn_step_stats *stats) {
    charge(c, &c->bill.queue_ns); // what of it was not this step
    c->bill.queue_ns -= stats->wall_ns;
    if (c->phase == IN_DECODE) {
        c->bill.decode_ns += stats->self_ns;
    } else {
        c->bill.prefill_ns += stats->self_ns;
        c->bill.prompt_tokens += c->slice.tokens;
        c->sent += c->slice.tokens;
    }
    c->bill.route_ns += stats->route_ns;
    c->bill.attend_ns += stats->attend_ns;
    c->bill.decode_ns += stats->wall_ns - stats->self_ns - stats->route_ns - stats->attend_ns;
    c->bill.bytes_read += stats->bytes;
    c->logits = c->slice.logits;
    if (c->phase == IN_PROMPT && c->sent == c->pending.count) c->phase = IN_DECODE;
}

/* One token of the summary; what ends it. */
static cn_err step_decode(cn_compact *c, cn_diag *diag) {
    const cn_host *h = c->s->host;
    CN_TRY(cn_engine_sample(h->engine, c->logits, &(cn_sampling){.top_p = 1}, &c->token, diag));
    if (c->bill.output_tokens++ == 0) c->bill.ttft_ns = cn_clock_ns() - c->begin_ns;
    charge(c, &c->bill.decode_ns);
    const bool is_end = c->token == h->roles.end;
    c->has_call = c->token == h->roles.tool_call;
    c->is_cut = !is_end && c->bill.output_tokens >= CN_COMPACT_SUMMARY_TOKENS;
    if (is_end || c->has_call || c->is_cut) {
        cn_detok_end(&c->detok, &c->text);
        c->phase = IN_MAKE;
        return CN_OK;
    }
    cn_detok_put(&c->detok, h->tokenizer, c->token, &c->text);
    if (c->text.err) return CN_FAIL(diag, c->text.err, "no memory for a summary");
    charge(c, &c->bill.tokenize_ns);
    c->slice = (cn_slice){.doc = c->s->doc, .token = &c->token, .tokens = 1, .view = c->view};
    return CN_OK;
}

/* ---- The new conversation ---------------------------------------------------------- */

/* Characters that no prose has: control characters, and U+FFFD for what was no UTF-8. */
static bool has_garbage(const char *text) {
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        if ((*p < ' ' && *p != '\n' && *p != '\t' && *p != '\r') || *p == 0x7f) return true;
    return strstr(text, "\xef\xbf\xbd") != NULL;
}

/* Why what the model wrote is no summary; NULL if it is one. */
static const char *why_no_summary(const cn_compact *c) {
    const char *text = cn_buf_str(&c->text);
    if (c->has_call) return "the model called a tool instead of a summary";
    if (c->is_cut) return "the model's summary was too long";
    if (strlen(text) != c->text.bytes || has_garbage(text)) return "the model wrote no text";
    if (!text[strspn(text, " \t\r\n")]) return "the model's summary was empty";
    if (!cn_extract_is_about(&c->said, c->replaced, text))
        return "the model's summary had no word of what was said";
    return NULL;
}

static void trim(cn_buf *b) {
    while (b->bytes && strchr(" \t\r\n", b->data[b->bytes - 1])) b->data[--b->bytes] = 0;
}

/* <user> question <assistant> summary <end>, and the tokens of the turns that are kept. */
static cn_err make_tokens(cn_compact *c, cn_diag *diag) {
    const cn_session *s = c->s;
    const cn_roles   *r = &s->host->roles;
    const int64_t     kept = c->report.kept_tokens;
    cn_err            err = put_role(&c->tokens, r->user);
    if (!err) err = put_text(c, &c->tokens, CN_COMPACT_QUESTION, diag);
    if (!err) err = put_role(&c->tokens, r->assistant);
    if (!err) err = put_text(c, &c->tokens, cn_buf_str(&c->text), diag);
    if (!err) err = put_role(&c->tokens, r->end);
    if (!err) err = cn_tokens_put(&c->tokens, s->tokens.token + s->tokens.count - kept, kept);
    if (err == CN_ENOMEM) err = CN_FAIL(diag, err, "no memory for a conversation");
    c->report.tokens_after = c->tokens.count;
    if (!err && c->report.tokens_after >= c->report.tokens_before)
        err = CN_FAIL(diag, CN_EINVAL,
                      "compacted, the conversation would have %" PRId64 " tokens, it has %" PRId64,
                      c->report.tokens_after, c->report.tokens_before);
    return err;
}

static cn_err step_make(cn_compact *c, cn_diag *diag) {
    if (!c->report.why) c->report.why = why_no_summary(c);
    c->report.origin = c->report.why ? CN_ORIGIN_EXTRACT : CN_ORIGIN_SUMMARY;
    if (c->report.why) {
        cn_buf_reset(&c->text);
        CN_TRY(cn_extract_put(&c->said, c->replaced, c->s->host->tokenizer,
                              least(CN_COMPACT_EXTRACT_TOKENS, c->room / 4), &c->text, diag));
    }
    trim(&c->text);
    CN_TRY(make_tokens(c, diag));
    charge(c, &c->bill.tokenize_ns);
    c->is_doc_changed = true;
    cn_doc_reset(c->s->doc);
    c->pending.count = c->sent = 0;
    if (cn_tokens_put(&c->pending, c->tokens.token, c->tokens.count))
        return CN_FAIL(diag, CN_ENOMEM, "no memory for a conversation");
    c->phase = IN_PREFILL;
    return CN_OK;
}

/* ---- The ledger -------------------------------------------------------------------- */

/* What was said by hand of long parts that are gone is of no meaning any more. */
static cn_err forget_gone(cn_paths *to, const cn_paths *from, const cn_paths *gone) {
    for (int64_t i = 0; i < from->count; i++)
        if (!cn_paths_has(gone, from->path[i])) CN_TRY(cn_paths_put(to, from->path[i]));
    return CN_OK;
}

static cn_err write_ledger(cn_compact *c, cn_diag *diag) {
    cn_session *s = c->s;
    cn_buf      title = {0}, settings = {0};
    cn_buf_printf(&title, "%s%suntil turn %d", s->row->title, s->row->title[0] ? ", " : "",
                  s->row->head);
    cn_err err = cn_session_make_settings(s, &settings, diag);
    if (!err && title.err) err = CN_FAIL(diag, title.err, "no memory for a title");
    charge(c, &c->bill.store_ns);
    cn_bill_set_wall(&c->bill, cn_clock_ns() - c->begin_ns);
    c->bill.no_cache_ns = c->bill.wall_ns;
    c->bill.per_layer_routing_ns =
        c->bill.wall_ns + c->bill.route_ns * (s->host->model->config.cross_layers - 1);
    const cn_ledger_compaction what = {
        .origin = c->report.origin,
        .through = c->report.last_turn,
        .question = {CN_COMPACT_QUESTION, strlen(CN_COMPACT_QUESTION)},
        .answer = {c->text.data, c->text.bytes},
        .token = c->tokens.token,
        .tokens = c->tokens.count - c->report.kept_tokens,
        .parent_title = cn_buf_str(&title),
        .settings = cn_buf_str(&settings),
        .started_ns = c->started_ns,
        .bill = &c->bill};
    if (!err) err = cn_ledger_compact(s->writer, &what, c->report.parent, diag);
    cn_buf_release(&title);
    cn_buf_release(&settings);
    return err;
}

/* Pages first: they are a cache, and their time is on the bill. */
static void store_pages(cn_compact *c) {
    cn_session      next = *c->s; // as it will be, for this call
    const int64_t   kept = c->report.kept_turns;
    cn_session_end *end = calloc((size_t)kept + 1, sizeof(*end));
    int64_t         bytes = 0;
    next.tokens = c->tokens;
    next.stored_pages = 0;
    next.end = end;
    next.ends = kept + 1;
    if (end) {
        end[kept] = (cn_session_end){c->said.turn[c->said.turns - 1].turn, c->tokens.count};
        for (int64_t i = kept - 1; i >= 0; i--)
            end[i] = (cn_session_end){c->said.turn[c->replaced + i - 1].turn,
                                      end[i + 1].tokens - c->said.turn[c->replaced + i].tokens};
        if (!c->s->is_trial) cn_session_store(&next, &bytes);
        c->s->stored_pages = next.stored_pages;
    }
    free(end);
    c->bill.bytes_written += bytes;
    charge(c, &c->bill.store_ns);
}

/* Then the ledger, and what the session holds of it. */
static cn_err step_commit(cn_compact *c, cn_diag *diag) {
    cn_session    *s = c->s;
    const cn_paths was_added = s->added, was_dropped = s->dropped;
    cn_diag        later = {0};
    store_pages(c);
    s->added = s->dropped = (cn_paths){0};
    cn_err err = forget_gone(&s->added, &was_added, &c->gone);
    if (!err) err = forget_gone(&s->dropped, &was_dropped, &c->gone);
    if (err) err = CN_FAIL(diag, err, "no memory for a session's settings");
    if (!err) err = write_ledger(c, diag);
    cn_paths spent[] = {was_added, was_dropped};
    if (err) {
        spent[0] = s->added, spent[1] = s->dropped;
        s->added = was_added, s->dropped = was_dropped;
    }
    cn_paths_release(&spent[0]);
    cn_paths_release(&spent[1]);
    s->is_stale = true;
    if (err) { // it may be the parent's writer by now: the ledger says
        cn_session_lose_writer(s);
        return err;
    }
    c->phase = IN_DONE;
    // What fails from here on is tried again by the next turn.
    if (cn_session_catch_up(s, &later))
        cn_log(CN_LOG_WARN, "the compacted session is read again by its next turn: %s", later.text);
    else
        s->is_restored = cn_doc_tokens(s->doc) == s->tokens.count;
    return CN_OK;
}

/* ---- Running ----------------------------------------------------------------------- */

static cn_err step(cn_compact *c, cn_turn_need *need, cn_diag *diag) {
    *need = CN_TURN_ENGINE;
    for (;;) switch (c->phase) {
        case IN_PROMPT:
            prepare_pending(c, c->view);
            return CN_OK;
        case IN_DECODE:
            CN_TRY(step_decode(c, diag));
            if (c->phase == IN_DECODE) return CN_OK;
            continue;
        case IN_MAKE:
            CN_TRY(step_make(c, diag));
            continue;
        case IN_PREFILL:
            if (c->sent < c->pending.count) {
                prepare_pending(c, NULL);
                return CN_OK;
            }
            c->phase = IN_COMMIT;
            continue;
        case IN_COMMIT:
            CN_TRY(step_commit(c, diag));
            continue;
        case IN_DONE:
            *need = CN_TURN_DONE;
            return CN_OK;
        }
}

cn_err cn_compact_step(cn_compact *c, cn_turn_need *need_out, cn_diag *diag) {
    const cn_err err = step(c, need_out, diag);
    if (err) *need_out = CN_TURN_DONE;
    return err;
}

cn_err cn_compact_run(cn_compact *c, const atomic_bool *cancel, cn_diag *diag) {
    cn_turn_need need;
    for (;;) {
        CN_TRY(cn_compact_step(c, &need, diag));
        if (need == CN_TURN_DONE) return CN_OK;
        if (cancel && atomic_load(cancel)) return CN_ECANCELLED;
        cn_step_stats stats;
        CN_TRY(cn_engine_step(c->s->host->engine, &c->slice, 1, &stats, diag));
        cn_compact_ran(c, &stats);
    }
}

const cn_compact_report *cn_compact_get_report(const cn_compact *c) {
    return &c->report;
}

const char *cn_compact_text(const cn_compact *c) {
    return cn_buf_str(&c->text);
}

const cn_bill *cn_compact_bill(const cn_compact *c) {
    return &c->bill;
}

void cn_compact_free(cn_compact *c) {
    if (!c) return;
    // The document holds something else than the conversation: the next turn restores it.
    if (c->phase != IN_DONE && c->is_doc_changed) c->s->is_restored = false;
    cn_extract_release(&c->said);
    cn_paths_release(&c->gone);
    cn_view_free(c->view);
    cn_tokens_release(&c->pending);
    cn_tokens_release(&c->tokens);
    cn_buf_release(&c->text);
    free(c);
}
