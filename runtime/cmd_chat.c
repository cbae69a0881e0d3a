/*
 * cmd_chat.c - cairn chat: a conversation about a repository, at a prompt or from a pipe.
 *
 * A line that begins with a slash and letters is a command; all else is a question.  Each
 * turn is the one of cairn ask, in one process: model, pages and conversation stay open.
 */
#include "base/version.h"
#include "runtime/compaction.h"
#include "runtime/evidence.h"
#include "runtime/pick.h"
#include "runtime/prompt.h"
#include "runtime/quote.h"
#include "runtime/screen.h"
#include "runtime/signals.h"
#include "runtime/term.h"
#include "tools/tools.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage_begin[] =
    "usage: cairn chat [-C REPO] [-c | -r SESSION]\n"
    "\n"
    "examples:\n"
    "  cairn chat                    a new session on the repository here\n"
    "  cairn chat -c                 the last session here goes on\n"
    "  cairn chat -r 3f9             this one does, wherever it is\n"
    "  cairn chat <questions.txt     one question a line; no prompt, no escape codes\n"
    "  cairn chat --json <FILE       one JSON object a turn\n"
    "  cairn chat -c --pin           the view stays as it was; --unpin lets it follow again\n"
    "\n"
    "keys:\n"
    "  Ctrl-C           stops the answer and keeps the session; at the prompt, drops the line\n"
    "  Ctrl-D           leaves, on an empty line\n"
    "  Up, Ctrl-R       what was typed before; kept in the state folder\n"
    "  \\ before Enter   the message goes on in the next line; pasted text is one message\n"
    "\n"
    "commands:\n";

static const char usage_end[] =
    "\n"
    "The answer goes to stdout, the rest to stderr.  From a pipe the exit status is that of\n"
    "the worst turn; a question that failed does not keep the next one from being asked.\n"
    "A session in which nothing was asked is not kept.  ~/.editrc is read.\n";

typedef struct chat {
    const cn_cli  *cli;
    cn_prompt_kind kind;
    cn_host       *host;
    cn_session    *session;
    cn_prompt     *prompt;
    int32_t        output_tokens_max;
    int32_t        asked;
    bool           is_new, is_verbose;
    bool           is_price_said;
    int64_t        said_tokens;
    bool           is_over;
} chat;

/* ---- Commands ---------------------------------------------------------------------- */

typedef struct command {
    const char *name, *argument, *help;
    int (*run)(chat *c, const char *argument); // "" for none; an exit status
} command;

static const command *first_command(void); // ends with a zeroed entry

static void put_command(cn_buf *to, const command *k) {
    char text[64];
    snprintf(text, sizeof(text), "/%s%s%s", k->name, *k->argument ? " " : "", k->argument);
    cn_buf_printf(to, "  %-30s %s\n", text, k->help);
}

static int run_help(chat *c, const char *argument) {
    (void)argument;
    cn_listing l;
    cn_listing_begin(&l, c->cli);
    cn_json_open(&l.w, '{');
    cn_json_field_open(&l.w, "commands", '[');
    for (const command *k = first_command(); k->name; k++) {
        if (!c->cli->json) {
            cn_buf line = {0};
            put_command(&line, k);
            fputs(cn_buf_str(&line), stdout);
            cn_buf_release(&line);
            continue;
        }
        cn_json_open(&l.w, '{');
        cn_json_field_string(&l.w, "name", k->name);
        cn_json_field_string(&l.w, "argument", k->argument);
        cn_json_field_string(&l.w, "help", k->help);
        cn_json_close(&l.w, '}');
    }
    cn_json_close(&l.w, ']');
    cn_json_close(&l.w, '}');
    if (!c->cli->json) puts("A \\ before Enter goes on in the next line.  Ctrl-C stops an answer.");
    return cn_listing_end(&l, CN_OK, NULL);
}

static int run_cost(chat *c, const char *argument) {
    const cn_cost_by by = *argument ? cn_cost_by_name(argument) : CN_COST_TURN;
    if (by == CN_COST_COUNT)
        return cn_cli_usage(c->cli, "/cost %s: want turn, session, day or tool", argument);
    return cn_print_costs(c->cli, c->host->ledger, by, cn_session_row(c->session)->id);
}

/* Of the last turn. */
static int run_evidence(chat *c, const char *argument) {
    (void)argument;
    cn_diag            diag = {0};
    cn_listing         l;
    cn_ledger         *ledger = c->host->ledger;
    cn_ledger_session *s = NULL;
    cn_listing_begin(&l, c->cli);
    cn_json_open(&l.w, '{');
    cn_err err = cn_ledger_session_find(ledger, cn_session_row(c->session)->id, &s, &diag);
    if (!err && s->head == 0) err = CN_FAIL(&diag, CN_ENOTFOUND, "nothing was asked yet");
    if (!err) err = cn_evidence_list(&l, ledger, s->id, s->head, &diag);
    cn_ledger_session_free(s);
    cn_json_close(&l.w, '}');
    return cn_listing_end(&l, err, &diag);
}

