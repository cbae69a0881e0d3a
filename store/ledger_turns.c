/* ledger_turns.c - Turns, steps, tool calls and evidence: committed, and read in order. */
#include "base/clock.h"
#include "store/ledger_int.h"

#include <string.h>

static const char *const stop_names[] = {
#define X(name, text) text,
    CN_STOP_LIST(X)
#undef X
};
static const char *const call_state_names[] = {
#define X(name, text) text,
    CN_CALL_LIST(X)
#undef X
};
static const char *const origin_names[] = {
#define X(name, text) text,
    CN_ORIGIN_LIST(X)
#undef X
};
static const char *const step_kind_names[] = {"generation", "tool"};
enum { STEP_KINDS = sizeof(step_kind_names) / sizeof(step_kind_names[0]) };

#define BILL_NAMES CN_BILL_COLUMNS(CN_BILL_NAME)
#define BILL_VALUES CN_BILL_COLUMNS(CN_BILL_VALUE)

const char *cn_stop_name(cn_stop stop) {
    return (unsigned)stop < CN_STOP_COUNT ? stop_names[stop] : "?";
}

const char *cn_call_state_name(cn_call_state state) {
    return (unsigned)state < CN_CALL_COUNT ? call_state_names[state] : "?";
}

const char *cn_origin_name(cn_origin origin) {
    return (unsigned)origin < CN_ORIGIN_COUNT ? origin_names[origin] : "?";
}

/* ---- The open turn ----------------------------------------------------------------- */

cn_err cn_ledger_open_turn_find(cn_ledger_writer *w, cn_ledger_open_turn *out, cn_diag *diag) {
    *out = (cn_ledger_open_turn){0};
    cn_query q = cn_query_open(w->l, "SELECT t.key, t.turn, s.generation,"
                                     " (SELECT max(step) + 1 FROM steps WHERE turn = t.key)"
                                     " FROM sessions s JOIN turns t ON t.key = s.head"
                                     " WHERE s.key = ? AND t.session = s.key AND t.stop = 'open'");
    cn_query_int(&q, w->session);
    const cn_err err = cn_query_step(&q, diag);
    if (!err) {
        out->key = cn_query_get_int(&q);
        out->turn = (int32_t)cn_query_get_int(&q);
        out->generation = cn_query_get_int(&q);
        out->next_step = (int32_t)cn_query_get_int(&q);
    }
    cn_query_close(&q);
    return err;
}

static cn_err need_open_turn(cn_ledger_writer *w, cn_ledger_open_turn *out, cn_diag *diag) {
    const cn_err err = cn_ledger_open_turn_find(w, out, diag);
    return err == CN_ENOTFOUND ? CN_FAIL(diag, CN_EINVAL, "no turn is open") : err;
}

cn_err cn_ledger_calls_interrupt(cn_ledger *l, int64_t turn_key, int64_t *calls_out,
                                 cn_diag *diag) {
    cn_query q = cn_query_open(l, "UPDATE tool_calls SET state = 'interrupted'"
                                  " WHERE turn = ? AND state = 'intent'");
    cn_query_int(&q, turn_key);
    CN_TRY(cn_query_run(&q, diag));
    *calls_out = sqlite3_changes(l->db);
    return CN_OK;
}

static cn_err touch_session(cn_ledger_writer *w, int64_t now_ns, cn_diag *diag) {
    cn_query q = cn_query_open(w->l, "UPDATE sessions SET updated = ? WHERE key = ?");
    cn_query_int(&q, now_ns);
    cn_query_int(&q, w->session);
    return cn_query_run(&q, diag);
}

static cn_err write_bill(cn_ledger *l, int64_t turn_key, const cn_bill *bill, cn_diag *diag) {
    if (!bill) return CN_OK;
    cn_query q = cn_query_open(l, "UPDATE turns SET (" BILL_NAMES "stop) = (" BILL_VALUES "stop)"
                                  " WHERE key = ?");
    cn_query_bill(&q, bill);
    cn_query_int(&q, turn_key);
    return cn_query_run(&q, diag);
}

