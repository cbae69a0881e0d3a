/* screen.c - The callbacks of a turn, and what it cost. */
#include "runtime/screen.h"

#include "base/clock.h"
#include "runtime/compaction.h"
#include "runtime/evidence.h"
#include "runtime/quote.h"
#include "runtime/signals.h"
#include "runtime/term.h"
#include "runtime/usage.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

typedef struct screen {
    const cn_cli *cli;
    bool          has_bar; // stderr is a terminal that can erase a line
    bool          bar_shown;
    bool          mid_line; // the answer's last line has no end yet
    int           lost;     // errno of the first write to stdout that failed; 0: none
    int64_t       prefill_ns, drawn_ns;
} screen;

static void end_bar(screen *s) {
    if (s->bar_shown) cn_term_put_escape(stderr, CN_TERM_ERASE_LINE);
    s->bar_shown = false;
}

/* A reader that went away ends the turn; any other failure is said when it is over. */
static void flush_answer(screen *s) {
    if (fflush(stdout) == 0 || s->lost) return;
    s->lost = errno;
    if (s->lost == EPIPE) cn_signals_lost_stdout();
}

static void on_text(void *ctx, const char *text, size_t bytes) {
    screen *s = ctx;
    end_bar(s);
    if (s->cli->json) return;
    fwrite(text, 1, bytes, stdout);
    flush_answer(s);
    s->mid_line = text[bytes - 1] != '\n';
}

static void on_call(void *ctx, const char *name, const char *arguments, cn_call_state state) {
    screen *s = ctx;
    end_bar(s);
    if (s->cli->json) return;
    // On a screen the two streams share lines; in a pipe the answer stays as it is.
    if (s->mid_line && cn_term_is_tty(stdout) && cn_term_is_tty(stderr)) {
        puts("");
        s->mid_line = false;
    }
    cn_term_set_style(stderr, CN_STYLE_DIM);
    fprintf(stderr, "[%s %s: %s]\n", name, arguments,
            state == CN_CALL_INTENT ? "runs" : cn_call_state_name(state));
    cn_term_set_style(stderr, CN_STYLE_PLAIN);
}

static void on_prefill(void *ctx, int64_t done, int64_t total) {
    enum { WIDTH = 24, REDRAW_NS = 100000000 };
    screen       *s = ctx;
    const int64_t now = cn_clock_ns();
    if (!s->has_bar || (now - s->drawn_ns < REDRAW_NS && done < total)) return;
    s->drawn_ns = now;
    s->bar_shown = true;
    const double seconds = (double)(now - s->prefill_ns) / 1e9;
    const double rate = seconds > 0 ? (double)done / seconds : 0;
    const int    full = (int)(done * WIDTH / total);
    char         text[160];
    snprintf(text, sizeof(text), "prefill [%.*s%.*s] %s of %s tok, %.0f tok/s, %.0f s left", full,
             "########################", WIDTH - full, "........................",
             cn_cli_count(done), cn_cli_count(total), rate,
             rate > 0 ? (double)(total - done) / rate : 0);
    cn_term_put_escape(stderr, CN_TERM_ERASE_LINE);
    fprintf(stderr, "%.*s", cn_term_columns(stderr) - 1, text); // what wraps cannot be erased
}

static double ms(int64_t ns) {
    return (double)ns / 1e6;
}

/* What this turn will prefill, or has: of the view, when it began. */
static cn_quote price_of(const cn_session *s, const cn_turn *t) {
    const cn_bill *b = cn_turn_bill(t);
    cn_quote       p = {.cached_tokens = b->cached_tokens,
                        .missing_tokens = b->prefilled_tokens,
                        .prefill_ns = cn_session_prefill_ns(s)};
    p.miss = cn_turn_missed(t, &p.misses);
    return p;
}

static void print_price(const cn_quote *p) {
    cn_term_set_style(stderr, CN_STYLE_DIM);
    cn_quote_print(stderr, p);
    cn_term_set_style(stderr, CN_STYLE_PLAIN);
}

/* "view pinned at 1a2b3c4 (main)", a line: the view is not what the folder holds. */
static void print_pin(const cn_session *s) {
    const cn_ledger_pin *pin = cn_session_pin(s);
    if (!pin) return;
    fputs("view pinned", stderr);
    if (pin->commit[0]) fprintf(stderr, " at %.7s", pin->commit);
    if (pin->branch[0]) fprintf(stderr, " (%s)", pin->branch);
    fputc('\n', stderr);
}

static void print_evidence(const cn_turn *t) {
    cn_term_set_style(stderr, CN_STYLE_DIM);
    cn_evidence_print(stderr, cn_turn_evidence(t));
    cn_term_set_style(stderr, CN_STYLE_PLAIN);
}

