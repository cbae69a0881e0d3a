/*
 * ledger_compact.c - One turn in the place of many.
 *
 * The session's row becomes the parent and gets a new id; a new row takes the old id.  So turns,
 * forks and documents of before stay where they are, and whoever knows the session by its id
 * goes on in the compacted one.
 */
#include "base/clock.h"
#include "store/ledger_int.h"

#include <stdio.h>

#define BILL_NAMES CN_BILL_COLUMNS(CN_BILL_NAME)
#define BILL_VALUES CN_BILL_COLUMNS(CN_BILL_VALUE)

static cn_err check(const cn_ledger_compaction *c, cn_diag *diag) {
    if (c->origin != CN_ORIGIN_SUMMARY && c->origin != CN_ORIGIN_EXTRACT)
        return CN_FAIL(diag, CN_EINVAL, "a compaction of origin %s (%d)", cn_origin_name(c->origin),
                       (int)c->origin);
    cn_assert(c->token || c->tokens == 0);
    CN_TRY(cn_ledger_check_size("a step", c->tokens, "tokens", CN_LEDGER_STEP_TOKENS_MAX, diag));
    CN_TRY(cn_ledger_check_text("a question", c->question, diag));
    CN_TRY(cn_ledger_check_text("a summary", c->answer, diag));
    CN_TRY(cn_ledger_check_str("a title", c->parent_title, diag));
    return cn_ledger_check_str("settings", c->settings, diag);
}

static cn_err get_id(cn_ledger_writer *w, char out[CN_LEDGER_ID_BYTES_MAX + 1], cn_diag *diag) {
    cn_query q = cn_query_open(w->l, "SELECT id FROM sessions WHERE key = ?");
    cn_query_int(&q, w->session);
    cn_err err = cn_query_step(&q, diag);
    if (!err) snprintf(out, CN_LEDGER_ID_BYTES_MAX + 1, "%s", cn_query_get_str(&q));
    cn_query_close(&q);
    return err == CN_ENOTFOUND ? CN_FAIL(diag, err, "the session was removed") : err;
}

static void put_str_or_null(cn_query *q, const char *text) {
    if (text)
        cn_query_str(q, text);
    else
        cn_query_key(q, 0);
}

/* The parent's `updated` stays: the session that was written last is the compacted one. */
static cn_err make_row(cn_ledger_writer *w, const cn_ledger_compaction *c, const char *parent,
                       int64_t *session_out, cn_diag *diag) {
    char          id[CN_LEDGER_ID_BYTES_MAX + 1];
    const int64_t now_ns = cn_clock_unix_ns();
    CN_TRY(cn_ledger_id_refuse_taken(w->l, parent, diag));
    CN_TRY(get_id(w, id, diag));
    cn_query q = cn_query_open(w->l, "UPDATE sessions SET id = ? WHERE key = ?");
    cn_query_str(&q, parent);
    cn_query_int(&q, w->session);
    CN_TRY(cn_query_run(&q, diag));
    q = cn_query_open(w->l, "INSERT INTO sessions(id, parent, forked_at, tenant, generation,"
                            " title, repo, commit_id, branch, model, settings, pin, created,"
                            " updated) SELECT ?, key, 0, tenant, generation, title, repo,"
                            " commit_id, branch, model, coalesce(?, settings), pin, ?, ?"
                            " FROM sessions WHERE key = ?");
    cn_query_str(&q, id);
    put_str_or_null(&q, c->settings);
    cn_query_int(&q, now_ns);
    cn_query_int(&q, now_ns);
    cn_query_int(&q, w->session);
    CN_TRY(cn_query_run(&q, diag));
    *session_out = sqlite3_last_insert_rowid(w->l->db);
    q = cn_query_open(w->l, "UPDATE sessions SET title = coalesce(?, title) WHERE key = ?");
    put_str_or_null(&q, c->parent_title);
    cn_query_int(&q, w->session);
    return cn_query_run(&q, diag);
}

/* The turn that stands for those before: the first of its conversation. */
static cn_err insert_summary(cn_ledger *l, int64_t session, const cn_ledger_compaction *c,
                             int64_t *turn_out, cn_diag *diag) {
    cn_query q = cn_query_open(
        l, "INSERT INTO turns(session, turn, stop, started, finished, origin, " BILL_NAMES "prev)"
           " VALUES(?, ?, 'end', ?, ?, ?, " BILL_VALUES "NULL)");
    cn_query_int(&q, session);
    cn_query_int(&q, c->through);
    cn_query_int(&q, c->started_ns);
    cn_query_int(&q, cn_clock_unix_ns());
    cn_query_str(&q, cn_origin_name(c->origin));
    cn_query_bill(&q, c->bill);
    CN_TRY(cn_query_run(&q, diag));
    *turn_out = sqlite3_last_insert_rowid(l->db);
    q = cn_query_open(l, "INSERT INTO turn_texts(turn, question, answer) VALUES(?, ?, ?)");
    cn_query_int(&q, *turn_out);
    cn_query_text(&q, c->question);
    cn_query_text(&q, c->answer);
    CN_TRY(cn_query_run(&q, diag));
    q = cn_query_open(l, "INSERT INTO steps(turn, step, kind, stop, started, generation, tokens)"
                         " SELECT ?, 0, 'generation', 'end', ?, generation, ? FROM sessions"
                         " WHERE key = ?");
    cn_query_int(&q, *turn_out);
    cn_query_int(&q, c->started_ns);
    cn_query_text(&q, (cn_ledger_text){c->token, (size_t)c->tokens * sizeof(*c->token)});
    cn_query_int(&q, session);
    return cn_query_run(&q, diag);
}

