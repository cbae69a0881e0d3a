/* ledger_keep.c - What the pages are for: sessions whose pages are pinned, sessions that are open,
 * documents that views held.
 */
#include "base/clock.h"
#include "store/ledger_int.h"

static cn_err put_pin(cn_ledger *l, const char *id, bool is_pinned, cn_diag *diag) {
    int64_t session;
    CN_TRY(cn_ledger_session_key(l, id, &session, diag));
    cn_query q =
        is_pinned ? cn_query_open(
                        l, "INSERT INTO keeps(session, made) VALUES(?, ?) ON CONFLICT DO NOTHING")
                  : cn_query_open(l, "DELETE FROM keeps WHERE session = ?");
    cn_query_int(&q, session);
    if (is_pinned) cn_query_int(&q, cn_clock_unix_ns());
    return cn_query_run(&q, diag);
}

cn_err cn_ledger_session_pin(cn_ledger *l, const char *id, bool is_pinned, cn_diag *diag) {
    CN_TRY(cn_ledger_txn_begin(l, CN_TXN_WRITE, diag));
    return cn_ledger_txn_end(l, put_pin(l, id, is_pinned, diag), diag);
}

cn_err cn_ledger_session_is_open(cn_ledger *l, const char *id, bool *out, int64_t *pid_out,
                                 cn_diag *diag) {
    int64_t session;
    *out = false;
    *pid_out = 0;
    CN_TRY(cn_ledger_session_key(l, id, &session, diag));
    return cn_ledger_lock_look(l->lock_path, session, out, pid_out, diag);
}

cn_err cn_ledger_documents_seen(cn_ledger *l, const cn_ledger_seen *which, cn_ledger_document_fn fn,
                                void *ctx, cn_diag *diag) {
    int64_t session = 0;
    if (which->session) CN_TRY(cn_ledger_session_key(l, which->session, &session, diag));
    cn_query q = cn_query_open(
        l, "WITH seen AS (SELECT g.key AS key,"
           "  row_number() OVER (PARTITION BY s.repo ORDER BY g.key DESC) AS age"
           "  FROM generations g JOIN sessions s ON s.key = g.session"
           "  WHERE (?1 IS NULL OR s.key = ?1) AND (?2 OR s.repo = ?3))"
           " SELECT d.path, d.document, d.tokens, d.first_line, d.lines, d.kind"
           " FROM seen JOIN documents d ON d.generation = seen.key WHERE seen.age <= ?4"
           " ORDER BY d.generation DESC, d.ordinal");
    cn_query_key(&q, session);
    cn_query_int(&q, which->repo == NULL);
    cn_query_str(&q, which->repo);
    cn_query_int(&q, which->generations_max);
    return cn_ledger_document_rows(&q, fn, ctx, diag);
}
