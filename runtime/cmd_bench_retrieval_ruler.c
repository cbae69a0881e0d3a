/* cmd_bench_retrieval_ruler.c - RULER's tasks: cells as they come, a table, JSON. */
#include "base/clock.h"
#include "runtime/cmd_bench_retrieval_int.h"
#include "runtime/ruler.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* "4096,8192": each length once, as given. */
static bool read_lengths(const char *text, cn_ruler_result *out) {
    char *end;
    for (;; text = end + 1) {
        const long n = strtol(text, &end, 10);
        if (end == text || n < CN_RULER_LENGTH_MIN || n > CN_RULER_LENGTH_MAX) return false;
        if (out->lengths == CN_RULER_LENGTHS_MAX) return false;
        out->length[out->lengths++] = n;
        if (*end == 0) return true;
        if (*end != ',') return false;
    }
}

static void print_head(const cn_ruler_result *d) {
    printf("%-16s", "score, %");
    for (int32_t i = 0; i < d->lengths; i++) printf(" %9s", cn_cli_count(d->length[i]));
}

static void on_cell(void *ctx, const cn_ruler_result *d, cn_ruler_task task, int32_t length) {
    const cn_retrieval_cli *r = ctx;
    const cn_ruler_cell    *c = &d->cell[task][length];
    if (r->cli.json) return;
    if (length == 0) printf("\n%-16s", cn_ruler_task_name(task));
    if (c->samples)
        printf(" %9.1f", 100 * c->score);
    else
        printf(" %9s", "-");
    fflush(stdout);
}

static void print_end(const cn_retrieval_cli *r, const cn_ruler_result *d, double wall_s) {
    printf("\n%-16s", "average");
    for (int32_t i = 0; i < d->lengths; i++) {
        double sum = 0;
        int    tasks = 0;
        for (int t = 0; t < CN_RULER_TASKS; t++) {
            sum += 100 * d->cell[t][i].score;
            tasks += d->cell[t][i].samples > 0;
        }
        if (tasks)
            printf(" %9.1f", sum / tasks);
        else
            printf(" %9s", "-");
    }
    printf("\n\n%d samples a cell; %.1f s in all.  Noise haystacks and made-up words, no worked "
           "example, no answer\nprefix: near RULER, not its published numbers.  A model of %.0f M "
           "parameters that was not taught\nthese forms is expected to fail most of them.\n",
           r->samples, wall_s, (double)r->host->model->parameters / 1e6);
}

static int put_json(const cn_retrieval_cli *r, const cn_ruler_result *d, double wall_s) {
    cn_buf         buf = {0};
    cn_json_writer w = cn_json_writer_on(&buf);
    cn_json_open(&w, '{');
    cn_json_field_int64(&w, "parameters", r->host->model->parameters);
    cn_json_field_bool(&w, "dense", r->dense);
    cn_json_field_int64(&w, "topk", r->topk);
    cn_json_field_open(&w, "cells", '[');
    for (int t = 0; t < CN_RULER_TASKS; t++)
        for (int32_t i = 0; i < d->lengths; i++) {
            const cn_ruler_cell *c = &d->cell[t][i];
            cn_json_open(&w, '{');
            cn_json_field_string(&w, "task", cn_ruler_task_name((cn_ruler_task)t));
            cn_json_field_int64(&w, "length", d->length[i]);
            cn_json_field_int64(&w, "samples", c->samples);
            cn_json_field_f64(&w, "context_tokens",
                              c->samples ? (double)c->tokens / (double)c->samples : 0, 9);
            cn_json_field_f64(&w, "score", c->samples ? c->score : NAN, 6); // null: does not fit
            cn_json_field_f64(&w, "part", c->samples ? c->part : NAN, 6);
            cn_json_close(&w, '}');
        }
    cn_json_close(&w, ']');
    cn_json_field_f64(&w, "wall_s", wall_s, 6);
    cn_json_close(&w, '}');
    return cn_cli_put_json(&r->cli, &buf);
}

int cn_retrieval_ruler(cn_retrieval_cli *r) {
    cn_ruler_result d = {0};
    cn_diag         diag = {0};
    char            folder[CN_SCRATCH_PATH_BYTES + 16];
    snprintf(folder, sizeof(folder), "%s/ruler", r->scratch);
    if (!read_lengths(r->lengths, &d))
        return cn_cli_usage(&r->cli,
                            "--lengths %s: want up to %d numbers from %d to %d, commas between",
                            r->lengths, (int)CN_RULER_LENGTHS_MAX, (int)CN_RULER_LENGTH_MIN,
                            (int)CN_RULER_LENGTH_MAX);
    if (!r->cli.json) print_head(&d);
    const cn_err err = cn_ruler_run(&d,
                                    &(cn_ruler_opts){.host = r->host,
                                                     .scratch = folder,
                                                     .samples = r->samples,
                                                     .seed = (uint64_t)r->seed,
                                                     .out = r->out_file,
                                                     .cancel = r->cancel,
                                                     .on_cell = on_cell,
                                                     .ctx = r},
                                    &diag);
    const double wall_s = (double)(cn_clock_ns() - r->begin_ns) / 1e9;
    if (err) {
        if (!r->cli.json) puts("");
        return cn_cli_fail(&r->cli, err, &diag);
    }
    if (r->cli.json) return put_json(r, &d, wall_s);
    print_end(r, &d, wall_s);
    return CN_EXIT_DONE;
}
