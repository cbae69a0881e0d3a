/* ruler.c - Fit a text to a length, ask, score. */
#include "runtime/ruler.h"

#include "base/rand.h"
#include "runtime/scratch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { UNITS_LEAST = 64, ROLES = 8, BUDGET_FACTOR = 4 };

typedef struct runner {
    const cn_ruler_opts *opts;
    cn_ruler_result     *result;
    cn_ruler_task        task;
    int32_t              length, index;
    cn_ruler_sample      sample;
    char                 folder[CN_SCRATCH_PATH_BYTES];
} runner;

/* Tokens of the view that a text makes, its question, and room for the answer. */
static cn_err count_tokens(const runner *r, const cn_ruler_sample *s, int64_t *out, cn_diag *diag) {
    const cn_host *h = r->opts->host;
    char           path[64];
    cn_cut         cut;
    cn_tokens      question = {0};
    *out = 0;
    snprintf(path, sizeof(path), "%s.txt", cn_ruler_task_name(r->task));
    CN_TRY(cn_tokenizer_encode(h->tokenizer, &question, cn_buf_str(&s->question), s->question.bytes,
                               CN_TOKENIZE_TEXT, diag));
    const int64_t asked = question.count + ROLES + cn_ruler_answer_tokens(r->task);
    cn_tokens_release(&question);
    CN_TRY(cn_cut_file(&cut,
                       &(cn_cut_args){.tokenizer = h->tokenizer,
                                      .file_role = h->roles.file,
                                      .path = path,
                                      .text = cn_buf_str(&s->text),
                                      .bytes = s->text.bytes},
                       diag));
    *out = cut.tokens + asked;
    cn_cut_release(&cut);
    return CN_OK;
}

static uint64_t seed_of(const runner *r) {
    return cn_rand_mix(r->opts->seed + CN_RAND_STEP * (uint64_t)(r->index + 1)) ^
           (uint64_t)r->result->length[r->length];
}

/* Make the sample with `units`; whether it fits. */
static cn_err try_units(runner *r, int64_t units, bool *fits_out, cn_diag *diag) {
    const int64_t length = r->result->length[r->length];
    int64_t       tokens;
    *fits_out = false;
    cn_ruler_sample_release(&r->sample);
    CN_TRY(cn_ruler_make(&r->sample, r->task, units, length, seed_of(r), diag));
    CN_TRY(count_tokens(r, &r->sample, &tokens, diag));
    *fits_out = tokens <= length;
    return CN_OK;
}

/* The largest sample that fits; *fits_out is false if none does. */
static cn_err fit(runner *r, bool *fits_out, cn_diag *diag) {
    int64_t least = UNITS_LEAST, most = UNITS_LEAST;
    bool    fits;
    if (r->task != CN_RULER_FWE) least = CN_RULER_OUTPUTS_MAX + 1;
    CN_TRY(try_units(r, least, fits_out, diag));
    if (!*fits_out) return CN_OK;
    for (fits = true; fits;) {
        most = 2 * (most > least ? most : least);
        CN_TRY(try_units(r, most, &fits, diag));
        if (fits) least = most;
    }
    while (most - least > 1) { // least fits, most does not
        const int64_t middle = least + (most - least) / 2;
        CN_TRY(try_units(r, middle, &fits, diag));
        *(fits ? &least : &most) = middle;
    }
    return try_units(r, least, fits_out, diag);
}

/* What RULER's evaluation does with an answer: control characters are line ends. */
static void clean(cn_buf *text) {
    for (size_t i = 0; i < text->bytes; i++)
        if ((unsigned char)text->data[i] < 0x20) text->data[i] = '\n';
}

static cn_err write_line(const runner *r, const cn_asked *asked, double score, double part,
                         cn_diag *diag) {
    const cn_ruler_sample *s = &r->sample;
    cn_buf                 line = {0};
    cn_json_writer         w = cn_json_writer_on(&line);
    cn_json_open(&w, '{');
    cn_json_field_string(&w, "task", cn_ruler_task_name(r->task));
    cn_json_field_int64(&w, "length", r->result->length[r->length]);
    cn_json_field_int64(&w, "index", r->index);
    cn_json_field_int64(&w, "context_tokens", asked->bill.context_tokens);
    cn_json_field_string(&w, "input", cn_buf_str(&s->question));
    cn_json_field_open(&w, "outputs", '[');
    for (int32_t i = 0; i < s->outputs; i++) cn_json_put_string(&w, s->output[i]);
    cn_json_close(&w, ']');
    cn_json_field_bytes(&w, "pred", cn_buf_str(&asked->text), asked->text.bytes);
    cn_json_field_f64(&w, "score", score, 6);
    cn_json_field_f64(&w, "part", part, 6);
    cn_json_close(&w, '}');
    cn_buf_put_str(&line, "\n");
    cn_err err = line.err ? CN_FAIL(diag, line.err, "no memory for a line of the output") : CN_OK;
    if (!err && fwrite(line.data, 1, line.bytes, r->opts->out) != line.bytes)
        err = CN_FAIL(diag, CN_EIO, "write the output: %s", strerror(errno));
    cn_buf_release(&line);
    return err;
}