/* All but its bill, its evidence and who wrote it. */
static cn_err copy_turn(cn_ledger *l, int64_t session, int64_t from, int64_t *prev, cn_diag *diag) {
    static const char *const rows[] = {
        "INSERT INTO turn_texts(turn, question, answer)"
        " SELECT ?, question, answer FROM turn_texts WHERE turn = ?",
        "INSERT INTO steps(turn, step, kind, stop, started, generation, tokens)"
        " SELECT ?, step, kind, stop, started, generation, tokens FROM steps WHERE turn = ?",
        "INSERT INTO tool_calls(turn, step, call, name, state, exit, started, ns, arguments,"
        "  sampled, result)"
        " SELECT ?, step, call, name, state, exit, started, ns, arguments, sampled, result"
        " FROM tool_calls WHERE turn = ?",
        "INSERT INTO refs(turn, part, call_step, call, path, begin, bytes)"
        " SELECT ?, part, call_step, call, path, begin, bytes FROM refs WHERE turn = ?",
    };
    cn_query q = cn_query_open(l, "INSERT INTO turns(session, turn, prev, stop, started, finished,"
                                  " origin) SELECT ?, turn, ?, stop, started, finished, 'kept'"
                                  " FROM turns WHERE key = ?");
    cn_query_int(&q, session);
    cn_query_int(&q, *prev);
    cn_query_int(&q, from);
    CN_TRY(cn_query_run(&q, diag));
    *prev = sqlite3_last_insert_rowid(l->db);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        q = cn_query_open(l, rows[i]);
        cn_query_int(&q, *prev);
        cn_query_int(&q, from);
        CN_TRY(cn_query_run(&q, diag));
    }
    return CN_OK;
}

static cn_err compact(cn_ledger_writer *w, const cn_ledger_compaction *c, const char *parent,
                      int64_t *session, int *fd, cn_diag *diag) {
    cn_ledger_open_turn open;
    cn_ledger_line      line;
    int64_t             place, last;
    cn_err              err = cn_ledger_open_turn_find(w, &open, diag);
    if (!err) return CN_FAIL(diag, CN_EINVAL, "turn %d is open: finish it first", open.turn);
    if (err != CN_ENOTFOUND) return err;
    CN_TRY(cn_ledger_line_get(w->l, w->session, &line, diag));
    err = cn_ledger_line_find(&line, c->through, &place, diag);
    if (!err) err = make_row(w, c, parent, session, diag);
    // Nobody has seen it yet, so nobody holds it.
    if (!err) err = cn_ledger_lock(fd, w->l->lock_path, *session, 0, NULL, diag);
    if (!err) err = insert_summary(w->l, *session, c, &last, diag);
    for (int64_t i = place + 1; !err && i < line.turns; i++)
        err = copy_turn(w->l, *session, line.turn[i].key, &last, diag);
    cn_ledger_line_release(&line);
    if (err) return err;
    cn_query q = cn_query_open(w->l, "UPDATE sessions SET head = ? WHERE key = ?");
    cn_query_int(&q, last);
    cn_query_int(&q, *session);
    return cn_query_run(&q, diag);
}

cn_err cn_ledger_compact(cn_ledger_writer *w, const cn_ledger_compaction *c,
                         char parent_out[CN_LEDGER_ID_BYTES_MAX + 1], cn_diag *diag) {
    int64_t session = 0;
    int     fd = -1;

    parent_out[0] = 0;
    CN_TRY(check(c, diag));
    char parent[CN_LEDGER_ID_BYTES_MAX + 1];
    CN_TRY(cn_ledger_id_choose(parent, c->parent_id, diag));
    CN_TRY(cn_ledger_txn_begin(w->l, CN_TXN_WRITE, diag));
    const cn_err err = cn_ledger_txn_end(w->l, compact(w, c, parent, &session, &fd, diag), diag);
    if (err) {
        cn_ledger_unlock(fd, session);
        return err;
    }
    cn_ledger_unlock(w->fd, w->session);
    w->fd = fd;
    w->session = session;
    snprintf(parent_out, CN_LEDGER_ID_BYTES_MAX + 1, "%s", parent);
    return CN_OK;
}
