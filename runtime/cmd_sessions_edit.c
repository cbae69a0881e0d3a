/* cmd_sessions_edit.c - cairn sessions fork, rewind, rename, rm: rows of the ledger, no model. */
#include "runtime/cmd_sessions_int.h"

#include <stdio.h>
#include <string.h>

/* ---- Fork ---------------------------------------------------------------------------- */

static cn_err fork_session(cn_listing *out, cn_ledger *l, const cn_ledger_session *s, void *ctx,
                           cn_diag *diag) {
    int32_t            turn = *(const int32_t *)ctx;
    cn_pick_turns      turns;
    cn_ledger_session *fork;
    if (turn < 0) {
        CN_TRY(cn_pick_turns_of(l, s->id, 0, &turns, diag));
        turn = turns.last;
    }
    CN_TRY(cn_ledger_session_fork(l, s->id, turn, NULL, &fork, diag));
    if (!out->cli->json) printf("session %s: a fork of %s behind turn %d\n", fork->id, s->id, turn);
    cn_json_field_string(&out->w, "session", fork->id);
    cn_json_field_string(&out->w, "parent", s->id);
    cn_json_field_int64(&out->w, "turn", turn);
    cn_ledger_session_free(fork);
    return CN_OK;
}

int cn_cmd_sessions_fork(int argc, char **argv) {
    static const char usage[] =
        "usage: cairn sessions fork SESSION [--at TURN]\n"
        "       cairn sessions fork -c [-C REPO] [--at TURN]\n"
        "\n"
        "examples:\n"
        "  cairn sessions fork 3f9 --at 4    a session that goes on behind turn 4 of 3f9...\n"
        "  cairn sessions fork -c            of the last session here, behind its last turn\n"
        "\n"
        "The new session shares the turns up to TURN, the documents and their pages; neither\n"
        "sees what the other says from then on.  A row is written, nothing is copied.  Behind a\n"
        "recent turn the first question replays nothing; behind an older one a few thousand\n"
        "tokens of the conversation at most, billed as prompt tokens.  Also while another process\n"
        "writes the session: behind its last finished turn.\n";
    cn_cli    cli = {.command = "sessions fork"};
    cn_pick   pick = {0};
    int32_t   at = -1;
    cn_option options[CN_PICK_OPTIONS + 2] = {0};
    cn_pick_options(&pick, options);
    options[CN_PICK_OPTIONS] = (cn_option){.name = "at",
                                           .number = &at,
                                           .value_name = "TURN",
                                           .help = "the last turn to keep, 0 for none; the last"};
    const int left =
        cn_pick_take(&pick, &cli, cn_cli_parse(&cli, argc, argv, usage, options), argv);
    if (left < 0) return CN_EXIT_USAGE;
    if (left > 0) return cn_cli_usage(&cli, "want one SESSION, got \"%s\" too", argv[0]);
    return cn_sessions_run(&cli, &pick, fork_session, &at);
}

/* ---- Rewind -------------------------------------------------------------------------- */

static cn_err rewind_writer(cn_ledger_writer *w, const cn_ledger_opened *opened, int32_t to,
                            cn_diag *diag) {
    if (opened->open_turn) // a crash left it: nobody runs it, or we were not the writer
        CN_TRY(cn_ledger_turn_finish(w, CN_STOP_ERROR, (cn_ledger_text){0}, NULL, NULL, 0, diag));
    return cn_ledger_rewind(w, to, diag);
}

static cn_err rewind_session(cn_listing *out, cn_ledger *l, const cn_ledger_session *s, void *ctx,
                             cn_diag *diag) {
    const int32_t     to = *(const int32_t *)ctx;
    cn_pick_turns     turns;
    cn_ledger_writer *w;
    cn_ledger_opened  opened;
    CN_TRY(cn_ledger_writer_open(&w, l, s->id, &opened, diag));
    cn_err err = cn_pick_turns_of(l, s->id, to, &turns, diag);
    if (!err) err = rewind_writer(w, &opened, to, diag);
    cn_ledger_writer_close(w);
    CN_TRY(err);
    if (!out->cli->json)
        printf("session %s: %s turns taken back, turn %d is the last one\n", s->id,
               cn_cli_count(turns.behind), to);
    cn_json_field_string(&out->w, "session", s->id);
    cn_json_field_int64(&out->w, "turn", to);
    cn_json_field_int64(&out->w, "taken_back", turns.behind);
    return CN_OK;
}

int cn_cmd_sessions_rewind(int argc, char **argv) {
    static const char usage[] =
        "usage: cairn sessions rewind SESSION --to TURN\n"
        "       cairn sessions rewind -c [-C REPO] --to TURN\n"
        "\n"
        "examples:\n"
        "  cairn sessions rewind 3f9 --to 4    turns 5 and later are taken back\n"
        "  cairn sessions rewind -c --to 0     the last session here begins anew\n"
        "\n"
        "Turns that are taken back leave the conversation; they stay on the bill, and forks that\n"
        "stand on them keep them.  To keep them in reach yourself, fork first.\n";
    cn_cli    cli = {.command = "sessions rewind"};
    cn_pick   pick = {0};
    int32_t   to = -1;
    cn_option options[CN_PICK_OPTIONS + 2] = {0};
    cn_pick_options(&pick, options);
    options[CN_PICK_OPTIONS] = (cn_option){.name = "to",
                                           .number = &to,
                                           .value_name = "TURN",
                                           .help = "the last turn to keep; 0: none"};
    const int left =
        cn_pick_take(&pick, &cli, cn_cli_parse(&cli, argc, argv, usage, options), argv);
    if (left < 0) return CN_EXIT_USAGE;
    if (left > 0) return cn_cli_usage(&cli, "want one SESSION, got \"%s\" too", argv[0]);
    if (to < 0) return cn_cli_usage(&cli, "to which turn? --to TURN");
    return cn_sessions_run(&cli, &pick, rewind_session, &to);
}

