/* cmd_bench_replay.c - cairn bench replay: does a recorded session say the same again? */
#include "base/file.h"
#include "runtime/cli.h"
#include "runtime/scratch.h"
#include "runtime/signals.h"
#include "sessions/replay.h"
#include "store/export.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char usage[] =
    "usage: cairn bench replay [-C REPO] [--keep-going] SESSION\n"
    "       cairn bench replay [-C REPO] [--keep-going] FILE     of cairn sessions export\n"
    "\n"
    "examples:\n"
    "  cairn bench replay 3f9                 identical, or the first token that is not\n"
    "  cairn bench replay 3f9 --keep-going    all turns, whatever departs\n"
    "  cairn bench replay 3f9 --json          the same as one object\n"
    "  cairn bench replay -C . talk.jsonl     an export, on the repository as it lies here\n"
    "\n"
    "The turns are run again, greedy, over the documents that each step ran over, with the\n"
    "results that the ledger has: no tool is run, nothing is written.  Compared are the tokens\n"
    "that the model chose, and those of questions and results with their texts.  Documents\n"
    "come from the page store, or from the repository if they are still the same; a turn whose\n"
    "documents are gone is not judged.  Exit status 0: identical; 1: not, or not all of it.\n";

typedef struct output {
    const cn_cli  *cli;
    cn_buf         buf;
    cn_json_writer w;
} output;

static double ms(int64_t ns) {
    return (double)ns / 1e6;
}

static void put_turn(cn_json_writer *w, const cn_replay_turn *t) {
    cn_json_open(w, '{');
    cn_json_field_int64(w, "turn", t->turn);
    cn_json_field_string(w, "state", cn_replay_state_name(t->state));
    cn_json_field_string(w, "origin", cn_origin_name(t->origin));
    cn_json_field_string(w, "stop", cn_stop_name(t->stop));
    cn_json_field_int64(w, "steps", t->steps);
    cn_json_field_int64(w, "sampled", t->sampled);
    cn_json_field_int64(w, "given", t->given);
    cn_json_field_int64(w, "departed", t->departed);
    cn_json_field_int64(w, "not_judged", t->not_judged);
    cn_json_field_int64(w, "prefilled_tokens", t->prefilled_tokens);
    cn_json_field_int64(w, "assumed_documents", t->assumed);
    cn_json_field_f64(w, "ms", ms(t->ns), 6);
    cn_json_field_f64(w, "recorded_ms", ms(t->recorded_ns), 6);
    cn_json_field_open(w, "lost", '[');
    for (int64_t i = 0; t->lost && i < t->lost->lost_documents; i++) {
        cn_json_open(w, '{');
        cn_cli_put_path(w, t->lost->lost[i].path, t->lost->lost[i].tokens);
        cn_json_field_int64(w, "first_line", t->lost->lost[i].first_line);
        cn_json_field_int64(w, "lines", t->lost->lost[i].lines);
        cn_json_close(w, '}');
    }
    cn_json_close(w, ']');
    cn_json_close(w, '}');
}

static void print_turn(const cn_replay_turn *t) {
    printf("turn %-4d %-9s  %s tok chosen, %s given  %.2f s, recorded %.2f s%s%s\n", t->turn,
           cn_replay_state_name(t->state), cn_cli_count(t->sampled), cn_cli_count(t->given),
           (double)t->ns / 1e9, (double)t->recorded_ns / 1e9,
           t->origin == CN_ORIGIN_ASKED ? "" : "  ",
           t->origin == CN_ORIGIN_ASKED ? "" : cn_origin_name(t->origin));
    if (t->assumed)
        printf("          %s documents were recorded elsewhere: files of the same shape stand for "
               "them\n",
               cn_cli_count(t->assumed));
    if (!t->lost || !t->lost->lost_documents) return;
    const cn_past_lost *l = &t->lost->lost[0];
    printf("          cannot be had any more: %s lines %d-%d", l->path, l->first_line,
           l->first_line + (l->lines ? l->lines - 1 : 0));
    if (t->lost->lost_documents > 1)
        printf(", and %s more documents", cn_cli_count(t->lost->lost_documents - 1));
    printf(" (%s tok)\n", cn_cli_count(t->lost->lost_tokens));
}

static void on_turn(void *ctx, const cn_replay_turn *t) {
    output *o = ctx;
    if (o->cli->json)
        put_turn(&o->w, t);
    else
        print_turn(t);
    fflush(stdout);
}

/* A text on one line. */
static void print_text(const char *name, const cn_buf *text) {
    printf("  %s  ", name);
    for (size_t i = 0; i < text->bytes; i++) {
        if (text->data[i] == '\n')
            fputs("\\n", stdout);
        else
            putchar(text->data[i]);
    }
    puts("");
}

static void print_departure(const cn_replay_departure *d) {
    printf("\nturn %d, step %d, token %lld%s: recorded %d, replayed %d\n", d->turn, d->step,
           (long long)d->token, d->is_given ? ", of a text" : "", d->recorded, d->replayed);
    print_text("before  ", &d->before);
    print_text("recorded", &d->recorded_text);
    print_text("replayed", &d->replayed_text);
}

