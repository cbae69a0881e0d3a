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

static const char *const names[] = {"turn", "session", "day", "tool"};
_Static_assert(sizeof(names) / sizeof(names[0]) == CN_COST_COUNT, "a name for each");

cn_cost_by cn_cost_by_name(const char *name) {
    int by = 0;
    while (by < CN_COST_COUNT && strcmp(name, names[by]) != 0) by++;
    return (cn_cost_by)by;
}

int cn_print_costs(const cn_cli *cli, cn_ledger *ledger, cn_cost_by by, const char *session) {
    cn_diag    diag = {0};
    cn_listing l;
    cn_listing_begin(&l, cli);
    if (!cli->json && by != CN_COST_TOOL)
        printf("%-24s %12s %12s %12s %8s %8s %10s %10s\n", "", "context", "cached", "prefilled",
               "prompt", "output", "wall s", "saved s");
    cn_json_open(&l.w, '{');
    cn_json_field_string(&l.w, "by", names[by]);
    cn_json_field_open(&l.w, "costs", '[');
    const cn_err err = cn_ledger_costs(ledger, by, session, on_cost, &l, &diag);
    cn_json_close(&l.w, ']');
    cn_json_close(&l.w, '}');
    return cn_listing_end(&l, err, &diag);
}

int cn_cmd_cost(int argc, char **argv) {
    static const char usage[] = "usage: cairn cost [-s SESSION] [--by turn|session|day|tool]\n"
                                "\n"
                                "examples:\n"
                                "  cairn cost              every turn\n"
                                "  cairn cost --by day     what each day cost, and saved\n"
                                "  cairn cost --by tool    time and failures of each tool\n"
                                "  cairn cost -s 3f9       one session\n";
    cn_cli            cli = {.command = "cost"};
    cn_diag           diag = {0};
    cn_host          *host = NULL;
    const char       *id = NULL, *word = "turn";
    const cn_option   options[] = {
          {.name = "session",
           .letter = 's',
           .value = &id,
           .value_name = "SESSION",
           .help = "one session; all"},
          {.name = "by",
           .value = &word,
           .value_name = "WHAT",
           .help = "turn, session, day or tool; turn"},
          {0},
    };
    if (cn_cli_parse(&cli, argc, argv, usage, options) != 0)
        return cn_cli_usage(&cli, "want no operand, got \"%s\"", argv[0]);
    const cn_cost_by by = cn_cost_by_name(word);
    if (by == CN_COST_COUNT)
        return cn_cli_usage(&cli, "--by %s: want turn, session, day, tool", word);
    cn_ledger_session *s = NULL;
    cn_err             err = cn_cli_open_host(&cli, &host, &diag);
    if (!err && id) err = cn_ledger_session_find(host->ledger, id, &s, &diag);
    const int status = err ? cn_cli_fail(&cli, err, &diag)
                           : cn_print_costs(&cli, host->ledger, by, s ? s->id : NULL);
    cn_ledger_session_free(s);
    cn_host_close(host);
    return status;
}
