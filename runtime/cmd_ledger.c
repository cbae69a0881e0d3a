/* cmd_ledger.c - cairn sessions, cairn cost, cairn cache stat: what the stores hold. */
#include "runtime/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* A listing: lines for people, an array for programs. */
typedef struct listing {
    const cn_cli  *cli;
    cn_json_writer w;
    int64_t        rows;
} listing;

static void put_text(cn_json_writer *w, const char *key, const char *text) {
    cn_json_put_key(w, key);
    cn_json_put_string(w, text);
}

static void put_number(cn_json_writer *w, const char *key, int64_t n) {
    cn_json_put_key(w, key);
    cn_json_put_int64(w, n);
}

static const char *date(char out[32], int64_t unix_ns) {
    const time_t seconds = (time_t)(unix_ns / 1000000000);
    struct tm    tm;
    gmtime_r(&seconds, &tm);
    strftime(out, 32, "%Y-%m-%d %H:%M", &tm);
    return out;
}

static int print_and_close(listing *l, cn_buf *buf, cn_err err, const cn_diag *diag,
                           cn_host *host) {
    cn_host_close(host);
    if (err) {
        cn_buf_release(buf);
        return cn_cli_fail(l->cli, err, diag);
    }
    if (l->cli->json) return cn_cli_put_json(l->cli, buf);
    cn_buf_release(buf);
    return CN_EXIT_DONE;
}

/* ---- sessions ---------------------------------------------------------------------- */

static void on_session(void *ctx, const cn_ledger_session *s) {
    listing *l = ctx;
    char     when[32];
    l->rows++;
    if (!l->cli->json) {
        printf("%-16s  %s  %3d turns  %s%s%s\n", s->id, date(when, s->updated_ns), s->turns,
               s->repo, s->title[0] ? "  " : "", s->title);
        return;
    }
    cn_json_open(&l->w, '{');
    put_text(&l->w, "session", s->id);
    put_text(&l->w, "repo", s->repo);
    put_text(&l->w, "branch", s->branch);
    put_text(&l->w, "commit", s->commit);
    put_text(&l->w, "title", s->title);
    put_number(&l->w, "turns", s->turns);
    put_number(&l->w, "head", s->head);
    put_number(&l->w, "created_ns", s->created_ns);
    put_number(&l->w, "updated_ns", s->updated_ns);
    cn_json_close(&l->w, '}');
}

static void on_turn(void *ctx, const cn_ledger_turn *t) {
    listing *l = ctx;
    l->rows++;
    if (!l->cli->json) {
        printf(
            "--- turn %d (%s)\n%.*s\n>>> %.*s\n    %s tok context, %s prefilled, %s out, %.2f s\n",
            t->turn, cn_stop_name(t->stop), (int)t->question.bytes, (const char *)t->question.data,
            (int)t->answer.bytes, t->answer.data ? (const char *)t->answer.data : "",
            cn_cli_count(t->bill.context_tokens), cn_cli_count(t->bill.prefilled_tokens),
            cn_cli_count(t->bill.output_tokens), (double)t->bill.wall_ns / 1e9);
        return;
    }
    cn_json_open(&l->w, '{');
    put_number(&l->w, "turn", t->turn);
    cn_json_put_key(&l->w, "question");
    cn_json_put_bytes(&l->w, t->question.data, t->question.bytes);
    cn_json_put_key(&l->w, "text");
    cn_json_put_bytes(&l->w, t->answer.data, t->answer.bytes);
    put_text(&l->w, "stop", cn_stop_name(t->stop));
    cn_json_put_key(&l->w, "bill");
    cn_bill_put_json(&l->w, &t->bill);
    cn_json_close(&l->w, '}');
}

static void on_tool(void *ctx, const cn_ledger_call *c) {
    listing *l = ctx;
    if (!l->cli->json) {
        printf("    turn %d: %s %.*s: %s, %.1f ms\n", c->turn, c->name, (int)c->arguments.bytes,
               (const char *)c->arguments.data, cn_call_state_name(c->state), (double)c->ns / 1e6);
        return;
    }
    cn_json_open(&l->w, '{');
    put_number(&l->w, "turn", c->turn);
    put_text(&l->w, "name", c->name);
    cn_json_put_key(&l->w, "arguments");
    cn_json_put_bytes(&l->w, c->arguments.data, c->arguments.bytes);
    put_text(&l->w, "state", cn_call_state_name(c->state));
    cn_json_put_key(&l->w, "ms");
    cn_json_put_f64(&l->w, (double)c->ns / 1e6, 6);
    cn_json_put_key(&l->w, "result");
    cn_json_put_bytes(&l->w, c->result.data, c->result.bytes);
    cn_json_close(&l->w, '}');
}

