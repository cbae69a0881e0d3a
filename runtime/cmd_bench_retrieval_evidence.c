/* cmd_bench_retrieval_evidence.c - Does evidence name the place of the answer?  A table. */
#include "base/clock.h"
#include "runtime/cmd_bench_retrieval_int.h"
#include "runtime/reading.h"

#include <stdio.h>
#include <unistd.h>

static void on_question(void *ctx, int64_t done) {
    const cn_retrieval_cli *r = ctx;
    if (!r->cli.json && isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%s questions\r", cn_cli_count(done));
}

static double mean(double sum, const cn_reading_score *s) {
    return s->questions ? sum / (double)s->questions : 0;
}

static void print_score(const char *name, const cn_reading_score *s) {
    printf("%-10s %9s %6s %6s | %6s %6s | %6s %6s | %7.1f %7.1f %7.1f\n", name,
           cn_cli_count(s->questions), cn_cli_count(s->right), cn_cli_count(s->called),
           cn_cli_count(s->file_first), cn_cli_count(s->file_among), cn_cli_count(s->line_first),
           cn_cli_count(s->line_among), 100 * mean(s->place, s), 100 * mean(s->conversation, s),
           100 * mean(s->headers, s));
}

static void put_score(cn_json_writer *w, const char *name, const cn_reading_score *s) {
    cn_json_open(w, '{');
    cn_json_field_string(w, "kind", name);
    cn_json_field_int64(w, "questions", s->questions);
    cn_json_field_int64(w, "right", s->right);
    cn_json_field_int64(w, "called", s->called);
    cn_json_field_int64(w, "file_first", s->file_first);
    cn_json_field_int64(w, "file_among", s->file_among);
    cn_json_field_int64(w, "line_first", s->line_first);
    cn_json_field_int64(w, "line_among", s->line_among);
    cn_json_field_f64(w, "place_share", mean(s->place, s), 4);
    cn_json_field_f64(w, "conversation_share", mean(s->conversation, s), 4);
    cn_json_field_f64(w, "headers_share", mean(s->headers, s), 4);
    cn_json_close(w, '}');
}

static int put(const cn_retrieval_cli *r, const cn_reading *e, int64_t tokens) {
    const double wall_s = (double)(cn_clock_ns() - r->begin_ns) / 1e9;
    cn_buf       buf = {0};
    if (!r->cli.json) {
        printf("%s files, %s tok of context; %s functions that stand in one file alone; %.1f s\n\n",
               cn_cli_count(e->files), cn_cli_count(tokens), cn_cli_count(e->definitions), wall_s);
        printf("%33s | %13s | %13s | %23s\n", "answers", "right file", "right line",
               "% of the mass");
        printf("%-10s %9s %6s %6s | %6s %6s | %6s %6s | %7s %7s %7s\n", "", "questions", "right",
               "called", "first", "in 3", "first", "in 3", "file", "convers", "headers");
        for (int k = 0; k < CN_READING_KINDS; k++)
            print_score(cn_reading_kind_name((cn_reading_kind)k), &e->kind[k]);
        return CN_EXIT_DONE;
    }
    cn_json_writer w = cn_json_writer_on(&buf);
    cn_json_open(&w, '{');
    cn_json_field_int64(&w, "files", e->files);
    cn_json_field_int64(&w, "context_tokens", tokens);
    cn_json_field_int64(&w, "definitions", e->definitions);
    cn_json_field_open(&w, "kinds", '[');
    for (int k = 0; k < CN_READING_KINDS; k++)
        put_score(&w, cn_reading_kind_name((cn_reading_kind)k), &e->kind[k]);
    cn_json_close(&w, ']');
    cn_json_field_f64(&w, "wall_s", wall_s, 6);
    cn_json_close(&w, '}');
    return cn_cli_put_json(&r->cli, &buf);
}

int cn_retrieval_evidence(cn_retrieval_cli *r) {
    cn_diag     diag = {0};
    cn_session *s = NULL;
    cn_reading  e = {0};
    cn_err      err = cn_session_open(
             &s, r->host, &(cn_session_opts){.folder = r->folder, .budget = r->budget, .is_trial = true},
             &diag);
    if (!err)
        err = cn_reading_run(&e,
                             &(cn_reading_opts){.host = r->host,
                                                .session = s,
                                                .definitions = r->per_cell * r->depths,
                                                .seed = (uint64_t)r->seed,
                                                .out = r->out_file,
                                                .cancel = r->cancel,
                                                .on_question = on_question,
                                                .ctx = r},
                             &diag);
    const int status = err ? cn_cli_fail(&r->cli, err, &diag)
                           : put(r, &e, cn_context_get_plan(cn_session_context(s))->tokens);
    cn_session_close(s);
    return status;
}