/* ---- Begin ------------------------------------------------------------------------- */

cn_err cn_ledger_turn_next(cn_ledger_writer *w, int32_t *turn_out, cn_diag *diag) {
    // Larger than the session's own, rewound ones included, and than those taken over.
    cn_query q =
        cn_query_open(w->l, "SELECT 1 + max(forked_at, coalesce((SELECT max(turn) FROM turns"
                            " WHERE session = sessions.key), 0)) FROM sessions WHERE key = ?");
    cn_query_int(&q, w->session);
    *turn_out = 0;
    const cn_err err = cn_query_step(&q, diag);
    if (!err) *turn_out = (int32_t)cn_query_get_int(&q);
    cn_query_close(&q);
    return err;
}

static cn_err begin_turn(cn_ledger_writer *w, cn_ledger_text question, int32_t *turn_out,
                         cn_diag *diag) {
    const int64_t       now_ns = cn_clock_unix_ns();
    cn_ledger_open_turn open;

    const cn_err err = cn_ledger_open_turn_find(w, &open, diag);
    if (!err) return CN_FAIL(diag, CN_EINVAL, "turn %d is open: finish it first", open.turn);
    if (err != CN_ENOTFOUND) return err;

    CN_TRY(cn_ledger_turn_next(w, turn_out, diag));
    cn_query q = cn_query_open(w->l, "INSERT INTO turns(session, turn, prev, stop, started,"
                                     " finished) SELECT key, ?, head, 'open', ?, 0 FROM sessions"
                                     " WHERE key = ?");
    cn_query_int(&q, *turn_out);
    cn_query_int(&q, now_ns);
    cn_query_int(&q, w->session);
    CN_TRY(cn_query_run(&q, diag));
    const int64_t key = sqlite3_last_insert_rowid(w->l->db);

    q = cn_query_open(w->l, "INSERT INTO turn_texts(turn, question, answer) VALUES(?, ?, x'')");
    cn_query_int(&q, key);
    cn_query_text(&q, question);
    CN_TRY(cn_query_run(&q, diag));
    q = cn_query_open(w->l, "UPDATE sessions SET head = ?, updated = ? WHERE key = ?");
    cn_query_int(&q, key);
    cn_query_int(&q, now_ns);
    cn_query_int(&q, w->session);
    return cn_query_run(&q, diag);
}

cn_err cn_ledger_turn_begin(cn_ledger_writer *w, cn_ledger_text question, int32_t *turn_out,
                            cn_diag *diag) {
    int32_t turn = 0;

    *turn_out = 0;
    CN_TRY(cn_ledger_check_text("a question", question, diag));
    CN_TRY(cn_ledger_txn_begin(w->l, CN_TXN_WRITE, diag));
    CN_TRY(cn_ledger_txn_end(w->l, begin_turn(w, question, &turn, diag), diag));
    *turn_out = turn;
    return CN_OK;
}

/* ---- Commit a step ----------------------------------------------------------------- */