static int run_context(chat *c, const char *argument) {
    (void)argument;
    cn_diag      diag = {0};
    const cn_err err = cn_context_update(cn_session_context(c->session), &diag);
    return err ? cn_cli_fail(c->cli, err, &diag) : cn_print_context(c->cli, c->session);
}

static int run_tools(chat *c, const char *argument) {
    (void)argument;
    cn_diag        diag = {0};
    cn_listing     l;
    const cn_tool *tool;
    cn_listing_begin(&l, c->cli);
    cn_json_open(&l.w, '{');
    cn_json_field_open(&l.w, "tools", '[');
    for (int32_t i = 0; (tool = cn_tool_at(i)); i++) {
        if (!c->cli->json) {
            printf("  %-12s %s\n", tool->name, tool->help);
            continue;
        }
        cn_json_open(&l.w, '{');
        cn_json_field_string(&l.w, "name", tool->name);
        cn_json_field_string(&l.w, "help", tool->help);
        cn_json_close(&l.w, '}');
    }
    cn_json_close(&l.w, ']');
    cn_json_field_open(&l.w, "calls", '[');
    const cn_err err = cn_ledger_calls(c->host->ledger, cn_session_row(c->session)->id, 0,
                                       cn_print_call, &l, &diag);
    cn_json_close(&l.w, ']');
    cn_json_close(&l.w, '}');
    return cn_listing_end(&l, err, &diag);
}

static int put_compaction(const chat *c, const cn_compact *done) {
    cn_buf         buf = {0};
    cn_json_writer w = cn_json_writer_on(&buf);
    if (!c->cli->json) {
        if (done) cn_compaction_print(stdout, done);
        return CN_EXIT_DONE;
    }
    cn_json_open(&w, '{');
    cn_json_field_string(&w, "session", cn_session_row(c->session)->id);
    cn_json_field_bool(&w, "auto", cn_session_is_compacted_on_its_own(c->session));
    if (done) {
        cn_json_put_key(&w, "compaction");
        cn_compaction_put_json(&w, done);
    }
    cn_json_close(&w, '}');
    return cn_cli_put_json(c->cli, &buf);
}

static int run_compact(chat *c, const char *argument) {
    cn_diag     diag = {0};
    cn_compact *done = NULL;
    cn_err      err;
    const bool  is_on = strcmp(argument, "on") == 0;
    if (*argument && !is_on && strcmp(argument, "off") != 0)
        return cn_cli_usage(c->cli, "/compact %s: want on, off or nothing", argument);
    cn_signals_rearm();
    if (*argument)
        err = cn_session_set_compaction(c->session, is_on, &diag);
    else
        err = cn_compaction_run(&done, c->session, &(cn_compact_opts){0}, &diag);
    const int status = err == CN_ECANCELLED ? CN_EXIT_INTERRUPTED
                       : err                ? cn_cli_fail(c->cli, err, &diag)
                                            : put_compaction(c, done);
    cn_compact_free(done);
    return status;
}

static int run_sessions(chat *c, const char *argument) {
    (void)argument;
    return cn_print_sessions(c->cli, c->host->ledger);
}

/* A turn's number, or what it is without one; -1, and has said so, for another word. */
static int32_t read_turn(chat *c, const char *name, const char *argument, int32_t without) {
    char      *end;
    const long turn = *argument ? strtol(argument, &end, 10) : without;
    if (!*argument || (*end == 0 && turn >= 0 && turn <= INT32_MAX)) return (int32_t)turn;
    cn_cli_usage(c->cli, "/%s %s: want the number of a turn", name, argument);
    return -1;
}

/* "session X ..." or {"session":X,"parent":Y,"turn":N,"tokens":N}. */
static int print_place(chat *c, const char *what, int32_t turn) {
    const cn_ledger_session *row = cn_session_row(c->session);
    cn_listing               l;
    cn_listing_begin(&l, c->cli);
    cn_json_open(&l.w, '{');
    cn_json_field_string(&l.w, "session", row->id);
    cn_json_field_string(&l.w, "parent", row->parent);
    cn_json_field_int64(&l.w, "turn", turn);
    cn_json_field_int64(&l.w, "tokens", cn_session_tokens(c->session));
    cn_json_close(&l.w, '}');
    if (!c->cli->json)
        printf("session %s: %s turn %d, %s tok of conversation\n", row->id, what, turn,
               cn_cli_count(cn_session_tokens(c->session)));
    return cn_listing_end(&l, CN_OK, NULL);
}

