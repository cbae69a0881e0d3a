/* bench_run.c - Documents, a view and a conversation; or a transformer's one document. */
#include "runtime/bench_run.h"

#include "base/clock.h"
#include "base/rand.h"

#include <inttypes.h>
#include <stdlib.h>

struct cn_run {
    cn_run_opts  opts;
    bool         is_sequence; // a transformer
    int32_t      vocab;
    uint64_t     seed;
    int64_t      tokens;     // of the context
    int64_t      prefill_ns; // of these
    cn_doc     **doc;        // [docs]; a transformer has none
    int64_t      docs;       // made so far
    cn_page_ref *page;       // [pages]
    int64_t      pages;      // of the context so far
    cn_doc      *talk;       // the conversation; a transformer's whole sequence
    cn_view     *view;
};

static int64_t ceil_div(int64_t n, int64_t by) {
    return (n + by - 1) / by;
}

static int64_t pages_of(int64_t tokens) {
    return ceil_div(tokens, CN_PAGE_TOKENS);
}

static int32_t draw_token(cn_run *r) {
    return (int32_t)(cn_rand_next(&r->seed) % (uint64_t)r->vocab);
}

cn_err cn_run_open(cn_run **out, const cn_run_opts *opts, cn_diag *diag) {
    const cn_config *c = &cn_engine_model(opts->engine)->config;
    const int64_t    talk = CN_RUN_PROMPT_TOKENS + opts->outputs_max;
    const int64_t    docs = ceil_div(opts->tokens_max, CN_RUN_DOC_TOKENS);
    *out = NULL;
    cn_run *r = calloc(1, sizeof(*r));
    if (!r) return CN_FAIL(diag, CN_ENOMEM, "no memory for a run");
    *r = (cn_run){.opts = *opts, .vocab = c->vocab, .seed = 1};
    r->is_sequence = c->arm == CN_ARM_TRANSFORMER;
    cn_err err = CN_OK;
    r->doc = calloc((size_t)docs, sizeof(*r->doc));
    r->page = calloc((size_t)(docs * pages_of(CN_RUN_DOC_TOKENS)), sizeof(*r->page));
    if (!r->doc || !r->page)
        err = CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " documents", docs);
    if (!err)
        err = cn_doc_create(&r->talk, opts->engine, (r->is_sequence ? opts->tokens_max : 0) + talk,
                            false, diag);
    if (!err)
        err = cn_view_create(&r->view, opts->engine,
                             docs * pages_of(CN_RUN_DOC_TOKENS) + pages_of(talk) + 1, diag);
    if (err)
        cn_run_close(r);
    else
        *out = r;
    return err;
}

void cn_run_close(cn_run *r) {
    if (!r) return;
    cn_view_free(r->view);
    cn_doc_free(r->talk);
    for (int64_t d = 0; d < r->docs; d++) cn_doc_free(r->doc[d]);
    free(r->page);
    free(r->doc);
    free(r);
}

/* Append `tokens` random tokens; the time of it is added up. */
static cn_err append(cn_run *r, cn_doc *doc, int64_t tokens, cn_diag *diag) {
    int32_t token[CN_STEP_ROWS];
    for (int64_t left = tokens; left > 0; left -= CN_STEP_ROWS) {
        const int32_t n = left < CN_STEP_ROWS ? (int32_t)left : CN_STEP_ROWS;
        cn_step_stats stats;
        for (int32_t i = 0; i < n; i++) token[i] = draw_token(r);
        cn_slice slice = {.doc = doc, .token = token, .tokens = n};
        CN_TRY(cn_engine_step(r->opts.engine, &slice, 1, &stats, diag));
        r->prefill_ns += stats.wall_ns;
    }
    return CN_OK;
}

