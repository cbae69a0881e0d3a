/* cmd_bench_retrieval_depth.c - Needles and definitions: rows as they come, JSON, a heat map. */
#include "base/clock.h"
#include "runtime/cmd_bench_retrieval_int.h"
#include "runtime/depth.h"
#include "runtime/heatmap.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static double rate(int64_t tokens, int64_t ns) {
    return ns ? (double)tokens * 1e9 / (double)ns : NAN;
}

static double share(const cn_depth_cell *c) {
    return c->questions ? (double)c->right / (double)c->questions : NAN;
}

static const char *mode_name(const cn_depth_result *d, int32_t mode, char out[32]) {
    if (d->topk[mode])
        snprintf(out, 32, "k=%s", cn_cli_count(d->topk[mode]));
    else
        snprintf(out, 32, "dense");
    return out;
}

/* ---- Rows --------------------------------------------------------------------------- */

static void print_head(const cn_depth_result *d) {
    printf("%-10s %9s %-8s", "kind", "tokens", "mode");
    for (int32_t i = 0; i < d->depths; i++) printf("  %3d%%", (2 * i + 1) * 50 / d->depths);
    printf("  %6s %6s %6s %8s %8s\n", "right", "of", "calls", "prefill", "decode");
}

static void print_rate(double value) {
    if (isnan(value))
        printf(" %8s", "-");
    else
        printf(" %8s", cn_cli_count((int64_t)value));
}

static void on_row(void *ctx, const cn_depth_result *d, cn_depth_kind kind, int32_t length,
                   int32_t mode) {
    const cn_retrieval_cli *r = ctx;
    const cn_depth_cell    *cell = d->cell[kind][length][mode];
    const cn_depth_length  *l = &d->length[length];
    cn_depth_cell           sum = {0};
    char                    name[32];
    if (r->cli.json) return;
    printf("%-10s %9s %-8s", cn_depth_kind_name(kind), cn_cli_count(l->tokens),
           mode_name(d, mode, name));
    for (int32_t i = 0; i < d->depths; i++) {
        if (cell[i].questions)
            printf("  %4.0f", 100 * share(&cell[i]));
        else
            printf("  %4s", "-");
        sum.questions += cell[i].questions;
        sum.right += cell[i].right;
        sum.called += cell[i].called;
        sum.output_tokens += cell[i].output_tokens;
        sum.decode_ns += cell[i].decode_ns;
    }
    printf("  %6s %6s %6s", cn_cli_count(sum.right), cn_cli_count(sum.questions),
           cn_cli_count(sum.called));
    print_rate(rate(l->prefill_tokens, l->prefill_ns));
    print_rate(rate(sum.output_tokens, sum.decode_ns));
    puts("");
    fflush(stdout);
}

/* ---- JSON --------------------------------------------------------------------------- */

static void put_rate(cn_json_writer *w, const char *key, double value) {
    cn_json_field_f64(w, key, value, 6); // null if nothing was measured
}

static void put_cell(cn_json_writer *w, const cn_depth_result *d, cn_depth_kind kind,
                     int32_t length, int32_t mode, int32_t depth) {
    const cn_depth_cell *c = &d->cell[kind][length][mode][depth];
    const cn_depth_cell *planted = &d->cell[kind][length][0][depth]; // prefilled by the first mode
    cn_json_open(w, '{');
    cn_json_field_string(w, "kind", cn_depth_kind_name(kind));
    cn_json_field_int64(w, "context_tokens", d->length[length].tokens);
    cn_json_field_f64(w, "depth", (depth + .5) / d->depths, 4);
    cn_json_field_bool(w, "dense", d->topk[mode] == 0);
    cn_json_field_int64(w, "topk", d->topk[mode]);
    cn_json_field_int64(w, "questions", c->questions);
    cn_json_field_int64(w, "right", c->right);
    cn_json_field_int64(w, "called", c->called);
    put_rate(w, "prefill_tok_s", rate(planted->prefill_tokens, planted->prefill_ns));
    put_rate(w, "decode_tok_s", rate(c->output_tokens, c->decode_ns));
    cn_json_close(w, '}');
}

static int put_json(const cn_retrieval_cli *r, const cn_depth_result *d, double wall_s) {
    cn_buf         buf = {0};
    cn_json_writer w = cn_json_writer_on(&buf);
    cn_json_open(&w, '{');
    cn_json_field_int64(&w, "depths", d->depths);
    cn_json_field_int64(&w, "index_local", r->host->model->config.index_local);
    cn_json_field_open(&w, "lengths", '[');
    for (int32_t i = 0; i < d->lengths; i++) {
        const cn_depth_length *l = &d->length[i];
        cn_json_open(&w, '{');
        cn_json_field_int64(&w, "budget", l->budget);
        cn_json_field_int64(&w, "context_tokens", l->tokens);
        cn_json_field_int64(&w, "documents", l->documents);
        cn_json_field_int64(&w, "definitions", l->definitions);
        cn_json_field_int64(&w, "prefilled_tokens", l->prefill_tokens);
        put_rate(&w, "prefill_tok_s", rate(l->prefill_tokens, l->prefill_ns));
        cn_json_close(&w, '}');
    }
    cn_json_close(&w, ']');
    cn_json_field_open(&w, "cells", '[');
    for (int k = 0; k < CN_DEPTH_KINDS; k++)
        for (int32_t i = 0; i < d->lengths; i++)
            for (int32_t m = 0; m < d->length[i].modes; m++)
                for (int32_t p = 0; p < d->depths; p++) put_cell(&w, d, (cn_depth_kind)k, i, m, p);
    cn_json_close(&w, ']');
    cn_json_field_f64(&w, "wall_s", wall_s, 6);
    cn_json_close(&w, '}');
    return cn_cli_put_json(&r->cli, &buf);
}

