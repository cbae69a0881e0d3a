/*
 * mass.c - Run a sequence behind a view once for each k and once dense, and look at it.
 *
 * The index scores are a function of the self-decoder's state alone, so those that the first
 * sparse run shows are the dense run's too.
 */
#include "runtime/mass.h"

#include "base/rand.h"
#include "runtime/questions.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const int32_t cn_mass_topk[CN_MASS_SETS] = {256, 512, 1024, 2048};

/* ---- Sums ----------------------------------------------------------------------------- */

static bool is_before(const cn_mass_item *a, const cn_mass_item *b) {
    return a->key > b->key || (a->key == b->key && a->position < b->position);
}

static int by_rank(const void *a, const void *b) {
    return is_before(a, b) ? -1 : is_before(b, a) ? 1 : 0;
}

/* Bring the k that come first to the front, in any order (Hoare's selection). */
static void select_first(cn_mass_item *x, int64_t count, int64_t k) {
    int64_t lo = 0, hi = count - 1;
    while (lo < hi) {
        const cn_mass_item pivot = x[lo + (hi - lo) / 2];
        int64_t            i = lo, j = hi;
        while (i <= j) {
            while (is_before(&x[i], &pivot)) i++;
            while (is_before(&pivot, &x[j])) j--;
            if (i > j) break;
            const cn_mass_item swapped = x[i];
            x[i++] = x[j];
            x[j--] = swapped;
        }
        if (k <= j)
            hi = j;
        else if (k >= i)
            lo = i;
        else
            return;
    }
}

void cn_mass_top_sums(const float *key, const float *value, int64_t count, const int32_t *k,
                      int32_t ks, cn_mass_item *scratch, double *sum_out) {
    const int64_t most = ks && k[ks - 1] < count ? k[ks - 1] : count;
    double        sum = 0;
    int32_t       set = 0;
    for (int64_t i = 0; i < count; i++) scratch[i] = (cn_mass_item){key[i], value[i], (int32_t)i};
    if (most < count) select_first(scratch, count, most);
    qsort(scratch, (size_t)most, sizeof(*scratch), by_rank);
    for (int64_t i = 0; i < most; i++) {
        for (; set < ks && k[set] == i; set++) sum_out[set] = sum;
        sum += scratch[i].value;
    }
    for (; set < ks; set++) sum_out[set] = sum;
}

double cn_mass_cross_entropy(const float *logits, int32_t vocab, int32_t token) {
    double sum = 0;
    float  max = logits[0];
    for (int32_t i = 1; i < vocab; i++) max = logits[i] > max ? logits[i] : max;
    for (int32_t i = 0; i < vocab; i++) sum += exp((double)(logits[i] - max));
    return log(sum) - (double)(logits[token] - max);
}

/* ---- One sequence --------------------------------------------------------------------- */

/* A run for each set, and a dense one. */
enum { DENSE = CN_MASS_SETS, RUNS };

/* Tokens behind a view; places are tokens whose follower is predicted. */
typedef struct sequence {
    const int32_t *token;
    int64_t        tokens;
    bool           is_file; // its own document, with a sink
    int32_t        place[CN_MASS_PLACES_MAX];
    int32_t        places;
} sequence;

typedef struct probe {
    const cn_mass_opts *opts;
    cn_mass            *out;
    cn_engine          *engine;
    cn_pages_txn       *txn;
    cn_view            *view;
    cn_page_ref        *page;    // [pages_max]
    cn_doc             *doc[2];  // a conversation, a file
    int64_t             room;    // tokens of the view and what stands behind it
    float              *scores;  // [CN_MASS_PLACES_MAX, room]
    float              *probs;   // [heads, room]
    float              *mean;    // [room] over layers and heads
    float              *layer;   // [room] over heads
    cn_mass_item       *scratch; // [room]
    double              ce[RUNS][CN_MASS_PLACES_MAX];
    int32_t             at; // the place that runs
    double              change_squares[CN_MASS_SETS];
} probe;

static const cn_config *config_of(const probe *p) {
    return &p->opts->host->model->config;
}

