/* cmd_bench_decode.c - cairn bench decode: a whole token at three contexts, against its floor. */
#include "base/clock.h"
#include "engine/engine.h"
#include "engine/opbench.h"
#include "runtime/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

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

static void put_decoded(cn_listing *l, const decoded *d) {
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
    if (l->cli->json) cn_json_open(&l->w, '{');
    for (size_t i = 0; i < count && l->cli->json; i++) {
        cn_json_field_f64(&l->w, numbers[i].key, numbers[i].value, 9);
    }
    if (l->cli->json) cn_json_close(&l->w, '}');
    for (size_t i = 0; i < count && !l->cli->json; i++)
        printf("%-18s %14.1f%s", numbers[i].key, numbers[i].value,
               i % 3 == 2 || i + 1 == count ? "\n" : "   ");
    if (!l->cli->json) puts("");
}

int cn_cmd_bench_decode(int argc, char **argv) {
    static const char usage[] =
        "usage: cairn bench decode [--tokens N]\n\n"
        "  A whole token at 8K, 32K and 128K: prefill and decode against their floors, peak "
        "memory.\n";
    static const int64_t docs[] = {4, 16, 64};
    cn_cli               cli = {.command = "bench decode"};
    cn_diag              diag = {0};
    char                 folder[CN_PATH_BYTES];
    cn_model            *m = NULL;
    cn_engine           *e = NULL;
    cn_listing           l;
    int32_t              tokens_max = 0;
    const cn_option      options[] = {
             {.name = "tokens", .number = &tokens_max, .help = "largest context; 131072"},
             {0},
    };
    if (cn_cli_parse(&cli, argc, argv, usage, options) != 0)
        return cn_cli_usage(&cli, "want no operand, got \"%s\"", argv[0]);
    cn_listing_begin(&l, &cli);
    cn_err err = cn_cli_find_model(&cli, folder, &diag);
    if (!err) err = cn_model_open(&m, folder, &diag);
    if (!err)
        err = cn_engine_open(
            &e, &(cn_engine_opts){.model = m, .isa = cli.isa, .threads = cli.threads}, &diag);
    cn_json_open(&l.w, '{');
    cn_json_field_open(&l.w, "decode", '[');
    for (size_t i = 0; !err && i < sizeof(docs) / sizeof(docs[0]); i++) {
        decoded d = {0};
        if (tokens_max && tokens_max < docs[i] * DOC_TOKENS) break;
        err = decode(e, docs[i], &d, &diag);
        if (!err) put_decoded(&l, &d);
    }
    cn_json_close(&l.w, ']');
    cn_json_close(&l.w, '}');
    cn_engine_close(e);
    cn_model_close(m);
    return cn_listing_end(&l, err, &diag);
}