void cn_screen_bill(FILE *to, int32_t turn, cn_stop stop, const cn_bill *b) {
    const double decode_s = (double)(b->decode_ns + b->route_ns + b->attend_ns) / 1e9;
    const bool   is_whole = stop == CN_STOP_END;
    cn_term_set_style(to, CN_STYLE_DIM);
    fprintf(to,
            "turn %d%s%s · %.2f s · context %s tok: %s cached, %s prefilled · prompt %s tok, "
            "prefill %.0f ms · route %.0f ms · decode %s tok (%.0f tok/s)",
            turn, is_whole ? "" : " · stopped: ", is_whole ? "" : cn_stop_name(stop),
            (double)b->wall_ns / 1e9, cn_cli_count(b->context_tokens),
            cn_cli_count(b->cached_tokens), cn_cli_count(b->prefilled_tokens),
            cn_cli_count(b->prompt_tokens), ms(b->prefill_ns), ms(b->route_ns),
            cn_cli_count(b->output_tokens), decode_s > 0 ? (double)b->output_tokens / decode_s : 0);
    if (b->no_cache_ns) fprintf(to, " · saved %.1f s", (double)b->saved_ns / 1e9);
    fputc('\n', to);
    cn_term_set_style(to, CN_STYLE_PLAIN);
}

static void print_bill(const cn_session *s, const cn_turn *t) {
    cn_screen_bill(stderr, cn_turn_number(t), cn_turn_stop(t), cn_turn_bill(t));
    print_pin(s);
    const char *path;
    int64_t     tokens;
    for (int64_t i = 0; (path = cn_turn_dropped_at(t, i, &tokens)); i++)
        fprintf(stderr, "dropped %s (%s tok) to keep the budget of long parts\n", path,
                cn_cli_count(tokens));
}

static void put_dropped(cn_json_writer *w, const cn_turn *t) {
    const char *path;
    int64_t     tokens;
    cn_json_field_open(w, "dropped", '[');
    for (int64_t i = 0; (path = cn_turn_dropped_at(t, i, &tokens)); i++) {
        cn_json_open(w, '{');
        cn_cli_put_path(w, path, tokens);
        cn_json_close(w, '}');
    }
    cn_json_close(w, ']');
}

static int put_json(const cn_cli *cli, const cn_session *s, const cn_turn *t, const cn_quote *price,
                    const cn_compact *before) {
    cn_buf         buf = {0};
    cn_json_writer w = cn_json_writer_on(&buf);
    cn_json_open(&w, '{');
    cn_json_field_string(&w, "session", cn_session_row(s)->id);
    cn_json_field_int64(&w, "turn", cn_turn_number(t));
    cn_json_field_string(&w, "text", cn_turn_text(t));
    cn_json_field_string(&w, "stop", cn_stop_name(cn_turn_stop(t)));
    cn_json_put_key(&w, "bill");
    cn_bill_put_json(&w, cn_turn_bill(t));
    cn_json_field_open(&w, "tools", '[');
    const cn_turn_call *call;
    for (int32_t i = 0; (call = cn_turn_call_at(t, i)); i++) {
        cn_json_open(&w, '{');
        cn_json_field_string(&w, "name", call->name);
        cn_json_field_f64(&w, "ms", ms(call->ns), 6);
        cn_json_field_string(&w, "state", cn_call_state_name(call->state));
        cn_json_close(&w, '}');
    }
    cn_json_close(&w, ']');
    cn_evidence_put_json(&w, cn_turn_evidence(t));
    put_dropped(&w, t);
    cn_quote now = *price;
    now.miss = cn_turn_missed(t, &now.misses);
    cn_quote_put_json(&w, &now);
    cn_json_field_bool(&w, "pinned", cn_session_pin(s) != NULL);
    cn_usage_put_json(&w, cn_usage_now());
    if (before) {
        cn_json_put_key(&w, "compaction");
        cn_compaction_put_json(&w, before);
    }
    cn_json_close(&w, '}');
    return cn_cli_put_json(cli, &buf);
}