static int run_fork(chat *c, const char *argument) {
    cn_diag       diag = {0};
    cn_pick_turns turns;
    const char   *id = cn_session_row(c->session)->id;
    cn_err        err = cn_pick_turns_of(c->host->ledger, id, 0, &turns, &diag);
    if (err) return cn_cli_fail(c->cli, err, &diag);
    const int32_t turn = read_turn(c, "fork", argument, turns.last);
    if (turn < 0) return CN_EXIT_USAGE;
    err = cn_session_fork(c->session, turn, &diag);
    if (err) return cn_cli_fail(c->cli, err, &diag);
    c->is_new = false; // it is kept, also if nobody asks anything
    return print_place(c, "a fork behind", turn);
}

static int run_rewind(chat *c, const char *argument) {
    cn_diag       diag = {0};
    cn_pick_turns turns;
    const char   *id = cn_session_row(c->session)->id;
    cn_err        err = cn_pick_turns_of(c->host->ledger, id, 0, &turns, &diag);
    if (err) return cn_cli_fail(c->cli, err, &diag);
    const int32_t turn = read_turn(c, "rewind", argument, turns.before);
    if (turn < 0) return CN_EXIT_USAGE;
    err = cn_session_rewind(c->session, turn, &diag);
    return err ? cn_cli_fail(c->cli, err, &diag) : print_place(c, "back behind", turn);
}

static int run_quit(chat *c, const char *argument) {
    (void)argument;
    c->is_over = true;
    return CN_EXIT_DONE;
}

static const command commands[] = {
    {"cost", "[turn|session|day|tool]", "what the session cost", run_cost},
    {"evidence", "", "which lines the last answer was read from", run_evidence},
    {"context", "", "what is in the view now, and what the next turn will prefill", run_context},
    {"compact", "[on|off]", "a summary in the place of the conversation; on its own or not",
     run_compact},
    {"tools", "", "what the model may call, and what it called", run_tools},
    {"fork", "[TURN]", "go on as a new session behind a turn, the last one without", run_fork},
    {"rewind", "[TURN]", "take back what came after a turn; without one the last turn", run_rewind},
    {"sessions", "", "the last sessions", run_sessions},
    {"help", "", "this list", run_help},
    {"quit", "", "leave", run_quit},
    {0},
};

static const command *first_command(void) {
    return commands;
}

/* "/word" or "/word argument"; a path like /usr/lib begins a question. */
static bool is_command(const char *text, size_t bytes) {
    size_t word = 1;
    if (bytes == 0 || text[0] != '/') return false;
    while (word < bytes && text[word] >= 'a' && text[word] <= 'z') word++;
    return word == bytes || text[word] == ' ';
}

static int run_command(chat *c, const char *text) {
    char         word[64], argument[64];
    const size_t bytes = strcspn(text + 1, " ");
    snprintf(word, sizeof(word), "%.*s", (int)bytes, text + 1);
    snprintf(argument, sizeof(argument), "%s", text + 1 + bytes + strspn(text + 1 + bytes, " "));
    argument[strcspn(argument, " ")] = 0;
    cn_nearest near = {.word = word};
    for (const command *k = first_command(); k->name; k++) {
        if (strcmp(word, k->name) == 0) return k->run(c, argument);
        cn_nearest_try(&near, k->name);
    }
    fprintf(stderr, "cairn chat: no command /%s", word);
    if (near.best) fprintf(stderr, "; did you mean /%s?", near.best);
    fputs(" (/help lists them)\n", stderr);
    return CN_EXIT_USAGE;
}

/* ---- The conversation -------------------------------------------------------------- */

/* What it is about, and the price of the first turn before it is paid. */
static cn_err greet(chat *c, cn_diag *diag) {
    CN_TRY(cn_context_update(cn_session_context(c->session), diag));
    cn_context              *context = cn_session_context(c->session);
    const cn_ledger_session *row = cn_session_row(c->session);
    const cn_context_plan   *plan = cn_context_get_plan(context);
    cn_context_miss         *miss;
    cn_quote                 price = {.cached_tokens = plan->cached_tokens,
                                      .missing_tokens = plan->missing_tokens,
                                      .prefill_ns = cn_session_prefill_ns(c->session)};
    CN_TRY(cn_context_explain(context, &miss, &price.misses, diag));
    price.miss = miss;
    c->is_price_said = true;
    c->said_tokens = price.missing_tokens;
    cn_term_set_style(stderr, CN_STYLE_DIM);
    fprintf(stderr, "cairn " CN_VERSION " · %s · session %s, %s turns\n", row->repo, row->id,
            cn_cli_count(row->turns));
    cn_quote_print(stderr, &price);
    if (cn_session_pin(c->session)) fputs("the view is pinned (--unpin lets it follow)\n", stderr);
    fputs("/help lists the commands\n", stderr);
    cn_term_set_style(stderr, CN_STYLE_PLAIN);
    cn_context_misses_free(miss, price.misses);
    return CN_OK;
}

