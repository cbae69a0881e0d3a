/*
 * test_engine.c - The engine against golden numbers, and against itself: same bits however
 * its tokens come.
 *
 * Models are the tiny ones of tests/golden; each test runs on every instruction-set path.
 * The bounds of the golden test are those of tests/golden/README.md: twice the deviation
 * that the equations show when their stored values are rounded as the engine rounds them.
 */
#include "tests/test.h"

#include "base/fault.h"
#include "engine/engine.h"
#include "engine/opbench.h"
#include "kernels/page.h"
#include "tests/gold.h"

#include <math.h>

enum { DOCS = 3, QUERIES = 6, VIEW_PAGES = 64 };

static cn_model *open_model(const char *name) {
    char      path[512];
    cn_model *model;
    snprintf(path, sizeof(path), "%s/tests/golden/%s", CN_SOURCE_DIR, name);
    assert_err(cn_model_open(&model, path, &t_diag), CN_OK);
    return model;
}

static cn_engine *open_engine(cn_engine_opts opts) {
    cn_engine *e;
    if (!opts.view_tokens) opts.view_tokens = 4096;
    if (!opts.threads) opts.threads = 2;
    assert_err(cn_engine_open(&e, &opts, &t_diag), CN_OK);
    return e;
}

static cn_doc *new_doc(cn_engine *e, bool has_sink) {
    cn_doc *doc;
    assert_err(cn_doc_create(&doc, e, 2048, has_sink, &t_diag), CN_OK);
    return doc;
}

static cn_view *new_view(cn_engine *e) {
    cn_view *view;
    assert_err(cn_view_create(&view, e, VIEW_PAGES, &t_diag), CN_OK);
    return view;
}

/* Append tokens in steps of at most `chunk`; logits after the last one if there is a view. */
static const float *append(cn_engine *e, cn_doc *doc, const int32_t *token, int64_t tokens,
                           int32_t chunk, cn_view *view) {
    const float *logits = NULL;
    for (int64_t at = 0; at < tokens; at += chunk) {
        const int32_t n = tokens - at < chunk ? (int32_t)(tokens - at) : chunk;
        cn_slice      slice = {
                 .doc = doc, .token = token + at, .tokens = n, .view = at + n == tokens ? view : NULL};
        assert_err(cn_engine_step(e, &slice, 1, NULL, &t_diag), CN_OK);
        logits = slice.logits;
    }
    return logits;
}

static int64_t add_pages(cn_page_ref *page, int64_t pages, const cn_doc *doc) {
    for (int64_t i = 0; i < cn_doc_pages(doc); i++) page[pages++] = cn_doc_page(doc, i);
    return pages;
}

static void random_tokens(int32_t *token, int64_t tokens, const cn_model *m) {
    for (int64_t i = 0; i < tokens; i++) token[i] = (int32_t)t_rand_range(0, m->config.vocab - 1);
}

static void assert_same_pages(const cn_engine *e, const cn_doc *a, const cn_doc *b,
                              const char *what) {
    assert_int_equal(cn_doc_tokens(a), cn_doc_tokens(b));
    for (int64_t i = 0; i < cn_doc_pages(a); i++)
        if (memcmp(cn_doc_page(a, i).body, cn_doc_page(b, i).body,
                   (size_t)cn_engine_page_bytes(e)) != 0)
            t_fail(__FILE__, __LINE__, "%s: page %lld differs", what, (long long)i);
}

static void assert_same_logits(const float *a, const float *b, int32_t vocab, const char *what) {
    if (memcmp(a, b, (size_t)vocab * sizeof(float)) != 0)
        t_fail(__FILE__, __LINE__, "%s: logits differ", what);
}

static float *keep(const float *logits, int32_t vocab) {
    float *copy = malloc((size_t)vocab * sizeof(float));
    assert_non_null(copy);
    memcpy(copy, logits, (size_t)vocab * sizeof(float));
    return copy;
}

/* ---- Golden ----------------------------------------------------------------------- */

typedef struct bounds {
    double h, k, v, key, scores, x, logits;
} bounds;

enum { SOURCES_MAX = 3, COUNT_MAX = 512 };

/* What the taps of one step showed. */
typedef struct seen {
    bool    is_transformer;
    float   h[64 * 300], scores[SOURCES_MAX][COUNT_MAX], x[8 * 64];
    int32_t set[SOURCES_MAX][COUNT_MAX];
    int64_t rows, score_count, set_count, layers, scans;
} seen;

static void on_tap(void *ctx, cn_tap_stage stage, int32_t slice, int32_t layer, const void *data,
                   int64_t rows, int64_t cols) {
    seen *s = ctx;
    assert_int_equal(slice, 0);
    switch (stage) {
    case CN_TAP_H:
        assert_true((s->rows + rows) * cols <= 64 * 300);
        memcpy(s->h + s->rows * cols, data, (size_t)(rows * cols) * 4);
        s->rows += rows;
        break;
    case CN_TAP_SCORES:
        assert_true(cols <= COUNT_MAX && layer < SOURCES_MAX);
        memcpy(s->scores[layer], data, (size_t)cols * 4);
        s->score_count = cols;
        s->scans++;
        break;
    case CN_TAP_SET:
        assert_true(cols <= COUNT_MAX && layer < SOURCES_MAX);
        memcpy(s->set[layer], data, (size_t)cols * 4);
        s->set_count = cols;
        break;
    case CN_TAP_PROBS:
    case CN_TAP_ATTENDED:
        break; // asked for by one test alone
    case CN_TAP_CROSS:
        assert_true((layer + 1) * cols <= 8 * 64);
        memcpy(s->x + layer * cols, data, (size_t)cols * 4);
        s->layers = layer + 1;
        break;
    case CN_TAP_SELF:
        assert_true((layer + 1) * cols <= 8 * 64);
        if (!s->is_transformer) break;
        memcpy(s->x + layer * cols, (const float *)data + (rows - 1) * cols, (size_t)cols * 4);
        s->layers = layer + 1;
        break;
    }
}

/* The largest difference must be within the bound, and not zero everywhere: a test that
 * compares a thing with itself would show that. */
static void assert_close(const float *got, const float *want, int64_t count, double bound,
                         const char *what) {
    double worst = 0;
    for (int64_t i = 0; i < count; i++) {
        const double d = fabs((double)got[i] - (double)want[i]);
        if (!(d <= worst)) worst = d;
    }
    if (!(worst <= bound))
        t_fail(__FILE__, __LINE__, "%s: off by %g, bound %g", what, worst, bound);
    if (worst == 0)
        t_fail(__FILE__, __LINE__, "%s: not one rounding in %lld numbers", what, (long long)count);
}

static void check_pages(const cn_engine *e, const cn_doc *doc, const t_gold *g, int d,
                        const bounds *b) {
    const cn_config    *c = &cn_engine_model(e)->config;
    const int32_t       kv = c->kv_heads * c->head_dim;
    const int32_t       sources = cn_config_index_sources(c), keyed = sources * c->index_dim;
    const cn_page_shape shape = {kv, sources ? c->index_dim : 0, sources};
    const int64_t       tokens = cn_doc_tokens(doc);
    float *k = malloc((size_t)(tokens * kv) * 4), *v = malloc((size_t)(tokens * kv) * 4);
    float *key = malloc((size_t)(tokens * keyed + 1) * 4);
    assert_true(k && v && key);
    for (int64_t t = 0; t < tokens; t++) {
        const uint8_t *body = cn_doc_page(doc, t / CN_PAGE_TOKENS).body;
        const int32_t  slot = (int32_t)(t % CN_PAGE_TOKENS);
        const cn_bf16 *row = (const cn_bf16 *)(body + cn_page_row_offset(&shape, slot));
        for (int32_t i = 0; i < kv; i++) k[t * kv + i] = cn_f32_from_bf16(row[i]);
        for (int32_t i = 0; i < kv; i++) v[t * kv + i] = cn_f32_from_bf16(row[kv + i]);
        for (int32_t i = 0; i < keyed; i++) {
            const int64_t at = cn_page_keys_offset(&shape, i / c->index_dim);
            key[t * keyed + i] = cn_f32_from_bf16(
                ((const cn_bf16 *)(body + at))[cn_page_key_elem(&shape, slot, i % c->index_dim)]);
        }
    }
    assert_close(k, t_gold_get(g, "f32", NULL, "doc%d.k", d), tokens * kv, b->k, "K");
    assert_close(v, t_gold_get(g, "f32", NULL, "doc%d.v", d), tokens * kv, b->v, "V");
    if (sources)
        assert_close(key, t_gold_get(g, "f32", NULL, "doc%d.index_key", d), tokens * keyed, b->key,
                     "index key");
    free(k), free(v), free(key);
}

