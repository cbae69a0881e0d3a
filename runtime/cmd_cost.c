/* cmd_cost.c - cairn cost: bills by turn, session, day or tool, their sum, and their price. */
#include "runtime/cli.h"
#include "runtime/price.h"

#include <stdio.h>
#include <string.h>

typedef struct costs {
    cn_listing     l;
    cn_cost_by     by;
    cn_ledger_cost sum;
} costs;

static double seconds(int64_t ns) {
    return (double)ns / 1e9;
}

/* A time that may not be known. */
static void print_known(int width, bool is_known, int64_t ns) {
    if (is_known)
        printf(" %*.2f", width, seconds(ns));
    else
        printf(" %*s", width, "-");
}

static void print_head(const cn_cli *cli) {
    const cn_bill none = {0};
    cn_price      price;
    printf("%-24s %10s %10s %9s %8s %8s %9s %10s %11s %9s", "", "context", "cached", "prefilled",
           "prompt", "output", "wall s", "no cache s", "per layer s", "saved s");
    if (cn_price_get(cli->conf, &none, &price)) {
        const char *currency = cn_conf_text(cli->conf, CN_CONF_CURRENCY);
        char        hosted[32];
        snprintf(hosted, sizeof(hosted), "hosted %.12s", currency ? currency : "");
        printf("  %11s %11s", hosted, "uncached");
    }
    puts("");
}

static void print_cost(const costs *k, const char *what, const cn_ledger_cost *c) {
    const cn_bill *b = &c->bill;
    cn_price       price;
    if (k->by == CN_COST_TOOL) {
        printf("%-24s %6s calls %6s failed %10.1f ms\n", what, cn_cli_count(c->calls),
               cn_cli_count(c->failed), (double)c->calls_ns / 1e6);
        return;
    }
    printf("%-24s %10s %10s %9s %8s %8s %9.2f", what, cn_cli_count(b->context_tokens),
           cn_cli_count(b->cached_tokens), cn_cli_count(b->prefilled_tokens),
           cn_cli_count(b->prompt_tokens), cn_cli_count(b->output_tokens), seconds(b->wall_ns));
    print_known(10, b->no_cache_ns > 0, b->no_cache_ns);
    print_known(11, b->per_layer_routing_ns > 0, b->per_layer_routing_ns);
    print_known(9, b->no_cache_ns > 0, b->saved_ns);
    if (cn_price_get(k->l.cli->conf, b, &price))
        printf("  %11.4f %11.4f", price.cached, price.no_cache);
    puts("");
}

static void put_numbers(cn_json_writer *w, const cn_conf *conf, const cn_ledger_cost *c) {
    cn_price price;
    cn_json_field_int64(w, "turns", c->turns);
    cn_json_field_int64(w, "calls", c->calls);
    cn_json_field_int64(w, "failed", c->failed);
    cn_json_field_f64(w, "calls_ms", (double)c->calls_ns / 1e6, 15);
    cn_json_put_key(w, "bill");
    cn_bill_put_json(w, &c->bill);
    if (!cn_price_get(conf, &c->bill, &price)) return;
    cn_json_field_open(w, "price", '{');
    cn_json_field_string(w, "currency", cn_conf_text(conf, CN_CONF_CURRENCY));
    cn_json_field_f64(w, "cached", price.cached, 12);
    cn_json_field_f64(w, "no_cache", price.no_cache, 12);
    cn_json_close(w, '}');
}

static void put_cost(costs *k, const cn_ledger_cost *c) {
    cn_json_writer *w = &k->l.w;
    cn_json_open(w, '{');
    cn_json_field_string(w, "session", c->session);
    cn_json_field_int64(w, "turn", c->turn);
    cn_json_field_string(w, "day", c->day);
    cn_json_field_string(w, "tool", c->tool);
    put_numbers(w, k->l.cli->conf, c);
    cn_json_close(w, '}');
}

static void on_cost(void *ctx, const cn_ledger_cost *c) {
    costs *k = ctx;
    char   what[128];
    k->l.rows++;
    k->sum.turns += c->turns;
    k->sum.calls += c->calls;
    k->sum.failed += c->failed;
    k->sum.calls_ns += c->calls_ns;
    cn_bill_add(&k->sum.bill, &c->bill);
    snprintf(what, sizeof(what), "%s%s%s", c->tool, c->day, c->session);
    if (c->turn) snprintf(what, sizeof(what), "%s turn %d", c->session, c->turn);
    if (k->l.cli->json)
        put_cost(k, c);
    else
        print_cost(k, what, c);
}

static const char *const names[] = {"turn", "session", "day", "tool"};
_Static_assert(sizeof(names) / sizeof(names[0]) == CN_COST_COUNT, "a name for each");

cn_cost_by cn_cost_by_name(const char *name) {
    int by = 0;
    while (by < CN_COST_COUNT && strcmp(name, names[by]) != 0) by++;
    return (cn_cost_by)by;
}

int cn_print_costs(const cn_cli *cli, cn_ledger *ledger, cn_cost_by by, const char *session) {
    cn_diag diag = {0};
    costs   k = {.by = by};
    cn_listing_begin(&k.l, cli);
    if (!cli->json && by != CN_COST_TOOL) print_head(cli);
    cn_json_open(&k.l.w, '{');
    cn_json_field_string(&k.l.w, "by", names[by]);
    cn_json_field_open(&k.l.w, "costs", '[');
    const cn_err err = cn_ledger_costs(ledger, by, session, on_cost, &k, &diag);
    cn_json_close(&k.l.w, ']');
    if (by == CN_COST_TOOL) k.sum.turns = 0; // one turn calls several
    cn_json_field_open(&k.l.w, "sum", '{');
    put_numbers(&k.l.w, cli->conf, &k.sum);
    cn_json_close(&k.l.w, '}');
    cn_json_close(&k.l.w, '}');
    if (!err && !cli->json && k.l.rows > 1) print_cost(&k, "sum", &k.sum);
    return cn_listing_end(&k.l, err, &diag);
}

int cn_cmd_cost(int argc, char **argv) {
    static const char usage[] =
        "usage: cairn cost [-s SESSION] [--by turn|session|day|tool]\n"
        "\n"
        "examples:\n"
        "  cairn cost              every turn, and their sum\n"
        "  cairn cost --by day     what each day cost, and saved\n"
        "  cairn cost --by tool    time and failures of each tool\n"
        "  cairn cost -s 3f9       one session\n"
        "\n"
        "no cache: the turn as it was, and the prefill of what it found, at\n"
        "the rate last measured here (- where none was).  per layer: the same\n"
        "turn with routing in each cross layer, at the time it measured once.\n"
        "\n"
        "With prices in the configuration (cairn config --help), also what a\n"
        "hosted service would have charged: one whose cache finds what Cairn's\n"
        "found, and one without a cache.  There each generation of a turn is\n"
        "sent all of its input.  A price that is missing for cache_write or\n"
        "cache_read is that of input.\n";
    cn_cli          cli = {.command = "cost"};
    cn_diag         diag = {0};
    cn_ledger      *l = NULL;
    const char     *id = NULL, *word = "turn";
    const cn_option options[] = {
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
    cn_err             err = cn_cli_open_ledger(&cli, &l, &diag);
    if (!err && id) err = cn_ledger_session_find(l, id, &s, &diag);
    const int status =
        err ? cn_cli_fail(&cli, err, &diag) : cn_print_costs(&cli, l, by, s ? s->id : NULL);
    cn_ledger_session_free(s);
    cn_ledger_close(l);
    return status;
}
