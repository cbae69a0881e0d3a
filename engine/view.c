/* view.c - An ordered list of pages, as the arrays that the ops read. */
#include "engine/engine_int.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static void layout(cn_view *v) {
    const int64_t sources = v->engine->shape.sources;
    v->page_rows = cn_block_take(&v->block, v->pages_max * (int64_t)sizeof(*v->page_rows));
    v->page_keys =
        cn_block_take(&v->block, sources * v->pages_max * (int64_t)sizeof(*v->page_keys));
    v->page_tokens = cn_block_take(&v->block, v->pages_max * (int64_t)sizeof(*v->page_tokens));
    v->guess = cn_block_take(&v->block, sources * (int64_t)sizeof(*v->guess));
    for (int64_t i = 0; v->guess && i < sources; i++) v->guess[i] = NAN;
}

cn_err cn_view_create(cn_view **out, cn_engine *e, int64_t pages_max, cn_diag *diag) {
    *out = NULL;
    if (pages_max < 1 || pages_max > CN_VIEW_PAGES_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "a view of %" PRId64 " pages, limit %d", pages_max,
                       (int)CN_VIEW_PAGES_MAX);
    cn_view *v = calloc(1, sizeof(*v));
    if (!v) return CN_FAIL(diag, CN_ENOMEM, "no memory for a view");
    v->engine = e;
    v->pages_max = pages_max;
    layout(v);
    cn_err err = cn_block_reserve(&v->block, diag);
    if (err) {
        free(v);
        return err;
    }
    layout(v);
    *out = v;
    return CN_OK;
}

void cn_view_free(cn_view *v) {
    if (!v) return;
    cn_block_release(&v->block);
    free(v);
}

static void put(cn_view *v, int64_t at, cn_page_ref page) {
    const uint8_t       *body = page.body;
    const cn_page_shape *shape = &v->engine->shape;
    for (int32_t i = 0; i < shape->sources; i++)
        v->page_keys[i * v->pages_max + at] =
            (const cn_bf16 *)(body + cn_page_keys_offset(shape, i));
    v->page_rows[at] = (const cn_bf16 *)(body + cn_page_row_offset(shape, 0));
    v->page_tokens[at] = page.tokens;
}

static cn_err check_room(const cn_view *v, int64_t pages, int64_t tokens, cn_diag *diag) {
    if (pages > v->pages_max)
        return CN_FAIL(diag, CN_ETOOBIG, "a view of %" PRId64 " pages, it has room for %" PRId64,
                       pages, v->pages_max);
    if (tokens > v->engine->view_tokens)
        return CN_FAIL(diag, CN_ETOOBIG,
                       "a view of %" PRId64 " tokens, the engine's limit is %" PRId64, tokens,
                       v->engine->view_tokens);
    return CN_OK;
}

cn_err cn_view_set(cn_view *v, const cn_page_ref *page, int64_t pages, cn_diag *diag) {
    int64_t tokens = 0;
    if (pages > 0 && v->engine->model->config.arm == CN_ARM_TRANSFORMER)
        return CN_FAIL(diag, CN_EUNSUPPORTED,
                       "%" PRId64 " pages for a view of a transformer: its K and V depend on all "
                       "that stands before them",
                       pages);
    for (int64_t i = 0; i < pages; i++) {
        if (page[i].tokens < 1 || page[i].tokens > CN_PAGE_TOKENS || !page[i].body ||
            !cn_is_aligned(page[i].body, CN_ALIGN_BYTES))
            return CN_FAIL(diag, CN_EINVAL,
                           "page %" PRId64 " of a view: %d tokens at %p, want 1 to %d on %d bytes",
                           i, page[i].tokens, page[i].body, (int)CN_PAGE_TOKENS,
                           (int)CN_ALIGN_BYTES);
        tokens += page[i].tokens;
    }
    CN_TRY(check_room(v, pages, tokens, diag));
    for (int64_t i = 0; i < pages; i++) put(v, i, page[i]);
    v->pages = pages;
    v->tokens = tokens;
    return CN_OK;
}

int64_t cn_view_tokens(const cn_view *v) {
    return v->tokens;
}

cn_err cn_view_extend(cn_view *v, const cn_doc *doc, int64_t tokens, int64_t *pages_out,
                      int64_t *tokens_out, cn_diag *diag) {
    const int64_t own = (tokens + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
    CN_TRY(check_room(v, v->pages + own, v->tokens + tokens, diag));
    for (int64_t i = 0; i < own; i++) {
        const int64_t left = tokens - i * CN_PAGE_TOKENS;
        put(v, v->pages + i,
            (cn_page_ref){cn_doc_page_body(doc, 0, i),
                          left < CN_PAGE_TOKENS ? (int32_t)left : CN_PAGE_TOKENS});
    }
    *pages_out = v->pages + own;
    *tokens_out = v->tokens + tokens;
    return CN_OK;
}