static void check_query(const cn_engine *e, const t_gold *g, const char *name, const seen *s,
                        const float *logits, const bounds *b) {
    const cn_config *c = &cn_engine_model(e)->config;
    int64_t          count;
    t_note("%s on %s", name, cn_engine_isa(e));
    const int32_t sources = cn_config_index_sources(c);
    for (int32_t i = 0; i < sources; i++) {
        const float *scores = t_gold_get(g, "f32", &count, "%s.scores", name);
        assert_int_equal(s->score_count * sources, count);
        count /= sources;
        assert_close(s->scores[i], scores + i * count, count, b->scores, "scores");
        const int32_t *set = t_gold_get(g, "i32", &count, "%s.set", name);
        assert_int_equal(s->set_count * sources, count);
        count /= sources;
        assert_memory_equal(s->set[i], set + i * count, (size_t)count * 4);
    }
    assert_int_equal(s->scans, sources);
    if (sources || s->is_transformer) {
        const float *x = t_gold_get(g, "f32", &count, "%s.x", name);
        assert_int_equal(count, (s->layers + 1) * c->hidden); // theirs starts before layer 0
        assert_close(s->x, x + c->hidden, count - c->hidden, b->x, "x");
    }
    const float *want = t_gold_get(g, "f32", &count, "%s.logits", name);
    assert_int_equal(count, c->vocab);
    assert_close(logits, want, count, b->logits, "logits");
}

/* The scenario of make_tiny.py: documents, then a conversation whose last tokens ask. */
static void check_golden(const char *name, const char *isa, int docs, const bounds *b) {
    char        stem[128];
    cn_model   *m = open_model(name);
    cn_engine  *e = open_engine((cn_engine_opts){.model = m, .isa = isa});
    cn_view    *view = new_view(e);
    cn_doc     *doc[DOCS + 1];
    cn_page_ref page[VIEW_PAGES];
    int64_t     pages = 0, tokens;
    seen       *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    s->is_transformer = m->config.arm == CN_ARM_TRANSFORMER;
    snprintf(stem, sizeof(stem), "tests/golden/%s/golden", name);
    t_gold g = t_gold_open(stem);
    cn_engine_set_tap(e, on_tap, s);

    for (int d = 0; d < docs; d++) {
        const int32_t *token = t_gold_get(&g, "i32", &tokens, "doc%d.tokens", d);
        doc[d] = new_doc(e, true);
        s->rows = 0;
        append(e, doc[d], token, tokens, 256, NULL);
        t_note("%s doc %d on %s", name, d, isa);
        const float *h = t_gold_find(&g,
                                     d == 0   ? "doc0.h"
                                     : d == 1 ? "doc1.h"
                                              : "doc2.h",
                                     "f32", NULL);
        if (h) {
            assert_close(s->h, h, tokens * m->config.hidden, b->h, "h");
            check_pages(e, doc[d], &g, d, b);
        }
        pages = add_pages(page, pages, doc[d]);
    }
    assert_err(cn_view_set(view, page, pages, &t_diag), CN_OK);

    const int32_t *token = t_gold_get(&g, "i32", &tokens, "doc%d.tokens", docs);
    doc[docs] = new_doc(e, docs == 0); // the one document of tiny-b-global is a file
    for (int q = 0; q < QUERIES; q++) {
        char           query[16];
        const int32_t *position = t_gold_get(&g, "i32", NULL, "query%d.position", q);
        const int64_t  done = cn_doc_tokens(doc[docs]);
        s->scans = 0;
        const float *logits = append(e, doc[docs], token + done, *position + 1 - done, 256, view);
        snprintf(query, sizeof(query), "query%d", q);
        check_query(e, &g, query, s, logits, b);
    }
    if (t_gold_find(&g, "doc3.h", "f32", NULL)) check_pages(e, doc[docs], &g, docs, b);

    const int32_t *position = t_gold_find(&g, "alone.position", "i32", NULL);
    if (position) { // the conversation alone
        cn_doc *alone = new_doc(e, false);
        assert_err(cn_view_set(view, NULL, 0, &t_diag), CN_OK);
        s->scans = 0;
        check_query(e, &g, "alone", s, append(e, alone, token, *position + 1, 256, view), b);
        cn_doc_free(alone);
    }
    for (int d = 0; d <= docs; d++) cn_doc_free(doc[d]);
    cn_view_free(view);
    cn_engine_close(e);
    cn_model_close(m);
    t_gold_close(&g);
    free(s);
}

static void test_golden(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int n = t_variants(ops);
    for (int i = 0; i < n; i++) {
        const char *isa = cn_isa_name(ops[i].isa);
        check_golden("tiny-a", isa, 3,
                     &(bounds){.h = .025,
                               .k = .022,
                               .v = .029,
                               .key = .026,
                               .scores = .22,
                               .x = .026,
                               .logits = .058});
        check_golden("tiny-b", isa, 3,
                     &(bounds){.h = .051,
                               .k = .058,
                               .v = .055,
                               .key = .061,
                               .scores = .39,
                               .x = .056,
                               .logits = .16});
        check_golden("tiny-b-yoco", isa, 3, &(bounds){.logits = .18});
        check_golden("tiny-b-global", isa, 0, &(bounds){.logits = .27});
        check_golden("tiny-a-perlayer", isa, 3,
                     &(bounds){.h = .023,
                               .k = .032,
                               .v = .032,
                               .key = .024,
                               .scores = .59,
                               .x = .034,
                               .logits = .088});
        check_golden("tiny-b-transformer", isa, 0, &(bounds){.x = .042, .logits = .13});
    }
}

/* ---- Same bits -------------------------------------------------------------------- */

/* Run `check` on the models with an index and all paths. */
static void on_each(void (*check)(const cn_model *m, const char *isa)) {
    static const char *const names[] = {"tiny-a", "tiny-b", "tiny-a-perlayer"};
    cn_ops                   ops[CN_ISA_COUNT];
    const int                n = t_variants(ops);
    for (int m = 0; m < 3; m++) {
        cn_model *model = open_model(names[m]);
        for (int i = 0; i < n; i++) {
            t_note("%s on %s", names[m], cn_isa_name(ops[i].isa));
            check(model, cn_isa_name(ops[i].isa));
        }
        cn_model_close(model);
    }
}

/* A document alone, after others, cut into other steps, beside others in one step, and with
 * 1, 2 and 3 threads: the same pages and the same window. */