/* Dense attention of one layer: into the mean, and what the layer's own best sets hold. */
static void add_layer(probe *p, int32_t number, const float *probs, int64_t tokens) {
    const cn_config *c = config_of(p);
    const int64_t    local = c->index_local < tokens ? c->index_local : tokens;
    const int64_t    older = tokens - local;
    double           sum[CN_MASS_SETS];
    memset(p->layer, 0, (size_t)tokens * sizeof(*p->layer));
    for (int32_t h = 0; h < c->heads; h++)
        for (int64_t i = 0; i < tokens; i++) p->layer[i] += probs[h * tokens + i] / (float)c->heads;
    if (number == 0) memset(p->mean, 0, (size_t)tokens * sizeof(*p->mean));
    for (int64_t i = 0; i < tokens; i++) p->mean[i] += p->layer[i] / (float)c->cross_layers;
    cn_mass_top_sums(p->layer, p->layer, older, cn_mass_topk, CN_MASS_SETS, p->scratch, sum);
    for (int s = 0; s < CN_MASS_SETS; s++) p->out->by_layer[s] += sum[s] / c->cross_layers;
    if (number + 1 < c->cross_layers) return;

    for (int64_t i = older; i < tokens; i++) p->out->local += (double)p->mean[i];
    cn_mass_top_sums(p->mean, p->mean, older, cn_mass_topk, CN_MASS_SETS, p->scratch, sum);
    for (int s = 0; s < CN_MASS_SETS; s++) p->out->oracle[s] += sum[s];
    cn_mass_top_sums(p->scores + p->at * p->room, p->mean, older, cn_mass_topk, CN_MASS_SETS,
                     p->scratch, sum);
    for (int s = 0; s < CN_MASS_SETS; s++) p->out->index[s] += sum[s];
    p->out->view_tokens += (double)tokens;
}

static void on_tap(void *ctx, cn_tap_stage stage, int32_t slice, int32_t layer, const void *data,
                   int64_t rows, int64_t cols) {
    (void)slice, (void)rows;
    probe *p = ctx;
    if (stage == CN_TAP_SCORES) // the same in every run
        memcpy(p->scores + p->at * p->room, data, (size_t)cols * sizeof(float));
    if (stage == CN_TAP_PROBS) add_layer(p, layer, data, cols);
}

/* The sequence once, in the mode of `run`. */
static cn_err run_once(probe *p, const sequence *s, int32_t run, cn_diag *diag) {
    cn_doc *doc = p->doc[s->is_file];
    int64_t done = 0;
    CN_TRY(
        cn_engine_set_routing(p->engine, run == DENSE ? 0 : cn_mass_topk[run], run == DENSE, diag));
    cn_engine_set_tap_probs(p->engine, run == DENSE ? p->probs : NULL, p->room);
    cn_doc_reset(doc);
    for (p->at = 0; p->at < s->places; p->at++)
        while (done <= s->place[p->at]) {
            const int64_t left = s->place[p->at] + 1 - done;
            const int32_t tokens = left < CN_STEP_ROWS ? (int32_t)left : CN_STEP_ROWS;
            cn_slice      slice = {.doc = doc,
                                   .token = s->token + done,
                                   .tokens = tokens,
                                   .view = tokens == left ? p->view : NULL};
            CN_TRY(cn_engine_step(p->engine, &slice, 1, NULL, diag));
            done += tokens;
            if (slice.logits)
                p->ce[run][p->at] =
                    cn_mass_cross_entropy(slice.logits, config_of(p)->vocab, s->token[done]);
        }
    return CN_OK;
}

/* One sparse run for the index scores, the dense one, then the other sets. */
static cn_err run_sequence(probe *p, const sequence *s, cn_diag *diag) {
    CN_TRY(run_once(p, s, CN_MASS_SETS - 1, diag));
    CN_TRY(run_once(p, s, DENSE, diag));
    for (int32_t run = 0; run < CN_MASS_SETS - 1; run++) CN_TRY(run_once(p, s, run, diag));
    for (int32_t i = 0; i < s->places; i++) {
        p->out->dense_ce += p->ce[DENSE][i];
        for (int32_t set = 0; set < CN_MASS_SETS; set++) {
            const double change = p->ce[set][i] - p->ce[DENSE][i];
            p->out->ce_change[set] += change;
            p->change_squares[set] += change * change;
        }
    }
    p->out->places += s->places;
    p->out->sequences++;
    if (p->opts->on_sequence) p->opts->on_sequence(p->opts->ctx, p->out->sequences);
    return CN_OK;
}

/* Sums become means. */
static void divide(probe *p) {
    cn_mass     *m = p->out;
    const double n = (double)m->places;
    if (m->places == 0) return;
    m->view_tokens /= n;
    m->local /= n;
    m->dense_ce /= n;
    for (int s = 0; s < CN_MASS_SETS; s++) {
        m->index[s] /= n;
        m->oracle[s] /= n;
        m->by_layer[s] /= n;
        m->ce_change[s] /= n;
        const double variance = p->change_squares[s] / n - m->ce_change[s] * m->ce_change[s];
        m->ce_error[s] = n > 1 ? sqrt(fmax(variance, 0) / (n - 1)) : NAN;
    }
}

