/* cmd_sessions.c - cairn sessions: conversations listed and shown; its other verbs. */
#include "runtime/cmd_sessions_int.h"
#include "runtime/evidence.h"
#include "runtime/screen.h"

#include <stdio.h>
#include <stdlib.h>
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
        printf("%-16s  %s  %3d turns  %s%s%s", s->id, date(when, s->updated_ns), s->turns, s->repo,
               s->title[0] ? "  " : "", s->title);
        if (s->parent[0]) printf("  (fork of %s at %d)", s->parent, s->forked_at);
        puts("");
        return;
    }
    cn_json_open(&l->w, '{');
    cn_json_field_string(&l->w, "session", s->id);
    cn_json_field_string(&l->w, "repo", s->repo);
    cn_json_field_string(&l->w, "branch", s->branch);
    cn_json_field_string(&l->w, "commit", s->commit);
    cn_json_field_string(&l->w, "title", s->title);
    cn_json_field_string(&l->w, "parent", s->parent);
    cn_json_field_int64(&l->w, "forked_at", s->forked_at);
    cn_json_field_int64(&l->w, "turns", s->turns);
    cn_json_field_int64(&l->w, "head", s->head);
    cn_json_field_int64(&l->w, "created_ns", s->created_ns);
    cn_json_field_int64(&l->w, "updated_ns", s->updated_ns);
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

/* ---- Show ---------------------------------------------------------------------------- */

/* Lines of the calls of each turn, for they stand between question and answer. */
typedef struct called {
    int32_t turn;
    size_t  begin, end; // of text
} called;

typedef struct view {
    cn_listing *out;
    cn_buf      text;
    called     *of; // [turns] that have calls
    int64_t     turns, room;
    cn_err      err;
} view;

static void on_call(void *ctx, const cn_ledger_call *c) {
    view *v = ctx;
    if (v->out->cli->json) {
        cn_print_call(v->out, c);
        return;
    }
    if (v->turns == 0 || v->of[v->turns - 1].turn != c->turn) {
        if (v->turns == v->room) {
            const int64_t room = v->room ? 2 * v->room : 64;
            called       *more = realloc(v->of, (size_t)room * sizeof(*more));
            if (!more) v->err = CN_ENOMEM;
            if (!more) return;
            v->of = more;
            v->room = room;
        }
        v->of[v->turns++] = (called){.turn = c->turn, .begin = v->text.bytes};
    }
    cn_buf_printf(&v->text, "[%s ", c->name);
    cn_buf_put(&v->text, c->arguments.data, c->arguments.bytes);
    cn_buf_printf(&v->text, ": %s, %.1f ms]\n", cn_call_state_name(c->state), (double)c->ns / 1e6);
    v->of[v->turns - 1].end = v->text.bytes;
}

static void print_turn(const view *v, const cn_ledger_turn *t) {
    printf("--- turn %d\n%.*s\n", t->turn, (int)t->question.bytes, (const char *)t->question.data);
    for (int64_t i = 0; i < v->turns; i++)
        if (v->of[i].turn == t->turn)
            fwrite(v->text.data + v->of[i].begin, 1, v->of[i].end - v->of[i].begin, stdout);
    printf(">>> %.*s\n", (int)t->answer.bytes, t->answer.data ? (const char *)t->answer.data : "");
    cn_screen_bill(stdout, t->turn, t->stop, &t->bill);
}

static void on_turn(void *ctx, const cn_ledger_turn *t) {
    view       *v = ctx;
    cn_listing *l = v->out;
    l->rows++;
    if (!l->cli->json) {
        print_turn(v, t);
        return;
    }
    cn_json_open(&l->w, '{');
    cn_json_field_int64(&l->w, "turn", t->turn);
    cn_json_field_string(&l->w, "session", t->session);
    cn_json_field_int64(&l->w, "started_ns", t->started_ns);
    cn_json_field_bytes(&l->w, "question", t->question.data, t->question.bytes);
    cn_json_field_bytes(&l->w, "text", t->answer.data, t->answer.bytes);
    cn_json_field_string(&l->w, "stop", cn_stop_name(t->stop));
    cn_json_put_key(&l->w, "bill");
    cn_bill_put_json(&l->w, &t->bill);
    cn_json_close(&l->w, '}');
}