static void check_document_bits(const cn_model *m, const char *isa) {
    enum { TOKENS = 300, OTHER = 70 };
    int32_t token[TOKENS], other[OTHER];
    t_seed(7);
    random_tokens(token, TOKENS, m);
    random_tokens(other, OTHER, m);

    cn_engine    *e = open_engine((cn_engine_opts){.model = m, .isa = isa, .threads = 1});
    cn_doc       *want = new_doc(e, true);
    const int64_t bytes = cn_doc_window_bytes(want, TOKENS);
    uint8_t      *window = malloc((size_t)bytes), *got = malloc((size_t)bytes);
    assert_true(window && got);
    append(e, want, token, TOKENS, 256, NULL);
    cn_doc_window_save(want, window);

    for (int32_t threads = 1; threads <= 3; threads++) {
        cn_engine *f = open_engine((cn_engine_opts){.model = m, .isa = isa, .threads = threads});
        cn_doc    *a = new_doc(f, true), *b = new_doc(f, true);
        static const int32_t chunks[] = {256, 255, 100, 17, 16, 3, 1};
        for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
            if (t_is_sanitized() && chunks[i] < 16) continue;
            cn_doc_reset(a); // what it held before must not show
            append(f, a, token, TOKENS, chunks[i], NULL);
            assert_same_pages(e, want, a, "in other chunks");
            cn_doc_window_save(a, got);
            assert_memory_equal(window, got, (size_t)bytes);
        }
        // In one step with another document, before and behind it.
        for (int order = 0; order < 2; order++) {
            cn_doc_reset(a), cn_doc_reset(b);
            append(f, a, token, 200, 256, NULL);
            cn_slice slice[2];
            slice[order] = (cn_slice){.doc = a, .token = token + 200, .tokens = TOKENS - 200};
            slice[1 - order] = (cn_slice){.doc = b, .token = other, .tokens = OTHER};
            assert_err(cn_engine_step(f, slice, 2, NULL, &t_diag), CN_OK);
            assert_same_pages(e, want, a, "in company");
        }
        cn_doc_free(a), cn_doc_free(b);
        cn_engine_close(f);
    }
    free(window), free(got);
    cn_doc_free(want);
    cn_engine_close(e);
}

/* A document goes on from its saved window and pages, sink included, in one that held other
 * tokens before; and a shorter document leaves nothing of a longer one behind it. */
static void check_reuse(const cn_model *m, const char *isa) {
    enum { TOKENS = 400, SAVED = 300 };
    int32_t     token[TOKENS], other[TOKENS];
    cn_page_ref page[4];
    t_seed(17);
    random_tokens(token, TOKENS, m), random_tokens(other, TOKENS, m);
    cn_engine *e = open_engine((cn_engine_opts){.model = m, .isa = isa});
    cn_doc    *want = new_doc(e, true), *first = new_doc(e, true), *got = new_doc(e, true);
    append(e, want, token, TOKENS, 256, NULL);
    append(e, first, token, SAVED, 256, NULL);
    append(e, got, other, TOKENS, 256, NULL);
    const int64_t bytes = cn_doc_window_bytes(first, SAVED), pages = add_pages(page, 0, first);
    uint8_t      *window = malloc((size_t)bytes);
    assert_non_null(window);
    cn_doc_window_save(first, window);
    assert_err(cn_doc_restore(got, SAVED, page, pages, window, bytes, &t_diag), CN_OK);
    append(e, got, token + SAVED, TOKENS - SAVED, 256, NULL);
    assert_same_pages(e, want, got, "went on from its window");

    cn_doc_reset(want), cn_doc_free(first);
    first = new_doc(e, true);
    append(e, first, other, 20, 256, NULL);
    append(e, want, other, 20, 256, NULL); // it held 400 tokens before
    assert_same_pages(e, first, want, "after a longer one");
    free(window);
    cn_doc_free(want), cn_doc_free(first), cn_doc_free(got);
    cn_engine_close(e);
}

/* Pages without a window: the last tokens before them go through the engine again, in steps of
 * `chunk`, and nothing differs: pages, window, logits.  One token fewer would not do. */
static void check_replay(const cn_model *m, const char *isa) {
    enum { TOKENS = 600, MORE = 10, CHUNKS = 3, HELDS = 4 };
    static const int32_t chunks[CHUNKS] = {256, 100, 7};
    static const int64_t held[HELDS] = {512, 256, 333, 20}; // the last replays all
    int32_t              token[TOKENS + MORE], other[TOKENS];
    cn_page_ref          page[4];
    t_seed(23);
    random_tokens(token, TOKENS + MORE, m), random_tokens(other, TOKENS, m);
    cn_engine    *e = open_engine((cn_engine_opts){.model = m, .isa = isa});
    cn_doc       *want = new_doc(e, false), *first = new_doc(e, false), *got = new_doc(e, false);
    cn_view      *view = new_view(e);
    const int64_t bytes = cn_doc_window_bytes(want, TOKENS);
    uint8_t      *window[2] = {malloc((size_t)bytes), malloc((size_t)bytes)};
    append(e, want, token, TOKENS, 256, NULL);
    cn_doc_window_save(want, window[0]);
    float *logits = keep(append(e, want, token + TOKENS, MORE, 256, view), m->config.vocab);
    for (int i = 0; i < HELDS; i++) {
        cn_doc_reset(first);
        append(e, first, token, held[i], 256, NULL);
        const int64_t pages = add_pages(page, 0, first);
        cn_doc_reset(got);
        append(e, got, other, TOKENS, 256, NULL); // what lies in the window is another's
        assert_err(cn_doc_restore_pages(got, held[i], page, pages, &t_diag), CN_OK);
        const int64_t from = cn_doc_tokens(got);
        const int64_t far = m->config.self_layers * (int64_t)(m->config.window - 1);
        t_note("held %lld, from %lld", (long long)held[i], (long long)from);
        assert_int_equal(from, held[i] > far ? held[i] - far : 0);
        cn_slice early = {.doc = got, .token = token + from, .tokens = 1, .view = view};
        assert_err(cn_engine_step(e, &early, 1, NULL, &t_diag), CN_EINVAL); // not before `held`
        append(e, got, token + from, TOKENS - from, chunks[i % CHUNKS], NULL);
        cn_doc_window_save(got, window[1]);
        assert_memory_equal(window[0], window[1], (size_t)bytes);
        const float *again = append(e, got, token + TOKENS, MORE, 256, view);
        assert_same_logits(logits, again, m->config.vocab, "after a replay");
        assert_same_pages(e, want, got, "after a replay");
    }
    // A step that fails in a replay leaves the rows that are held.
    assert_err(cn_doc_restore_pages(got, held[2], page, 1, &t_diag), CN_EINVAL);
    assert_int_equal(cn_doc_tokens(got), 0);
    cn_doc_reset(first);
    append(e, first, token, held[2], 256, NULL);
    assert_err(cn_doc_restore_pages(got, held[2], page, add_pages(page, 0, first), &t_diag), CN_OK);
    const int64_t from = cn_doc_tokens(got);
    cn_model     *broken = (cn_model *)(uintptr_t)m;
    const float   scale = m->config.embed_scale;
    cn_slice      slice = {.doc = got, .token = token + from, .tokens = 20};
    broken->config.embed_scale = NAN;
    assert_err(cn_engine_step(e, &slice, 1, NULL, &t_diag), CN_ENUMERIC);
    broken->config.embed_scale = scale;
    assert_int_equal(cn_doc_tokens(got), from);
    append(e, got, token + from, held[2] - from, 64, NULL);
    assert_same_pages(e, first, got, "after a step that failed");
    free(window[0]), free(window[1]), free(logits);
    cn_doc_free(want), cn_doc_free(first), cn_doc_free(got);
    cn_view_free(view);
    cn_engine_close(e);
}

static void test_pages_without_their_window(void **state) {
    (void)state;
    on_each(check_replay);
}

static void test_documents_can_be_reused(void **state) {
    (void)state;
    on_each(check_reuse);
}

static void test_document_has_same_bits(void **state) {
    (void)state;
    on_each(check_document_bits);
}

/* Logits after a conversation: early exit for all but the last token, the cross-decoder run
 * for every token, a restored conversation, two sequences in one step, other threads and
 * documents that were prefilled in another order: the same. */
