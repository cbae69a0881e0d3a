/* cmd_bench.c - cairn bench ops: every op, its time, and how near it is to the roof. */
#include "base/clock.h"
#include "engine/engine.h"
#include "engine/opbench.h"
#include "runtime/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const char usage[] =
    "usage: cairn bench ops [--only OP] [--ms N]    each op at the model's dims: time, GB/s,\n"
    "                                               Gop/s, percent of the roof of the same run\n"
    "       cairn bench decode                      a whole token at 8K, 32K and 128K: prefill "
    "and\n"
    "                                               decode against their floors, peak memory\n";

typedef struct table {
    const cn_cli  *cli;
    cn_json_writer w;
} table;

static void on_row(void *ctx, const cn_opbench_row *row) {
    table *t = ctx;
    if (!t->cli->json) {
        char gop[16] = "";
        if (row->gop_s > 0) snprintf(gop, sizeof(gop), "%.1f", row->gop_s);
        printf("%-14s %-44s %9.1f %9.1f %8.1f %8s %5.0f %%  %s\n", row->op, row->shape, row->us,
               row->us_median, row->gb_s, gop, row->percent, row->bound);
        fflush(stdout);
        return;
    }
    cn_json_open(&t->w, '{');
    const struct {
        const char *key, *text;
    } texts[] = {{"op", row->op}, {"shape", row->shape}, {"bound", row->bound}};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        cn_json_put_key(&t->w, texts[i].key);
        cn_json_put_string(&t->w, texts[i].text);
    }
    const struct {
        const char *key;
        double      value;
    } numbers[] = {{"us", row->us},       {"us_median", row->us_median}, {"gb_s", row->gb_s},
                   {"gop_s", row->gop_s}, {"roof_us", row->roof_us},     {"percent", row->percent}};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        cn_json_put_key(&t->w, numbers[i].key);
        cn_json_put_f64(&t->w, numbers[i].value, 5);
    }
    cn_json_close(&t->w, '}');
}

static void put_roofs(table *t, const cn_opbench_roofs *r) {
    if (!t->cli->json) {
        printf("\nroofs of this run, %d threads: bf16 %.0f Gop/s, int8 %.0f, f32 %.0f", r->threads,
               r->bf16_gop_s, r->int8_gop_s, r->f32_gop_s);
        if (r->weights_bytes)
            printf("; reading %.1f MB of weights %.1f GB/s", (double)r->weights_bytes / 1e6,
                   r->weights_gb_s);
        puts("");
        return;
    }
    const struct {
        const char *key;
        double      value;
    } roofs[] = {{"bf16_gop_s", r->bf16_gop_s},
                 {"int8_gop_s", r->int8_gop_s},
                 {"f32_gop_s", r->f32_gop_s},
                 {"weights_gb_s", r->weights_gb_s},
                 {"weights_bytes", (double)r->weights_bytes},
                 {"threads", r->threads}};
    cn_json_open(&t->w, '{');
    for (size_t i = 0; i < sizeof(roofs) / sizeof(roofs[0]); i++) {
        cn_json_put_key(&t->w, roofs[i].key);
        cn_json_put_f64(&t->w, roofs[i].value, 9);
    }
    cn_json_close(&t->w, '}');
}

static int bench_ops(const cn_cli *cli, const char *only, int32_t case_ms) {
    cn_diag          diag = {0};
    char             folder[CN_PATH_BYTES];
    cn_model        *m;
    cn_buf           buf = {0};
    cn_opbench_roofs roofs;
    table            t = {cli, cn_json_writer_on(&buf)};
    cn_err           err = cn_cli_find_model(cli, folder, &diag);
    if (!err) err = cn_model_open(&m, folder, &diag);
    if (err) return cn_cli_fail(cli, err, &diag);
    const cn_opbench_opts opts = {.config = &m->config,
                                  .isa = cli->isa,
                                  .threads = cli->threads,
                                  .case_ms = case_ms,
                                  .only = only,
                                  .on_row = on_row,
                                  .ctx = &t};
    cn_json_open(&t.w, '{');
    cn_json_put_key(&t.w, "ops");
    cn_json_open(&t.w, '[');
    if (!cli->json)
        printf("%-14s %-44s %9s %9s %8s %8s %7s  %s\n", "op", "shape", "best us", "median", "GB/s",
               "Gop/s", "of roof", "bound");
    err = cn_opbench_run(&opts, &roofs, &diag);
    cn_json_close(&t.w, ']');
    cn_model_close(m);
    if (err) {
        cn_buf_release(&buf);
        return cn_cli_fail(cli, err, &diag);
    }
    cn_json_put_key(&t.w, "roofs");
    put_roofs(&t, &roofs);
    cn_json_close(&t.w, '}');
    if (cli->json) return cn_cli_put_json(cli, &buf);
    cn_buf_release(&buf);
    return CN_EXIT_DONE;
}