/* The calls first: without --json they are printed with their turns. */
static cn_err show_session(cn_listing *l, cn_ledger *ledger, const cn_ledger_session *s, void *ctx,
                           cn_diag *diag) {
    view        v = {.out = l};
    const bool *with_evidence = ctx;
    if (!l->cli->json) {
        printf("session %s · %s%s%s · %s turns", s->id, s->repo, s->branch[0] ? " · " : "",
               s->branch, cn_cli_count(s->turns));
        if (s->parent[0]) printf(" · fork of %s at turn %d", s->parent, s->forked_at);
        printf("%s%s\n", s->title[0] ? " · " : "", s->title);
    }
    cn_json_field_string(&l->w, "session", s->id);
    cn_json_field_string(&l->w, "title", s->title);
    cn_json_field_string(&l->w, "repo", s->repo);
    cn_json_field_string(&l->w, "parent", s->parent);
    cn_json_field_int64(&l->w, "forked_at", s->forked_at);
    cn_json_field_int64(&l->w, "open_turn", s->open_turn);
    cn_json_field_open(&l->w, "tools", '[');
    cn_err err = cn_ledger_calls(ledger, s->id, 0, on_call, &v, diag);
    cn_json_close(&l->w, ']');
    if (!err && (v.err || v.text.err)) err = CN_FAIL(diag, CN_ENOMEM, "no memory for the calls");
    cn_json_field_open(&l->w, "turns", '[');
    if (!err) err = cn_ledger_turns(ledger, s->id, 0, on_turn, &v, diag);
    cn_json_close(&l->w, ']');
    cn_buf_release(&v.text);
    free(v.of);
    if (!err && *with_evidence) err = cn_evidence_list(l, ledger, s->id, 0, diag);
    return err;
}

static int show(int argc, char **argv) {
    static const char usage[] =
        "usage: cairn sessions show SESSION [--evidence]\n"
        "       cairn sessions show -c [-C REPO]\n"
        "\n"
        "examples:\n"
        "  cairn sessions show 3f9          a prefix of the id will do\n"
        "  cairn sessions show -c           the last session here\n"
        "  cairn sessions show -c --json    its turns, tools and bills as one object\n"
        "  cairn sessions show 3f9 --evidence    and which lines each answer was read from\n"
        "\n"
        "Each turn of the conversation, those taken over by a fork included: the question, the\n"
        "tool calls, the answer, and what it cost.  Also while another process writes it.\n";
    cn_cli    cli = {.command = "sessions show"};
    cn_pick   pick = {0};
    bool      with_evidence = false;
    cn_option options[CN_PICK_OPTIONS + 2] = {0};
    cn_pick_options(&pick, options);
    options[CN_PICK_OPTIONS] =
        (cn_option){.name = "evidence", .flag = &with_evidence, .help = "lines of each answer"};
    const int left =
        cn_pick_take(&pick, &cli, cn_cli_parse(&cli, argc, argv, usage, options), argv);
    if (left < 0) return CN_EXIT_USAGE;
    if (left > 0) return cn_cli_usage(&cli, "want one SESSION, got \"%s\" too", argv[0]);
    return cn_sessions_run(&cli, &pick, show_session, &with_evidence);
}

/* ---- List ---------------------------------------------------------------------------- */

static int print_sessions(const cn_cli *cli, cn_ledger *ledger, const char *repo, int32_t most) {
    cn_diag    diag = {0};
    cn_listing l;
    cn_listing_begin(&l, cli);
    cn_json_open(&l.w, '{');
    cn_json_field_open(&l.w, "sessions", '[');
    const cn_err err = cn_ledger_sessions(ledger, repo, most, on_session, &l, &diag);
    cn_json_close(&l.w, ']');
    cn_json_close(&l.w, '}');
    return cn_listing_end(&l, err, &diag);
}

enum { SESSIONS_SHOWN = 100 };

int cn_print_sessions(const cn_cli *cli, cn_ledger *ledger) {
    return print_sessions(cli, ledger, NULL, SESSIONS_SHOWN);
}

