/* ledger_costs.c - What a token's prefill takes, and the sums over turns. */
#include "base/clock.h"
#include "store/ledger_int.h"

#include <math.h>

cn_err cn_ledger_rate_put(cn_ledger *l, const cn_hash *engine, int32_t threads, double prefill_ns,
                          cn_diag *diag) {
    if (!(prefill_ns > 0) || !isfinite(prefill_ns))
        return CN_FAIL(diag, CN_EINVAL, "a rate of %g ns a token", prefill_ns);
    CN_TRY(cn_ledger_txn_begin(l, CN_TXN_WRITE, diag));
    cn_query q = cn_query_open(l, "REPLACE INTO rates(engine, threads, prefill_ns, measured)"
                                  " VALUES(?, ?, ?, ?)");
    cn_query_text(&q, (cn_ledger_text){engine->bytes, CN_HASH_BYTES});
    cn_query_int(&q, threads);
    cn_query_f64(&q, prefill_ns);
    cn_query_int(&q, cn_clock_unix_ns());
    return cn_ledger_txn_end(l, cn_query_run(&q, diag), diag);
}

cn_err cn_ledger_rate_get(cn_ledger *l, const cn_hash *engine, int32_t threads,
                          double *prefill_ns_out, cn_diag *diag) {
    *prefill_ns_out = 0;
    cn_query q = cn_query_open(l, "SELECT prefill_ns FROM rates WHERE engine = ? AND threads = ?");
    cn_query_text(&q, (cn_ledger_text){engine->bytes, CN_HASH_BYTES});
    cn_query_int(&q, threads);
    const cn_err err = cn_query_step(&q, diag);
    if (!err) *prefill_ns_out = cn_query_get_f64(&q);
    cn_query_close(&q);
    return err == CN_ENOTFOUND ? CN_OK : err;
}

// clang-format off
/* As cn_bill_add sums up what may not be known. */
#define SUM_KNOWN(column)                                                                       \
    "iif(max(" #column ") = 0, 0, sum(iif(" #column " = 0, wall_ns, " #column ")))"

// One row shape for turns, sessions and days; the parameters are a session's id or NULL, and the
// tenant.
#define COSTS(names, group)                                                                     \
    "SELECT " names " min(started), count(*), sum(calls), sum(failed), sum(interrupted),"       \
    " sum(calls_ns), " CN_BILL_COLUMNS(CN_BILL_SUM)                                             \
    SUM_KNOWN(no_cache_ns) ", " SUM_KNOWN(per_layer_routing_ns) " FROM cost_by_turn"            \
    " WHERE tenant = ?2 AND (?1 IS NULL OR session = ?1) GROUP BY " group                       \
    " ORDER BY min(started), min(turn)"
// clang-format on

static const char *const costs_sql[CN_COST_COUNT] = {
    [CN_COST_TURN] = COSTS("session, title, turn, '', '',", "session, turn"),
    [CN_COST_SESSION] = COSTS("session, title, 0, '', '',", "session"),
    [CN_COST_DAY] = COSTS("'', '', 0, day, '',", "day"),
    [CN_COST_TOOL] =
        "SELECT '', '', 0, '', c.name, min(c.started), count(DISTINCT c.turn), count(*),"
        " sum(c.state = 'failed'), sum(c.state = 'interrupted'), sum(c.ns)"
        " FROM tool_calls c JOIN turns t ON t.key = c.turn JOIN sessions s ON s.key = t.session"
        " WHERE t.origin <> 'kept' AND s.tenant = ?2 AND (?1 IS NULL OR s.id = ?1)"
        " GROUP BY c.name ORDER BY sum(c.ns) DESC, c.name",
};

static cn_err list_costs(cn_ledger *l, cn_cost_by by, const char *session, cn_ledger_cost_fn fn,
                         void *ctx, cn_diag *diag) {
    int64_t key;
    cn_err  err;

    if (session) CN_TRY(cn_ledger_session_key(l, session, &key, diag));
    cn_query q = cn_query_open(l, costs_sql[by]);
    if (session)
        cn_query_str(&q, session);
    else
        cn_query_key(&q, 0);
    cn_query_str(&q, l->tenant);
    while ((err = cn_query_step(&q, diag)) == CN_OK) {
        cn_ledger_cost cost = {0};
        cost.session = cn_query_get_str(&q);
        cost.title = cn_query_get_str(&q);
        cost.turn = (int32_t)cn_query_get_int(&q);
        cost.day = cn_query_get_str(&q);
        cost.tool = cn_query_get_str(&q);
        cost.started_ns = cn_query_get_int(&q);
        cost.turns = cn_query_get_int(&q);
        cost.calls = cn_query_get_int(&q);
        cost.failed = cn_query_get_int(&q);
        cost.interrupted = cn_query_get_int(&q);
        cost.calls_ns = cn_query_get_int(&q);
        if (by != CN_COST_TOOL) {
            cn_query_get_bill(&q, &cost.bill);
            cost.bill.no_cache_ns = cn_query_get_int(&q);
            cost.bill.per_layer_routing_ns = cn_query_get_int(&q);
        }
        CN_CALL_BACK(l, fn(ctx, &cost));
    }
    cn_query_close(&q);
    return err == CN_ENOTFOUND ? CN_OK : err;
}

cn_err cn_ledger_costs(cn_ledger *l, cn_cost_by by, const char *session, cn_ledger_cost_fn fn,
                       void *ctx, cn_diag *diag) {
    if ((unsigned)by >= CN_COST_COUNT) return CN_FAIL(diag, CN_EINVAL, "cost by %d", (int)by);
    CN_TRY(cn_ledger_txn_begin(l, CN_TXN_READ, diag));
    return cn_ledger_txn_end(l, list_costs(l, by, session, fn, ctx, diag), diag);
}