/* ---- decode ------------------------------------------------------------------------ */

enum { DOC_TOKENS = 2048, DECODE_STEPS = 300 };

typedef struct decoded {
    int64_t       tokens;
    double        prefill_tok_s, best_us, median_us;
    cn_step_stats best;
    cn_floor      floor;
    int64_t       peak_bytes; // of the process, so far
} decoded;

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Documents of random tokens, then a conversation that grows by a token a step. */
static cn_err decode(cn_engine *e, int64_t docs, decoded *out, cn_diag *diag) {
    const int32_t vocab = cn_engine_model(e)->config.vocab;
    cn_doc      **doc = calloc((size_t)docs + 1, sizeof(*doc));
    cn_page_ref  *page = calloc((size_t)docs * (DOC_TOKENS / 256), sizeof(*page));
    cn_view      *view = NULL;
    int64_t       pages = 0, begin = cn_clock_ns();
    int32_t       token[DOC_TOKENS];
    uint32_t      seed = 1;
    double        us[DECODE_STEPS];
    cn_err        err = doc && page ? CN_OK : CN_FAIL(diag, CN_ENOMEM, "no memory for documents");
    for (int64_t d = 0; !err && d < docs; d++) {
        err = cn_doc_create(&doc[d], e, DOC_TOKENS, true, diag);
        for (int i = 0; i < DOC_TOKENS; i++)
            token[i] = (int32_t)((seed = seed * 1664525u + 1013904223u) >> 8) % vocab;
        for (int at = 0; !err && at < DOC_TOKENS; at += CN_STEP_ROWS) {
            cn_slice slice = {.doc = doc[d], .token = token + at, .tokens = CN_STEP_ROWS};
            err = cn_engine_step(e, &slice, 1, NULL, diag);
        }
        for (int64_t p = 0; !err && p < cn_doc_pages(doc[d]); p++)
            page[pages++] = cn_doc_page(doc[d], p);
    }
    out->prefill_tok_s = (double)(docs * DOC_TOKENS) * 1e9 / (double)(cn_clock_ns() - begin);
    if (!err) err = cn_view_create(&view, e, pages + DECODE_STEPS / 256 + 1, diag);
    if (!err) err = cn_view_set(view, page, pages, diag);
    if (!err) err = cn_doc_create(&doc[docs], e, DECODE_STEPS, false, diag);
    for (int i = 0; !err && i < DECODE_STEPS; i++) {
        cn_step_stats stats;
        cn_slice      slice = {.doc = doc[docs], .token = token + i, .tokens = 1, .view = view};
        err = cn_engine_step(e, &slice, 1, &stats, diag);
        us[i] = (double)stats.wall_ns / 1e3;
        if (i == 0 || stats.wall_ns < out->best.wall_ns) out->best = stats;
    }
    if (!err) {
        struct rusage used;
        getrusage(RUSAGE_SELF, &used);
        out->tokens = docs * DOC_TOKENS;
        out->peak_bytes = used.ru_maxrss * INT64_C(1024);
        qsort(us, DECODE_STEPS, sizeof(us[0]), by_value);
        out->best_us = us[0];
        out->median_us = us[DECODE_STEPS / 2];
        cn_floor_measure(&out->floor, e, out->tokens);
    }
    cn_view_free(view);
    for (int64_t d = 0; doc && d <= docs; d++) cn_doc_free(doc[d]);
    free(page);
    free(doc);
    return err;
}