static int list(int argc, char **argv, const char *command, const char *usage) {
    cn_cli          cli = {.command = command};
    cn_pick         pick = {0};
    cn_diag         diag = {0};
    cn_ledger      *l = NULL;
    char            root[CN_PATH_BYTES];
    int32_t         most = SESSIONS_SHOWN;
    const cn_option options[] = {
        {.name = "repo",
         .letter = 'C',
         .value = &pick.folder,
         .value_name = "REPO",
         .help = "of this repository or folder alone; all"},
        {.name = "most", .letter = 'n', .number = &most, .help = "most sessions to list; 100"},
        {0}};
    if (cn_cli_parse(&cli, argc, argv, usage, options) != 0)
        return cn_cli_usage(&cli, "want no operand, got \"%s\"", argv[0]);
    cn_err err = pick.folder ? cn_pick_root(&pick, root, &diag) : CN_OK;
    if (!err) err = cn_cli_open_ledger(&cli, &l, &diag);
    const int status = err ? cn_cli_fail(&cli, err, &diag)
                           : print_sessions(&cli, l, pick.folder ? root : NULL, most);
    cn_ledger_close(l);
    return status;
}

static int list_verb(int argc, char **argv) {
    static const char usage[] =
        "usage: cairn sessions list [-C REPO]\n"
        "\n"
        "examples:\n"
        "  cairn sessions list             newest first\n"
        "  cairn sessions list -C . -n 5   the last five of this repository\n"
        "  cairn sessions list --json      as one object\n";
    return list(argc, argv, "sessions list", usage);
}

/* ---- The verbs ----------------------------------------------------------------------- */

int cn_sessions_run(const cn_cli *cli, const cn_pick *pick, cn_sessions_fn fn, void *ctx) {
    cn_diag            diag = {0};
    cn_ledger         *l = NULL;
    cn_ledger_session *s = NULL;
    cn_listing         out;
    cn_listing_begin(&out, cli);
    cn_json_open(&out.w, '{');
    cn_err err = cn_cli_open_ledger(cli, &l, &diag);
    if (!err) err = cn_pick_find(pick, l, &s, &diag);
    if (!err) err = fn(&out, l, s, ctx, &diag);
    cn_json_close(&out.w, '}');
    cn_ledger_session_free(s);
    cn_ledger_close(l);
    return cn_listing_end(&out, err, &diag);
}

static const cn_verb verbs[] = {
    {"list", list_verb, "the last sessions"},
    {"show", show, "the turns of a session, their tools and bills"},
    {"fork", cn_cmd_sessions_fork, "a session that goes on behind a turn of another"},
    {"rewind", cn_cmd_sessions_rewind, "take back the last turns of a session"},
    {"compact", cn_cmd_sessions_compact, "a summary in the place of a long conversation"},
    {"rename", cn_cmd_sessions_rename, "give a session a title"},
    {"compact", cn_cmd_sessions_compact, "a summary in the place of a conversation"},
    {"export", cn_cmd_sessions_export, "a session as JSON Lines"},
    {"import", cn_cmd_sessions_import, "a session from JSON Lines"},
    {"rm", cn_cmd_sessions_rm, "remove a session"},
    {0},
};

int cn_cmd_sessions(int argc, char **argv) {
    static const char usage[] =
        "usage: cairn sessions [list]                           the last sessions\n"
        "       cairn sessions show SESSION                     its turns, tools and bills\n"
        "       cairn sessions fork SESSION [--at TURN]         go on behind an earlier turn\n"
        "       cairn sessions rewind SESSION --to TURN         take back turns\n"
        "       cairn sessions compact SESSION                  a summary in its place\n"
        "       cairn sessions rename SESSION TITLE\n"
        "       cairn sessions compact SESSION                  a summary in its place\n"
        "       cairn sessions export SESSION [FILE]            as JSON Lines\n"
        "       cairn sessions import [FILE]\n"
        "       cairn sessions rm SESSION\n"
        "\n"
        "examples:\n"
        "  cairn sessions                       newest first\n"
        "  cairn sessions show 3f9              a prefix of the id will do\n"
        "  cairn sessions show -c               the last session here, wherever SESSION stands\n"
        "  cairn sessions fork 3f9 --at 4       go on behind its turn 4, at next to no prefill\n"
        "  cairn sessions help export           what is said of a verb\n"
        "\n"
        "No model is opened but by compact, and only it, rewind, rename and rm need a session that "
        "no other process\n"
        "writes.\n";
    if (argc > 1 && argv[1][0] != '-') return cn_cli_dispatch("cairn sessions", verbs, argc, argv);
    return list(argc, argv, "sessions", usage);
}
