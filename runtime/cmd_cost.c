/* cmd_cost.c - cairn cost: bills by turn, session, day or tool. */
#include "runtime/cli.h"

#include <stdio.h>
#include <string.h>

static void on_cost(void *ctx, const cn_ledger_cost *c) {
    cn_listing *l = ctx;
    l->rows++;
    char what[128];
    snprintf(what, sizeof(what), "%s%s%s%.0d", c->tool, c->day, c->session, c->turn);
    if (c->turn) snprintf(what, sizeof(what), "%s turn %d", c->session, c->turn);
    if (!l->cli->json && c->tool[0]) {
        printf("%-24s %6s calls %6s failed %10.1f ms\n", c->tool, cn_cli_count(c->calls),
               cn_cli_count(c->failed), (double)c->calls_ns / 1e6);
    } else if (!l->cli->json) {
        printf("%-24s %12s %12s %12s %8s %8s %10.2f %10.2f\n", what,
               cn_cli_count(c->bill.context_tokens), cn_cli_count(c->bill.cached_tokens),
               cn_cli_count(c->bill.prefilled_tokens), cn_cli_count(c->bill.prompt_tokens),
               cn_cli_count(c->bill.output_tokens), (double)c->bill.wall_ns / 1e9,
               (double)c->bill.saved_ns / 1e9);
    } else {
        cn_json_open(&l->w, '{');
        cn_json_field_string(&l->w, "session", c->session);
        cn_json_field_int64(&l->w, "turn", c->turn);
        cn_json_field_string(&l->w, "day", c->day);
        cn_json_field_string(&l->w, "tool", c->tool);
        cn_json_field_int64(&l->w, "turns", c->turns);
        cn_json_field_int64(&l->w, "calls", c->calls);
        cn_json_field_int64(&l->w, "failed", c->failed);
        cn_json_field_f64(&l->w, "calls_ms", (double)c->calls_ns / 1e6, 6);
        cn_json_put_key(&l->w, "bill");
        cn_bill_put_json(&l->w, &c->bill);
        cn_json_close(&l->w, '}');
    }
}

int cn_cmd_cost(int argc, char **argv) {
    static const char usage[] = "usage: cairn cost [-s SESSION] [--by turn|session|day|tool]\n";
    static const char *const names[] = {"turn", "session", "day", "tool"};
    cn_cli                   cli = {.command = "cost"};
    cn_diag                  diag = {0};
    cn_host                 *host = NULL;
    cn_listing               l;
    const char              *id = NULL, *by = "turn";
    const cn_option          options[] = {
                 {.name = "session", .letter = 's', .value = &id, .help = "one session; all"},
                 {.name = "by", .value = &by, .help = "turn, session, day or tool; turn"},
                 {0},
    };
    if (cn_cli_parse(&cli, argc, argv, usage, options) != 0)
        return cn_cli_usage(&cli, "want no operand, got \"%s\"", argv[0]);
    int kind = 0;
    while (kind < CN_COST_COUNT && strcmp(by, names[kind]) != 0) kind++;
    if (kind == CN_COST_COUNT)
        return cn_cli_usage(&cli, "--by %s: want turn, session, day, tool", by);
    cn_ledger_session *s = NULL;
    cn_err             err = cn_cli_open_host(&cli, &host, &diag);
    if (!err && id) err = cn_ledger_session_find(host->ledger, id, &s, &diag);
    if (!err && !cli.json && kind != CN_COST_TOOL)
        printf("%-24s %12s %12s %12s %8s %8s %10s %10s\n", "", "context", "cached", "prefilled",
               "prompt", "output", "wall s", "saved s");
    cn_listing_begin(&l, &cli);
    cn_json_open(&l.w, '{');
    cn_json_field_string(&l.w, "by", by);
    cn_json_field_open(&l.w, "costs", '[');
    if (!err)
        err = cn_ledger_costs(host->ledger, (cn_cost_by)kind, s ? s->id : NULL, on_cost, &l, &diag);
    cn_json_close(&l.w, ']');
    cn_json_close(&l.w, '}');
    cn_ledger_session_free(s);
    cn_host_close(host);
    return cn_listing_end(&l, err, &diag);
}