/* ---- Rename -------------------------------------------------------------------------- */

static cn_err rename_session(cn_listing *out, cn_ledger *l, const cn_ledger_session *s, void *ctx,
                             cn_diag *diag) {
    const char       *title = ctx;
    cn_ledger_writer *w;
    CN_TRY(cn_ledger_writer_open(&w, l, s->id, NULL, diag));
    const cn_err err = cn_ledger_session_edit(w, &(cn_ledger_edit){.title = title}, diag);
    cn_ledger_writer_close(w);
    CN_TRY(err);
    if (!out->cli->json) printf("session %s: %s\n", s->id, title);
    cn_json_field_string(&out->w, "session", s->id);
    cn_json_field_string(&out->w, "title", title);
    return CN_OK;
}

int cn_cmd_sessions_rename(int argc, char **argv) {
    static const char usage[] =
        "usage: cairn sessions rename SESSION TITLE\n"
        "       cairn sessions rename -c [-C REPO] TITLE\n"
        "\n"
        "examples:\n"
        "  cairn sessions rename 3f9 \"the parser\"    as cairn sessions lists it\n"
        "  cairn sessions rename -c \"\"               no title\n";
    cn_cli    cli = {.command = "sessions rename"};
    cn_pick   pick = {0};
    cn_option options[CN_PICK_OPTIONS + 1] = {0};
    cn_pick_options(&pick, options);
    const int left =
        cn_pick_take(&pick, &cli, cn_cli_parse(&cli, argc, argv, usage, options), argv);
    if (left < 0) return CN_EXIT_USAGE;
    if (left != 1) return cn_cli_usage(&cli, "want one TITLE, got %d words: quote it", left);
    return cn_sessions_run(&cli, &pick, rename_session, argv[0]);
}

/* ---- Remove -------------------------------------------------------------------------- */

typedef struct going {
    int64_t turns, calls;
} going;

static void on_cost(void *ctx, const cn_ledger_cost *c) {
    *(going *)ctx = (going){c->turns, c->calls};
}

static cn_err remove_session(cn_listing *out, cn_ledger *l, const cn_ledger_session *s, void *ctx,
                             cn_diag *diag) {
    const bool dry_run = *(const bool *)ctx;
    going      g = {0};
    CN_TRY(cn_ledger_costs(l, CN_COST_SESSION, s->id, on_cost, &g, diag));
    if (!dry_run) CN_TRY(cn_ledger_session_del(l, s->id, diag));
    if (!out->cli->json)
        printf("%s session %s%s%s: %s turns with their answers and bills, %s tool calls\n"
               "(its pages leave the cache when room is needed)\n",
               dry_run ? "would remove" : "removed", s->id, s->title[0] ? " " : "", s->title,
               cn_cli_count(g.turns), cn_cli_count(g.calls));
    cn_json_field_string(&out->w, "session", s->id);
    cn_json_field_string(&out->w, "title", s->title);
    cn_json_field_int64(&out->w, "turns", g.turns);
    cn_json_field_int64(&out->w, "calls", g.calls);
    cn_json_field_bool(&out->w, "removed", !dry_run);
    return CN_OK;
}

int cn_cmd_sessions_rm(int argc, char **argv) {
    static const char usage[] =
        "usage: cairn sessions rm SESSION [--dry-run]\n"
        "       cairn sessions rm -c [-C REPO] [--dry-run]\n"
        "\n"
        "examples:\n"
        "  cairn sessions rm 3f9              for good\n"
        "  cairn sessions rm 3f9 --dry-run    say what would go\n"
        "\n"
        "Questions, answers, tool calls and bills of the session go, turns that were taken back\n"
        "included; their bytes are overwritten.  A session that has forks stays: remove those\n"
        "first.  So does one that another process writes.\n";
    cn_cli    cli = {.command = "sessions rm"};
    cn_pick   pick = {0};
    bool      dry_run = false;
    cn_option options[CN_PICK_OPTIONS + 2] = {0};
    cn_pick_options(&pick, options);
    options[CN_PICK_OPTIONS] =
        (cn_option){.name = "dry-run", .flag = &dry_run, .help = "remove nothing"};
    const int left =
        cn_pick_take(&pick, &cli, cn_cli_parse(&cli, argc, argv, usage, options), argv);
    if (left < 0) return CN_EXIT_USAGE;
    if (left > 0) return cn_cli_usage(&cli, "want one SESSION, got \"%s\" too", argv[0]);
    return cn_sessions_run(&cli, &pick, remove_session, &dry_run);
}
