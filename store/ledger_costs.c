/* ledger_costs.c - Prices, and the sums over turns that the views make. */
#include "store/ledger_int.h"

#include <math.h>

static const char *const price_names[] = {
#define X(name, text) text,
    CN_PRICE_LIST(X)
#undef X
};

cn_err cn_ledger_price_put(cn_ledger *l, cn_price kind, double per_million, cn_diag *diag) {
    if ((unsigned)kind >= CN_PRICE_COUNT || !(per_million >= 0) || !isfinite(per_million))
        return CN_FAIL(diag, CN_EINVAL, "price %g of kind %d", per_million, (int)kind);
    CN_TRY(cn_ledger_txn_begin(l, CN_TXN_WRITE, diag));
    cn_query q = cn_query_open(l, "REPLACE INTO prices(kind, per_million) VALUES(?, ?)");
    cn_query_str(&q, price_names[kind]);
    cn_query_f64(&q, per_million);
    return cn_ledger_txn_end(l, cn_query_run(&q, diag), diag);
}

cn_err cn_ledger_price_get(cn_ledger *l, cn_price kind, double *per_million_out, cn_diag *diag) {
    *per_million_out = 0;
    if ((unsigned)kind >= CN_PRICE_COUNT)
        return CN_FAIL(diag, CN_EINVAL, "price of kind %d", (int)kind);
    cn_query q = cn_query_open(l, "SELECT per_million FROM prices WHERE kind = ?");
    cn_query_str(&q, price_names[kind]);
    const cn_err err = cn_query_step(&q, diag);
    if (!err) *per_million_out = cn_query_get_f64(&q);
    cn_query_close(&q);
    return err == CN_ENOTFOUND ? CN_OK : err;
}

// One row shape for turns, sessions and days; the parameter is a session's id or NULL.
#define COSTS(names, group)                                                                        \
    "SELECT " names " min(started), count(*), sum(calls), sum(failed), sum(interrupted),"          \
    " sum(calls_ns), " CN_BILL_COLUMNS(                                                            \
        CN_BILL_SUM) "sum(price) FROM cost_by_turn"                                                \
                     " WHERE ?1 IS NULL OR session = ?1 GROUP BY " group                           \
                     " ORDER BY min(started), min(turn)"

static const char *const costs_sql[CN_COST_COUNT] = {
    [CN_COST_TURN] = COSTS("session, title, turn, '', '',", "session, turn"),
    [CN_COST_SESSION] = COSTS("session, title, 0, '', '',", "session"),
    [CN_COST_DAY] = COSTS("'', '', 0, day, '',", "day"),
    [CN_COST_TOOL] =
        "SELECT '', '', 0, '', c.name, min(c.started), count(DISTINCT c.turn), count(*),"
        " sum(c.state = 'failed'), sum(c.state = 'interrupted'), sum(c.ns)"
        " FROM tool_calls c JOIN turns t ON t.key = c.turn JOIN sessions s ON s.key = t.session"
        " WHERE ?1 IS NULL OR s.id = ?1 GROUP BY c.name ORDER BY sum(c.ns) DESC, c.name",
};

static cn_err list_costs(cn_ledger *l, cn_cost_by by, const char *session, cn_ledger_cost_fn fn,
                         void *ctx, cn_diag *diag) {
    int64_t key;
    cn_err  err;

    if (session) CN_TRY(cn_ledger_session_key(l, session, &key, diag));
    cn_query q = cn_query_open(l, costs_sql[by]);
    if (session) cn_query_str(&q, session);
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
            cost.price = cn_query_get_f64(&q);
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