static cn_err check_commit(const cn_ledger_commit *c, cn_diag *diag) {
    if ((unsigned)c->kind >= STEP_KINDS || (unsigned)c->stop >= CN_STOP_COUNT)
        return CN_FAIL(diag, CN_EINVAL, "step of kind %d, stop %d", (int)c->kind, (int)c->stop);
    cn_assert(c->token || c->tokens == 0);
    CN_TRY(cn_ledger_check_size("a step", c->tokens, "tokens", CN_LEDGER_STEP_TOKENS_MAX, diag));
    CN_TRY(cn_ledger_check_size("a step", c->intents, "calls", CN_LEDGER_STEP_CALLS_MAX, diag));
    CN_TRY(cn_ledger_check_size("a step", c->results, "results", CN_LEDGER_STEP_CALLS_MAX, diag));
    for (int32_t i = 0; i < c->intents; i++) {
        CN_TRY(cn_ledger_check_str("a tool's name", c->intent[i].name, diag));
        CN_TRY(cn_ledger_check_text("a call's arguments", c->intent[i].arguments, diag));
        CN_TRY(cn_ledger_check_text("a call", c->intent[i].sampled, diag));
    }
    for (int32_t i = 0; i < c->results; i++) {
        const cn_call_state state = c->result[i].state;
        if ((unsigned)state >= CN_CALL_COUNT || state == CN_CALL_INTENT)
            return CN_FAIL(diag, CN_EINVAL, "a result of state %d", (int)state);
        CN_TRY(cn_ledger_check_text("a result", c->result[i].result, diag));
    }
    CN_TRY(cn_ledger_check_size("a step", c->refs, "refs", CN_LEDGER_STEP_REFS_MAX, diag));
    for (int32_t i = 0; i < c->refs; i++) {
        const cn_ledger_ref *r = &c->ref[i];
        CN_TRY(cn_ledger_check_str("a path", r->path, diag));
        if (r->part < 0 || r->begin < 0 || r->bytes < 1 || r->begin > CN_LEDGER_TEXT_BYTES_MAX ||
            r->bytes > CN_LEDGER_TEXT_BYTES_MAX)
            return CN_FAIL(diag, CN_EINVAL, "a ref to %lld bytes from byte %lld of part %d: %s",
                           (long long)r->bytes, (long long)r->begin, r->part, r->path);
    }
    return CN_OK;
}

static cn_err insert_intent(cn_ledger *l, const cn_ledger_open_turn *turn, int32_t step,
                            int32_t call, const cn_ledger_intent *intent, cn_diag *diag) {
    cn_query q = cn_query_open(
        l, "INSERT INTO tool_calls(turn, step, call, name, state, exit, started, ns, arguments,"
           " sampled, result) VALUES(?, ?, ?, ?, 'intent', 0, ?, 0, ?, ?, x'')");
    cn_query_int(&q, turn->key);
    cn_query_int(&q, step);
    cn_query_int(&q, call);
    cn_query_str(&q, intent->name);
    cn_query_int(&q, cn_clock_unix_ns());
    cn_query_text(&q, intent->arguments);
    cn_query_text(&q, intent->sampled);
    return cn_query_run(&q, diag);
}

static cn_err write_result(cn_ledger *l, const cn_ledger_open_turn *turn, const cn_ledger_result *r,
                           cn_diag *diag) {
    cn_query q = cn_query_open(
        l, "UPDATE tool_calls SET state = ?, exit = ?, started = ?, ns = ?, result = ?"
           " WHERE turn = ? AND step = ? AND call = ? AND state IN ('intent', 'interrupted')");
    cn_query_str(&q, call_state_names[r->state]);
    cn_query_int(&q, r->exit);
    cn_query_int(&q, r->started_ns);
    cn_query_int(&q, r->ns);
    cn_query_text(&q, r->result);
    cn_query_int(&q, turn->key);
    cn_query_int(&q, r->step);
    cn_query_int(&q, r->call);
    CN_TRY(cn_query_run(&q, diag));
    if (sqlite3_changes(l->db) != 1)
        return CN_FAIL(diag, CN_EINVAL, "no call %d of step %d in turn %d waits for a result",
                       r->call, r->step, turn->turn);
    return CN_OK;
}

/* Its text is there, this step's results included. */
static cn_err insert_ref(cn_ledger *l, const cn_ledger_open_turn *turn, const cn_ledger_ref *r,
                         cn_diag *diag) {
    cn_query q = cn_query_open(
        l, "INSERT INTO refs(turn, part, call_step, call, path, begin, bytes)"
           " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE ?6 + ?7 <= coalesce("
           "  CASE ?2 WHEN 0 THEN (SELECT length(question) FROM turn_texts WHERE turn = ?1)"
           "   ELSE (SELECT length(result) FROM tool_calls"
           "    WHERE turn = ?1 AND step = ?3 AND call = ?4) END, -1)"
           " AND NOT EXISTS(SELECT 1 FROM refs WHERE turn = ?1 AND part = ?2)");
    cn_query_int(&q, turn->key);
    cn_query_int(&q, r->part);
    for (int i = 0; i < 2; i++)
        if (r->part == 0) {
            cn_query_key(&q, 0); // NULL
        } else {
            cn_query_int(&q, i == 0 ? r->step : r->call);
        }
    cn_query_str(&q, r->path);
    cn_query_int(&q, r->begin);
    cn_query_int(&q, r->bytes);
    CN_TRY(cn_query_run(&q, diag));
    if (sqlite3_changes(l->db) != 1)
        return CN_FAIL(diag, CN_EINVAL,
                       "part %d of turn %d has no bytes %lld to %lld, or has its ref: %s", r->part,
                       turn->turn, (long long)r->begin, (long long)(r->begin + r->bytes), r->path);
    return CN_OK;
}

