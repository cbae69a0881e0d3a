/* cmd_bench_ops.c - cairn bench ops: every op, its time, and how near it is to the roof. */
#include "engine/opbench.h"
#include "runtime/cli.h"

#include <stdio.h>

static void on_row(void *ctx, const cn_opbench_row *row) {
    cn_listing *l = ctx;
    if (!l->cli->json) {
        char gop[16] = "";
        if (row->gop_s > 0) snprintf(gop, sizeof(gop), "%.1f", row->gop_s);
        printf("%-14s %-44s %9.1f %9.1f %8.1f %8s %5.0f %%  %s\n", row->op, row->shape, row->us,
               row->us_median, row->gb_s, gop, row->percent, row->bound);
        fflush(stdout);
        return;
    }
    cn_json_open(&l->w, '{');
    const struct {
        const char *key, *text;
    } texts[] = {{"op", row->op}, {"shape", row->shape}, {"bound", row->bound}};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        cn_json_field_string(&l->w, texts[i].key, texts[i].text);
    }
    const struct {
        const char *key;
        double      value;
    } numbers[] = {{"us", row->us},       {"us_median", row->us_median}, {"gb_s", row->gb_s},
                   {"gop_s", row->gop_s}, {"roof_us", row->roof_us},     {"percent", row->percent}};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        cn_json_field_f64(&l->w, numbers[i].key, numbers[i].value, 5);
    }
    cn_json_close(&l->w, '}');
}

static void put_roofs(cn_listing *l, const cn_opbench_roofs *r) {
    if (!l->cli->json) {
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
    cn_json_field_open(&l->w, "roofs", '{');
    for (size_t i = 0; i < sizeof(roofs) / sizeof(roofs[0]); i++) {
        cn_json_field_f64(&l->w, roofs[i].key, roofs[i].value, 9);
    }
    cn_json_close(&l->w, '}');
}

int cn_cmd_bench_ops(int argc, char **argv) {
    static const char usage[] =
        "usage: cairn bench ops [--only OP] [--ms N]\n"
        "\n"
        "examples:\n"
        "  cairn bench ops                         all ops\n"
        "  cairn bench ops --only matmul --ms 400  some of them, longer\n"
        "\n"
        "Each op at the model's dims: time, GB/s, Gop/s, percent of the roof of the same run.\n";
    cn_cli           cli = {.command = "bench ops"};
    cn_diag          diag = {0};
    char             folder[CN_PATH_BYTES];
    cn_model        *m = NULL;
    cn_opbench_roofs roofs;
    cn_listing       l;
    const char      *only = NULL;
    int32_t          case_ms = 0;
    const cn_option  options[] = {
         {.name = "only", .value = &only, .help = "cases whose op starts with this"},
         {.name = "ms", .number = &case_ms, .help = "time for each case; 0: 150"},
         {0},
    };
    if (cn_cli_parse(&cli, argc, argv, usage, options) != 0)
        return cn_cli_usage(&cli, "want no operand, got \"%s\"", argv[0]);
    cn_listing_begin(&l, &cli);
    cn_err err = cn_cli_find_model(&cli, folder, &diag);
    if (!err) err = cn_model_open(&m, folder, &diag);
    cn_json_open(&l.w, '{');
    cn_json_field_open(&l.w, "ops", '[');
    if (!err && !cli.json)
        printf("%-14s %-44s %9s %9s %8s %8s %7s  %s\n", "op", "shape", "best us", "median", "GB/s",
               "Gop/s", "of roof", "bound");
    if (!err)
        err = cn_opbench_run(&(cn_opbench_opts){.config = &m->config,
                                                .isa = cli.isa,
                                                .threads = cli.threads,
                                                .case_ms = case_ms,
                                                .only = only,
                                                .on_row = on_row,
                                                .ctx = &l},
                             &roofs, &diag);
    cn_json_close(&l.w, ']');
    cn_model_close(m);
    if (!err) put_roofs(&l, &roofs);
    cn_json_close(&l.w, '}');
    return cn_listing_end(&l, err, &diag);
}