static void check_logits_bits(const cn_model *m, const char *isa) {
    enum { A = 300, B = 33, TALK = 40 };
    const int32_t vocab = m->config.vocab;
    int32_t       a_token[A], b_token[B], talk[TALK];
    t_seed(11);
    random_tokens(a_token, A, m), random_tokens(b_token, B, m), random_tokens(talk, TALK, m);
    float *want = NULL;
    for (int32_t threads = 1; threads <= 2; threads++) {
        cn_engine  *e = open_engine((cn_engine_opts){.model = m, .isa = isa, .threads = threads});
        cn_doc     *a = new_doc(e, true), *b = new_doc(e, true), *c = new_doc(e, false);
        cn_doc     *d = new_doc(e, false);
        cn_view    *view = new_view(e), *view2 = new_view(e);
        cn_page_ref page[VIEW_PAGES];
        int64_t     pages = 0;
        if (threads == 1) append(e, a, a_token, A, 256, NULL);
        append(e, b, b_token, B, 256, NULL);
        if (threads == 2) append(e, a, a_token, A, 100, NULL);
        pages = add_pages(page, pages, a);
        pages = add_pages(page, pages, b);
        assert_err(cn_view_set(view, page, pages, &t_diag), CN_OK);
        assert_err(cn_view_set(view2, page, pages, &t_diag), CN_OK);

        const float *logits = append(e, c, talk, TALK, 256, view);
        if (!want) want = keep(logits, vocab);
        assert_same_logits(want, logits, vocab, "with other threads and order");

        for (int i = 0; i < TALK; i++) logits = append(e, d, talk + i, 1, 1, view);
        assert_same_logits(want, logits, vocab, "the full forward of every token");

        // All but 5 tokens, saved, restored into a document that held something else.
        cn_doc_reset(c), cn_doc_reset(d);
        append(e, c, talk, TALK - 5, 256, NULL);
        append(e, d, b_token, 20, 256, NULL);
        const int64_t bytes = cn_doc_window_bytes(c, cn_doc_tokens(c));
        uint8_t      *window = malloc((size_t)bytes);
        assert_non_null(window);
        cn_doc_window_save(c, window);
        int64_t own = add_pages(page + pages, 0, c);
        assert_err(cn_doc_restore(d, TALK - 5, page + pages, own, window, bytes, &t_diag), CN_OK);
        logits = append(e, d, talk + TALK - 5, 5, 256, view);
        assert_same_logits(want, logits, vocab, "restored");
        free(window);

        // Two conversations decode in one step.
        cn_doc_reset(d);
        append(e, d, b_token, 25, 256, NULL);
        append(e, c, talk + TALK - 5, 4, 256, NULL);
        cn_slice slice[2] = {
            {.doc = d, .token = b_token + 25, .tokens = 1, .view = view2},
            {.doc = c, .token = talk + TALK - 1, .tokens = 1, .view = view},
        };
        assert_err(cn_engine_step(e, slice, 2, NULL, &t_diag), CN_OK);
        assert_same_logits(want, slice[1].logits, vocab, "in a batch");
        append(e, d, b_token, 7, 256, NULL);
        assert_same_logits(want, slice[1].logits, vocab, "behind a step without a view");

        cn_doc_free(a), cn_doc_free(b), cn_doc_free(c), cn_doc_free(d);
        cn_view_free(view), cn_view_free(view2);
        cn_engine_close(e);
    }
    free(want);
}

static void test_logits_have_same_bits(void **state) {
    (void)state;
    on_each(check_logits_bits);
}

/* A context no longer than k: routing selects everything, CLSA is dense YOCO. */
static void check_clsa_is_yoco(const cn_model *m, const char *isa) {
    enum { TOKENS = 300, TALK = 30 };
    int32_t token[TOKENS], talk[TALK];
    t_seed(13);
    random_tokens(token, TOKENS, m), random_tokens(talk, TALK, m);
    float  *kept[2];
    int64_t selected[2];
    for (int pass = 0; pass < 2;
         pass++) { // the model's own k, a short context; a large k, a long one
        for (int dense = 0; dense < 2; dense++) {
            cn_engine  *e = open_engine((cn_engine_opts){
                 .model = m, .isa = isa, .dense = dense, .topk = pass ? TOKENS + TALK : 0});
            cn_doc     *doc = new_doc(e, true), *c = new_doc(e, false);
            cn_view    *view = new_view(e);
            cn_page_ref page[VIEW_PAGES];
            if (pass) {
                append(e, doc, token, TOKENS, 256, NULL);
                assert_err(cn_view_set(view, page, add_pages(page, 0, doc), &t_diag), CN_OK);
            }
            const int32_t tokens = pass ? TALK : m->config.index_topk;
            append(e, c, talk, tokens - 1, 256, NULL);
            cn_step_stats stats;
            cn_slice      slice = {.doc = c, .token = talk + tokens - 1, .tokens = 1, .view = view};
            assert_err(cn_engine_step(e, &slice, 1, &stats, &t_diag), CN_OK);
            kept[dense] = keep(slice.logits, m->config.vocab);
            selected[dense] = stats.selected;
            const int32_t sources = cn_config_index_sources(&m->config);
            assert_int_equal(stats.scored, dense ? 0 : stats.selected * sources);
            cn_doc_free(doc), cn_doc_free(c);
            cn_view_free(view);
            cn_engine_close(e);
        }
        assert_int_equal(selected[0], selected[1]);
        assert_same_logits(kept[0], kept[1], m->config.vocab, pass ? "long" : "short");
        free(kept[0]), free(kept[1]);
    }
}

/* An engine that is told another k, or to read all, is as one that was opened so. */
static void check_routing_can_change(const cn_model *m, const char *isa) {
    enum { TOKENS = 300, TALK = 20, TOPK_MAX = 64 };
    static const cn_engine_opts ways[] = {
        {.topk = 4}, {.dense = true}, {.topk = TOPK_MAX}, {.topk = 4}};
    int32_t token[TOKENS], talk[TALK];
    t_seed(14);
    random_tokens(token, TOKENS, m), random_tokens(talk, TALK, m);
    cn_engine *told = open_engine((cn_engine_opts){.model = m, .isa = isa, .topk = TOPK_MAX});
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        float *kept[2];
        for (int is_opened = 0; is_opened < 2; is_opened++) {
            cn_engine_opts opts = ways[i];
            opts.model = m;
            opts.isa = isa;
            cn_engine  *e = is_opened ? open_engine(opts) : told;
            cn_doc     *doc = new_doc(e, true), *c = new_doc(e, false);
            cn_view    *view = new_view(e);
            cn_page_ref page[VIEW_PAGES];
            if (!is_opened)
                assert_err(cn_engine_set_routing(e, opts.topk, opts.dense, &t_diag), CN_OK);
            append(e, doc, token, TOKENS, 256, NULL);
            assert_err(cn_view_set(view, page, add_pages(page, 0, doc), &t_diag), CN_OK);
            kept[is_opened] = keep(append(e, c, talk, TALK, 7, view), m->config.vocab);
            cn_doc_free(doc), cn_doc_free(c);
            cn_view_free(view);
            if (is_opened) cn_engine_close(e);
        }
        assert_same_logits(kept[0], kept[1], m->config.vocab, "told and opened");
        free(kept[0]), free(kept[1]);
    }
    assert_err(cn_engine_set_routing(told, TOPK_MAX + 1, false, &t_diag), CN_ETOOBIG);
    assert_err(cn_engine_set_routing(told, -1, false, &t_diag), CN_ETOOBIG);
    cn_engine_close(told);
}

static void test_routing_can_change(void **state) {
    (void)state;
    on_each(check_routing_can_change);
}

typedef struct attention {
    const cn_page_ref *page;
    int64_t            pages, tokens;
    const cn_config   *config;
    int                probs, attended; // taps that came
    float             *kept;            // [heads, tokens] of the last layer
} attention;