/* ---- The view ------------------------------------------------------------------------- */

static bool is_cancelled(const probe *p) {
    return p->opts->cancel && atomic_load(p->opts->cancel);
}

/* All documents but `without` (-1: none), read where the store has them. */
static cn_err set_view(probe *p, int64_t without, cn_diag *diag) {
    const cn_context *c = p->opts->context;
    int64_t           pages = 0;
    for (int64_t i = 0; i < cn_context_docs(c); i++) {
        const cn_ledger_piece *piece = &cn_context_doc_at(c, i)->piece;
        for (int32_t n = 0; n * CN_PAGE_TOKENS < piece->tokens && i != without; n++) {
            cn_pages_page page;
            if (cn_pages_get(p->txn, &piece->key, n, &page) != CN_PAGES_HIT)
                return CN_FAIL(diag, CN_ENOTFOUND, "page %d of %s is not stored", n,
                               cn_context_doc_at(c, i)->path);
            p->page[pages++] = (cn_page_ref){page.body, page.tokens};
        }
    }
    return cn_view_set(p->view, p->page, pages, diag);
}

static void close_probe(probe *p) {
    if (p->engine) {
        cn_engine_set_tap(p->engine, NULL, NULL);
        cn_engine_set_tap_probs(p->engine, NULL, 0);
    }
    cn_view_free(p->view);
    cn_doc_free(p->doc[0]);
    cn_doc_free(p->doc[1]);
    cn_pages_end(p->txn);
    free(p->page);
    free(p->scores);
    free(p->probs);
    free(p->mean);
    free(p->layer);
    free(p->scratch);
}

static cn_err open_probe(probe *p, cn_diag *diag) {
    const cn_config *c = config_of(p);
    int64_t          pages = CN_MASS_SEQUENCE_TOKENS / CN_PAGE_TOKENS + 1;
    *p->out = (cn_mass){0};
    if (c->arm != CN_ARM_CLSA)
        return CN_FAIL(diag, CN_EUNSUPPORTED, "the model has no index that its layers share");
    for (int64_t i = 0; i < cn_context_docs(p->opts->context); i++)
        pages += cn_context_doc_at(p->opts->context, i)->piece.tokens / CN_PAGE_TOKENS + 1;
    p->room = pages * CN_PAGE_TOKENS;
    p->page = malloc((size_t)pages * sizeof(*p->page));
    p->scores = malloc((size_t)(CN_MASS_PLACES_MAX * p->room) * sizeof(float));
    p->probs = malloc((size_t)(c->heads * p->room) * sizeof(float));
    p->mean = malloc((size_t)p->room * sizeof(float));
    p->layer = malloc((size_t)p->room * sizeof(float));
    p->scratch = malloc((size_t)p->room * sizeof(*p->scratch));
    if (!p->page || !p->scores || !p->probs || !p->mean || !p->layer || !p->scratch)
        return CN_FAIL(diag, CN_ENOMEM, "no memory to look at %" PRId64 " tokens", p->room);
    p->engine = p->opts->host->engine;
    CN_TRY(cn_pages_begin(&p->txn, p->opts->host->pages, diag));
    CN_TRY(cn_view_create(&p->view, p->engine, pages, diag));
    for (int is_file = 0; is_file < 2; is_file++)
        CN_TRY(cn_doc_create(&p->doc[is_file], p->engine, CN_MASS_SEQUENCE_TOKENS, is_file, diag));
    cn_engine_set_tap(p->engine, on_tap, p);
    return CN_OK;
}

/* ---- Text ------------------------------------------------------------------------------ */

/* A document of the view behind the others. */
static cn_err run_document(probe *p, int64_t at, int64_t places, cn_diag *diag) {
    const cn_context_doc *d = cn_context_doc_at(p->opts->context, at);
    cn_pages_doc          doc;
    sequence              s = {.is_file = true, .places = (int32_t)places};
    if (cn_pages_get_doc(p->txn, &d->piece.key, &doc) != CN_PAGES_HIT)
        return CN_FAIL(diag, CN_ENOTFOUND, "the tokens of %s are not stored", d->path);
    CN_TRY(set_view(p, at, diag));
    s.token = doc.token;
    s.tokens = doc.tokens;
    const int32_t first = CN_PAGE_TOKENS / 4, last = doc.tokens - 2; // the header has no surprise
    if (s.places > last - first + 1) s.places = last - first + 1;
    for (int32_t i = 0; i < s.places; i++)
        s.place[i] = first + (int32_t)((int64_t)i * (last - first + 1) / s.places);
    return run_sequence(p, &s, diag);
}

typedef struct drawn {
    int64_t  at;
    uint64_t order;
} drawn;