static cn_err on_asked(void *ctx, int64_t number, cn_asked *asked, cn_diag *diag) {
    (void)number;
    runner        *r = ctx;
    cn_ruler_cell *cell = &r->result->cell[r->task][r->length];
    clean(&asked->text);
    const double score = cn_ruler_match_all(cn_buf_str(&asked->text), &r->sample);
    const double part = cn_ruler_match_part(cn_buf_str(&asked->text), &r->sample);
    const double before = (double)cell->samples++;
    cell->score = (cell->score * before + score) / (before + 1);
    cell->part = (cell->part * before + part) / (before + 1);
    cell->tokens += asked->bill.context_tokens;
    return r->opts->out ? write_line(r, asked, score, part, diag) : CN_OK;
}

static cn_err ask(runner *r, cn_diag *diag) {
    const char *question = cn_buf_str(&r->sample.question);
    char        path[64];
    cn_session *s;
    snprintf(r->folder, sizeof(r->folder), "%s/%s-%" PRId64 "-%d", r->opts->scratch,
             cn_ruler_task_name(r->task), r->result->length[r->length], r->index);
    snprintf(path, sizeof(path), "%s.txt", cn_ruler_task_name(r->task));
    CN_TRY(
        cn_scratch_write(r->folder, path, cn_buf_str(&r->sample.text), r->sample.text.bytes, diag));
    const cn_session_opts opts = {.folder = r->folder,
                                  .budget = BUDGET_FACTOR * r->result->length[r->length],
                                  .is_trial = true};
    CN_TRY(cn_session_open(&s, r->opts->host, &opts, diag));
    cn_err err = CN_OK;
    if (cn_repo_is_git(cn_context_repo(cn_session_context(s))))
        err = CN_FAIL(diag, CN_EINVAL, "the scratch folder %s lies in the repository %s",
                      r->opts->scratch, cn_repo_root(cn_context_repo(cn_session_context(s))));
    if (!err)
        err = cn_ask_each(
            &(cn_ask_each_args){.host = r->opts->host,
                                .session = &s,
                                .lanes = 1,
                                .opts = {.output_tokens_max = cn_ruler_answer_tokens(r->task),
                                         .cancel = r->opts->cancel},
                                .question = &question,
                                .questions = 1,
                                .on_asked = on_asked,
                                .ctx = r},
            diag);
    cn_session_close(s);
    cn_scratch_remove(r->folder);
    return err;
}

static bool is_cancelled(const runner *r) {
    return r->opts->cancel && atomic_load(r->opts->cancel);
}

static cn_err run_cell(runner *r, cn_diag *diag) {
    for (r->index = 0; r->index < r->opts->samples && !is_cancelled(r); r->index++) {
        bool fits;
        CN_TRY(fit(r, &fits, diag));
        if (!fits) break; // the smallest one is too long
        CN_TRY(ask(r, diag));
    }
    if (r->opts->on_cell && !is_cancelled(r))
        r->opts->on_cell(r->opts->ctx, r->result, r->task, r->length);
    return CN_OK;
}

cn_err cn_ruler_run(cn_ruler_result *result, const cn_ruler_opts *opts, cn_diag *diag) {
    runner r = {.opts = opts, .result = result};
    cn_err err = CN_OK;
    memset(result->cell, 0, sizeof(result->cell));
    for (int task = 0; !err && task < CN_RULER_TASKS; task++)
        for (r.length = 0; !err && r.length < result->lengths && !is_cancelled(&r); r.length++) {
            r.task = (cn_ruler_task)task;
            err = run_cell(&r, diag);
        }
    cn_ruler_sample_release(&r.sample);
    return err;
}