/* Probabilities sum to 1, and times V they are what attention brought back. */
static void on_attention(void *ctx, cn_tap_stage stage, int32_t slice, int32_t layer,
                         const void *data, int64_t rows, int64_t cols) {
    attention       *a = ctx;
    const cn_config *c = a->config;
    const int32_t    kv = c->kv_heads * c->head_dim;
    (void)slice, (void)layer;
    if (stage == CN_TAP_PROBS) {
        assert_int_equal(rows, c->heads);
        assert_int_equal(cols, a->tokens);
        memcpy(a->kept, data, (size_t)(rows * cols) * sizeof(float));
        a->probs++;
    }
    if (stage != CN_TAP_ATTENDED) return;
    assert_int_equal(rows, c->heads);
    assert_int_equal(cols, c->head_dim);
    const int32_t       sources = cn_config_index_sources(c);
    const cn_page_shape shape = {
        .kv_dim = kv, .index_dim = sources ? c->index_dim : 0, .sources = sources};
    for (int32_t h = 0; h < c->heads; h++) {
        const float *p = a->kept + h * a->tokens;
        double       sum = 0, out[CN_HEAD_DIM_MAX] = {0};
        int64_t      at = 0;
        for (int64_t page = 0; page < a->pages; page++)
            for (int32_t i = 0; i < a->page[page].tokens; i++, at++) {
                const cn_bf16 *row = (const cn_bf16 *)((const uint8_t *)a->page[page].body +
                                                       cn_page_row_offset(&shape, i));
                const cn_bf16 *v = row + kv + h / (c->heads / c->kv_heads) * c->head_dim;
                sum += p[at];
                for (int32_t d = 0; d < c->head_dim; d++)
                    out[d] += (double)p[at] * (double)cn_f32_from_bf16(v[d]);
            }
        assert_int_equal(at, a->tokens);
        assert_float_equal(sum, 1, 1e-4);
        for (int32_t d = 0; d < c->head_dim; d++)
            assert_float_equal(((const float *)data)[h * c->head_dim + d], out[d], 2e-3);
    }
    a->attended++;
}

static void check_attention_can_be_seen(const cn_model *m, const char *isa) {
    enum { TOKENS = 300, TALK = 20 };
    int32_t token[TOKENS], talk[TALK];
    t_seed(15);
    random_tokens(token, TOKENS, m), random_tokens(talk, TALK, m);
    cn_engine    *e = open_engine((cn_engine_opts){.model = m, .isa = isa, .dense = true});
    cn_doc       *doc = new_doc(e, true), *c = new_doc(e, false);
    cn_view      *view = new_view(e);
    cn_page_ref   page[VIEW_PAGES];
    const int64_t tokens = TOKENS + TALK;
    float        *probs = t_alloc_f32(m->config.heads * tokens, 0);
    attention     a = {.page = page, .tokens = tokens, .config = &m->config};
    append(e, doc, token, TOKENS, 256, NULL);
    a.pages = add_pages(page, 0, doc);
    assert_err(cn_view_set(view, page, a.pages, &t_diag), CN_OK);
    append(e, c, talk, TALK - 1, 256, NULL);
    page[a.pages++] = (cn_page_ref){cn_doc_page(c, 0).body, TALK};
    a.kept = t_alloc_f32(m->config.heads * tokens, 0);
    cn_engine_set_tap(e, on_attention, &a);
    cn_engine_set_tap_probs(e, probs, tokens);
    append(e, c, talk + TALK - 1, 1, 1, view);
    assert_int_equal(a.probs, m->config.cross_layers);
    assert_int_equal(a.attended, m->config.cross_layers);
    t_check_canaries(probs);
    cn_engine_set_tap_probs(e, NULL, 0); // no more
    cn_doc_reset(c);
    append(e, c, talk, TALK, 256, view);
    assert_int_equal(a.probs, m->config.cross_layers);
    t_free(probs), t_free(a.kept);
    cn_doc_free(doc), cn_doc_free(c);
    cn_view_free(view);
    cn_engine_close(e);
}

static void test_attention_can_be_seen(void **state) {
    (void)state;
    on_each(check_attention_can_be_seen);
}

static void test_clsa_is_yoco_up_to_k(void **state) {
    (void)state;
    on_each(check_clsa_is_yoco);
}

/* ---- The other arms --------------------------------------------------------------- */

/* A transformer's logits: its sequence in other chunks, every token asked, beside another sequence,
 * and with other threads: the same. */
static void check_transformer_bits(const cn_model *m, const char *isa) {
    enum { TOKENS = 300, OTHER = 70 };
    static const int32_t chunks[] = {256, 255, 100, 17, 1};
    int32_t              token[TOKENS], other[OTHER];
    float               *want = NULL;
    t_seed(19);
    random_tokens(token, TOKENS, m), random_tokens(other, OTHER, m);
    for (int32_t threads = 1; threads <= 3; threads++) {
        cn_engine *e = open_engine((cn_engine_opts){.model = m, .isa = isa, .threads = threads});
        cn_doc    *a = new_doc(e, true), *b = new_doc(e, false);
        cn_view   *view = new_view(e), *view2 = new_view(e);
        for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
            if (t_is_sanitized() && chunks[i] < 16) continue;
            cn_doc_reset(a); // what it held before must not show
            const float *logits = append(e, a, token, TOKENS, chunks[i], view);
            if (!want) want = keep(logits, m->config.vocab);
            assert_same_logits(want, logits, m->config.vocab, "in other chunks");
        }
        cn_doc_reset(a);
        append(e, a, token, 270, 256, NULL);
        const float *logits = NULL;
        for (int i = 270; i < TOKENS; i++) logits = append(e, a, token + i, 1, 1, view);
        assert_same_logits(want, logits, m->config.vocab, "the full forward of every token");
        for (int order = 0; order < 2; order++) {
            cn_slice slice[2];
            cn_doc_reset(a), cn_doc_reset(b);
            append(e, a, token, 200, 256, NULL);
            slice[order] =
                (cn_slice){.doc = a, .token = token + 200, .tokens = TOKENS - 200, .view = view};
            slice[1 - order] = (cn_slice){.doc = b, .token = other, .tokens = OTHER, .view = view2};
            assert_err(cn_engine_step(e, slice, 2, NULL, &t_diag), CN_OK);
            assert_same_logits(want, slice[order].logits, m->config.vocab, "in company");
        }
        cn_doc_free(a), cn_doc_free(b);
        cn_view_free(view), cn_view_free(view2);
        cn_engine_close(e);
    }
    free(want);
}

static void test_transformer_has_same_bits(void **state) {
    (void)state;
    cn_ops    ops[CN_ISA_COUNT];
    const int n = t_variants(ops);
    cn_model *m = open_model("tiny-b-transformer");
    for (int i = 0; i < n; i++) check_transformer_bits(m, cn_isa_name(ops[i].isa));
    cn_model_close(m);
}

/* A transformer gives no pages away, takes none, and says so; a step that fails leaves its
 * sequence as it was. */
static void test_transformer_refuses(void **state) {
    (void)state;
    enum { LIMIT = 300 };
    cn_model      *m = open_model("tiny-b-transformer");
    cn_model       broken = *m;
    cn_engine     *e = open_engine((cn_engine_opts){.model = &broken, .view_tokens = LIMIT});
    cn_doc        *doc = new_doc(e, true), *clean = new_doc(e, true);
    cn_view       *view = new_view(e);
    static int32_t token[LIMIT + 1];
    append(e, doc, token, 20, 256, NULL);
    assert_int_equal(cn_doc_pages(doc), 0);
    assert_int_equal(cn_doc_window_bytes(doc, 20), 0);
    assert_err(cn_doc_restore(doc, 0, NULL, 0, NULL, 0, &t_diag), CN_EUNSUPPORTED);
    void *page = t_alloc(64);
    assert_err(cn_view_set(view, &(cn_page_ref){page, 1}, 1, &t_diag), CN_EUNSUPPORTED);
    t_free(page);
    assert_int_equal(cn_view_tokens(view), 0);

    // Over the engine's limit, also where no logits are wanted.
    cn_doc_reset(doc);
    append(e, doc, token, LIMIT - 1, 256, NULL);
    cn_slice slice = {.doc = doc, .token = token, .tokens = 2};
    assert_err(cn_engine_step(e, &slice, 1, NULL, &t_diag), CN_ETOOBIG);
    assert_non_null(strstr(t_diag.text, "300"));

    // Not a number: found in a prefill, too, and nothing of it stays.
    cn_doc_reset(doc);
    append(e, doc, token, 10, 256, NULL);
    broken.config.embed_scale = 3e38f;
    slice.tokens = 5;
    assert_err(cn_engine_step(e, &slice, 1, NULL, &t_diag), CN_ENUMERIC);
    assert_int_equal(cn_doc_tokens(doc), 10);
    broken.config.embed_scale = m->config.embed_scale;
    float *want = keep(append(e, clean, token, 15, 256, view), m->config.vocab);
    assert_same_logits(want, append(e, doc, token + 10, 5, 256, view), m->config.vocab,
                       "after a NaN");
    free(want);
    cn_doc_free(doc), cn_doc_free(clean);
    cn_view_free(view);
    cn_engine_close(e);
    cn_model_close(m);
}