static int by_order(const void *a, const void *b) {
    const uint64_t x = ((const drawn *)a)->order, y = ((const drawn *)b)->order;
    return (x > y) - (x < y);
}

cn_err cn_mass_of_text(cn_mass *out, const cn_mass_opts *opts, cn_diag *diag) {
    probe         p = {.opts = opts, .out = out};
    const int64_t docs = cn_context_docs(opts->context);
    int64_t       count = 0;
    drawn        *d = calloc((size_t)docs + 1, sizeof(*d));
    cn_err err = d ? open_probe(&p, diag) : CN_FAIL(diag, CN_ENOMEM, "no memory for documents");
    for (int64_t i = 0; !err && i < docs; i++)
        if (cn_context_doc_at(opts->context, i)->piece.tokens >= CN_PAGE_TOKENS)
            d[count++] =
                (drawn){i, cn_rand_mix(cn_rand_mix(opts->seed + CN_RAND_STEP) + (uint64_t)i)};
    if (!err && count == 0)
        err = CN_FAIL(diag, CN_ENOTFOUND, "the view has no document of %d tokens",
                      (int)CN_PAGE_TOKENS);
    if (d) qsort(d, (size_t)count, sizeof(*d), by_order);
    if (count > opts->documents) count = opts->documents;
    for (int64_t i = 0; !err && i < count && !is_cancelled(&p); i++) {
        const int64_t left = opts->places - p.out->places;
        const int64_t places = (left + count - i - 1) / (count - i);
        if (places)
            err = run_document(&p, d[i].at,
                               places < CN_MASS_PLACES_MAX ? places : CN_MASS_PLACES_MAX, diag);
    }
    divide(&p);
    close_probe(&p);
    free(d);
    return err;
}

/* ---- Answers ---------------------------------------------------------------------------- */

static cn_err put_part(probe *p, cn_tokens *to, int32_t role, const char *text, cn_diag *diag) {
    if (cn_tokens_put(to, &role, 1)) return CN_FAIL(diag, CN_ENOMEM, "no memory for a question");
    return cn_tokenizer_encode(p->opts->host->tokenizer, to, text, strlen(text), CN_TOKENIZE_TEXT,
                               diag);
}

/* <user> question <assistant> answer <end>, as sessions/session.h has it. */
static cn_err run_turn(probe *p, const cn_json *turn, cn_diag *diag) {
    const cn_roles *r = &p->opts->host->roles;
    cn_tokens       t = {0};
    sequence        s = {.is_file = false};
    if (cn_json_first(cn_json_get(turn, "calls"))) {
        p->out->passed++;
        return CN_OK;
    }
    cn_err  err = put_part(p, &t, r->user, cn_json_string(cn_json_get(turn, "q")), diag);
    int64_t first = t.count;
    if (!err)
        err = put_part(p, &t, r->assistant, cn_json_string(cn_json_get(turn, "answer")), diag);
    if (!err) err = put_part(p, &t, r->end, "", diag);
    if (!err && t.count > CN_MASS_SEQUENCE_TOKENS)
        err = CN_FAIL(diag, CN_ETOOBIG, "a question and its answer of %" PRId64 " tokens, limit %d",
                      t.count, (int)CN_MASS_SEQUENCE_TOKENS);
    s.token = t.token;
    s.tokens = t.count;
    for (; first + 1 < t.count && s.places < CN_MASS_PLACES_MAX; first++)
        s.place[s.places++] = (int32_t)first;
    if (!err) err = run_sequence(p, &s, diag);
    cn_tokens_release(&t);
    return err;
}

static cn_err run_questions(probe *p, cn_questions *file, cn_diag *diag) {
    cn_json_doc *doc = NULL;
    cn_err       err = CN_OK;
    while (!err && !is_cancelled(p)) {
        err = cn_questions_next(file, &doc, diag);
        if (err || !doc) break;
        const cn_json *turn = cn_json_first(cn_json_get(cn_json_root(doc), "turns"));
        for (; turn && !err; turn = cn_json_next(turn)) err = run_turn(p, turn, diag);
        cn_json_free(doc);
    }
    return err;
}

cn_err cn_mass_of_answers(cn_mass *out, const cn_mass_opts *opts, cn_diag *diag) {
    probe        p = {.opts = opts, .out = out};
    cn_questions file = {0};
    cn_err       err = open_probe(&p, diag);
    if (!err) err = set_view(&p, -1, diag);
    if (!err) err = cn_questions_open(&file, opts->questions, diag);
    if (!err) err = run_questions(&p, &file, diag);
    divide(&p);
    close_probe(&p);
    cn_questions_close(&file);
    return err;
}
