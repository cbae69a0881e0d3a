/* cmd_sessions.c - cairn sessions: conversations, their turns, tools and bills. */
#include "runtime/cli.h"
#include "runtime/evidence.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *date(char out[32], int64_t unix_ns) {
    const time_t seconds = (time_t)(unix_ns / 1000000000);
    struct tm    tm;
    gmtime_r(&seconds, &tm);
    strftime(out, 32, "%Y-%m-%d %H:%M", &tm);
    return out;
}

static void on_session(void *ctx, const cn_ledger_session *s) {
    cn_listing *l = ctx;
    char        when[32];
    l->rows++;
    if (!l->cli->json) {
        printf("%-16s  %s  %3d turns  %s%s%s\n", s->id, date(when, s->updated_ns), s->turns,
               s->repo, s->title[0] ? "  " : "", s->title);
        return;
    }
    cn_json_open(&l->w, '{');
    cn_json_field_string(&l->w, "session", s->id);
    cn_json_field_string(&l->w, "repo", s->repo);
    cn_json_field_string(&l->w, "branch", s->branch);
    cn_json_field_string(&l->w, "commit", s->commit);
    cn_json_field_string(&l->w, "title", s->title);
    cn_json_field_int64(&l->w, "turns", s->turns);
    cn_json_field_int64(&l->w, "head", s->head);
    cn_json_field_int64(&l->w, "created_ns", s->created_ns);
    cn_json_field_int64(&l->w, "updated_ns", s->updated_ns);
    cn_json_close(&l->w, '}');
}

static void on_turn(void *ctx, const cn_ledger_turn *t) {
    cn_listing *l = ctx;
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
    cn_json_field_int64(&l->w, "turn", t->turn);
    cn_json_field_bytes(&l->w, "question", t->question.data, t->question.bytes);
    cn_json_field_bytes(&l->w, "text", t->answer.data, t->answer.bytes);
    cn_json_field_string(&l->w, "stop", cn_stop_name(t->stop));
    cn_json_put_key(&l->w, "bill");
    cn_bill_put_json(&l->w, &t->bill);
    cn_json_close(&l->w, '}');
}

void cn_print_call(void *listing, const cn_ledger_call *c) {
    cn_listing *l = listing;
    l->rows++;
    if (!l->cli->json) {
        printf("    turn %d: %s %.*s: %s, %.1f ms\n", c->turn, c->name, (int)c->arguments.bytes,
               (const char *)c->arguments.data, cn_call_state_name(c->state), (double)c->ns / 1e6);
        return;
    }
    cn_json_open(&l->w, '{');
    cn_json_field_int64(&l->w, "turn", c->turn);
    cn_json_field_string(&l->w, "name", c->name);
    cn_json_field_bytes(&l->w, "arguments", c->arguments.data, c->arguments.bytes);
    cn_json_field_string(&l->w, "state", cn_call_state_name(c->state));
    cn_json_field_f64(&l->w, "ms", (double)c->ns / 1e6, 6);
    cn_json_field_bytes(&l->w, "result", c->result.data, c->result.bytes);
    cn_json_close(&l->w, '}');
}

static cn_err show(cn_listing *l, cn_ledger *ledger, const char *id, bool with_evidence,
                   cn_diag *diag) {
    cn_ledger_session *s;
    CN_TRY(cn_ledger_session_find(ledger, id, &s, diag));
    cn_json_field_string(&l->w, "session", s->id);
    cn_json_field_open(&l->w, "turns", '[');
    cn_err err = cn_ledger_turns(ledger, s->id, 0, on_turn, l, diag);
    cn_json_close(&l->w, ']');
    cn_json_field_open(&l->w, "tools", '[');
    if (!err) err = cn_ledger_calls(ledger, s->id, 0, cn_print_call, l, diag);
    cn_json_close(&l->w, ']');
    if (!err && with_evidence) err = cn_evidence_list(l, ledger, s->id, 0, diag);
    cn_ledger_session_free(s);
    return err;
}

int cn_print_sessions(const cn_cli *cli, cn_ledger *ledger) {
    enum { SESSIONS_SHOWN = 100 };
    cn_diag    diag = {0};
    cn_listing l;
    cn_listing_begin(&l, cli);
    cn_json_open(&l.w, '{');
    cn_json_field_open(&l.w, "sessions", '[');
    const cn_err err = cn_ledger_sessions(ledger, NULL, SESSIONS_SHOWN, on_session, &l, &diag);
    cn_json_close(&l.w, ']');
    cn_json_close(&l.w, '}');
    return cn_listing_end(&l, err, &diag);
}

static int print_session(const cn_cli *cli, cn_ledger *ledger, const char *id, bool with_evidence) {
    cn_diag    diag = {0};
    cn_listing l;
    cn_listing_begin(&l, cli);
    cn_json_open(&l.w, '{');
    const cn_err err = show(&l, ledger, id, with_evidence, &diag);
    cn_json_close(&l.w, '}');
    return cn_listing_end(&l, err, &diag);
}

int cn_cmd_sessions(int argc, char **argv) {
    static const char usage[] =
        "usage: cairn sessions [list]          the last sessions\n"
        "       cairn sessions show SESSION [--evidence]   its turns, tools and bills\n"
        "       cairn sessions compact SESSION a summary in its place\n"
        "\n"
        "examples:\n"
        "  cairn sessions             newest first\n"
        "  cairn sessions show 3f9    a prefix of the id will do\n"
        "  cairn sessions show 3f9 --evidence    and what was read\n"
        "  cairn sessions --json      as one object\n";
    cn_cli cli = {.command = "sessions"};
    if (argc > 1 && strcmp(argv[1], "compact") == 0)
        return cn_cmd_sessions_compact(argc - 1, argv + 1);
    cn_diag         diag = {0};
    cn_host        *host = NULL;
    bool            with_evidence = false;
    const cn_option options[] = {
        {.name = "evidence", .flag = &with_evidence, .help = "with show: lines of each answer"},
        {0},
    };
    const int  operands = cn_cli_parse(&cli, argc, argv, usage, options);
    const bool is_show = operands == 2 && strcmp(argv[0], "show") == 0;
    if (!is_show && (operands > 1 || (operands == 1 && strcmp(argv[0], "list") != 0)))
        return cn_cli_usage(&cli, "want one of: list, show SESSION");
    const cn_err err = cn_cli_open_host(&cli, &host, &diag);
    const int    status = err       ? cn_cli_fail(&cli, err, &diag)
                          : is_show ? print_session(&cli, host->ledger, argv[1], with_evidence)
                                    : cn_print_sessions(&cli, host->ledger);
    cn_host_close(host);
    return status;
}