static cn_err commit_step(cn_ledger_writer *w, const cn_ledger_commit *c, cn_diag *diag) {
    cn_ledger_open_turn turn;

    CN_TRY(need_open_turn(w, &turn, diag));
    if (c->step != turn.next_step)
        return CN_FAIL(diag, CN_EINVAL, "step %d of turn %d, the next is %d", c->step, turn.turn,
                       turn.next_step);
    cn_query q = cn_query_open(w->l, "INSERT INTO steps(turn, step, kind, stop, started,"
                                     " generation, " BILL_NAMES "tokens)"
                                     " VALUES(?, ?, ?, ?, ?, ?, " BILL_VALUES "?)");
    cn_query_int(&q, turn.key);
    cn_query_int(&q, c->step);
    cn_query_str(&q, step_kind_names[c->kind]);
    cn_query_str(&q, stop_names[c->stop]);
    cn_query_int(&q, c->started_ns);
    cn_query_key(&q, turn.generation);
    cn_query_bill(&q, c->bill);
    cn_query_text(&q, (cn_ledger_text){c->token, (size_t)c->tokens * sizeof(*c->token)});
    CN_TRY(cn_query_run(&q, diag));

    for (int32_t i = 0; i < c->intents; i++)
        CN_TRY(insert_intent(w->l, &turn, c->step, i, &c->intent[i], diag));
    for (int32_t i = 0; i < c->results; i++) CN_TRY(write_result(w->l, &turn, &c->result[i], diag));
    for (int32_t i = 0; i < c->refs; i++) CN_TRY(insert_ref(w->l, &turn, &c->ref[i], diag));
    return write_bill(w->l, turn.key, c->turn_bill, diag);
}

cn_err cn_ledger_step_commit(cn_ledger_writer *w, const cn_ledger_commit *c, cn_diag *diag) {
    CN_TRY(check_commit(c, diag));
    CN_TRY(cn_ledger_txn_begin(w->l, CN_TXN_WRITE, diag));
    return cn_ledger_txn_end(w->l, commit_step(w, c, diag), diag);
}

/* ---- Finish ------------------------------------------------------------------------ */

static cn_err insert_read(cn_ledger *l, int64_t turn_key, int64_t ordinal,
                          const cn_ledger_read *read, cn_diag *diag) {
    cn_query q = cn_query_open(l, "INSERT INTO attention(turn, ordinal, path, first_line,"
                                  " last_line, share) VALUES(?, ?, ?, ?, ?, ?)");
    cn_query_int(&q, turn_key);
    cn_query_int(&q, ordinal);
    cn_query_str(&q, read->path);
    cn_query_int(&q, read->first_line);
    cn_query_int(&q, read->last_line);
    cn_query_f64(&q, read->share);
    return cn_query_run(&q, diag);
}

