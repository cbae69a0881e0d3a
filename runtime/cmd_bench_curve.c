/*
 * cmd_bench_curve.c - cairn bench curve: four arms with random weights at the same dims, by
 * context length, each against its floor; and what routing costs once, in each layer, or not.
 */
#include "base/file.h"
#include "engine/engine.h"
#include "engine/opbench.h"
#include "runtime/bench_run.h"
#include "runtime/cli.h"
#include "runtime/svg.h"
#include "runtime/usage.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t contexts[] = {8192, 32768, 65536, 131072};
static const int32_t outputs[] = {128, 512};
/* CLSA and the arm with an index a layer one after the other: the bill compares them. */
static const cn_arm arms[] = {CN_ARM_CLSA, CN_ARM_YOCO_PERLAYER, CN_ARM_YOCO, CN_ARM_TRANSFORMER};

enum {
    CONTEXTS = sizeof(contexts) / sizeof(contexts[0]),
    OUTPUTS = sizeof(outputs) / sizeof(outputs[0]),
    OUTPUTS_MAX = 512,
    POINTS_MAX = CONTEXTS * CN_ARM_COUNT,
    FIELDS_MAX = 48,
    SEED = 1,
};

/* One arm at one context. */
typedef struct point {
    cn_arm         arm;
    int64_t        tokens;
    cn_run_prefill prefill;
    cn_usage       prefill_used, decode_used;
    cn_run_summary decode[OUTPUTS]; // each of the first so many tokens
    cn_floor       floor;
} point;

typedef struct curve {
    const cn_cli *cli;
    cn_config     config; // whose dims
    int64_t       tokens_max;
    point         point[POINTS_MAX];
    int32_t       points;
    int32_t       threads;
    char          isa[16];
} curve;

/* ---- Measuring -------------------------------------------------------------------- */

static cn_err measure_point(cn_run *run, cn_engine *e, point *p, cn_diag *diag) {
    cn_run_token *token = calloc(OUTPUTS_MAX, sizeof(*token));
    if (!token) return CN_FAIL(diag, CN_ENOMEM, "no memory for %d tokens", (int)OUTPUTS_MAX);
    const cn_usage before = cn_usage_now();
    cn_err         err = cn_run_grow(run, p->tokens, &p->prefill, diag);
    p->prefill_used = cn_usage_since(before);
    const cn_usage grown = cn_usage_now();
    if (!err) err = cn_run_decode(run, OUTPUTS_MAX, token, diag);
    p->decode_used = cn_usage_since(grown);
    for (int i = 0; !err && i < OUTPUTS; i++)
        err = cn_run_summarise(&p->decode[i], token, outputs[i], diag);
    free(token);
    if (err) return err;
    cn_floor_measure(&p->floor, e, p->tokens);
    return CN_OK;
}

/* The contexts of the list up to the limit; the limit itself if it is below all. */
static int64_t context_at(const curve *c, int i) {
    if (contexts[i] <= c->tokens_max) return contexts[i];
    return i == 0 ? c->tokens_max : 0;
}

static void print_point(const curve *c, const point *p);

static cn_err measure_arm(curve *c, cn_arm arm, cn_diag *diag) {
    const cn_config config = cn_config_as_arm(&c->config, arm);
    cn_model       *m = NULL;
    cn_engine      *e = NULL;
    cn_run         *run = NULL;
    int64_t         tokens_max = 0;
    for (int i = 0; i < CONTEXTS; i++)
        if (context_at(c, i)) tokens_max = context_at(c, i);
    cn_usage_reset_peak(); // an arm's peak is its own
    cn_err err = cn_model_random(&m, &config, SEED, diag);
    if (!err)
        err = cn_engine_open(
            &e,
            &(cn_engine_opts){.model = m,
                              .isa = c->cli->isa,
                              .threads = c->cli->threads,
                              .view_tokens = tokens_max + CN_RUN_PROMPT_TOKENS + OUTPUTS_MAX},
            diag);
    if (!err)
        err = cn_run_open(
            &run, &(cn_run_opts){.engine = e, .tokens_max = tokens_max, .outputs_max = OUTPUTS_MAX},
            diag);
    for (int i = 0; !err && i < CONTEXTS && context_at(c, i); i++) {
        point *p = &c->point[c->points];
        *p = (point){.arm = arm, .tokens = context_at(c, i)};
        err = measure_point(run, e, p, diag);
        if (err) break;
        c->points++;
        if (!c->cli->json) print_point(c, p);
    }
    if (e) {
        c->threads = cn_engine_threads(e);
        snprintf(c->isa, sizeof(c->isa), "%s", cn_engine_isa(e));
    }
    cn_run_close(run);
    cn_engine_close(e);
    cn_model_close(m);
    return err;
}