static cn_err grow_documents(cn_run *r, int64_t tokens, cn_diag *diag) {
    while (r->tokens < tokens) {
        const int64_t left = tokens - r->tokens;
        const int64_t n = left < CN_RUN_DOC_TOKENS ? left : CN_RUN_DOC_TOKENS;
        CN_TRY(cn_doc_create(&r->doc[r->docs], r->opts.engine, n, true, diag));
        cn_doc *doc = r->doc[r->docs++];
        CN_TRY(append(r, doc, n, diag));
        for (int64_t i = 0; i < cn_doc_pages(doc); i++) r->page[r->pages++] = cn_doc_page(doc, i);
        r->tokens += n;
    }
    return cn_view_set(r->view, r->page, r->pages, diag);
}

/* The time of the step that ends at `end`, behind random rows. */
static cn_err time_step(cn_run *r, int64_t end, double *s_out, cn_diag *diag) {
    const int64_t before = r->prefill_ns;
    CN_TRY(cn_doc_fill(r->talk, end - CN_STEP_ROWS, r->seed, diag));
    CN_TRY(append(r, r->talk, CN_STEP_ROWS, diag));
    *s_out = (double)(r->prefill_ns - before) / 1e9;
    return CN_OK;
}

static cn_err grow_sequence(cn_run *r, int64_t tokens, cn_run_prefill *out, cn_diag *diag) {
    double begin, middle, end;
    r->prefill_ns = 0;
    if (tokens <= CN_RUN_WHOLE_TOKENS) {
        cn_doc_reset(r->talk);
        CN_TRY(append(r, r->talk, tokens, diag));
        out->s = (double)r->prefill_ns / 1e9;
    } else {
        CN_TRY(time_step(r, CN_STEP_ROWS, &begin, diag));
        CN_TRY(time_step(r, (tokens + CN_STEP_ROWS) / 2, &middle, diag));
        CN_TRY(time_step(r, tokens, &end, diag));
        out->s = (begin + 4 * middle + end) / 6 * (double)tokens / CN_STEP_ROWS;
        out->is_extrapolated = true;
    }
    r->tokens = tokens;
    return CN_OK;
}

cn_err cn_run_grow(cn_run *r, int64_t tokens, cn_run_prefill *out, cn_diag *diag) {
    *out = (cn_run_prefill){0};
    cn_assert(tokens >= r->tokens && tokens <= r->opts.tokens_max);
    cn_assert(tokens % CN_RUN_DOC_TOKENS == 0 || tokens == r->opts.tokens_max);
    if (r->is_sequence) return grow_sequence(r, tokens, out, diag);
    CN_TRY(grow_documents(r, tokens, diag));
    out->s = (double)r->prefill_ns / 1e9;
    return CN_OK;
}

static cn_err decode(cn_run *r, int32_t outputs, cn_evidence *e, cn_run_token *token,
                     cn_diag *diag) {
    int32_t id[CN_RUN_PROMPT_TOKENS];
    cn_assert(outputs <= r->opts.outputs_max);
    if (r->is_sequence)
        cn_assert(cn_doc_tokens(r->talk) == r->tokens);
    else
        cn_doc_reset(r->talk);
    for (int i = 0; i < CN_RUN_PROMPT_TOKENS; i++) id[i] = draw_token(r);
    for (int32_t i = 0; i < outputs; i++) {
        const int64_t begin = cn_clock_ns();
        cn_slice      slice = {.doc = r->talk,
                               .token = id,
                               .tokens = i == 0 ? CN_RUN_PROMPT_TOKENS : 1,
                               .view = r->view,
                               .wants_read = e && i % 2 == 1};
        CN_TRY(cn_engine_step(r->opts.engine, &slice, 1, &token[i].stats, diag));
        CN_TRY(cn_engine_sample(r->opts.engine, slice.logits, &(cn_sampling){.top_p = 1}, &id[0],
                                diag));
        const int64_t sampled = cn_clock_ns();
        if (slice.wants_read) cn_evidence_add(e, &slice.read);
        const int64_t end = cn_clock_ns();
        token[i].tokens = r->tokens + CN_RUN_PROMPT_TOKENS + i;
        token[i].ns = end - begin;
        token[i].read_ns = slice.wants_read ? token[i].stats.read_ns + end - sampled : 0;
    }
    return CN_OK;
}