/* What a decode step reads, in each arm: the index keys once, once a layer, or never. */
static void test_reads_are_counted(void **state) {
    (void)state;
    enum { TOKENS = 400, TALK = 3 };
    cn_model *base = open_model("tiny-a");
    int32_t   token[TOKENS];
    t_seed(23);
    random_tokens(token, TOKENS, base);
    for (int arm = 0; arm < CN_ARM_COUNT; arm++) {
        const cn_config c = cn_config_as_arm(&base->config, (cn_arm)arm);
        const bool      sees_all = arm == CN_ARM_TRANSFORMER || arm == CN_ARM_YOCO;
        const int64_t   row = 4 * (int64_t)c.kv_heads * c.head_dim, tokens = TOKENS + TALK;
        const int64_t   set = sees_all ? tokens : c.index_topk + c.index_local;
        const int64_t   scans = arm == CN_ARM_CLSA ? 1 : arm == CN_ARM_YOCO_PERLAYER ? 3 : 0;
        const int64_t   layers = arm == CN_ARM_TRANSFORMER ? 5 : 3;
        cn_model       *m;
        cn_step_stats   stats;
        t_note("%s", cn_arm_name((cn_arm)arm));
        assert_err(cn_model_random(&m, &c, 5, &t_diag), CN_OK);
        cn_engine  *e = open_engine((cn_engine_opts){.model = m});
        cn_doc     *doc = new_doc(e, true), *talk = new_doc(e, false);
        cn_view    *view = new_view(e);
        cn_page_ref page[VIEW_PAGES];
        if (arm == CN_ARM_TRANSFORMER)
            append(e, talk, token, TOKENS, 256, NULL);
        else
            append(e, doc, token, TOKENS, 256, NULL);
        assert_err(cn_view_set(view, page, add_pages(page, 0, doc), &t_diag), CN_OK);
        append(e, talk, token, TALK - 1, 256, view);
        cn_slice slice = {.doc = talk, .token = token, .tokens = 1, .view = view};
        assert_err(cn_engine_step(e, &slice, 1, &stats, &t_diag), CN_OK);
        assert_int_equal(stats.scored, scans * tokens);
        assert_int_equal(stats.key_bytes, scans * tokens * c.index_dim * 2);
        assert_int_equal(stats.selected, set);
        assert_int_equal(stats.bytes, stats.key_bytes + layers * set * row);
        // The floor counts on the same.
        const cn_step_bytes plan = cn_step_bytes_plan(e, tokens);
        assert_int_equal(plan.keys, stats.key_bytes);
        assert_int_equal(plan.rows, layers * set * row);
        assert_int_equal(plan.windows, arm == CN_ARM_TRANSFORMER ? 0 : 2 * c.window * row);
        assert_int_equal(plan.once, plan.weights + plan.windows + plan.keys +
                                        (arm == CN_ARM_TRANSFORMER ? layers : 1) * set * row);
        const cn_weight *w = &m->self[0].down;
        assert_true(plan.weights > 5 * (int64_t)w->rows * w->cols);
        assert_true(plan.weights < m->weight_bytes);
        assert_int_equal(stats.route_ns > 0, scans > 0);
        assert_int_equal(stats.window_ns > 0, arm != CN_ARM_TRANSFORMER);
        assert_true(stats.window_ns < stats.self_ns && stats.attend_ns > 0);
        assert_true(stats.self_ns + stats.route_ns + stats.attend_ns + stats.cross_ns +
                        stats.head_ns <=
                    stats.wall_ns);
        cn_doc_free(doc), cn_doc_free(talk);
        cn_view_free(view);
        cn_engine_close(e);
        cn_model_close(m);
    }
    cn_model_close(base);
}

/* A filled document goes on as if it had been prefilled. */
static void test_fill(void **state) {
    (void)state;
    cn_model     *m = open_model("tiny-b-transformer"), *other = open_model("tiny-b");
    cn_engine    *e = open_engine((cn_engine_opts){.model = m, .view_tokens = 1000});
    cn_engine    *f = open_engine((cn_engine_opts){.model = other});
    cn_doc       *a = new_doc(e, true), *b = new_doc(e, true), *page_doc = new_doc(f, true);
    cn_view      *view = new_view(e);
    const int32_t token[2] = {1, 2};
    assert_err(cn_doc_fill(page_doc, 10, 1, &t_diag), CN_EUNSUPPORTED);
    assert_non_null(strstr(t_diag.text, "clsa"));
    assert_err(cn_doc_fill(a, 1001, 1, &t_diag), CN_ETOOBIG);
    assert_non_null(strstr(t_diag.text, "1000"));
    assert_err(cn_doc_fill(a, 700, 1, &t_diag), CN_OK);
    assert_err(cn_doc_fill(b, 700, 1, &t_diag), CN_OK);
    assert_int_equal(cn_doc_tokens(a), 700);
    float *want = keep(append(e, a, token, 2, 1, view), m->config.vocab);
    assert_same_logits(want, append(e, b, token, 2, 1, view), m->config.vocab, "the same seed");
    assert_err(cn_doc_fill(b, 700, 2, &t_diag), CN_OK);
    const float *logits = append(e, b, token, 2, 1, view);
    assert_true(memcmp(want, logits, (size_t)m->config.vocab * sizeof(float)) != 0);
    free(want);
    cn_doc_free(a), cn_doc_free(b), cn_doc_free(page_doc);
    cn_view_free(view);
    cn_engine_close(e), cn_engine_close(f);
    cn_model_close(m), cn_model_close(other);
}

/* The fast paths stay near the reference through the whole model, and say who they are: the
 * layout goes into the keys of documents. */
static void test_paths_agree(void **state) {
    (void)state;
    enum { TOKENS = 290, TALK = 20 };
    cn_ops    ops[CN_ISA_COUNT];
    const int n = t_variants(ops);
    cn_model *m = open_model("tiny-a");
    int32_t   token[TOKENS], talk[TALK];
    float    *want = NULL;
    random_tokens(token, TOKENS, m), random_tokens(talk, TALK, m);
    for (int i = 0; i < n; i++) {
        // Dense: a set may differ by a borderline row, which is no error.
        cn_engine *e = open_engine(
            (cn_engine_opts){.model = m, .isa = cn_isa_name(ops[i].isa), .dense = true});
        char name[32];
        snprintf(name, sizeof(name), "cpu-%s ", cn_isa_name(ops[i].isa));
        assert_memory_equal(cn_engine_layout(e), name, strlen(name));
        cn_doc     *doc = new_doc(e, true), *c = new_doc(e, false);
        cn_view    *view = new_view(e);
        cn_page_ref page[VIEW_PAGES];
        append(e, doc, token, TOKENS, 256, NULL);
        assert_err(cn_view_set(view, page, add_pages(page, 0, doc), &t_diag), CN_OK);
        const float *logits = append(e, c, talk, TALK, 256, view);
        if (!want)
            want = keep(logits, m->config.vocab);
        else
            for (int32_t v = 0; v < m->config.vocab; v++)
                assert_true(fabsf(logits[v] - want[v]) <= 0.02f);
        cn_doc_free(doc), cn_doc_free(c);
        cn_view_free(view);
        cn_engine_close(e);
    }
    free(want);
    cn_model_close(m);
}

