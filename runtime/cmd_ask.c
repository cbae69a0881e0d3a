/*
 * cmd_ask.c - cairn ask: one turn over a repository.
 *
 * The answer goes to stdout as it is made; progress and the cost line go to stderr, so that
 * a pipe gets the answer alone.  With --json stdout is one object.
 */
#include "base/clock.h"
#include "runtime/cli.h"
#include "sessions/session.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: cairn ask [-C REPO] [-c | -s SESSION] TEXT\n\n"
    "  cairn ask \"where is main defined?\"        a new session on the repository here\n"
    "  cairn ask -c \"and what does it do?\"       the last session here goes on\n"
    "  cairn ask -C ../other --budget 8192 TEXT  another repository, a smaller view\n";

static atomic_bool is_cancelled;

static void on_interrupt(int signal) {
    (void)signal;
    atomic_store(&is_cancelled, true);
}

typedef struct screen {
    const cn_cli *cli;
    bool          has_bar; // stderr is a terminal
    bool          bar_shown;
    int64_t       begin_ns, drawn_ns;
} screen;

static void end_bar(screen *s) {
    if (s->bar_shown) fputs("\r\033[K", stderr);
    s->bar_shown = false;
}

static void on_text(void *ctx, const char *text, size_t bytes) {
    screen *s = ctx;
    end_bar(s);
    if (s->cli->json) return;
    fwrite(text, 1, bytes, stdout);
    fflush(stdout);
}

static void on_call(void *ctx, const char *name, const char *arguments, cn_call_state state) {
    screen *s = ctx;
    end_bar(s);
    if (!s->cli->json)
        fprintf(stderr, "[%s %s: %s]\n", name, arguments,
                state == CN_CALL_INTENT ? "runs" : cn_call_state_name(state));
}

static void on_prefill(void *ctx, int64_t done, int64_t total) {
    enum { WIDTH = 24, REDRAW_NS = 100000000 };
    screen       *s = ctx;
    const int64_t now = cn_clock_ns();
    if (!s->has_bar || (now - s->drawn_ns < REDRAW_NS && done < total)) return;
    s->drawn_ns = now;
    s->bar_shown = true;
    const double seconds = (double)(now - s->begin_ns) / 1e9;
    const double rate = seconds > 0 ? (double)done / seconds : 0;
    const int    full = (int)(done * WIDTH / total);
    fprintf(stderr, "\r\033[Kprefill [%.*s%.*s] %s of %s tok, %.0f tok/s, %.0f s left", full,
            "########################", WIDTH - full, "........................",
            cn_cli_count(done), cn_cli_count(total), rate,
            rate > 0 ? (double)(total - done) / rate : 0);
}

static double ms(int64_t ns) {
    return (double)ns / 1e6;
}

static void print_bill(const cn_turn *t) {
    const cn_bill *b = cn_turn_bill(t);
    const double   decode_s = (double)(b->decode_ns + b->route_ns + b->attend_ns) / 1e9;
    fprintf(stderr,
            "turn %d · %.2f s · context %s tok: %s cached, %s prefilled · prompt %s tok, prefill "
            "%.0f ms · route %.0f ms · decode %s tok (%.0f tok/s) · saved %.1f s\n",
            cn_turn_number(t), (double)b->wall_ns / 1e9, cn_cli_count(b->context_tokens),
            cn_cli_count(b->cached_tokens), cn_cli_count(b->prefilled_tokens),
            cn_cli_count(b->prompt_tokens), ms(b->prefill_ns), ms(b->route_ns),
            cn_cli_count(b->output_tokens), decode_s > 0 ? (double)b->output_tokens / decode_s : 0,
            (double)b->saved_ns / 1e9);
    const char *path;
    int64_t     tokens;
    for (int64_t i = 0; (path = cn_turn_dropped_at(t, i, &tokens)); i++)
        fprintf(stderr, "dropped %s (%s tok) to keep the budget of long parts\n", path,
                cn_cli_count(tokens));
}

static void put_dropped(cn_json_writer *w, const cn_turn *t) {
    const char *path;
    int64_t     tokens;
    cn_json_put_key(w, "dropped");
    cn_json_open(w, '[');
    for (int64_t i = 0; (path = cn_turn_dropped_at(t, i, &tokens)); i++) {
        cn_json_open(w, '{');
        cn_cli_put_path(w, path, tokens);
        cn_json_close(w, '}');
    }
    cn_json_close(w, ']');
}