static void put_departure(cn_json_writer *w, const cn_replay_departure *d) {
    cn_json_field_open(w, "departure", '{');
    cn_json_field_int64(w, "turn", d->turn);
    cn_json_field_int64(w, "step", d->step);
    cn_json_field_int64(w, "token", d->token);
    cn_json_field_string(w, "kind", d->is_given ? "given" : "sampled");
    cn_json_field_int64(w, "recorded", d->recorded);
    cn_json_field_int64(w, "replayed", d->replayed);
    cn_json_field_bytes(w, "before", cn_buf_str(&d->before), d->before.bytes);
    cn_json_field_bytes(w, "recorded_text", cn_buf_str(&d->recorded_text), d->recorded_text.bytes);
    cn_json_field_bytes(w, "replayed_text", cn_buf_str(&d->replayed_text), d->replayed_text.bytes);
    cn_json_close(w, '}');
}

static void print_result(const cn_replay_result *r) {
    if (r->departed) print_departure(&r->first);
    if (cn_replay_is_identical(r)) {
        printf("identical: %s turns, %s tok compared", cn_cli_count(r->turns),
               cn_cli_count(r->compared));
        if (r->given_turns) printf("; %s turns given", cn_cli_count(r->given_turns));
        puts("");
        return;
    }
    printf("not identical: %s of %s tok depart", cn_cli_count(r->departed),
           cn_cli_count(r->compared));
    if (r->lost_turns) printf("; %s turns were not judged", cn_cli_count(r->lost_turns));
    puts(r->is_whole ? "" : "; stopped there (--keep-going goes on)");
}

static int put_result(output *o, const cn_replay_result *r, const char *session) {
    cn_json_close(&o->w, ']');
    cn_json_field_string(&o->w, "session", session);
    cn_json_field_bool(&o->w, "identical", cn_replay_is_identical(r));
    cn_json_field_bool(&o->w, "whole", r->is_whole);
    cn_json_field_int64(&o->w, "compared_tokens", r->compared);
    cn_json_field_int64(&o->w, "departed_tokens", r->departed);
    cn_json_field_int64(&o->w, "lost_turns", r->lost_turns);
    if (r->departed) put_departure(&o->w, &r->first);
    cn_json_close(&o->w, '}');
    return cn_cli_put_json(o->cli, &o->buf);
}

typedef struct request {
    const char *what, *folder;
    bool        keeps_going;
} request;

/* What is replayed: a session of the ledger, or an export in a ledger of its own. */
typedef struct record {
    cn_ledger         *ledger; // NULL: the host's
    cn_ledger_session *row;    // of an export
    char               scratch[CN_SCRATCH_PATH_BYTES];
} record;

static bool is_file(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static cn_err open_export(record *r, const char *path, cn_diag *diag) {
    char   dir[CN_SCRATCH_PATH_BYTES + 16];
    cn_buf text = {0};
    CN_TRY(cn_scratch_make(r->scratch, NULL, diag));
    snprintf(dir, sizeof(dir), "%s/ledger", r->scratch);
    CN_TRY(cn_ledger_open(&r->ledger, &(cn_ledger_opts){.dir = dir}, diag));
    cn_err err = cn_file_read(&text, path, CN_EXPORT_BYTES_MAX, diag);
    if (!err)
        err = cn_ledger_import(
            r->ledger, &(cn_import){.text = cn_buf_str(&text), .bytes = text.bytes, .name = path},
            &r->row, diag);
    cn_buf_release(&text);
    return err;
}

static void close_record(record *r) {
    cn_ledger_session_free(r->row);
    cn_ledger_close(r->ledger);
    cn_scratch_remove(r->scratch);
}

static int run(const cn_cli *cli, const request *q) {
    cn_diag          diag = {0};
    record           from = {0};
    cn_host         *host = NULL;
    cn_replay_result r = {0};
    output           o = {.cli = cli};
    int              status = CN_EXIT_DONE;
    o.w = cn_json_writer_on(&o.buf);
    cn_json_open(&o.w, '{');
    cn_json_field_open(&o.w, "turns", '[');
    cn_err err = cn_cli_open_host(cli, &host, &diag);
    if (!err && is_file(q->what)) err = open_export(&from, q->what, &diag);
    if (!err)
        err = cn_replay(&(cn_replay_opts){.host = host,
                                          .ledger = from.ledger,
                                          .session = from.row ? from.row->id : q->what,
                                          .folder = q->folder,
                                          .goes_on = q->keeps_going,
                                          .cancel = cn_signals_cancel(),
                                          .on_turn = on_turn,
                                          .ctx = &o},
                        &r, &diag);
    if (err == CN_ECANCELLED)
        status = CN_EXIT_INTERRUPTED;
    else if (err)
        status = cn_cli_fail(cli, err, &diag);
    else if (cli->json)
        status = put_result(&o, &r, from.row ? from.row->id : q->what);
    else
        print_result(&r);
    if (!err && !cn_replay_is_identical(&r)) status = CN_EXIT_FAILED;
    cn_buf_release(&o.buf);
    cn_replay_release(&r);
    close_record(&from);
    cn_host_close(host);
    return status;
}

int cn_cmd_bench_replay(int argc, char **argv) {
    cn_cli          cli = {.command = "bench replay"};
    request         q = {0};
    const cn_option options[] = {
        {.name = "repo",
         .letter = 'C',
         .value = &q.folder,
         .value_name = "REPO",
         .help = "where its files are; the session's own"},
        {.name = "keep-going",
         .letter = 'k',
         .flag = &q.keeps_going,
         .help = "behind the first departure"},
        {0},
    };
    const int operands = cn_cli_parse(&cli, argc, argv, usage, options);
    if (operands != 1) return cn_cli_usage(&cli, "want one SESSION or FILE, got %d", operands);
    q.what = argv[0];
    cn_signals_catch(true);
    return cn_signals_leave(run(&cli, &q));
}