/* ---- Refusals --------------------------------------------------------------------- */

static void test_open_refuses(void **state) {
    (void)state;
    cn_model  *m = open_model("tiny-b");
    cn_engine *e = (cn_engine *)&e;
#define REFUSED(want, ...)                                                                         \
    assert_err(cn_engine_open(&e, &(cn_engine_opts){.model = m, __VA_ARGS__}, &t_diag), (want));   \
    assert_null(e);                                                                                \
    assert_true(t_diag.text[0])
    REFUSED(CN_EINVAL, .threads = -1);
    REFUSED(CN_EINVAL, .threads = 100000);
    REFUSED(CN_EINVAL, .view_tokens = -1);
    REFUSED(CN_EINVAL, .view_tokens = (int64_t)CN_VIEW_TOKENS_MAX + 1);
    REFUSED(CN_EINVAL, .topk = -1);
    REFUSED(CN_EINVAL, .isa = "abacus");
#undef REFUSED
    for (int isa = 0; isa < CN_ISA_COUNT; isa++)
        if (!cn_isa_is_supported((cn_isa)isa))
            assert_err(
                cn_engine_open(&e, &(cn_engine_opts){.model = m, .isa = cn_isa_name((cn_isa)isa)},
                               &t_diag),
                CN_EUNSUPPORTED);
    cn_engine_close(NULL);
    cn_model_close(m);
}

static void test_step_refuses(void **state) {
    (void)state;
    cn_model      *m = open_model("tiny-b");
    cn_engine     *e = open_engine((cn_engine_opts){.model = m, .view_tokens = 300});
    cn_engine     *f = open_engine((cn_engine_opts){.model = m});
    cn_doc        *doc = new_doc(e, false), *other = new_doc(f, false), *small;
    cn_doc        *large = new_doc(e, false);
    cn_view       *view = new_view(e), *foreign = new_view(f);
    const int32_t  good[3] = {1, 2, 3}, bad[3] = {1, m->config.vocab, 3}, minus[1] = {-1};
    static int32_t many[2048];
    assert_err(cn_doc_create(&small, e, 4, false, &t_diag), CN_OK);
    append(e, doc, good, 3, 256, NULL);
#define REFUSED(want, text_part, ...)                                                              \
    do {                                                                                           \
        cn_slice slices[] = {__VA_ARGS__};                                                         \
        t_diag.text[0] = 0;                                                                        \
        assert_err(cn_engine_step(e, slices, sizeof(slices) / sizeof(slices[0]), NULL, &t_diag),   \
                   (want));                                                                        \
        if (!strstr(t_diag.text, (text_part)))                                                     \
            t_fail(__FILE__, __LINE__, "\"%s\" lacks \"%s\"", t_diag.text, (text_part));           \
        assert_int_equal(cn_doc_tokens(doc), 3);                                                   \
        assert_null(slices[0].logits);                                                             \
    } while (0)
    REFUSED(CN_EINVAL, "0 tokens", {.doc = doc, .token = good, .tokens = 0});
    REFUSED(CN_EINVAL, "257 tokens", {.doc = doc, .token = many, .tokens = 257});
    REFUSED(CN_EINVAL, "263", {.doc = doc, .token = bad, .tokens = 3});
    REFUSED(CN_EINVAL, "-1", {.doc = doc, .token = minus, .tokens = 1});
    REFUSED(CN_EINVAL, "another engine", {.doc = other, .token = good, .tokens = 3});
    REFUSED(CN_EINVAL, "another engine", {.doc = doc, .token = good, .tokens = 3, .view = foreign});
    REFUSED(CN_EINVAL, "share", {.doc = doc, .token = good, .tokens = 1},
            {.doc = doc, .token = good, .tokens = 1});
    REFUSED(CN_EINVAL, "share", {.doc = doc, .token = good, .tokens = 1, .view = view},
            {.doc = small, .token = good, .tokens = 1, .view = view});
    REFUSED(CN_EINVAL, "259 tokens in a step", {.doc = doc, .token = good, .tokens = 3},
            {.doc = large, .token = many, .tokens = 256});
#undef REFUSED
    cn_doc_free(small), cn_doc_free(large), cn_doc_free(doc), cn_doc_free(other);
    cn_view_free(view), cn_view_free(foreign);
    cn_engine_close(e), cn_engine_close(f);
    cn_model_close(m);
}

static void test_limits_are_named(void **state) {
    (void)state;
    cn_model      *m = open_model("tiny-b");
    cn_engine     *e = open_engine((cn_engine_opts){.model = m, .view_tokens = 40});
    cn_doc        *doc, *talk = new_doc(e, false);
    cn_view       *view = new_view(e), *tight;
    cn_page_ref    page[VIEW_PAGES + 1];
    static int32_t token[64];
    assert_err(cn_doc_create(&doc, e, 0, false, &t_diag), CN_ETOOBIG);
    assert_err(cn_doc_create(&doc, e, (int64_t)CN_DOC_TOKENS_MAX + 1, false, &t_diag), CN_ETOOBIG);
    assert_err(cn_view_create(&tight, e, 0, &t_diag), CN_ETOOBIG);
    assert_err(cn_doc_create(&doc, e, 30, false, &t_diag), CN_OK);
    append(e, doc, token, 30, 256, NULL);
    cn_slice slice = {.doc = doc, .token = token, .tokens = 1};
    assert_err(cn_engine_step(e, &slice, 1, NULL, &t_diag), CN_ETOOBIG);
    assert_non_null(strstr(t_diag.text, "30"));

    // 30 + 11 tokens pass the engine's 40.
    assert_err(cn_view_set(view, page, add_pages(page, 0, doc), &t_diag), CN_OK);
    append(e, talk, token, 9, 256, NULL);
    slice = (cn_slice){.doc = talk, .token = token, .tokens = 2, .view = view};
    assert_err(cn_engine_step(e, &slice, 1, NULL, &t_diag), CN_ETOOBIG);
    assert_non_null(strstr(t_diag.text, "41"));
    assert_non_null(strstr(t_diag.text, "40"));
    assert_int_equal(cn_doc_tokens(talk), 9);
    slice.tokens = 1;
    assert_err(cn_engine_step(e, &slice, 1, NULL, &t_diag), CN_OK);
    // Nothing of the refused step is left: the page equals that of a clean run.
    cn_doc *clean = new_doc(e, false);
    append(e, clean, token, 10, 256, NULL);
    assert_same_pages(e, clean, talk, "after a refused step");

    for (int i = 0; i <= VIEW_PAGES; i++) page[i] = cn_doc_page(doc, 0);
    assert_err(cn_view_set(view, page, VIEW_PAGES + 1, &t_diag), CN_ETOOBIG);
    page[1].tokens = 0;
    assert_err(cn_view_set(view, page, 2, &t_diag), CN_EINVAL);
    page[1] = (cn_page_ref){(const uint8_t *)page[0].body + 8, 3};
    assert_err(cn_view_set(view, page, 2, &t_diag), CN_EINVAL);
    assert_int_equal(cn_view_tokens(view), 30); // as it was
    assert_err(cn_view_create(&tight, e, 1, &t_diag), CN_OK);
    assert_err(cn_view_set(tight, page, 1, &t_diag), CN_OK);
    slice.view = tight; // one page of documents, and one more for the conversation
    assert_err(cn_engine_step(e, &slice, 1, NULL, &t_diag), CN_ETOOBIG);

    cn_doc_free(doc), cn_doc_free(talk), cn_doc_free(clean);
    cn_view_free(view), cn_view_free(tight);
    cn_engine_close(e);
    cn_model_close(m);
}