static const point *find_point(const curve *c, cn_arm arm, int64_t tokens) {
    for (int32_t i = 0; i < c->points; i++)
        if (c->point[i].arm == arm && c->point[i].tokens == tokens) return &c->point[i];
    return NULL;
}

/* ---- One row for each point and number of outputs, for CSV and JSON ------------------ */

typedef struct field {
    const char *key;
    double      value;
} field;

static const char *prefill_how(const point *p) {
    return p->prefill.is_extrapolated ? "extrapolated" : "measured";
}

static double end_to_end_s(const point *p, int output) {
    return p->prefill.s + p->decode[output].s;
}

/* Tokens/s behind the first token. */
static double decode_tok_s(const point *p, int output) {
    const cn_run_summary *d = &p->decode[output];
    return (outputs[output] - 1) / (d->s - d->first_ms / 1e3);
}

static int list_fields(field f[FIELDS_MAX], const point *p, int output) {
    const cn_run_summary *d = &p->decode[output];
    const cn_step_bytes  *b = &p->floor.bytes;
    const double          prefill_tok_s = (double)p->tokens / p->prefill.s;
    const field           all[] = {
                  {"context_tokens", (double)p->tokens},
                  {"output_tokens", outputs[output]},
                  {"prefill_s", p->prefill.s},
                  {"prefill_tok_s", prefill_tok_s},
                  {"prefill_floor_us", p->floor.prefill_us},
                  {"prefill_percent", prefill_tok_s * p->floor.prefill_us / 1e4},
                  {"ttft_ms", p->prefill.s * 1e3 + d->first_ms},
                  {"ttft_cached_ms", d->first_ms},
                  {"token_us_best", d->best_us},
                  {"token_us_p50", d->p50_us},
                  {"token_us_p99", d->p99_us},
                  {"decode_tok_s", decode_tok_s(p, output)},
                  {"end_to_end_tok_s", outputs[output] / end_to_end_s(p, output)},
                  {"decode_floor_us", p->floor.decode_us},
                  {"decode_percent_best", 100 * p->floor.decode_us / d->best_us},
                  {"decode_percent_p50", 100 * p->floor.decode_us / d->p50_us},
                  {"weights_us", d->part_us[CN_PART_WEIGHTS]},
                  {"window_us", d->part_us[CN_PART_WINDOW]},
                  {"route_us", d->part_us[CN_PART_ROUTE]},
                  {"attend_us", d->part_us[CN_PART_ATTEND]},
                  {"head_us", d->part_us[CN_PART_HEAD]},
                  {"route_us_best", d->least_us[CN_PART_ROUTE]},
                  {"attend_us_best", d->least_us[CN_PART_ATTEND]},
                  {"weight_bytes", (double)b->weights},
                  {"window_bytes", (double)b->windows},
                  {"row_bytes", (double)b->rows},
                  {"index_key_bytes", (double)d->key_bytes},
                  {"index_key_scans", d->key_scans},
                  {"roof_gb_s", p->floor.gb_s},
                  {"roof_gop_s", p->floor.peak_gop_s},
                  {"peak_resident_bytes", (double)p->decode_used.peak_bytes},
                  {"prefill_minor_faults", (double)p->prefill_used.minor_faults},
                  {"prefill_major_faults", (double)p->prefill_used.major_faults},
                  {"decode_minor_faults", (double)p->decode_used.minor_faults},
                  {"decode_major_faults", (double)p->decode_used.major_faults},
    };
    _Static_assert(sizeof(all) / sizeof(all[0]) <= FIELDS_MAX, "room for all");
    memcpy(f, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static void put_rows(cn_json_writer *w, const curve *c) {
    field f[FIELDS_MAX];
    cn_json_field_open(w, "rows", '[');
    for (int32_t i = 0; i < c->points; i++)
        for (int o = 0; o < OUTPUTS; o++) {
            const int n = list_fields(f, &c->point[i], o);
            cn_json_open(w, '{');
            cn_json_field_string(w, "arm", cn_arm_name(c->point[i].arm));
            cn_json_field_string(w, "prefill", prefill_how(&c->point[i]));
            for (int k = 0; k < n; k++) cn_json_field_f64(w, f[k].key, f[k].value, 12);
            cn_json_close(w, '}');
        }
    cn_json_close(w, ']');
}

static void put_csv(cn_buf *csv, const curve *c) {
    field f[FIELDS_MAX];
    for (int32_t i = 0; i < c->points; i++)
        for (int o = 0; o < OUTPUTS; o++) {
            const int n = list_fields(f, &c->point[i], o);
            if (i == 0 && o == 0) {
                cn_buf_put_str(csv, "arm,prefill");
                for (int k = 0; k < n; k++) cn_buf_printf(csv, ",%s", f[k].key);
                cn_buf_put_str(csv, "\n");
            }
            cn_buf_printf(csv, "%s,%s", cn_arm_name(c->point[i].arm), prefill_how(&c->point[i]));
            for (int k = 0; k < n; k++) cn_buf_printf(csv, ",%.12g", f[k].value);
            cn_buf_put_str(csv, "\n");
        }
}

/* ---- What is compared ------------------------------------------------------------- */

/* Routing at one context: once a token, in each cross layer as measured, and in each as the bill
 * of a session reckons it (once, times the layers).  Medians of a token, us. */
typedef struct bill {
    double shared, per_layer, counterfactual, ratio, ratio_best, dense_attend;
} bill;

static bool find_bill(const curve *c, int64_t tokens, bill *out) {
    const point *one = find_point(c, CN_ARM_CLSA, tokens);
    const point *each = find_point(c, CN_ARM_YOCO_PERLAYER, tokens);
    const point *none = find_point(c, CN_ARM_YOCO, tokens);
    if (!one || !each) return false;
    const cn_run_summary *a = &one->decode[OUTPUTS - 1], *b = &each->decode[OUTPUTS - 1];
    const double          layers = c->config.cross_layers;
    *out = (bill){.shared = a->part_us[CN_PART_ROUTE],
                  .per_layer = b->part_us[CN_PART_ROUTE],
                  .dense_attend = none ? none->decode[OUTPUTS - 1].part_us[CN_PART_ATTEND] : NAN};
    out->counterfactual = out->shared * layers;
    out->ratio = out->per_layer / out->counterfactual;
    out->ratio_best = b->least_us[CN_PART_ROUTE] / (a->least_us[CN_PART_ROUTE] * layers);
    return true;
}

/* A token of `arm` over a token of CLSA: median (or best) times; NaN if one is not there. */
static double token_ratio(const curve *c, cn_arm arm, int64_t tokens, bool best) {
    const point *a = find_point(c, arm, tokens), *b = find_point(c, CN_ARM_CLSA, tokens);
    if (!a || !b) return NAN;
    const cn_run_summary *x = &a->decode[OUTPUTS - 1], *y = &b->decode[OUTPUTS - 1];
    return best ? x->best_us / y->best_us : x->p50_us / y->p50_us;
}

static void put_compared(cn_json_writer *w, const curve *c) {
    bill b;
    cn_json_field_open(w, "routing", '[');
    for (int i = 0; i < CONTEXTS && context_at(c, i); i++) {
        if (!find_bill(c, context_at(c, i), &b)) continue;
        cn_json_open(w, '{');
        cn_json_field_int64(w, "context_tokens", context_at(c, i));
        cn_json_field_f64(w, "shared_us", b.shared, 9);
        cn_json_field_f64(w, "per_layer_us", b.per_layer, 9);
        cn_json_field_f64(w, "counterfactual_us", b.counterfactual, 9);
        cn_json_field_f64(w, "per_layer_to_counterfactual", b.ratio, 6);
        cn_json_field_f64(w, "per_layer_to_counterfactual_best", b.ratio_best, 6);
        if (!isnan(b.dense_attend)) cn_json_field_f64(w, "dense_attend_us", b.dense_attend, 9);
        cn_json_close(w, '}');
    }
    cn_json_close(w, ']');
    cn_json_field_open(w, "token_to_clsa", '[');
    for (int i = 0; i < CONTEXTS && context_at(c, i); i++)
        for (size_t a = 1; a < sizeof(arms) / sizeof(arms[0]); a++) {
            const double p50 = token_ratio(c, arms[a], context_at(c, i), false);
            if (isnan(p50)) continue;
            cn_json_open(w, '{');
            cn_json_field_int64(w, "context_tokens", context_at(c, i));
            cn_json_field_string(w, "arm", cn_arm_name(arms[a]));
            cn_json_field_f64(w, "p50", p50, 6);
            cn_json_field_f64(w, "best", token_ratio(c, arms[a], context_at(c, i), true), 6);
            cn_json_close(w, '}');
        }
    cn_json_close(w, ']');
}

/* ---- For people ------------------------------------------------------------------- */

static void print_point(const curve *c, const point *p) {
    const cn_run_summary *d = &p->decode[OUTPUTS - 1];
    if (c->points == 1)
        printf("%-13s %8s  %9s %5s  %9s  %8s %8s %8s %5s  %7s %6s %7s %7s %6s\n", "arm", "context",
               "prefill/s", "roof", "ttft ms", "p50 us", "p99 us", "best us", "floor", "weights",
               "window", "route", "attend", "head");
    printf("%-13s %8s  %8.0f%s %4.0f%%  %9.1f  %8.0f %8.0f %8.0f %4.0f%%  %7.0f %6.0f %7.0f %7.0f "
           "%6.0f\n",
           cn_arm_name(p->arm), cn_cli_count(p->tokens), (double)p->tokens / p->prefill.s,
           p->prefill.is_extrapolated ? "*" : " ",
           (double)p->tokens / p->prefill.s * p->floor.prefill_us / 1e4,
           p->prefill.s * 1e3 + d->first_ms, d->p50_us, d->p99_us, d->best_us,
           100 * p->floor.decode_us / d->best_us, d->part_us[CN_PART_WEIGHTS],
           d->part_us[CN_PART_WINDOW], d->part_us[CN_PART_ROUTE], d->part_us[CN_PART_ATTEND],
           d->part_us[CN_PART_HEAD]);
    fflush(stdout);
}

static void print_rates(const curve *c) {
    printf("\n%-13s %8s  %9s  %17s  %17s  %10s %10s %7s  %8s %9s %9s\n", "arm", "context",
           "decode/s", "end to end/s, 128", "end to end/s, 512", "step MB", "index MB", "scans",
           "peak MB", "faults", "decode's");
    for (int32_t i = 0; i < c->points; i++) {
        const point          *p = &c->point[i];
        const cn_run_summary *d = &p->decode[OUTPUTS - 1];
        const cn_step_bytes  *b = &p->floor.bytes;
        printf("%-13s %8s  %9.1f  %16.2f%s  %16.2f%s  %10.1f %10.2f %7.2f  %8.0f %9" PRId64
               " %9" PRId64 "\n",
               cn_arm_name(p->arm), cn_cli_count(p->tokens), decode_tok_s(p, OUTPUTS - 1),
               outputs[0] / end_to_end_s(p, 0), p->prefill.is_extrapolated ? "*" : " ",
               outputs[1] / end_to_end_s(p, 1), p->prefill.is_extrapolated ? "*" : " ",
               (double)(b->weights + b->windows + b->keys + b->rows) / 1e6,
               (double)d->key_bytes / 1e6, d->key_scans, (double)p->decode_used.peak_bytes / 1e6,
               p->prefill_used.minor_faults + p->prefill_used.major_faults,
               p->decode_used.minor_faults + p->decode_used.major_faults);
    }
}

static void print_compared(const curve *c) {
    bill b;
    for (int i = 0; i < CONTEXTS && context_at(c, i); i++) {
        if (!find_bill(c, context_at(c, i), &b)) continue;
        if (i == 0)
            printf("\n%-13s %8s  %9s %9s %15s %7s %7s  %s\n", "routing, us", "context", "once",
                   "per layer", "once x layers", "ratio", "(best)", "attention to all, us");
        printf("%-13s %8s  %9.0f %9.0f %15.0f %7.2f %7.2f", "", cn_cli_count(context_at(c, i)),
               b.shared, b.per_layer, b.counterfactual, b.ratio, b.ratio_best);
        if (isnan(b.dense_attend))
            puts("  -");
        else
            printf("  %.0f\n", b.dense_attend);
    }
    if (isnan(token_ratio(c, CN_ARM_TRANSFORMER, context_at(c, 0), false))) return;
    printf("\n%-22s  %14s %14s %14s\n", "token / CLSA's token", cn_arm_name(arms[1]),
           cn_arm_name(arms[2]), cn_arm_name(arms[3]));
    for (int i = 0; i < CONTEXTS && context_at(c, i); i++) {
        printf("%22s  ", cn_cli_count(context_at(c, i)));
        for (int a = 1; a < 4; a++)
            printf("%6.2f (%5.2f) ", token_ratio(c, arms[a], context_at(c, i), false),
                   token_ratio(c, arms[a], context_at(c, i), true));
        puts("");
    }
}

static void print_notes(const curve *c) {
    bool is_extrapolated = false;
    for (int32_t i = 0; i < c->points; i++) is_extrapolated |= c->point[i].prefill.is_extrapolated;
    printf("\n%s, %d threads, random weights and tokens.  p50, p99 and parts: the %d tokens behind "
           "the first.\nRoof and floor: of this run, the best token against its floor.  step MB: "
           "what a step must read; index: counted,\nscans: times an index key was read in a step.  "
           "In brackets: best against best.\n",
           c->isa, c->threads, OUTPUTS_MAX - 1);
    if (is_extrapolated)
        printf("*: extrapolated.  K and V are random rows beyond %d tokens of context; steps of %d "
               "tokens were measured at the\nbeginning, in the middle and at the end of the "
               "context, and joined by Simpson's rule.  Decode is measured.\n",
               (int)CN_RUN_WHOLE_TOKENS, (int)CN_STEP_ROWS);
}

/* ---- Files ------------------------------------------------------------------------ */

static cn_err write_file(const char *path, const cn_buf *content, cn_diag *diag) {
    if (content->err) return CN_FAIL(diag, content->err, "no memory for %s", path);
    FILE      *f = fopen(path, "wb");
    const bool is_whole = f && fwrite(content->data, 1, content->bytes, f) == content->bytes;
    if ((f && fclose(f)) || !is_whole)
        return CN_FAIL(diag, CN_EIO, "write %s: %s", path, strerror(errno));
    return CN_OK;
}

static cn_err write_csv(const curve *c, const char *path, cn_diag *diag) {
    cn_buf csv = {0};
    put_csv(&csv, c);
    const cn_err err = write_file(path, &csv, diag);
    cn_buf_release(&csv);
    return err;
}

static cn_err write_plot(const curve *c, const char *path, cn_diag *diag) {
    enum { LINES = sizeof(arms) / sizeof(arms[0]) };
    double       x[CONTEXTS], decode[LINES][CONTEXTS], all[LINES][CONTEXTS];
    cn_svg_line  decode_line[LINES], all_line[LINES];
    cn_buf       svg = {0};
    int32_t      points = 0;
    cn_svg_chart charts[2] = {
        {"Decode", "tokens of context", "tokens/s", decode_line, LINES},
        {"Prefill and 512 tokens", "tokens of context", "tokens/s", all_line, LINES}};
    for (; points < CONTEXTS && context_at(c, points); points++) {
        x[points] = (double)context_at(c, points);
        for (int a = 0; a < LINES; a++) {
            const point *p = find_point(c, arms[a], context_at(c, points));
            decode[a][points] = p ? decode_tok_s(p, OUTPUTS - 1) : NAN;
            all[a][points] = p ? OUTPUTS_MAX / end_to_end_s(p, OUTPUTS - 1) : NAN;
        }
    }
    for (int a = 0; a < LINES; a++) {
        const char *name = find_point(c, arms[a], context_at(c, 0)) ? cn_arm_name(arms[a]) : "";
        decode_line[a] = (cn_svg_line){name, x, decode[a], points};
        all_line[a] = (cn_svg_line){name, x, all[a], points};
    }
    cn_svg_put_charts(&svg, charts, 2);
    const cn_err err = write_file(path, &svg, diag);
    cn_buf_release(&svg);
    return err;
}

/* ---- The command ------------------------------------------------------------------ */

/* The dims: of --dims FILE, or of the model's folder. */
static cn_err read_dims(const cn_cli *cli, const char *file, cn_config *out, cn_diag *diag) {
    char   folder[CN_PATH_BYTES], path[CN_PATH_BYTES + 16];
    cn_buf text = {0};
    if (!file) {
        CN_TRY(cn_cli_find_model(cli, folder, diag));
        snprintf(path, sizeof(path), "%s/config.json", folder);
        file = path;
    }
    cn_err err = cn_file_read(&text, file, CN_CONFIG_BYTES_MAX, diag);
    if (!err) err = cn_config_parse(out, cn_buf_str(&text), text.bytes, diag);
    if (!err && out->arm == CN_ARM_TRANSFORMER)
        err = CN_FAIL(diag, CN_EUNSUPPORTED,
                      "%s: dims of a transformer do not say where two decoders part; want those of "
                      "another arm",
                      file);
    cn_buf_release(&text);
    return err;
}

enum { ARMS = sizeof(arms) / sizeof(arms[0]), ALL_ARMS = (1 << ARMS) - 1 };

/* Which of `arms` to run, a bit each, by their names with commas between; 0 if one is unknown. */
static int find_arms(const char *names) {
    int found = 0;
    for (const char *at = names;; at++) {
        const size_t bytes = strcspn(at, ",");
        int          arm = 0;
        while (arm < ARMS && (strlen(cn_arm_name(arms[arm])) != bytes ||
                              strncmp(at, cn_arm_name(arms[arm]), bytes) != 0))
            arm++;
        if (arm == ARMS) return 0;
        found |= 1 << arm;
        at += bytes;
        if (!*at) return found;
    }
}

int cn_cmd_bench_curve(int argc, char **argv) {
    static const char usage[] =
        "usage: cairn bench curve [--dims FILE.json] [--arm NAMES] [--tokens N] [--csv FILE]\n"
        "                         [--plot FILE.svg]\n"
        "\n"
        "examples:\n"
        "  cairn bench curve --plot curve.svg           four arms at 8K to 128K tokens\n"
        "  cairn bench curve --tokens 32768 --arm clsa  one arm, shorter\n"
        "  cairn bench curve --arm clsa,yoco-perlayer   what routing in each layer costs, against\n"
        "                                               what the bill of a turn says of it\n"
        "\n"
        "Four arms with random weights at the dims of the model: clsa, yoco-perlayer, yoco,\n"
        "transformer; prefill, decode and both together at 8K, 32K, 64K and 128K tokens of\n"
        "context, in parts, against floors of the same run.\n";
    cn_cli          cli = {.command = "bench curve"};
    cn_diag         diag = {0};
    cn_listing      l;
    const char     *dims = NULL, *arm = NULL, *csv = NULL, *plot = NULL;
    int32_t         tokens_max = 0;
    const cn_option options[] = {
        {.name = "dims", .value = &dims, .help = "a config.json; else the model's"},
        {.name = "arm", .value = &arm, .help = "only these, with commas between"},
        {.name = "tokens", .number = &tokens_max, .help = "largest context; 131072"},
        {.name = "csv",
         .value = &csv,
         .help = "write a table: a row for each arm, context, outputs"},
        {.name = "plot", .value = &plot, .help = "write tokens/s by context as SVG"},
        {0},
    };
    if (cn_cli_parse(&cli, argc, argv, usage, options) != 0)
        return cn_cli_usage(&cli, "want no operand, got \"%s\"", argv[0]);
    const int chosen = arm ? find_arms(arm) : ALL_ARMS;
    if (!chosen)
        return cn_cli_usage(
            &cli, "--arm %s: want some of clsa,yoco-perlayer,yoco,transformer, with commas", arm);
    curve *c = calloc(1, sizeof(*c));
    cn_listing_begin(&l, &cli);
    cn_err err = c ? CN_OK : CN_FAIL(&diag, CN_ENOMEM, "no memory for a curve");
    if (!err) {
        c->cli = &cli;
        c->tokens_max = tokens_max ? tokens_max : contexts[CONTEXTS - 1];
        err = read_dims(&cli, dims, &c->config, &diag);
    }
    for (int i = 0; !err && i < ARMS; i++)
        if (chosen & 1 << i) err = measure_arm(c, arms[i], &diag);
    if (!err && csv) err = write_csv(c, csv, &diag);
    if (!err && plot) err = write_plot(c, plot, &diag);
    if (!err && !cli.json) {
        print_rates(c);
        print_compared(c);
        print_notes(c);
    }
    if (!err && cli.json) {
        cn_json_open(&l.w, '{');
        cn_json_field_string(&l.w, "isa", c->isa);
        cn_json_field_int64(&l.w, "threads", c->threads);
        put_rows(&l.w, c);
        put_compared(&l.w, c);
        cn_json_close(&l.w, '}');
    }
    free(c);
    return cn_listing_end(&l, err, &diag);
}