static int put_json(const cn_cli *cli, const cn_session *s, const cn_turn *t) {
    cn_buf         buf = {0};
    cn_json_writer w = cn_json_writer_on(&buf);
    cn_json_open(&w, '{');
    cn_json_put_key(&w, "session");
    cn_json_put_string(&w, cn_session_row(s)->id);
    cn_json_put_key(&w, "turn");
    cn_json_put_int64(&w, cn_turn_number(t));
    cn_json_put_key(&w, "text");
    cn_json_put_string(&w, cn_turn_text(t));
    cn_json_put_key(&w, "stop");
    cn_json_put_string(&w, cn_stop_name(cn_turn_stop(t)));
    cn_json_put_key(&w, "bill");
    cn_bill_put_json(&w, cn_turn_bill(t));
    cn_json_put_key(&w, "tools");
    cn_json_open(&w, '[');
    const cn_turn_call *call;
    for (int32_t i = 0; (call = cn_turn_call_at(t, i)); i++) {
        cn_json_open(&w, '{');
        cn_json_put_key(&w, "name");
        cn_json_put_string(&w, call->name);
        cn_json_put_key(&w, "ms");
        cn_json_put_f64(&w, ms(call->ns), 6);
        cn_json_put_key(&w, "state");
        cn_json_put_string(&w, cn_call_state_name(call->state));
        cn_json_close(&w, '}');
    }
    cn_json_close(&w, ']');
    put_dropped(&w, t);
    cn_json_close(&w, '}');
    return cn_cli_put_json(cli, &buf);
}

static int run(const cn_cli *cli, const cn_session_opts *where, const cn_turn_opts *what) {
    cn_diag     diag = {0};
    cn_host    *host = NULL;
    cn_session *s = NULL;
    cn_turn    *t = NULL;
    int         status = CN_EXIT_DONE;
    cn_err      err = cn_cli_open_host(cli, &host, &diag);
    if (!err) err = cn_session_open(&s, host, where, &diag);
    if (!err && cn_session_interrupted(s))
        fprintf(stderr, "cairn: %s\n", cn_session_interrupted(s));
    if (!err) err = cn_turn_begin(&t, s, what, &diag);
    if (!err) err = cn_turn_run(t, &is_cancelled, &diag);
    end_bar(what->ctx);
    if (err) {
        status = cn_cli_fail(cli, err, &diag);
    } else if (cli->json) {
        status = put_json(cli, s, t);
    } else {
        puts("");
        fflush(stdout);
        print_bill(t);
    }
    if (!err && cn_turn_stop(t) == CN_STOP_CANCEL) status = CN_EXIT_INTERRUPTED;
    cn_turn_free(t);
    cn_session_close(s);
    cn_host_close(host);
    return status;
}

int cn_cmd_ask(int argc, char **argv) {
    cn_cli          cli = {.command = "ask"};
    const char     *folder = NULL, *id = NULL;
    bool            is_continued = false, no_daemon = false;
    int32_t         budget = 0, refs_budget = 0, output = 0;
    const cn_option options[] = {
        {.name = "repo", .letter = 'C', .value = &folder, .help = "repository or folder; here"},
        {.name = "continue", .letter = 'c', .flag = &is_continued, .help = "the last session here"},
        {.name = "session", .letter = 's', .value = &id, .help = "a session by its id"},
        {.name = "budget", .number = &budget, .help = "tokens of the view of a new session; 32768"},
        {.name = "refs-budget",
         .number = &refs_budget,
         .help = "tokens of long questions and results in its view; 65536"},
        {.name = "max-tokens", .number = &output, .help = "most tokens of the answer; 1024"},
        {.name = "no-daemon", .flag = &no_daemon, .help = "in this process (the only way yet)"},
        {0},
    };
    const int operands = cn_cli_parse(&cli, argc, argv, usage, options);
    if (operands != 1) return cn_cli_usage(&cli, "want one TEXT, got %d", operands);
    if (is_continued && id) return cn_cli_usage(&cli, "-c and -s exclude each other");
    struct sigaction interrupt = {.sa_handler = on_interrupt, .sa_flags = SA_RESETHAND};
    sigaction(SIGINT, &interrupt, NULL);
    screen view = {
        .cli = &cli, .has_bar = !cli.json && isatty(STDERR_FILENO), .begin_ns = cn_clock_ns()};
    const cn_session_opts where = {.id = id,
                                   .folder = folder || id ? folder : ".",
                                   .is_continued = is_continued,
                                   .budget = budget,
                                   .refs_budget = refs_budget};
    const cn_turn_opts    what = {.question = argv[0],
                                  .question_bytes = strlen(argv[0]),
                                  .output_tokens_max = output,
                                  .on_text = on_text,
                                  .on_call = on_call,
                                  .on_prefill = on_prefill,
                                  .ctx = &view};
    return run(&cli, &where, &what);
}