static void test_restore_refuses(void **state) {
    (void)state;
    cn_model      *m = open_model("tiny-a");
    cn_engine     *e = open_engine((cn_engine_opts){.model = m});
    cn_doc        *doc = new_doc(e, true), *to;
    cn_page_ref    page[4];
    static int32_t token[300];
    append(e, doc, token, 300, 256, NULL);
    const int64_t pages = add_pages(page, 0, doc), bytes = cn_doc_window_bytes(doc, 300);
    uint8_t      *window = malloc((size_t)bytes);
    assert_non_null(window);
    cn_doc_window_save(doc, window);
    assert_err(cn_doc_create(&to, e, 300, true, &t_diag), CN_OK);
    assert_err(cn_doc_restore(to, 301, page, pages, window, bytes, &t_diag), CN_ETOOBIG);
    assert_err(cn_doc_restore(to, -1, page, pages, window, bytes, &t_diag), CN_ETOOBIG);
    assert_err(cn_doc_restore(to, 300, page, 1, window, bytes, &t_diag), CN_EINVAL);
    assert_err(cn_doc_restore(to, 300, page, pages, window, bytes - 1, &t_diag), CN_EINVAL);
    assert_err(cn_doc_restore(to, 299, page, pages, window, cn_doc_window_bytes(to, 299), &t_diag),
               CN_EINVAL); // the last page says 44 tokens, want 43
    assert_int_equal(cn_doc_tokens(to), 0);
    assert_err(cn_doc_restore(to, 300, page, pages, window, bytes, &t_diag), CN_OK);
    assert_same_pages(e, doc, to, "restored");
    free(window);
    cn_doc_free(doc), cn_doc_free(to);
    cn_engine_close(e);
    cn_model_close(m);
}

/* A model that overflows is found out at once, and the documents stay as they were. */
static void test_not_a_number_is_reported(void **state) {
    (void)state;
    cn_model      *m = open_model("tiny-b");
    cn_model       broken = *m;
    cn_engine     *e = open_engine((cn_engine_opts){.model = &broken});
    cn_doc        *doc = new_doc(e, false), *clean = new_doc(e, false);
    cn_view       *view = new_view(e);
    static int32_t token[20];
    cn_slice       slice = {.doc = doc, .token = token, .tokens = 5, .view = view};
    append(e, doc, token, 10, 256, NULL);
    broken.config.embed_scale = 3e38f;
    assert_err(cn_engine_step(e, &slice, 1, NULL, &t_diag), CN_ENUMERIC);
    assert_null(slice.logits);
    assert_int_equal(cn_doc_tokens(doc), 10);

    // A NaN that first appears in the cross-decoder: its pages were written already.
    broken.config.embed_scale = m->config.embed_scale;
    float *nan_norm = t_alloc_f32(m->config.hidden, 1);
    nan_norm[3] = NAN;
    broken.final_norm = nan_norm;
    assert_err(cn_engine_step(e, &slice, 1, NULL, &t_diag), CN_ENUMERIC);
    assert_int_equal(cn_doc_tokens(doc), 10);
    broken.final_norm = m->final_norm;
    append(e, clean, token, 10, 256, NULL);
    assert_same_pages(e, clean, doc, "after a NaN");
    assert_err(cn_engine_step(e, &slice, 1, NULL, &t_diag), CN_OK);
    append(e, clean, token, 5, 256, NULL);
    assert_same_pages(e, clean, doc, "after going on");
    t_free(nan_norm);
    cn_doc_free(doc), cn_doc_free(clean);
    cn_view_free(view);
    cn_engine_close(e);
    cn_model_close(m);
}

/* No memory: each reservation fails once, is said, and leaves nothing (address sanitizer). */
static void test_no_memory_is_said(void **state) {
    (void)state;
    cn_model *m = open_model("tiny-b");
    for (int n = 1;; n++) {
        cn_engine *e = NULL;
        cn_doc    *doc = NULL;
        cn_view   *view = NULL;
        t_diag.text[0] = 0;
        cn_fault_arm(CN_FAULT_ONCE, n);
        cn_err err = cn_engine_open(&e, &(cn_engine_opts){.model = m, .threads = 2}, &t_diag);
        if (!err) err = cn_doc_create(&doc, e, 100, true, &t_diag);
        if (!err) err = cn_view_create(&view, e, 4, &t_diag);
        const bool hit = cn_fault_was_hit();
        cn_fault_arm(CN_FAULT_OFF, 0);
        assert_err(err, hit ? CN_ENOMEM : CN_OK);
        assert_true(!hit || t_diag.text[0]);
        cn_view_free(view);
        cn_doc_free(doc);
        cn_engine_close(e);
        if (!hit) {
            assert_int_equal(n, 4); // engine, document, view
            break;
        }
    }
    cn_model_close(m);
}

static void test_global_rope_refuses_documents(void **state) {
    (void)state;
    cn_model      *m = open_model("tiny-b-global");
    cn_engine     *e = open_engine((cn_engine_opts){.model = m});
    cn_doc        *doc = new_doc(e, true), *talk = new_doc(e, false);
    cn_view       *view = new_view(e);
    cn_page_ref    page[4];
    static int32_t token[20];
    append(e, doc, token, 20, 256, NULL);
    assert_err(cn_view_set(view, page, add_pages(page, 0, doc), &t_diag), CN_OK);
    cn_slice slice = {.doc = talk, .token = token, .tokens = 5, .view = view};
    assert_err(cn_engine_step(e, &slice, 1, NULL, &t_diag), CN_EUNSUPPORTED);
    assert_int_equal(cn_doc_tokens(talk), 0);
    cn_doc_free(doc), cn_doc_free(talk);
    cn_view_free(view);
    cn_engine_close(e);
    cn_model_close(m);
}

static void test_sampling(void **state) {
    (void)state;
    cn_model     *m = open_model("tiny-b");
    cn_engine    *e = open_engine((cn_engine_opts){.model = m});
    cn_doc       *doc = new_doc(e, false);
    cn_view      *view = new_view(e);
    const int32_t token[3] = {1, 2, 3};
    const float  *logits = append(e, doc, token, 3, 256, view);
    int32_t       best = 0, got;
    for (int32_t i = 1; i < m->config.vocab; i++)
        if (logits[i] > logits[best]) best = i;
    assert_err(cn_engine_sample(e, logits, &(cn_sampling){.top_p = 1}, &got, &t_diag), CN_OK);
    assert_int_equal(got, best);
    assert_err(
        cn_engine_sample(e, logits, &(cn_sampling){.temperature = -1, .top_p = 1}, &got, &t_diag),
        CN_EINVAL);
    assert_non_null(strstr(t_diag.text, "temperature -1"));
    float *bad = keep(logits, m->config.vocab);
    bad[5] = NAN;
    assert_err(cn_engine_sample(e, bad, &(cn_sampling){.top_p = 1}, &got, &t_diag), CN_ENUMERIC);
    free(bad);
    cn_doc_free(doc);
    cn_view_free(view);
    cn_engine_close(e);
    cn_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_document_has_same_bits),
        cmocka_unit_test(test_documents_can_be_reused),
        cmocka_unit_test(test_pages_without_their_window),
        cmocka_unit_test(test_logits_have_same_bits),
        cmocka_unit_test(test_clsa_is_yoco_up_to_k),
        cmocka_unit_test(test_routing_can_change),
        cmocka_unit_test(test_attention_can_be_seen),
        cmocka_unit_test(test_transformer_has_same_bits),
        cmocka_unit_test(test_transformer_refuses),
        cmocka_unit_test(test_reads_are_counted),
        cmocka_unit_test(test_fill),
        cmocka_unit_test(test_paths_agree),
        cmocka_unit_test(test_open_refuses),
        cmocka_unit_test(test_step_refuses),
        cmocka_unit_test(test_limits_are_named),
        cmocka_unit_test(test_restore_refuses),
        cmocka_unit_test(test_not_a_number_is_reported),
        cmocka_unit_test(test_no_memory_is_said),
        cmocka_unit_test(test_global_rope_refuses_documents),
        cmocka_unit_test(test_sampling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