static cn_err open_chat(chat *c, const cn_session_opts *where, cn_diag *diag) {
    char history_path[CN_PATH_BYTES];
    CN_TRY(cn_cli_open_host(c->cli, &c->host, diag));
    CN_TRY(cn_session_open(&c->session, c->host, where, diag));
    cn_screen_interrupted(c->session);
    const char *tenant = c->host->tenant;
    snprintf(history_path, sizeof(history_path), "%s/history%s%s", c->host->state_folder,
             *tenant ? "-" : "", tenant);
    if (c->kind != CN_PROMPT_PIPE) CN_TRY(greet(c, diag));
    return cn_prompt_open(&c->prompt, c->kind, history_path, diag);
}

/* Nobody asked anything: an empty session would only be in the way of the next -c. */
static void close_chat(chat *c) {
    char    id[64] = "";
    cn_diag diag = {0};
    if (c->session && c->is_new && c->asked == 0)
        snprintf(id, sizeof(id), "%s", cn_session_row(c->session)->id);
    cn_prompt_close(c->prompt);
    cn_session_close(c->session);
    if (id[0] && cn_ledger_session_del(c->host->ledger, id, &diag))
        fprintf(stderr, "cairn: the empty session %s stays: %s\n", id, diag.text);
    cn_host_close(c->host);
}

static int ask(chat *c, const char *text, size_t bytes) {
    cn_signals_rearm();
    c->asked++;
    const cn_question q = {.text = text,
                           .bytes = bytes,
                           .output_tokens_max = c->output_tokens_max,
                           .is_resumed = !c->is_new && c->asked == 1,
                           .is_verbose = c->is_verbose,
                           .is_said = c->is_price_said,
                           .said_tokens = c->said_tokens};
    c->is_price_said = false; // of what is missing next time nothing was said
    return cn_screen_ask(c->cli, c->session, &q);
}

/* Messages until somebody leaves; the exit status. */
static int converse(chat *c) {
    const bool is_pipe = c->kind == CN_PROMPT_PIPE;
    int        worst = CN_EXIT_DONE;
    while (!c->is_over && !cn_signals_is_leaving()) {
        cn_diag         diag = {0};
        cn_prompt_event event;
        const char     *text;
        size_t          bytes;
        int             status = CN_EXIT_DONE;
        const cn_err    err = cn_prompt_read(c->prompt, &event, &text, &bytes, &diag);
        if (err) {
            status = cn_cli_fail(c->cli, err, &diag);
            if (is_pipe || err != CN_ETOOBIG) return status;
        } else if (event == CN_PROMPT_LEAVE) {
            break;
        } else if (event == CN_PROMPT_INTERRUPT) {
            if (is_pipe) return CN_EXIT_INTERRUPTED;
            cn_signals_rearm();
            fputs("(Ctrl-D or /quit leaves)\n", stderr);
        } else if (is_command(text, bytes)) {
            status = run_command(c, text);
        } else if (strspn(text, " \t\r\n") < bytes) {
            status = ask(c, text, bytes);
            if (is_pipe && status == CN_EXIT_INTERRUPTED) return status;
        }
        if (status > worst) worst = status;
    }
    return is_pipe ? worst : CN_EXIT_DONE;
}

int cn_cmd_chat(int argc, char **argv) {
    cn_cli          cli = {.command = "chat"};
    cn_diag         diag = {0};
    cn_talk         talk = {0};
    cn_session_opts where;
    cn_option       options[CN_TALK_OPTIONS + 1] = {0};
    cn_talk_options(&talk, "resume", 'r', options);
    cn_buf usage = {0};
    cn_buf_put_str(&usage, usage_begin);
    for (const command *k = commands; k->name; k++) put_command(&usage, k);
    cn_buf_put_str(&usage, usage_end);
    const int operands = cn_cli_parse(&cli, argc, argv, cn_buf_str(&usage), options);
    cn_buf_release(&usage);
    if (operands != 0) return cn_cli_usage(&cli, "want no operand, got \"%s\"", argv[0]);
    if (cn_talk_where(&talk, cli.conf, &where))
        return cn_cli_usage(&cli, "-c and -r " CN_TALK_EXCLUDES);
    chat c = {.cli = &cli,
              .kind = cli.json ? CN_PROMPT_PIPE : cn_prompt_find_kind(),
              .output_tokens_max = talk.output_tokens_max,
              .is_new = !talk.is_continued && !talk.id,
              .is_verbose = talk.is_verbose};
    cn_signals_catch(false);
    const cn_err err = open_chat(&c, &where, &diag);
    const int    status = err ? cn_cli_fail(&cli, err, &diag) : converse(&c);
    close_chat(&c);
    return cn_signals_leave(status);
}