static cn_err show(listing *l, cn_ledger *ledger, const char *id, cn_diag *diag) {
    cn_ledger_session *s;
    CN_TRY(cn_ledger_session_find(ledger, id, &s, diag));
    put_text(&l->w, "session", s->id);
    cn_json_put_key(&l->w, "turns");
    cn_json_open(&l->w, '[');
    cn_err err = cn_ledger_turns(ledger, s->id, 0, on_turn, l, diag);
    cn_json_close(&l->w, ']');
    cn_json_put_key(&l->w, "tools");
    cn_json_open(&l->w, '[');
    if (!err) err = cn_ledger_calls(ledger, s->id, 0, on_tool, l, diag);
    cn_json_close(&l->w, ']');
    cn_ledger_session_free(s);
    return err;
}

int cn_cmd_sessions(int argc, char **argv) {
    static const char usage[] =
        "usage: cairn sessions [list]          the last sessions\n"
        "       cairn sessions show SESSION    its turns, tools and bills\n";
    enum { SESSIONS_SHOWN = 100 };
    cn_cli     cli = {.command = "sessions"};
    cn_diag    diag = {0};
    cn_host   *host = NULL;
    cn_buf     buf = {0};
    listing    l = {.cli = &cli, .w = cn_json_writer_on(&buf)};
    const int  operands = cn_cli_parse(&cli, argc, argv, usage, NULL);
    const bool is_show = operands == 2 && strcmp(argv[0], "show") == 0;
    if (!is_show && (operands > 1 || (operands == 1 && strcmp(argv[0], "list") != 0)))
        return cn_cli_usage(&cli, "want one of: list, show SESSION");
    cn_err err = cn_cli_open_host(&cli, &host, &diag);
    cn_json_open(&l.w, '{');
    if (!err && is_show) {
        err = show(&l, host->ledger, argv[1], &diag);
    } else if (!err) {
        cn_json_put_key(&l.w, "sessions");
        cn_json_open(&l.w, '[');
        err = cn_ledger_sessions(host->ledger, NULL, SESSIONS_SHOWN, on_session, &l, &diag);
        cn_json_close(&l.w, ']');
    }
    cn_json_close(&l.w, '}');
    return print_and_close(&l, &buf, err, &diag, host);
}

/* ---- cost -------------------------------------------------------------------------- */

static void on_cost(void *ctx, const cn_ledger_cost *c) {
    listing *l = ctx;
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
        put_text(&l->w, "session", c->session);
        put_number(&l->w, "turn", c->turn);
        put_text(&l->w, "day", c->day);
        put_text(&l->w, "tool", c->tool);
        put_number(&l->w, "turns", c->turns);
        put_number(&l->w, "calls", c->calls);
        put_number(&l->w, "failed", c->failed);
        cn_json_put_key(&l->w, "calls_ms");
        cn_json_put_f64(&l->w, (double)c->calls_ns / 1e6, 6);
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
    cn_buf                   buf = {0};
    listing                  l = {.cli = &cli, .w = cn_json_writer_on(&buf)};
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
    cn_json_open(&l.w, '{');
    put_text(&l.w, "by", by);
    cn_json_put_key(&l.w, "costs");
    cn_json_open(&l.w, '[');
    if (!err)
        err = cn_ledger_costs(host->ledger, (cn_cost_by)kind, s ? s->id : NULL, on_cost, &l, &diag);
    cn_json_close(&l.w, ']');
    cn_json_close(&l.w, '}');
    cn_ledger_session_free(s);
    return print_and_close(&l, &buf, err, &diag, host);
}

/* ---- cache ------------------------------------------------------------------------- */

int cn_cmd_cache(int argc, char **argv) {
    static const char usage[] = "usage: cairn cache stat    what the page store holds\n";
    cn_cli            cli = {.command = "cache"};
    cn_diag           diag = {0};
    cn_host          *host = NULL;
    cn_buf            buf = {0};
    listing           l = {.cli = &cli, .w = cn_json_writer_on(&buf)};
    cn_pages_stats    stats = {0};
    const int         operands = cn_cli_parse(&cli, argc, argv, usage, NULL);
    if (operands != 1 || strcmp(argv[0], "stat") != 0) return cn_cli_usage(&cli, "want: stat");
    cn_err err = cn_cli_open_host(&cli, &host, &diag);
    if (!err) err = cn_pages_stat(host->pages, &stats, &diag);
    const struct {
        const char *key;
        int64_t     value;
    } numbers[] = {{"keys", stats.keys},
                   {"documents", stats.docs},
                   {"pages", stats.pages},
                   {"windows", stats.windows},
                   {"used_bytes", stats.used_bytes},
                   {"budget_bytes", stats.budget_bytes},
                   {"file_bytes", stats.file_bytes},
                   {"corrupt", stats.corrupt},
                   {"evicted", stats.evicted}};
    cn_json_open(&l.w, '{');
    for (size_t i = 0; !err && i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        put_number(&l.w, numbers[i].key, numbers[i].value);
        if (!cli.json) printf("%-14s %18s\n", numbers[i].key, cn_cli_count(numbers[i].value));
    }
    cn_json_close(&l.w, '}');
    return print_and_close(&l, &buf, err, &diag, host);
}