/* ---- The heat map -------------------------------------------------------------------- */

static cn_err plot(const cn_retrieval_cli *r, const cn_depth_result *d, cn_diag *diag) {
    cn_heatmap_label mode[CN_DEPTH_MODES_MAX], kind[CN_DEPTH_KINDS], length[CN_DEPTH_LENGTHS_MAX],
        depth[CN_DEPTHS_MAX];
    char          note[256];
    const int32_t modes = d->length[d->lengths - 1].modes;
    const size_t  cells = (size_t)CN_DEPTH_KINDS * (size_t)(modes * d->lengths * d->depths);
    int32_t       kinds = 0; // that were asked
    double       *value = malloc(cells * sizeof(*value)), *next = value;
    cn_buf        svg = {0};
    if (!value) return CN_FAIL(diag, CN_ENOMEM, "no memory for a heat map");
    for (int k = 0; k < CN_DEPTH_KINDS; k++) {
        bool is_asked = false;
        for (int32_t m = 0; m < modes; m++)
            for (int32_t p = 0; p < d->depths; p++)
                for (int32_t i = 0; i < d->lengths; i++) {
                    *next++ = share(&d->cell[k][i][m][p]);
                    is_asked |= !isnan(next[-1]);
                }
        if (is_asked)
            snprintf(kind[kinds++], sizeof(kind[0]), "%s", cn_depth_kind_name((cn_depth_kind)k));
        else
            next -= modes * d->depths * d->lengths;
    }
    for (int32_t m = 0; m < modes; m++) mode_name(d, m, mode[m]);
    for (int32_t i = 0; i < d->lengths; i++)
        snprintf(length[i], sizeof(length[i]), "%s", cn_cli_count(d->length[i].tokens));
    for (int32_t p = 0; p < d->depths; p++)
        snprintf(depth[p], sizeof(depth[p]), "%d %%", (2 * p + 1) * 50 / d->depths);
    snprintf(note, sizeof(note),
             "up to %d needles and %d definitions a cell, white: none; k beside the last %d tokens",
             r->needles, r->per_cell, r->host->model->config.index_local);
    cn_heatmap_put(&svg, &(cn_heatmap){.title = "Exact answers, %, by context length and depth",
                                       .note = note,
                                       .x_title = "tokens of context",
                                       .y_title = "depth",
                                       .panels_x = modes,
                                       .panels_y = kinds,
                                       .cells_x = d->lengths,
                                       .cells_y = d->depths,
                                       .panel_x = mode,
                                       .panel_y = kind,
                                       .cell_x = length,
                                       .cell_y = depth,
                                       .share = value});
    const cn_err err = cn_retrieval_write(r->plot, &svg, diag);
    cn_buf_release(&svg);
    free(value);
    return err;
}

int cn_retrieval_depth(cn_retrieval_cli *r) {
    cn_diag          diag = {0};
    int              status = CN_EXIT_FAILED;
    char             copies[CN_SCRATCH_PATH_BYTES + 16];
    cn_depth_result *d = calloc(1, sizeof(*d));
    cn_err           err = d ? CN_OK : CN_FAIL(&diag, CN_ENOMEM, "no memory for a result");
    snprintf(copies, sizeof(copies), "%s/copy", r->scratch);
    if (!err) {
        d->depths = r->depths;
        if (!r->cli.json) print_head(d);
        err = cn_depth_run(d,
                           &(cn_depth_opts){.host = r->host,
                                            .folder = r->folder,
                                            .scratch = copies,
                                            .budget = r->budget,
                                            .depths = r->depths,
                                            .needles = r->needles,
                                            .questions = r->per_cell,
                                            .seed = (uint64_t)r->seed,
                                            .out = r->out_file,
                                            .cancel = r->cancel,
                                            .on_row = on_row,
                                            .ctx = r},
                           &diag);
    }
    if (!err && r->plot && d->lengths) err = plot(r, d, &diag);
    const double wall_s = (double)(cn_clock_ns() - r->begin_ns) / 1e9;
    if (err) {
        status = cn_cli_fail(&r->cli, err, &diag);
    } else if (r->cli.json) {
        status = put_json(r, d, wall_s);
    } else {
        printf("\ntok/s: prefill of what no shorter context held, decode of one conversation at a "
               "time; %.1f s in all\n",
               wall_s);
        status = CN_EXIT_DONE;
    }
    free(d);
    return status;
}
