/*
 * cmd_bench_retrieval.c - cairn bench retrieval: does the model find what the view holds?
 *
 * Everything runs on a scratch state folder that is made and removed here; the user's own is
 * not touched.
 */
#include "base/clock.h"
#include "runtime/cmd_bench_retrieval_int.h"
#include "runtime/depth.h"
#include "runtime/mass.h"
#include "runtime/reading.h"
#include "runtime/ruler.h"
#include "runtime/signals.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    LANES = 8,
    NEEDLES = 4,
    PER_CELL = 8,
    PLACES = 512,
    SAMPLES = 5,
};

/* The scratch cache: older views of the same run leave it. */
#define CACHE_BYTES ((int64_t)1 << 30)
#define CACHE_BYTES_A_TOKEN ((int64_t)16 << 10)

static const char usage[] =
    "usage: cairn bench retrieval [-C REPO] [--budget N] [--plot FILE.svg]\n"
    "       cairn bench retrieval --questions FILE [-C REPO] [--budget N] [--topk K | --dense]\n"
    "       cairn bench retrieval --mass [--questions FILE] [-C REPO] [--budget N]\n"
    "       cairn bench retrieval --evidence [-C REPO] [--budget N] [--topk K]\n"
    "       cairn bench retrieval --ruler [--lengths 4096,8192] [--topk K | --dense]\n"
    "\n"
    "examples:\n"
    "  cairn bench retrieval --plot heat.svg      needles and definitions of the repository here\n"
    "  cairn bench retrieval --questions q.jsonl  questions of your own, with their answers\n"
    "  cairn bench retrieval --evidence           does evidence name the place of the answer?\n"
    "  cairn bench retrieval --mass               what the top k of the index holds\n"
    "\n"
    "Needles and definitions of the repository, by context length (4,096 tokens doubled up to\n"
    "the budget) and depth, dense against the top 256 to 2,048.  Or questions from a file: each\n"
    "line a fresh conversation,\n"
    "{\"type\":...,\"turns\":[{\"q\":...,\"calls\":[...],\"answer\":...}]}.\n"
    "\n"
    "--mass: the share of dense attention that the top k of the index holds, against the best\n"
    "sets, and the change in cross-entropy, on the documents' own text or on the answers.\n"
    "--evidence: \"Where is X defined?\" and \"What is the signature of X?\" for functions that "
    "stand in\n"
    "one file of the view alone: whether their file and line are the first that evidence names,\n"
    "or among the first three; and the shares of that file's ranges, of the conversation, and of "
    "all\n"
    "documents' headers.\n"
    "--ruler: those tasks of RULER (arXiv:2404.06654) that need no data.  --state DIR is where\n"
    "the scratch folder is made; nothing is left there.\n";

cn_err cn_retrieval_write(const char *path, const cn_buf *content, cn_diag *diag) {
    if (content->err) return CN_FAIL(diag, content->err, "no memory for %s", path);
    FILE      *f = fopen(path, "wb");
    const bool is_short = !f || fwrite(content->data, 1, content->bytes, f) != content->bytes;
    if ((f && fclose(f)) || is_short)
        return CN_FAIL(diag, CN_EIO, "write %s: %s", path, strerror(errno));
    return CN_OK;
}

/* What runs, by the options; needles and definitions without any. */
static int (*chosen(const cn_retrieval_cli *r))(cn_retrieval_cli *r) {
    return r->mass        ? cn_retrieval_mass
           : r->evidence  ? cn_retrieval_evidence
           : r->ruler     ? cn_retrieval_ruler
           : r->questions ? cn_retrieval_questions
                          : cn_retrieval_depth;
}

/* Whether k is an option of what runs, and not what it compares. */
static bool takes_topk(const cn_retrieval_cli *r) {
    return chosen(r) == cn_retrieval_questions || chosen(r) == cn_retrieval_ruler ||
           chosen(r) == cn_retrieval_evidence;
}

static cn_err open_host(cn_retrieval_cli *r, cn_diag *diag) {
    char model[CN_PATH_BYTES], state[CN_SCRATCH_PATH_BYTES + 16];
    CN_TRY(cn_cli_find_model(&r->cli, model, diag));
    snprintf(state, sizeof(state), "%s/state", r->scratch);
    return cn_host_open(
        &r->host,
        &(cn_host_opts){.model_folder = model,
                        .state_folder = state,
                        .isa = r->cli.isa,
                        .threads = r->cli.threads,
                        .cache_bytes = CACHE_BYTES + r->budget * CACHE_BYTES_A_TOKEN,
                        .topk = takes_topk(r) ? r->topk : CN_RETRIEVAL_TOPK_MAX,
                        .dense = r->dense},
        diag);
}

static int run(cn_retrieval_cli *r) {
    cn_diag diag = {0};
    int     status;
    r->begin_ns = cn_clock_ns();
    cn_err err = cn_scratch_make(r->scratch, r->cli.state, &diag);
    if (!err) err = open_host(r, &diag);
    if (!err && r->out) {
        r->out_file = fopen(r->out, "w");
        if (!r->out_file) err = CN_FAIL(&diag, CN_EIO, "open %s: %s", r->out, strerror(errno));
    }
    if (err)
        status = cn_cli_fail(&r->cli, err, &diag);
    else
        status = chosen(r)(r);
    if (r->out_file && fclose(r->out_file) && status == CN_EXIT_DONE)
        status = cn_cli_fail(
            &r->cli, CN_FAIL(&diag, CN_EIO, "write %s: %s", r->out, strerror(errno)), &diag);
    cn_host_close(r->host);
    cn_scratch_remove(r->scratch);
    return atomic_load(cn_signals_cancel()) && status == CN_EXIT_DONE ? CN_EXIT_INTERRUPTED
                                                                      : status;
}