int cn_screen_ask(const cn_cli *cli, cn_session *s, const cn_question *q) {
    screen             view = {.cli = cli, .has_bar = !cli->json && cn_term_is_smart(stderr)};
    cn_diag            diag = {0};
    cn_turn           *t = NULL;
    cn_compact        *before = NULL;
    int                status = CN_EXIT_DONE;
    const cn_turn_opts opts = {.question = q->text,
                               .question_bytes = q->bytes,
                               .output_tokens_max = q->output_tokens_max,
                               .on_text = on_text,
                               .on_call = on_call,
                               .on_prefill = on_prefill,
                               .ctx = &view};
    cn_err   err = cn_compaction_run_if_due(&before, s, q->bytes, q->output_tokens_max, &diag);
    cn_quote price = {0};
    if (before && !cli->json) {
        cn_term_set_style(stderr, CN_STYLE_DIM);
        cn_compaction_print(stderr, before);
        cn_term_set_style(stderr, CN_STYLE_PLAIN);
    }
    if (!err) err = cn_turn_begin(&t, s, &opts, &diag);
    if (!err) price = price_of(s, t);
    const bool is_said = q->is_said && q->said_tokens == price.missing_tokens;
    if (!err && !cli->json && !is_said && (q->is_resumed || price.missing_tokens))
        print_price(&price);
    view.prefill_ns = cn_clock_ns();
    if (!err) err = cn_turn_run(t, cn_signals_cancel(), &diag);
    end_bar(&view);
    if (!err && cli->json) status = put_json(cli, s, t, &price, before);
    if (view.mid_line) puts("");
    flush_answer(&view);
    if (!err && view.lost && view.lost != EPIPE)
        err = CN_FAIL(&diag, CN_EIO, "the answer cannot be written: %s", strerror(view.lost));
    if (err == CN_ECANCELLED) // while it was compacted: nothing was asked
        status = CN_EXIT_INTERRUPTED;
    else if (err)
        status = cn_cli_fail(cli, err, &diag);
    if (!err && !cli->json && q->with_evidence) print_evidence(t);
    if (!err && !cli->json) print_bill(s, t);
    if (!err && !cli->json && q->is_verbose) {
        price = price_of(s, t);
        cn_quote_print_misses(stderr, &price);
    }
    if (!err && cn_turn_stop(t) == CN_STOP_CANCEL) status = CN_EXIT_INTERRUPTED;
    if (!err && cn_turn_stop(t) == CN_STOP_BUDGET) status = CN_EXIT_BUDGET;
    cn_turn_free(t);
    cn_compact_free(before);
    return status;
}

void cn_screen_interrupted(const cn_session *s) {
    if (cn_session_interrupted(s)) fprintf(stderr, "cairn: %s\n", cn_session_interrupted(s));
    if (cn_session_moved_from(s))
        fprintf(stderr, "cairn: session %s has moved from %s to %s\n", cn_session_row(s)->id,
                cn_session_moved_from(s), cn_session_row(s)->repo);
}

void cn_talk_options(cn_talk *t, const char *name, char letter, cn_option out[CN_TALK_OPTIONS]) {
    out[0] = (cn_option){.name = "repo",
                         .letter = 'C',
                         .value = &t->folder,
                         .value_name = "REPO",
                         .help = "repository or folder; here"};
    out[1] = (cn_option){.name = "continue",
                         .letter = 'c',
                         .flag = &t->is_continued,
                         .help = "the last session here"};
    out[2] = (cn_option){.name = name,
                         .letter = letter,
                         .value = &t->id,
                         .value_name = "SESSION",
                         .help = "a session by its id"};
    out[3] = (cn_option){.name = "budget",
                         .number = &t->budget,
                         .help = "tokens of the view of a new session; 32768"};
    out[4] = (cn_option){.name = "refs-budget",
                         .number = &t->refs_budget,
                         .help = "tokens of long questions and results in its view; 65536"};
    out[5] = (cn_option){.name = "max-tokens",
                         .number = &t->output_tokens_max,
                         .help = "most tokens of an answer; 1024"};
    out[6] = (cn_option){
        .name = "pin", .flag = &t->pin, .help = "the view stays as it was, until --unpin"};
    out[7] = (cn_option){
        .name = "unpin", .flag = &t->unpin, .help = "the view follows the repository again"};
    out[8] = (cn_option){.name = "verbose",
                         .flag = &t->is_verbose,
                         .help = "each missing document, and why it was missing"};
}

cn_err cn_talk_where(const cn_talk *t, const cn_conf *conf, cn_session_opts *out) {
    *out = (cn_session_opts){.id = t->id,
                             .folder = t->folder || t->id ? t->folder : ".",
                             .is_continued = t->is_continued,
                             .budget = cn_conf_int64(conf, CN_CONF_BUDGET),
                             .refs_budget = cn_conf_int64(conf, CN_CONF_REFS_BUDGET),
                             .pin = t->pin     ? CN_PIN_ON
                                    : t->unpin ? CN_PIN_OFF
                                               : CN_PIN_AS_IT_IS};
    return (t->id && t->is_continued) || (t->pin && t->unpin) ? CN_EINVAL : CN_OK;
}