static cn_err finish_turn(cn_ledger_writer *w, cn_stop stop, cn_ledger_text answer,
                          const cn_bill *bill, const cn_ledger_read *read, int64_t reads,
                          cn_diag *diag) {
    const int64_t       now_ns = cn_clock_unix_ns();
    cn_ledger_open_turn turn;
    int64_t             calls;

    CN_TRY(need_open_turn(w, &turn, diag));
    CN_TRY(cn_ledger_calls_interrupt(w->l, turn.key, &calls, diag));
    CN_TRY(write_bill(w->l, turn.key, bill, diag));
    for (int64_t i = 0; i < reads; i++) CN_TRY(insert_read(w->l, turn.key, i, &read[i], diag));
    cn_query q = cn_query_open(w->l, "UPDATE turn_texts SET answer = ? WHERE turn = ?");
    cn_query_text(&q, answer);
    cn_query_int(&q, turn.key);
    CN_TRY(cn_query_run(&q, diag));
    q = cn_query_open(w->l, "UPDATE turns SET stop = ?, finished = ? WHERE key = ?");
    cn_query_str(&q, stop_names[stop]);
    cn_query_int(&q, now_ns);
    cn_query_int(&q, turn.key);
    CN_TRY(cn_query_run(&q, diag));
    return touch_session(w, now_ns, diag);
}

cn_err cn_ledger_turn_finish(cn_ledger_writer *w, cn_stop stop, cn_ledger_text answer,
                             const cn_bill *bill, const cn_ledger_read *read, int64_t reads,
                             cn_diag *diag) {
    if ((unsigned)stop >= CN_STOP_COUNT || stop == CN_STOP_OPEN || stop == CN_STOP_TOOL)
        return CN_FAIL(diag, CN_EINVAL, "a turn cannot stop with %s (%d)", cn_stop_name(stop),
                       (int)stop);
    CN_TRY(cn_ledger_check_text("an answer", answer, diag));
    CN_TRY(cn_ledger_check_size("evidence", reads, "places", CN_LEDGER_READS_MAX, diag));
    for (int64_t i = 0; i < reads; i++) {
        CN_TRY(cn_ledger_check_str("a path", read[i].path, diag));
        if (!(read[i].share >= 0 && read[i].share <= 1))
            return CN_FAIL(diag, CN_EINVAL, "a share of %g", read[i].share);
    }
    CN_TRY(cn_ledger_txn_begin(w->l, CN_TXN_WRITE, diag));
    return cn_ledger_txn_end(w->l, finish_turn(w, stop, answer, bill, read, reads, diag), diag);
}

/* ---- Reading ----------------------------------------------------------------------- */

/* What one list does with one turn: the same query for each, its rows handed to `row`. */
typedef struct row_list {
    const char *sql; // its one parameter is the turn's key
    cn_err (*row)(struct row_list *list, cn_query *q, int32_t turn);
    union {
        cn_ledger_turn_fn   turn;
        cn_ledger_step_fn   step;
        cn_ledger_call_fn   call;
        cn_ledger_read_fn   read;
        cn_ledger_ref_fn    ref;
        cn_ledger_tokens_fn tokens;
    } fn;
    void *ctx;
} row_list;

static cn_err list_turn(cn_ledger *l, row_list *list, const cn_ledger_link *link, cn_diag *diag) {
    cn_query q = cn_query_open(l, list->sql);
    cn_err   err;
    cn_query_int(&q, link->key);
    while ((err = cn_query_step(&q, diag)) == CN_OK) {
        err = list->row(list, &q, link->turn);
        if (!err) continue;
        err = CN_FAIL(diag, err, "a row of turn %d is damaged in %s", link->turn, l->path);
        break;
    }
    cn_query_close(&q);
    return err == CN_ENOTFOUND ? CN_OK : err;
}

/* Turns of a conversation, in one snapshot: `turn` alone, or (0) all, or up to `turn`. */
static cn_err list_turns(cn_ledger *l, row_list *list, const char *session, int32_t turn,
                         bool is_up_to, cn_diag *diag) {
    cn_ledger_line line = {0};
    int64_t        key, place = -1;

    CN_TRY(cn_ledger_txn_begin(l, CN_TXN_READ, diag));
    cn_err err = cn_ledger_session_key(l, session, &key, diag);
    if (!err) err = cn_ledger_line_get(l, key, &line, diag);
    if (!err && turn) err = cn_ledger_line_find(&line, turn, &place, diag);
    if (!err) {
        const int64_t first = turn && !is_up_to ? place : 0;
        const int64_t last = turn ? place : line.turns - 1;
        for (int64_t i = first; i <= last && !err; i++)
            err = list_turn(l, list, &line.turn[i], diag);
    }
    cn_ledger_line_release(&line);
    return cn_ledger_txn_end(l, err, diag);
}