cn_err cn_run_decode(cn_run *r, int32_t outputs, cn_run_token *token, cn_diag *diag) {
    return decode(r, outputs, NULL, token, diag);
}

cn_err cn_run_decode_read(cn_run *r, int32_t outputs, cn_run_token *token, cn_diag *diag) {
    cn_evidence e = {0};
    cn_err      err = cn_evidence_reserve(&e, cn_view_tokens(r->view), diag);
    if (!err) err = decode(r, outputs, &e, token, diag);
    cn_evidence_release(&e);
    return err;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The value that a share of all are below; sorts them. */
static double quantile(double *us, int32_t count, double share) {
    qsort(us, (size_t)count, sizeof(*us), by_value);
    return us[(int32_t)(share * (count - 1) + 0.5)];
}

static double part_us(const cn_run_token *t, cn_part part) {
    const cn_step_stats *s = &t->stats;
    const int64_t        ns[CN_PART_COUNT] = {
               [CN_PART_WINDOW] = s->window_ns,
               [CN_PART_ROUTE] = s->route_ns,
               [CN_PART_ATTEND] = s->attend_ns,
               [CN_PART_HEAD] = s->head_ns,
    };
    if (part != CN_PART_WEIGHTS) return (double)ns[part] / 1e3;
    return (double)(t->ns - s->window_ns - s->route_ns - s->attend_ns - s->head_ns) / 1e3;
}

cn_err cn_run_summarise(cn_run_summary *out, const cn_run_token *token, int32_t outputs,
                        cn_diag *diag) {
    const int32_t count = outputs - 1;
    *out = (cn_run_summary){0};
    cn_assert(outputs >= 2);
    double *us = malloc((size_t)count * sizeof(*us));
    if (!us) return CN_FAIL(diag, CN_ENOMEM, "no memory for %d times", (int)count);
    for (int32_t i = 0; i < outputs; i++) {
        const double scans = (double)token[i].stats.scored / (double)token[i].tokens;
        out->s += (double)token[i].ns / 1e9;
        if (scans > out->key_scans) out->key_scans = scans;
        if (token[i].stats.key_bytes > out->key_bytes) out->key_bytes = token[i].stats.key_bytes;
    }
    out->first_ms = (double)token[0].ns / 1e6;
    for (int32_t i = 0; i < count; i++) us[i] = (double)token[i + 1].ns / 1e3;
    out->best_us = quantile(us, count, 0);
    out->p50_us = quantile(us, count, 0.5);
    out->p99_us = quantile(us, count, 0.99);
    for (cn_part part = 0; part < CN_PART_COUNT; part++) {
        for (int32_t i = 0; i < count; i++) us[i] = part_us(&token[i + 1], part);
        out->part_us[part] = quantile(us, count, 0.5);
        out->least_us[part] = us[0];
    }
    free(us);
    return CN_OK;
}

cn_err cn_run_compare_read(cn_run_read_cost *out, const cn_run_token *token, int32_t outputs,
                           cn_diag *diag) {
    *out = (cn_run_read_cost){0};
    cn_assert(outputs >= 3);
    double *us = malloc((size_t)outputs * sizeof(*us));
    if (!us) return CN_FAIL(diag, CN_ENOMEM, "no memory for %d times", (int)outputs);
    for (int with = 0; with < 2; with++) {
        int32_t count = 0;
        for (int32_t i = 2 - with; i < outputs; i += 2) us[count++] = (double)token[i].ns / 1e3;
        *(with ? &out->with_us : &out->without_us) = quantile(us, count, 0.5);
    }
    int32_t count = 0;
    for (int32_t i = 1; i < outputs; i += 2) us[count++] = (double)token[i].read_ns / 1e3;
    out->least_us = quantile(us, count, 0);
    free(us);
    return CN_OK;
}
