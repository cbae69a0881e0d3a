/* cmd_bench_decode.c - cairn bench decode: a whole token at three contexts, against its floor. */
#include "engine/engine.h"
#include "engine/opbench.h"
#include "runtime/bench_run.h"
#include "runtime/cli.h"
#include "runtime/usage.h"

#include <stdio.h>

enum { DECODE_STEPS = 300 };

/* What was measured at one context. */
typedef struct decoded {
    int64_t          tokens;
    cn_run_prefill   prefill;
    cn_usage         prefill_used, decode_used;
    cn_run_summary   summary;
    cn_run_read_cost read;
    cn_floor         floor;
} decoded;

static void put_decoded(cn_listing *l, const decoded *m) {
    const cn_run_summary *d = &m->summary;
    const cn_floor       *floor = &m->floor;
    const double          tok_s = (double)m->tokens / m->prefill.s;
    const struct {
        const char *key;
        double      value;
    } numbers[] = {{"context_tokens", (double)m->tokens},
                   {"prefill_tok_s", tok_s},
                   {"prefill_percent", tok_s * floor->prefill_us / 1e4},
                   {"decode_us", d->best_us},
                   {"decode_us_median", d->p50_us},
                   {"decode_floor_us", floor->decode_us},
                   {"decode_percent", 100 * floor->decode_us / d->best_us},
                   {"weights_us", d->least_us[CN_PART_WEIGHTS]},
                   {"window_us", d->least_us[CN_PART_WINDOW]},
                   {"route_us", d->least_us[CN_PART_ROUTE]},
                   {"attend_us", d->least_us[CN_PART_ATTEND]},
                   {"head_us", d->least_us[CN_PART_HEAD]},
                   {"evidence_us", m->read.least_us},
                   {"evidence_percent", 100 * m->read.least_us / d->best_us},
                   {"evidence_ratio", m->read.with_us / m->read.without_us},
                   {"roof_gb_s", floor->gb_s},
                   {"roof_gop_s", floor->peak_gop_s},
                   {"peak_memory_bytes", (double)m->decode_used.peak_bytes},
                   {"prefill_minor_faults", (double)m->prefill_used.minor_faults},
                   {"prefill_major_faults", (double)m->prefill_used.major_faults},
                   {"decode_minor_faults", (double)m->decode_used.minor_faults},
                   {"decode_major_faults", (double)m->decode_used.major_faults}};
    const size_t count = sizeof(numbers) / sizeof(numbers[0]);
    if (l->cli->json) cn_json_open(&l->w, '{');
    for (size_t i = 0; i < count && l->cli->json; i++) {
        cn_json_field_f64(&l->w, numbers[i].key, numbers[i].value, 9);
    }
    if (l->cli->json) cn_json_close(&l->w, '}');
    for (size_t i = 0; i < count && !l->cli->json; i++)
        printf("%-20s %14.*f%s", numbers[i].key, numbers[i].value < 10 ? 3 : 1, numbers[i].value,
               i % 3 == 2 || i + 1 == count ? "\n" : "   ");
    if (!l->cli->json) puts("");
}

static cn_err run_all(cn_listing *l, cn_engine *e, int64_t tokens_max, cn_diag *diag) {
    static const int64_t context[] = {8192, 32768, 131072};
    cn_run_token         token[DECODE_STEPS];
    cn_run              *run = NULL;
    cn_err               err = cn_run_open(
                      &run, &(cn_run_opts){.engine = e, .tokens_max = context[2], .outputs_max = DECODE_STEPS},
                      diag);
    for (size_t i = 0; !err && i < sizeof(context) / sizeof(context[0]); i++) {
        decoded m = {.tokens = context[i]};
        if (tokens_max && tokens_max < context[i]) break;
        const cn_usage before = cn_usage_now();
        err = cn_run_grow(run, context[i], &m.prefill, diag);
        m.prefill_used = cn_usage_since(before);
        const cn_usage grown = cn_usage_now();
        if (!err) err = cn_run_decode(run, DECODE_STEPS, token, diag);
        m.decode_used = cn_usage_since(grown);
        if (!err) err = cn_run_summarise(&m.summary, token, DECODE_STEPS, diag);
        if (!err) err = cn_run_decode_read(run, DECODE_STEPS, token, diag);
        if (!err) err = cn_run_compare_read(&m.read, token, DECODE_STEPS, diag);
        if (err) break;
        cn_floor_measure(&m.floor, e, context[i]);
        put_decoded(l, &m);
    }
    cn_run_close(run);
    return err;
}

int cn_cmd_bench_decode(int argc, char **argv) {
    static const char usage[] =
        "usage: cairn bench decode [--tokens N]\n"
        "\n"
        "examples:\n"
        "  cairn bench decode                 at 8K, 32K and 128K tokens\n"
        "  cairn bench decode --tokens 8192   a short one\n"
        "\n"
        "A whole token: prefill and decode against their floors, peak memory, page faults.\n"
        "evidence: what it costs a token to know which lines an answer was read from, least "
        "against\n"
        "least, and the ratio of the medians of tokens with and without, in turn in one run.\n";
    cn_cli          cli = {.command = "bench decode"};
    cn_diag         diag = {0};
    char            folder[CN_PATH_BYTES];
    cn_model       *m = NULL;
    cn_engine      *e = NULL;
    cn_listing      l;
    int32_t         tokens_max = 0;
    const cn_option options[] = {
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
    if (!err) err = run_all(&l, e, tokens_max, &diag);
    cn_json_close(&l.w, ']');
    cn_json_close(&l.w, '}');
    cn_engine_close(e);
    cn_model_close(m);
    return cn_listing_end(&l, err, &diag);
}