static cn_err turn_row(row_list *list, cn_query *q, int32_t turn) {
    cn_ledger_turn t = {.turn = turn};
    t.session = cn_query_get_str(q);
    t.stop = (cn_stop)cn_query_get_name(q, stop_names, CN_STOP_COUNT);
    t.origin = (cn_origin)cn_query_get_name(q, origin_names, CN_ORIGIN_COUNT);
    t.started_ns = cn_query_get_int(q);
    t.finished_ns = cn_query_get_int(q);
    t.steps = (int32_t)cn_query_get_int(q);
    cn_query_get_bill(q, &t.bill);
    t.question = cn_query_get_text(q);
    t.answer = cn_query_get_text(q);
    if (q->rc != SQLITE_ROW) return CN_ECORRUPT;
    CN_CALL_BACK(q->l, list->fn.turn(list->ctx, &t));
    return CN_OK;
}

cn_err cn_ledger_turns(cn_ledger *l, const char *session, int32_t turn, cn_ledger_turn_fn fn,
                       void *ctx, cn_diag *diag) {
    row_list list = {"SELECT s.id, t.stop, t.origin, t.started, t.finished,"
                     " (SELECT max(step) + 1 FROM steps WHERE turn = t.key), " BILL_NAMES
                     " x.question, x.answer FROM turns t JOIN sessions s ON s.key = t.session"
                     " JOIN turn_texts x ON x.turn = t.key WHERE t.key = ?",
                     turn_row,
                     {.turn = fn},
                     ctx};
    return list_turns(l, &list, session, turn, false, diag);
}

static cn_err step_row(row_list *list, cn_query *q, int32_t turn) {
    cn_ledger_step s = {.turn = turn};
    s.step = (int32_t)cn_query_get_int(q);
    s.kind = (cn_step_kind)cn_query_get_name(q, step_kind_names, STEP_KINDS);
    s.stop = (cn_stop)cn_query_get_name(q, stop_names, CN_STOP_COUNT);
    s.started_ns = cn_query_get_int(q);
    s.generation = cn_query_get_int(q);
    cn_query_get_bill(q, &s.bill);
    s.tokens = cn_query_get_int(q) / (int64_t)sizeof(int32_t);
    if (q->rc != SQLITE_ROW) return CN_ECORRUPT;
    CN_CALL_BACK(q->l, list->fn.step(list->ctx, &s));
    return CN_OK;
}

cn_err cn_ledger_steps(cn_ledger *l, const char *session, int32_t turn, cn_ledger_step_fn fn,
                       void *ctx, cn_diag *diag) {
    row_list list = {"SELECT step, kind, stop, started, generation, " BILL_NAMES
                     " length(tokens) FROM steps WHERE turn = ? ORDER BY step",
                     step_row,
                     {.step = fn},
                     ctx};
    return list_turns(l, &list, session, turn, false, diag);
}

static cn_err call_row(row_list *list, cn_query *q, int32_t turn) {
    cn_ledger_call c = {.turn = turn};
    c.step = (int32_t)cn_query_get_int(q);
    c.call = (int32_t)cn_query_get_int(q);
    c.name = cn_query_get_str(q);
    c.state = (cn_call_state)cn_query_get_name(q, call_state_names, CN_CALL_COUNT);
    c.exit = (int32_t)cn_query_get_int(q);
    c.started_ns = cn_query_get_int(q);
    c.ns = cn_query_get_int(q);
    c.arguments = cn_query_get_text(q);
    c.sampled = cn_query_get_text(q);
    c.result = cn_query_get_text(q);
    if (q->rc != SQLITE_ROW) return CN_ECORRUPT;
    CN_CALL_BACK(q->l, list->fn.call(list->ctx, &c));
    return CN_OK;
}