int cn_cmd_bench_retrieval(int argc, char **argv) {
    cn_retrieval_cli r = {.cli = {.command = "bench retrieval"},
                          .folder = ".",
                          .budget = CN_CHOOSE_BUDGET,
                          .lanes = LANES,
                          .depths = CN_DEPTHS_MIN,
                          .needles = NEEDLES,
                          .per_cell = PER_CELL,
                          .seed = 1,
                          .places = PLACES,
                          .samples = SAMPLES,
                          .lengths = "4096,8192,16384,32768",
                          .cancel = cn_signals_cancel()};
    const cn_option  options[] = {
         {.name = "repo", .letter = 'C', .value = &r.folder, .help = "repository or folder; here"},
         {.name = "budget", .number = &r.budget, .help = "tokens of the (longest) view; 32768"},
         {.name = "depths", .number = &r.depths, .help = "shares of the view; 5"},
         {.name = "needles", .number = &r.needles, .help = "at each length and depth; 4"},
         {.name = "definitions", .number = &r.per_cell, .help = "at each length and depth; 8"},
         {.name = "seed", .number = &r.seed, .help = "of needles, and of which definitions; 1"},
         {.name = "plot", .value = &r.plot, .help = "write a heat map, SVG"},
         {.name = "questions", .value = &r.questions, .help = "ask these: JSON lines"},
         {.name = "out", .value = &r.out, .help = "a JSON line for each question"},
         {.name = "mass", .flag = &r.mass, .help = "look at attention"},
         {.name = "evidence",
          .flag = &r.evidence,
          .help = "look at what is read; definitions x 5 are asked for"},
         {.name = "places", .number = &r.places, .help = "with --mass: tokens of text; 512"},
         {.name = "ruler", .flag = &r.ruler, .help = "RULER's tasks"},
         {.name = "lengths", .value = &r.lengths, .help = "with --ruler: 4096,8192,16384,32768"},
         {.name = "samples", .number = &r.samples, .help = "with --ruler: of a task and length; 5"},
         {.name = "topk",
          .number = &r.topk,
          .help = "of attention, with --questions or --ruler; the model's"},
         {.name = "dense", .flag = &r.dense, .help = "attention reads all tokens, likewise"},
         {.name = "lanes", .number = &r.lanes, .help = "with --questions: side by side; 8"},
         {.name = "max-tokens", .number = &r.output, .help = "with --questions: of an answer; 1024"},
         {0},
    };
    if (cn_cli_parse(&r.cli, argc, argv, usage, options) != 0)
        return cn_cli_usage(&r.cli, "want no operand, got \"%s\"", argv[0]);
    if (r.dense && r.topk) return cn_cli_usage(&r.cli, "--topk and --dense exclude each other");
    if (r.ruler && (r.mass || r.questions))
        return cn_cli_usage(&r.cli, "--ruler takes no --mass and no --questions");
    if (r.evidence && (r.mass || r.questions || r.ruler || r.dense))
        return cn_cli_usage(&r.cli, "--evidence takes no --mass, --questions, --ruler or --dense");
    if (!takes_topk(&r) && (r.topk || r.dense))
        return cn_cli_usage(&r.cli, "--topk and --dense want --questions or --ruler, no --mass");
    if (chosen(&r) != cn_retrieval_questions && r.output)
        return cn_cli_usage(&r.cli, "--max-tokens wants --questions, no --mass");
    if (chosen(&r) != cn_retrieval_depth && r.plot)
        return cn_cli_usage(&r.cli, "--plot draws needles and definitions alone");
    if (r.samples < 1 || r.samples > CN_RULER_SAMPLES_MAX)
        return cn_cli_usage(&r.cli, "--samples %d: want 1 to %d", r.samples,
                            (int)CN_RULER_SAMPLES_MAX);
    if (r.places < 1 || r.places > CN_MASS_PLACES_MAX * 8)
        return cn_cli_usage(&r.cli, "--places %d: want 1 to %d", r.places, CN_MASS_PLACES_MAX * 8);
    if (r.depths < CN_DEPTHS_MIN || r.depths > CN_DEPTHS_MAX)
        return cn_cli_usage(&r.cli, "--depths %d: want %d to %d", r.depths, (int)CN_DEPTHS_MIN,
                            (int)CN_DEPTHS_MAX);
    if (r.needles > CN_DEPTH_CELL_MAX || r.per_cell > CN_DEPTH_CELL_MAX)
        return cn_cli_usage(&r.cli, "at most %d needles or definitions at a depth",
                            (int)CN_DEPTH_CELL_MAX);
    if (r.evidence && (r.per_cell < 1 || r.per_cell * r.depths > CN_READING_QUESTIONS_MAX))
        return cn_cli_usage(&r.cli, "--definitions %d: want 1 to %d", r.per_cell,
                            CN_READING_QUESTIONS_MAX / r.depths);
    cn_signals_catch(false);
    return cn_signals_leave(run(&r));
}