static void put_decoded(table *t, const decoded *d) {
    const struct {
        const char *key;
        double      value;
    } numbers[] = {{"context_tokens", (double)d->tokens},
                   {"prefill_tok_s", d->prefill_tok_s},
                   {"prefill_percent", d->prefill_tok_s * d->floor.prefill_us / 1e4},
                   {"decode_us", d->best_us},
                   {"decode_us_median", d->median_us},
                   {"decode_floor_us", d->floor.decode_us},
                   {"decode_percent", 100 * d->floor.decode_us / d->best_us},
                   {"self_us", (double)d->best.self_ns / 1e3},
                   {"route_us", (double)d->best.route_ns / 1e3},
                   {"attend_us", (double)d->best.attend_ns / 1e3},
                   {"cross_us", (double)d->best.cross_ns / 1e3},
                   {"head_us", (double)d->best.head_ns / 1e3},
                   {"roof_gb_s", d->floor.gb_s},
                   {"roof_gop_s", d->floor.peak_gop_s},
                   {"peak_memory_bytes", (double)d->peak_bytes}};
    const size_t count = sizeof(numbers) / sizeof(numbers[0]);
    if (t->cli->json) cn_json_open(&t->w, '{');
    for (size_t i = 0; i < count && t->cli->json; i++) {
        cn_json_put_key(&t->w, numbers[i].key);
        cn_json_put_f64(&t->w, numbers[i].value, 9);
    }
    if (t->cli->json) cn_json_close(&t->w, '}');
    for (size_t i = 0; i < count && !t->cli->json; i++)
        printf("%-18s %14.1f%s", numbers[i].key, numbers[i].value,
               i % 3 == 2 || i + 1 == count ? "\n" : "   ");
    if (!t->cli->json) puts("");
}

static int bench_decode(const cn_cli *cli, int32_t only_tokens) {
    static const int64_t docs[] = {4, 16, 64};
    cn_diag              diag = {0};
    char                 folder[CN_PATH_BYTES];
    cn_model            *m = NULL;
    cn_engine           *e = NULL;
    cn_buf               buf = {0};
    table                t = {cli, cn_json_writer_on(&buf)};
    cn_err               err = cn_cli_find_model(cli, folder, &diag);
    if (!err) err = cn_model_open(&m, folder, &diag);
    if (!err)
        err = cn_engine_open(
            &e, &(cn_engine_opts){.model = m, .isa = cli->isa, .threads = cli->threads}, &diag);
    cn_json_open(&t.w, '{');
    cn_json_put_key(&t.w, "decode");
    cn_json_open(&t.w, '[');
    for (size_t i = 0; !err && i < sizeof(docs) / sizeof(docs[0]); i++) {
        decoded d = {0};
        if (only_tokens && only_tokens < docs[i] * DOC_TOKENS) break;
        err = decode(e, docs[i], &d, &diag);
        if (!err) put_decoded(&t, &d);
    }
    cn_json_close(&t.w, ']');
    cn_json_close(&t.w, '}');
    cn_engine_close(e);
    cn_model_close(m);
    if (!err && cli->json) return cn_cli_put_json(cli, &buf);
    cn_buf_release(&buf);
    return err ? cn_cli_fail(cli, err, &diag) : CN_EXIT_DONE;
}

int cn_cmd_bench(int argc, char **argv) {
    cn_cli          cli = {.command = "bench"};
    const char     *only = NULL;
    int32_t         case_ms = 0, tokens_max = 0;
    const cn_option options[] = {
        {.name = "only", .value = &only, .help = "cases whose op starts with this"},
        {.name = "tokens", .number = &tokens_max, .help = "decode: largest context; 131072"},
        {.name = "ms", .number = &case_ms, .help = "time for each case; 0: 150"},
        {0},
    };
    const int operands = cn_cli_parse(&cli, argc, argv, usage, options);
    if (operands == 1 && strcmp(argv[0], "decode") == 0) {
        cli.command = "bench decode";
        return bench_decode(&cli, tokens_max);
    }
    if (operands != 1 || strcmp(argv[0], "ops") != 0)
        return cn_cli_usage(&cli, "want one of: ops, decode");
    cli.command = "bench ops";
    return bench_ops(&cli, only, case_ms);
}
