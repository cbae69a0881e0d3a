/*
 * doc.c - A document being written: its pages, and the window that its next token sees.
 *
 * Window state is kept position by position, [layer][position][K|V], first the sink's
 * positions and then those of the window: a function of the tokens, while the ring's
 * own layout depends on how large it was made.
 */
#include "engine/engine_int.h"

#include "base/rand.h"

#include <inttypes.h>
#include <stdlib.h>

static int64_t pages_of(int64_t tokens) {
    return (tokens + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
}

static void layout(cn_doc *doc, const cn_config *c, int32_t sink) {
    const int32_t windows = c->arm == CN_ARM_TRANSFORMER ? 0 : c->self_layers;
    if (windows) doc->window = cn_block_take(&doc->block, windows * (int64_t)sizeof(cn_window));
    for (int32_t l = 0; l < windows; l++) {
        cn_window w = {.kv_heads = c->kv_heads,
                       .head_dim = c->head_dim,
                       .window = c->window,
                       .sink = sink,
                       .ring_tiles = cn_window_ring_tiles(c->window, CN_STEP_ROWS)};
        w.k = cn_block_take(&doc->block, cn_window_elems(&w) * (int64_t)sizeof(cn_bf16));
        w.v = cn_block_take(&doc->block, cn_window_elems(&w) * (int64_t)sizeof(cn_bf16));
        if (doc->window) doc->window[l] = w;
    }
    doc->pages = cn_block_take(&doc->block, doc->engine->page_layers * doc->pages_max *
                                                cn_page_bytes(&doc->engine->shape));
}

cn_err cn_doc_create(cn_doc **out, cn_engine *e, int64_t tokens_max, bool has_sink, cn_diag *diag) {
    *out = NULL;
    if (tokens_max < 1 || tokens_max > CN_DOC_TOKENS_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "a document of %" PRId64 " tokens, limit %d", tokens_max,
                       (int)CN_DOC_TOKENS_MAX);
    cn_doc *doc = calloc(1, sizeof(*doc));
    if (!doc) return CN_FAIL(diag, CN_ENOMEM, "no memory for a document");
    doc->engine = e;
    doc->tokens_max = tokens_max;
    doc->pages_max = pages_of(tokens_max);
    const cn_config *c = &e->model->config;
    const int32_t    sink = has_sink ? c->sink : 0;
    layout(doc, c, sink);
    cn_err err = cn_block_reserve(&doc->block, diag);
    if (err) {
        free(doc);
        return err;
    }
    layout(doc, c, sink);
    *out = doc;
    return CN_OK;
}

void cn_doc_free(cn_doc *doc) {
    if (!doc) return;
    cn_block_release(&doc->block);
    free(doc);
}

void cn_doc_reset(cn_doc *doc) {
    doc->tokens = doc->held = 0;
}

int64_t cn_doc_tokens(const cn_doc *doc) {
    return doc->tokens;
}

int64_t cn_doc_pages(const cn_doc *doc) {
    return doc->window ? pages_of(doc->tokens) : 0;
}

cn_page_ref cn_doc_page(const cn_doc *doc, int64_t i) {
    cn_assert(i >= 0 && i < cn_doc_pages(doc));
    const int64_t left = doc->tokens - i * CN_PAGE_TOKENS;
    return (cn_page_ref){cn_doc_page_body(doc, 0, i),
                         left < CN_PAGE_TOKENS ? (int32_t)left : CN_PAGE_TOKENS};
}

/* Zero the slots from `first` on. */
static void clear_slots(uint8_t *body, const cn_page_shape *shape, int32_t first) {
    memset(body + cn_page_row_offset(shape, first), 0,
           (size_t)((CN_PAGE_TOKENS - first) * cn_page_row_bytes(shape)));
    for (int32_t source = 0; source < shape->sources; source++) {
        cn_bf16 *keys = (cn_bf16 *)(body + cn_page_keys_offset(shape, source));
        for (int32_t token = first; token < CN_PAGE_TOKENS; token++)
            for (int32_t dim = 0; dim < shape->index_dim; dim++)
                keys[cn_page_key_elem(shape, token, dim)] = 0;
    }
}

void cn_doc_clear_tail(cn_doc *doc) {
    const int64_t rows = doc->tokens > doc->held ? doc->tokens : doc->held;
    const int32_t first = (int32_t)(rows % CN_PAGE_TOKENS);
    if (first == 0) return; // the next page is zeroed when it is begun
    for (int32_t layer = 0; layer < doc->engine->page_layers; layer++)
        clear_slots(cn_doc_page_body(doc, layer, rows / CN_PAGE_TOKENS), &doc->engine->shape,
                    first);
}

/* What the next token of a document of `tokens` tokens sees: [0, sink) and [from, tokens). */
typedef struct span {
    int64_t sink, from, tokens;
} span;

static span seen(const cn_doc *doc, int64_t tokens) {
    const cn_window *w = &doc->window[0];
    span             s = {.from = tokens - (w->window - 1), .tokens = tokens};
    if (s.from < 0) s.from = 0;
    s.sink = w->sink < s.from ? w->sink : s.from;
    return s;
}

static int64_t span_count(span s) {
    return s.sink + s.tokens - s.from;
}

/* The i-th position of a span. */
static int64_t span_at(span s, int64_t i) {
    return i < s.sink ? i : s.from + i - s.sink;
}

/* Copy one position of one layer between its tile and a K|V row; `to_row` says the way. */
static void copy_position(const cn_window *w, int64_t position, cn_bf16 *row, bool to_row) {
    const int32_t slot = cn_window_slot(w, position / CN_TILE_TOKENS);
    const int32_t lane = (int32_t)(position % CN_TILE_TOKENS);
    for (int32_t g = 0; g < w->kv_heads; g++) {
        cn_bf16 *k = cn_window_k(w, g, slot) + lane;
        cn_bf16 *v = cn_window_v(w, g, slot) + lane * w->head_dim;
        cn_bf16 *row_k = row + g * w->head_dim;
        cn_bf16 *row_v = row + (w->kv_heads + g) * w->head_dim;
        for (int32_t d = 0; d < w->head_dim; d++) {
            if (to_row) {
                row_k[d] = k[d * CN_TILE_TOKENS];
                row_v[d] = v[d];
            } else {
                k[d * CN_TILE_TOKENS] = row_k[d];
                v[d] = row_v[d];
            }
        }
    }
}

static void copy_window(const cn_doc *doc, int64_t tokens, cn_bf16 *state, bool save) {
    if (!doc->window) return;
    const span    s = seen(doc, tokens);
    const int64_t count = span_count(s), row = 2 * doc->engine->shape.kv_dim;
    for (int32_t l = 0; l < doc->engine->model->config.self_layers; l++)
        for (int64_t i = 0; i < count; i++)
            copy_position(&doc->window[l], span_at(s, i), state + (l * count + i) * row, save);
}

int64_t cn_doc_window_bytes(const cn_doc *doc, int64_t tokens) {
    if (!doc->window) return 0;
    return doc->engine->model->config.self_layers * span_count(seen(doc, tokens)) *
           cn_page_row_bytes(&doc->engine->shape);
}

void cn_doc_window_save(const cn_doc *doc, void *out) {
    cn_assert(doc->tokens >= doc->held); // else it is not filled yet
    copy_window(doc, doc->tokens, out, true);
}

static cn_err check_pages(const cn_doc *doc, int64_t tokens, const cn_page_ref *page, int64_t pages,
                          cn_diag *diag) {
    if (!doc->window)
        return CN_FAIL(diag, CN_EUNSUPPORTED,
                       "%" PRId64 " tokens to restore: a transformer's documents are not kept",
                       tokens);
    if (tokens < 0 || tokens > doc->tokens_max)
        return CN_FAIL(diag, CN_ETOOBIG, "%" PRId64 " tokens, the document has room for %" PRId64,
                       tokens, doc->tokens_max);
    if (pages != pages_of(tokens))
        return CN_FAIL(diag, CN_EINVAL, "%" PRId64 " pages for %" PRId64 " tokens", pages, tokens);
    for (int64_t i = 0; i < pages; i++) {
        const int64_t left = tokens - i * CN_PAGE_TOKENS;
        const int64_t want = left < CN_PAGE_TOKENS ? left : CN_PAGE_TOKENS;
        if (page[i].tokens != want)
            return CN_FAIL(diag, CN_EINVAL, "page %" PRId64 " holds %d tokens, want %" PRId64, i,
                           page[i].tokens, want);
    }
    return CN_OK;
}

static void copy_pages(cn_doc *doc, const cn_page_ref *page, int64_t pages) {
    for (int64_t i = 0; i < pages; i++)
        memcpy(cn_doc_page_body(doc, 0, i), page[i].body,
               (size_t)cn_page_bytes(&doc->engine->shape));
}

cn_err cn_doc_restore(cn_doc *doc, int64_t tokens, const cn_page_ref *page, int64_t pages,
                      const void *window, int64_t window_bytes, cn_diag *diag) {
    cn_doc_reset(doc);
    CN_TRY(check_pages(doc, tokens, page, pages, diag));
    if (window_bytes != cn_doc_window_bytes(doc, tokens))
        return CN_FAIL(diag, CN_EINVAL, "window of %" PRId64 " bytes, want %" PRId64, window_bytes,
                       cn_doc_window_bytes(doc, tokens));
    copy_pages(doc, page, pages);
    copy_window(doc, tokens, (cn_bf16 *)(uintptr_t)window, false);
    doc->tokens = tokens;
    return CN_OK;
}

/* How many tokens before one decide its row: in each layer a window less itself. */
static int64_t reach(const cn_doc *doc) {
    return doc->engine->model->config.self_layers * (int64_t)(doc->window[0].window - 1);
}

int64_t cn_doc_replay_from(const cn_doc *doc, int64_t tokens) {
    if (!doc->window || doc->window[0].sink > 0) return 0;
    const int64_t from = tokens - reach(doc);
    return from > 0 ? from : 0;
}

cn_err cn_doc_restore_pages(cn_doc *doc, int64_t tokens, const cn_page_ref *page, int64_t pages,
                            cn_diag *diag) {
    cn_doc_reset(doc);
    CN_TRY(check_pages(doc, tokens, page, pages, diag));
    copy_pages(doc, page, pages);
    for (int32_t l = 0; l < doc->engine->model->config.self_layers; l++) {
        // What is computed from it before the window is full comes to nothing, but must be finite.
        const cn_window *w = &doc->window[l];
        memset(w->k, 0, (size_t)cn_window_elems(w) * sizeof(cn_bf16));
        memset(w->v, 0, (size_t)cn_window_elems(w) * sizeof(cn_bf16));
    }
    doc->held = tokens;
    doc->tokens = cn_doc_replay_from(doc, tokens);
    return CN_OK;
}

cn_err cn_doc_fill(cn_doc *doc, int64_t tokens, uint64_t seed, cn_diag *diag) {
    const cn_page_shape *shape = &doc->engine->shape;
    if (doc->window)
        return CN_FAIL(diag, CN_EUNSUPPORTED, "%s: its documents are prefilled, not filled",
                       cn_arm_name(doc->engine->model->config.arm));
    const int64_t room =
        doc->tokens_max < doc->engine->view_tokens ? doc->tokens_max : doc->engine->view_tokens;
    if (tokens < 0 || tokens > room)
        return CN_FAIL(diag, CN_ETOOBIG, "%" PRId64 " tokens, there is room for %" PRId64, tokens,
                       room);
    // Signs, and magnitudes of 0.5 to 2: two exponents of bf16 and all of the mantissa.
    for (int32_t layer = 0; layer < doc->engine->page_layers; layer++)
        for (int64_t page = 0; page < pages_of(tokens); page++) {
            uint64_t *body = (uint64_t *)(void *)cn_doc_page_body(doc, layer, page);
            for (int64_t i = 0; i < cn_page_bytes(shape) / (int64_t)sizeof(*body); i++)
                body[i] = (cn_rand_next(&seed) & 0x80ff80ff80ff80ffu) | 0x3f003f003f003f00u;
        }
    doc->tokens = tokens;
    cn_doc_clear_tail(doc);
    return CN_OK;
}