cn_err cn_ledger_calls(cn_ledger *l, const char *session, int32_t turn, cn_ledger_call_fn fn,
                       void *ctx, cn_diag *diag) {
    row_list list = {"SELECT step, call, name, state, exit, started, ns, arguments, sampled, result"
                     " FROM tool_calls WHERE turn = ? ORDER BY step, call",
                     call_row,
                     {.call = fn},
                     ctx};
    return list_turns(l, &list, session, turn, false, diag);
}

static cn_err read_row(row_list *list, cn_query *q, int32_t turn) {
    cn_ledger_read r;
    r.path = cn_query_get_str(q);
    r.first_line = (int32_t)cn_query_get_int(q);
    r.last_line = (int32_t)cn_query_get_int(q);
    r.share = cn_query_get_f64(q);
    CN_CALL_BACK(q->l, list->fn.read(list->ctx, turn, &r));
    return CN_OK;
}

cn_err cn_ledger_reads(cn_ledger *l, const char *session, int32_t turn, cn_ledger_read_fn fn,
                       void *ctx, cn_diag *diag) {
    row_list list = {"SELECT path, first_line, last_line, share FROM attention WHERE turn = ?"
                     " ORDER BY ordinal",
                     read_row,
                     {.read = fn},
                     ctx};
    return list_turns(l, &list, session, turn, false, diag);
}

static cn_err ref_row(row_list *list, cn_query *q, int32_t turn) {
    cn_ledger_ref r = {.turn = turn};
    r.part = (int32_t)cn_query_get_int(q);
    r.step = (int32_t)cn_query_get_int(q);
    r.call = (int32_t)cn_query_get_int(q);
    r.path = cn_query_get_str(q);
    r.begin = cn_query_get_int(q);
    r.bytes = cn_query_get_int(q);
    r.text = cn_query_get_text(q);
    if ((int64_t)r.text.bytes != r.bytes) return CN_ECORRUPT;
    CN_CALL_BACK(q->l, list->fn.ref(list->ctx, &r));
    return CN_OK;
}

cn_err cn_ledger_refs(cn_ledger *l, const char *session, int32_t turn, cn_ledger_ref_fn fn,
                      void *ctx, cn_diag *diag) {
    row_list list = {"SELECT r.part, r.call_step, r.call, r.path, r.begin, r.bytes,"
                     " substr(CASE r.part WHEN 0 THEN x.question ELSE c.result END, r.begin + 1,"
                     "  r.bytes)"
                     " FROM refs r JOIN turn_texts x ON x.turn = r.turn LEFT JOIN tool_calls c"
                     "  ON c.turn = r.turn AND c.step = r.call_step AND c.call = r.call"
                     " WHERE r.turn = ? ORDER BY r.part",
                     ref_row,
                     {.ref = fn},
                     ctx};
    return list_turns(l, &list, session, turn, false, diag);
}

static cn_err tokens_row(row_list *list, cn_query *q, int32_t turn) {
    int32_t              token[1024]; // SQLite's own bytes may lie anywhere
    const int32_t        step = (int32_t)cn_query_get_int(q);
    const cn_ledger_text ids = cn_query_get_text(q);
    if (ids.bytes % sizeof(int32_t)) return CN_ECORRUPT;
    for (size_t at = 0; at < ids.bytes;) {
        const size_t left = ids.bytes - at, bytes = left < sizeof(token) ? left : sizeof(token);
        memcpy(token, (const char *)ids.data + at, bytes);
        CN_CALL_BACK(q->l, list->fn.tokens(list->ctx, turn, step, token,
                                           (int64_t)(bytes / sizeof(int32_t))));
        at += bytes;
    }
    return CN_OK;
}

cn_err cn_ledger_tokens(cn_ledger *l, const char *session, int32_t turn, cn_ledger_tokens_fn fn,
                        void *ctx, cn_diag *diag) {
    row_list list = {"SELECT step, tokens FROM steps WHERE turn = ? ORDER BY step",
                     tokens_row,
                     {.tokens = fn},
                     ctx};
    return list_turns(l, &list, session, turn, true, diag);
}
