/*
 * engine.c - One step: the self-decoder over all rows, the cross-decoder over last rows.
 *
 * The math is YOCO with cross-layer sparse attention (arXiv:2405.05254, arXiv:2606.06467):
 *
 *   x = E[token]; for each self layer: x += W_O SWA(...); x += SwiGLU(...)
 *   h = norm(x); K|V|index key = W h -> pages           prefill ends here
 *   I = index query . keys; S = top-k(I)                once a token
 *   for each cross layer: x += W_O Attn(q, K[S], V[S]); x += SwiGLU(...)
 *   logits = W_out norm(x)
 *
 * Rows of all slices go through the products together; attention, which is where
 * documents differ, goes slice by slice.
 *
 * The arms that this is measured against (config.h) are the same step: yoco routes nothing,
 * yoco-perlayer routes in each cross layer, a transformer is a self-decoder that sees all
 * its tokens and has nothing behind it.
 */
#include "engine/engine_int.h"

#include "base/clock.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { VIEW_TOKENS_DEFAULT = 1 << 18 };

/* Ops refuse only what their caller should never pass: a refusal is our bug. */
static void must(cn_err err) {
    cn_assert(err == CN_OK);
}

static int64_t round_up(int64_t n, int64_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

static int64_t max_i64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* ---- Opening ---------------------------------------------------------------------- */

static void layout(cn_engine *e) {
    const cn_config *c = &e->model->config;
    cn_block        *b = &e->block;
    cn_scratch      *s = &e->s;
    const int64_t    f = sizeof(float), R = CN_STEP_ROWS, V = CN_STEP_VIEWS;
    const int64_t    q = (int64_t)c->heads * c->head_dim, kv = e->shape.kv_dim;

    s->in_stride = q + 2 * kv;
    s->shared_stride = 2 * kv + e->shape.sources * e->shape.index_dim;
    s->query_stride = round_up((int64_t)c->index_heads * (c->index_dim + 1), 16);
    s->logits_stride = round_up(c->vocab, 16);
    s->x = cn_block_take(b, R * c->hidden * f);
    s->n = cn_block_take(b, R * c->hidden * f);
    s->in = cn_block_take(b, R * s->in_stride * f);
    s->att = cn_block_take(b, R * q * f);
    s->gate_up = cn_block_take(b, R * 2 * c->ffn * f);
    s->act = cn_block_take(b, R * c->ffn * f);
    s->shared = cn_block_take(b, R * s->shared_stride * f);
    s->cos = cn_block_take(b, R * c->head_dim / 2 * f);
    s->sin = cn_block_take(b, R * c->head_dim / 2 * f);
    s->cross = cn_block_take(b, V * c->hidden * f);
    s->h = cn_block_take(b, V * c->hidden * f);
    s->query = cn_block_take(b, V * s->query_stride * f);
    s->logits = cn_block_take(b, V * s->logits_stride * f);
    s->scores = cn_block_take(b, e->view_tokens * f);
    s->set = cn_block_take(b, V * e->set_max * (int64_t)sizeof(int32_t));
    s->weight = cn_block_take(b, V * e->set_max * f);
    s->rows = cn_block_take(b, V * e->set_max * (int64_t)sizeof(*s->rows));
    const int64_t widest = max_i64(max_i64(c->hidden, q), c->ffn);
    s->matmul = cn_block_take(b, cn_matmul_scratch_bytes(R, (int32_t)widest));
    s->attend = cn_block_take(b, cn_attend_scratch_bytes(e->view_tokens, c->heads, c->head_dim));
    const int64_t own = c->arm == CN_ARM_TRANSFORMER ? e->view_tokens / CN_PAGE_TOKENS + 1 : 0;
    s->own_rows = cn_block_take(b, own * (int64_t)sizeof(*s->own_rows));
    s->own_fill = cn_block_take(b, own * (int64_t)sizeof(*s->own_fill));
    s->topk = cn_block_take(b, cn_topk_scratch_bytes(e->view_tokens));
    s->sample = cn_block_take(b, cn_sample_scratch_bytes(c->vocab));
}

cn_err cn_ops_choose(cn_ops *ops, const char *isa, cn_diag *diag) {
    if (!isa) return cn_ops_init(ops, cn_isa_best());
    for (int i = 0; i < CN_ISA_COUNT; i++)
        if (strcmp(isa, cn_isa_name((cn_isa)i)) == 0) {
            if (!cn_ops_init(ops, (cn_isa)i)) return CN_OK;
            return CN_FAIL(diag, CN_EUNSUPPORTED, "this processor does not run \"%s\"", isa);
        }
    return CN_FAIL(diag, CN_EINVAL, "no instruction-set path \"%s\"", isa);
}

int32_t cn_threads_or_cores(int32_t threads) {
    if (threads) return threads;
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : cores > CN_POOL_THREADS_MAX ? CN_POOL_THREADS_MAX : (int32_t)cores;
}

static cn_err check_opts(const cn_engine_opts *o, cn_diag *diag) {
    if (o->threads < 0 || o->threads > CN_POOL_THREADS_MAX)
        return CN_FAIL(diag, CN_EINVAL, "%d threads, want 0 to %d", o->threads,
                       (int)CN_POOL_THREADS_MAX);
    if (o->view_tokens < 0 || o->view_tokens > CN_VIEW_TOKENS_MAX)
        return CN_FAIL(diag, CN_EINVAL, "views of %" PRId64 " tokens, limit %d", o->view_tokens,
                       (int)CN_VIEW_TOKENS_MAX);
    if (o->topk < 0 || o->topk > CN_VIEW_TOKENS_MAX)
        return CN_FAIL(diag, CN_EINVAL, "top-k of %d, limit %d", o->topk, (int)CN_VIEW_TOKENS_MAX);
    return CN_OK;
}

static void set_sources(cn_engine *e, bool dense) {
    const cn_config *c = &e->model->config;
    for (int32_t l = 0; l < c->cross_layers; l++)
        e->source[l] = !cn_config_has_index(c) || dense ? -1 : c->arm == CN_ARM_CLSA ? 0 : l;
}

cn_err cn_engine_set_routing(cn_engine *e, int32_t topk, bool dense, cn_diag *diag) {
    if (topk == 0) topk = e->model->config.index_topk;
    if (topk < 0 || topk > e->topk_max)
        return CN_FAIL(diag, CN_ETOOBIG, "top-k of %d, the engine was opened for %d", topk,
                       e->topk_max);
    e->topk = topk;
    set_sources(e, dense);
    return CN_OK;
}

cn_err cn_engine_open(cn_engine **out, const cn_engine_opts *opts, cn_diag *diag) {
    *out = NULL;
    CN_TRY(check_opts(opts, diag));
    cn_engine *e = calloc(1, sizeof(*e));
    if (!e) return CN_FAIL(diag, CN_ENOMEM, "no memory for an engine");

    const cn_config *c = &opts->model->config;
    e->model = opts->model;
    e->shape = (cn_page_shape){.kv_dim = c->kv_heads * c->head_dim,
                               .index_dim = cn_config_has_index(c) ? c->index_dim : 0,
                               .sources = cn_config_index_sources(c)};
    e->page_layers = c->arm == CN_ARM_TRANSFORMER ? c->self_layers : 1;
    e->view_tokens = opts->view_tokens ? opts->view_tokens : VIEW_TOKENS_DEFAULT;
    e->topk = opts->topk ? opts->topk : c->index_topk;
    const int64_t set_max = (int64_t)e->topk + c->index_local;
    e->set_max = (int32_t)(set_max < e->view_tokens ? set_max : e->view_tokens);
    e->topk_max = e->topk;
    set_sources(e, opts->dense);

    cn_err err = cn_ops_choose(&e->ops, opts->isa, diag);
    if (err) goto out;
    err = cn_pool_create(&e->pool, cn_threads_or_cores(opts->threads), diag);
    if (err) goto out;
    layout(e);
    err = cn_block_reserve(&e->block, diag);
    if (err) goto out;
    layout(e);
    snprintf(e->layout, sizeof(e->layout),
             "cpu-%s page=%d rows=bf16:%dx%d keys=bf16:%dx%d arithmetic=%d",
             cn_isa_name(e->ops.isa), (int)CN_PAGE_TOKENS, 2, e->shape.kv_dim, e->shape.sources,
             e->shape.index_dim, (int)CN_ARITHMETIC_VERSION);
    *out = e;
out:
    if (err) cn_engine_close(e);
    return err;
}

void cn_engine_close(cn_engine *e) {
    if (!e) return;
    cn_pool_free(e->pool);
    cn_block_release(&e->block);
    free(e);
}

const cn_model *cn_engine_model(const cn_engine *e) {
    return e->model;
}

const char *cn_engine_isa(const cn_engine *e) {
    return cn_isa_name(e->ops.isa);
}

int32_t cn_engine_threads(const cn_engine *e) {
    return cn_pool_threads(e->pool);
}

int64_t cn_engine_view_tokens(const cn_engine *e) {
    return e->view_tokens;
}

int64_t cn_engine_memory_bytes(const cn_engine *e) {
    return e->block.bytes;
}

const char *cn_engine_layout(const cn_engine *e) {
    return e->layout;
}

int64_t cn_engine_page_bytes(const cn_engine *e) {
    return cn_page_bytes(&e->shape);
}

void cn_engine_set_tap(cn_engine *e, cn_tap_fn fn, void *ctx) {
    e->tap = fn;
    e->tap_ctx = ctx;
}

void cn_engine_set_tap_probs(cn_engine *e, float *probs, int64_t tokens_max) {
    e->tap_probs = probs;
    e->tap_probs_tokens = tokens_max;
}

static void tap(const cn_engine *e, cn_tap_stage stage, int32_t slice, int32_t layer,
                const void *data, int64_t rows, int64_t cols) {
    if (e->tap) e->tap(e->tap_ctx, stage, slice, layer, data, rows, cols);
}

/* ---- Pieces of a layer ------------------------------------------------------------ */

static void matmul(cn_engine *e, float *y, int64_t y_stride, const float *x, int64_t x_stride,
                   const cn_weight *w, int64_t rows, bool add) {
    must(e->ops.matmul(&(cn_matmul_args){.y = y,
                                         .x = x,
                                         .w = w,
                                         .scratch = e->s.matmul,
                                         .rows = rows,
                                         .y_stride = y_stride,
                                         .x_stride = x_stride,
                                         .add = add},
                       e->pool));
}

static void norm(cn_engine *e, float *y, const float *x, const float *gain, int64_t rows) {
    const int32_t d = e->model->config.hidden;
    must(e->ops.rmsnorm(&(cn_rmsnorm_args){.y = y,
                                           .x = x,
                                           .gain = gain,
                                           .rows = rows,
                                           .y_stride = d,
                                           .x_stride = d,
                                           .heads = 1,
                                           .dim = d,
                                           .eps = e->model->config.eps},
                        e->pool));
}

/* Norm of `heads` heads of `dim` at `x`, in place, in rows that are `stride` apart. */
static void head_norm(cn_engine *e, float *x, int64_t stride, int32_t heads, int32_t dim,
                      const float *gain, int64_t rows) {
    must(e->ops.rmsnorm(&(cn_rmsnorm_args){.y = x,
                                           .x = x,
                                           .gain = gain,
                                           .rows = rows,
                                           .y_stride = stride,
                                           .x_stride = stride,
                                           .heads = heads,
                                           .dim = dim,
                                           .eps = e->model->config.eps},
                        e->pool));
}

static void rope(cn_engine *e, float *x, int64_t stride, int32_t heads, const float *cos,
                 const float *sin, int64_t rows) {
    must(e->ops.rope(&(cn_rope_args){.x = x,
                                     .cos = cos,
                                     .sin = sin,
                                     .rows = rows,
                                     .stride = stride,
                                     .heads = heads,
                                     .dim = e->model->config.head_dim,
                                     .layout = e->model->config.rope_layout},
                     e->pool));
}

/* x += W_down SwiGLU(W_gate_up norm(x)) */
static void feed_forward(cn_engine *e, float *x, const cn_layer *layer, int64_t rows) {
    const cn_config *c = &e->model->config;
    norm(e, e->s.n, x, layer->ffn_norm, rows);
    matmul(e, e->s.gate_up, 2 * c->ffn, e->s.n, c->hidden, &layer->gate_up, rows, false);
    must(e->ops.swiglu(&(cn_swiglu_args){.y = e->s.act,
                                         .x = e->s.gate_up,
                                         .rows = rows,
                                         .y_stride = c->ffn,
                                         .x_stride = 2 * c->ffn,
                                         .dim = c->ffn},
                       e->pool));
    matmul(e, x, c->hidden, e->s.act, c->ffn, &layer->down, rows, true);
}

/* ---- Self-decoder ----------------------------------------------------------------- */

static void embed(cn_engine *e, const cn_slice *slice, int32_t slices) {
    const cn_config *c = &e->model->config;
    const int64_t    half = c->head_dim / 2;
    int64_t          row = 0;
    for (int32_t i = 0; i < slices; i++) {
        must(e->ops.embed(&(cn_embed_args){.y = e->s.x + row * c->hidden,
                                           .token = slice[i].token,
                                           .w = &e->model->embed,
                                           .rows = slice[i].tokens,
                                           .factor = c->embed_scale},
                          e->pool));
        cn_rope_angles(e->s.cos + row * half, e->s.sin + row * half, slice[i].doc->tokens,
                       slice[i].tokens, c->head_dim, c->rope_theta);
        row += slice[i].tokens;
    }
    if (c->embed_norm) norm(e, e->s.x, e->s.x, NULL, row);
}

/* Rows from `row` on see the last `window` tokens of their document, and its sink. */
static void attend_window(cn_engine *e, int32_t l, const cn_slice *slice, int64_t row) {
    const cn_config *c = &e->model->config;
    const cn_window *w = &slice->doc->window[l];
    const int64_t    stride = e->s.in_stride, q_dim = (int64_t)c->heads * c->head_dim;
    const float     *q = e->s.in + row * stride, *k = q + q_dim;
    must(e->ops.window_append(&(cn_window_append_args){.w = w,
                                                       .k = k,
                                                       .v = k + e->shape.kv_dim,
                                                       .stride = stride,
                                                       .first = slice->doc->tokens,
                                                       .rows = slice->tokens},
                              e->pool));
    must(e->ops.window_attend(&(cn_window_attend_args){.w = w,
                                                       .out = e->s.att + row * q_dim,
                                                       .q = q,
                                                       .out_stride = q_dim,
                                                       .q_stride = stride,
                                                       .first = slice->doc->tokens,
                                                       .rows = slice->tokens,
                                                       .heads = c->heads,
                                                       .scale = 1 / sqrtf((float)c->head_dim)},
                              e->pool));
}

/* Rows of K|V (and index keys) into the slots of the document's pages that follow its tokens; in a
 * replay those that it holds stay. */
static void put_pages(cn_engine *e, int32_t layer, const cn_slice *slice, const float *kv,
                      int64_t stride) {
    const cn_page_shape *shape = &e->shape;
    const int64_t        replayed = slice->doc->held - slice->doc->tokens;
    if (replayed >= slice->tokens) return;
    for (int32_t done = replayed > 0 ? (int32_t)replayed : 0; done < slice->tokens;) {
        const int64_t at = slice->doc->tokens + done;
        const int32_t first = (int32_t)(at % CN_PAGE_TOKENS);
        const int32_t room = CN_PAGE_TOKENS - first, left = slice->tokens - done;
        const int32_t rows = left < room ? left : room;
        const float  *from = kv + done * stride;
        uint8_t      *body = cn_doc_page_body(slice->doc, layer, at / CN_PAGE_TOKENS);
        if (first == 0) memset(body, 0, (size_t)cn_page_bytes(shape));
        must(e->ops.page_put(
            &(cn_page_put_args){.page = body,
                                .shape = shape,
                                .kv = from,
                                .keys = shape->sources ? from + 2 * shape->kv_dim : NULL,
                                .stride = stride,
                                .first = first,
                                .rows = rows},
            e->pool));
        done += rows;
    }
}

static cn_attend_head attend_head(const cn_engine *e, float *out, const float *q) {
    const cn_config *c = &e->model->config;
    return (cn_attend_head){.out = out,
                            .q = q,
                            .scratch = e->s.attend,
                            .heads = c->heads,
                            .kv_heads = c->kv_heads,
                            .head_dim = c->head_dim,
                            .scale = 1 / sqrtf((float)c->head_dim)};
}

/* Rows from `row` on see all tokens of their document up to themselves, with the K and V of this
 * layer: one pass over its pages for each row, so that a row's bits are those of a decode step. */
static void attend_before(cn_engine *e, int32_t l, const cn_slice *slice, int64_t row) {
    const cn_config *c = &e->model->config;
    const int64_t    stride = e->s.in_stride, q_dim = (int64_t)c->heads * c->head_dim;
    const float     *q = e->s.in + row * stride;
    put_pages(e, l, slice, q + q_dim, stride);
    for (int64_t at = 0; at < slice->doc->tokens + slice->tokens; at += CN_PAGE_TOKENS) {
        const uint8_t *body = cn_doc_page_body(slice->doc, l, at / CN_PAGE_TOKENS);
        e->s.own_rows[at / CN_PAGE_TOKENS] =
            (const cn_bf16 *)(body + cn_page_row_offset(&e->shape, 0));
        e->s.own_fill[at / CN_PAGE_TOKENS] = CN_PAGE_TOKENS;
    }
    for (int64_t i = 0; i < slice->tokens; i++) {
        const int64_t count = slice->doc->tokens + i + 1, last = (count - 1) / CN_PAGE_TOKENS;
        e->s.own_fill[last] = (int32_t)(count - last * CN_PAGE_TOKENS);
        must(e->ops.attend_dense(
            &(cn_attend_dense_args){
                .head = attend_head(e, e->s.att + (row + i) * q_dim, q + i * stride),
                .page_rows = e->s.own_rows,
                .page_tokens = e->s.own_fill,
                .pages = last + 1,
                .count = count},
            e->pool));
    }
}

static void self_layer(cn_engine *e, int32_t l, const cn_slice *slice, int32_t slices, int64_t rows,
                       cn_step_stats *stats) {
    const cn_config *c = &e->model->config;
    const cn_layer  *layer = &e->model->self[l];
    const bool       sees_all = c->arm == CN_ARM_TRANSFORMER;
    const int64_t    stride = e->s.in_stride, q_dim = (int64_t)c->heads * c->head_dim;
    float           *q = e->s.in, *k = q + q_dim;

    norm(e, e->s.n, e->s.x, layer->attn_norm, rows);
    matmul(e, q, stride, e->s.n, c->hidden, &layer->in, rows, false);
    if (c->qk_norm_self) {
        head_norm(e, q, stride, c->heads, c->head_dim, layer->q_norm, rows);
        head_norm(e, k, stride, c->kv_heads, c->head_dim, layer->k_norm, rows);
    }
    rope(e, q, stride, c->heads, e->s.cos, e->s.sin, rows);
    rope(e, k, stride, c->kv_heads, e->s.cos, e->s.sin, rows);

    const int64_t begin = cn_clock_ns();
    int64_t       row = 0;
    for (int32_t i = 0; i < slices; i++) {
        if (sees_all)
            attend_before(e, l, &slice[i], row);
        else
            attend_window(e, l, &slice[i], row);
        row += slice[i].tokens;
    }
    *(sees_all ? &stats->attend_ns : &stats->window_ns) += cn_clock_ns() - begin;

    matmul(e, e->s.x, c->hidden, e->s.att, q_dim, &layer->o, rows, true);
    feed_forward(e, e->s.x, layer, rows);
    row = 0;
    for (int32_t i = 0; i < slices; i++) {
        tap(e, CN_TAP_SELF, i, l, e->s.x + row * c->hidden, slice[i].tokens, c->hidden);
        row += slice[i].tokens;
    }
}

static bool are_finite(const float *x, int64_t count) {
    uint32_t most = 0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], 4);
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    return most < 0x7f800000;
}

/* h, then K, V and index keys of all rows into the pages. */
static cn_err share(cn_engine *e, const cn_slice *slice, int32_t slices, int64_t rows,
                    cn_diag *diag) {
    const cn_model  *m = e->model;
    const cn_config *c = &m->config;
    const int64_t    stride = e->s.shared_stride;

    norm(e, e->s.n, e->s.x, m->shared_norm, rows);
    matmul(e, e->s.shared, stride, e->s.n, c->hidden, &m->shared, rows, false);
    if (c->qk_norm_cross)
        head_norm(e, e->s.shared, stride, c->kv_heads, c->head_dim, m->shared_k_norm, rows);
    if (c->rope_global) rope(e, e->s.shared, stride, c->kv_heads, e->s.cos, e->s.sin, rows);
    if (e->shape.sources && c->index_key_norm)
        head_norm(e, e->s.shared + 2 * e->shape.kv_dim, stride, e->shape.sources, c->index_dim,
                  NULL, rows);
    if (!are_finite(e->s.shared, rows * stride))
        return CN_FAIL(diag, CN_ENUMERIC,
                       "the model computed a K, V or index key that is not finite");

    int64_t row = 0;
    for (int32_t i = 0; i < slices; i++) {
        tap(e, CN_TAP_H, i, 0, e->s.n + row * c->hidden, slice[i].tokens, c->hidden);
        put_pages(e, 0, &slice[i], e->s.shared + row * stride, stride);
        row += slice[i].tokens;
    }
    return CN_OK;
}

/* ---- Cross-decoder ---------------------------------------------------------------- */

/* One slice that wants logits, while its step runs. */
typedef struct seq {
    int32_t slice;  // its index among the slices
    int64_t row;    // of its last token among all rows
    int64_t pages;  // of the view in this step, its conversation included
    int64_t tokens; // likewise
    int64_t count;  // |S|; 0: all tokens
} seq;

/* The addresses of rows at ascending positions `set` of a view. */
static void find_rows(const cn_bf16 **rows, const cn_view *view, const cn_page_shape *shape,
                      const int32_t *set, int64_t count) {
    const int64_t row_elems = cn_page_row_bytes(shape) / (int64_t)sizeof(cn_bf16);
    int64_t       page = 0, first = 0; // position of the page's first token
    for (int64_t i = 0; i < count; i++) {
        while (set[i] >= first + view->page_tokens[page]) first += view->page_tokens[page++];
        rows[i] = view->page_rows[page] + (set[i] - first) * row_elems;
    }
}

/* Scores, S and its row addresses for sequence `b`, whose index query is made. */
static cn_err find_set(cn_engine *e, int32_t source, cn_slice *slice, seq *sq, int32_t b,
                       cn_step_stats *stats, cn_diag *diag) {
    const cn_config *c = &e->model->config;
    cn_view         *view = slice[sq->slice].view;
    int32_t         *set = e->s.set + (int64_t)b * e->set_max;
    const float     *query = e->s.query + b * e->s.query_stride;
    const float     *weight = query + (int64_t)c->index_heads * c->index_dim;
    must(e->ops.index_scan(
        &(cn_index_scan_args){.scores = e->s.scores,
                              .q = query,
                              .weight = c->index_weighted ? weight : NULL,
                              .page_keys = view->page_keys + source * view->pages_max,
                              .page_tokens = view->page_tokens,
                              .pages = sq->pages,
                              .count = sq->tokens,
                              .heads = c->index_heads,
                              .dim = c->index_dim,
                              .act = c->index_act},
        e->pool));
    tap(e, CN_TAP_SCORES, sq->slice, source, e->s.scores, 1, sq->tokens);

    // The last index_local tokens are always in S; the top k come from the older ones.
    const int64_t local = c->index_local < sq->tokens ? c->index_local : sq->tokens;
    const int64_t older = sq->tokens - local;
    const int64_t top = older < e->topk ? older : e->topk;
    cn_err        err = e->ops.topk(&(cn_topk_args){.set = set,
                                                    .threshold_out = &view->guess[source],
                                                    .scores = e->s.scores,
                                                    .scratch = e->s.topk,
                                                    .count = older,
                                                    .k = e->topk,
                                                    .guess = view->guess[source]},
                                    e->pool);
    if (err) return CN_FAIL(diag, err, "an index score of %" PRId64 " tokens is NaN", older);
    for (int64_t i = 0; i < local; i++) set[top + i] = (int32_t)(older + i);
    sq->count = top + local;
    tap(e, CN_TAP_SET, sq->slice, source, set, 1, sq->count);
    find_rows(e->s.rows + (int64_t)b * e->set_max, view, &e->shape, set, sq->count);
    if (slice[sq->slice].wants_read && c->arm == CN_ARM_CLSA) {
        const int64_t begin = cn_clock_ns();
        slice[sq->slice].read = cn_read_weigh(e->s.weight + (int64_t)b * e->set_max, e->s.scores,
                                              set, sq->count, c->index_scale);
        stats->read_ns += cn_clock_ns() - begin;
    }
    return CN_OK;
}

/* S of every sequence from the keys of `source`; the index queries are made of the rows of x. */
static cn_err route(cn_engine *e, int32_t source, const cn_weight *query, const float *x,
                    cn_slice *slice, seq *sq, int32_t seqs, cn_step_stats *stats, cn_diag *diag) {
    const int64_t begin = cn_clock_ns();
    matmul(e, e->s.query, e->s.query_stride, x, e->model->config.hidden, query, seqs, false);
    for (int32_t b = 0; b < seqs; b++) {
        CN_TRY(find_set(e, source, slice, &sq[b], b, stats, diag));
        stats->scored += sq[b].tokens;
    }
    stats->route_ns += cn_clock_ns() - begin;
    return CN_OK;
}

static void attend(cn_engine *e, const cn_slice *slice, const seq *sq, int32_t b, bool dense) {
    const int64_t        q_dim = (int64_t)e->model->config.heads * e->model->config.head_dim;
    const cn_view       *view = slice[sq->slice].view;
    const cn_attend_head head = attend_head(e, e->s.att + b * q_dim, e->s.in + b * q_dim);
    if (dense)
        must(e->ops.attend_dense(&(cn_attend_dense_args){.head = head,
                                                         .page_rows = view->page_rows,
                                                         .page_tokens = view->page_tokens,
                                                         .pages = sq->pages,
                                                         .count = sq->tokens},
                                 e->pool));
    else
        must(e->ops.attend_sparse(
            &(cn_attend_sparse_args){
                .head = head, .rows = e->s.rows + (int64_t)b * e->set_max, .count = sq->count},
            e->pool));
}

/* x of the `seqs` last tokens is in s.cross; leaves what goes to the output matrix there. */
static cn_err cross_layer(cn_engine *e, int32_t l, cn_slice *slice, seq *sq, int32_t seqs,
                          cn_step_stats *stats, cn_diag *diag) {
    const cn_config *c = &e->model->config;
    const cn_layer  *layer = &e->model->cross[l];
    const int64_t    q_dim = (int64_t)c->heads * c->head_dim, half = c->head_dim / 2;
    const int64_t    begin = cn_clock_ns(), routed = stats->route_ns;

    norm(e, e->s.n, e->s.cross, layer->attn_norm, seqs);
    if (layer->query.rows && e->source[l] >= 0)
        CN_TRY(route(e, e->source[l], &layer->query, e->s.n, slice, sq, seqs, stats, diag));
    matmul(e, e->s.in, q_dim, e->s.n, c->hidden, &layer->in, seqs, false);
    if (c->qk_norm_cross) head_norm(e, e->s.in, q_dim, c->heads, c->head_dim, layer->q_norm, seqs);
    if (c->rope_global)
        for (int32_t b = 0; b < seqs; b++)
            rope(e, e->s.in + b * q_dim, q_dim, c->heads, e->s.cos + sq[b].row * half,
                 e->s.sin + sq[b].row * half, 1);

    const int64_t attend_begin = cn_clock_ns();
    for (int32_t b = 0; b < seqs; b++) attend(e, slice, &sq[b], b, e->source[l] < 0);
    const int64_t attend_end = cn_clock_ns();
    for (int32_t b = 0; b < seqs; b++)
        cn_tap_attention(e, sq[b].slice, l, slice[sq[b].slice].view, sq[b].pages, sq[b].tokens,
                         e->s.in + b * q_dim, e->s.att + b * q_dim);

    matmul(e, e->s.cross, c->hidden, e->s.att, q_dim, &layer->o, seqs, true);
    feed_forward(e, e->s.cross, layer, seqs);
    for (int32_t b = 0; b < seqs; b++)
        tap(e, CN_TAP_CROSS, sq[b].slice, l, e->s.cross + (int64_t)b * c->hidden, 1, c->hidden);
    stats->attend_ns += attend_end - attend_begin;
    stats->cross_ns +=
        cn_clock_ns() - attend_end + attend_begin - begin - (stats->route_ns - routed);
    return CN_OK;
}

/* Bytes of pages that the step's queries read. */
static void count_reads(const cn_engine *e, const seq *sq, int32_t seqs, cn_step_stats *stats) {
    const cn_config *c = &e->model->config;
    const int64_t    layers = c->arm == CN_ARM_TRANSFORMER ? c->self_layers : c->cross_layers;
    for (int32_t b = 0; b < seqs; b++) stats->selected += sq[b].count ? sq[b].count : sq[b].tokens;
    stats->key_bytes = stats->scored * e->shape.index_dim * (int64_t)sizeof(cn_bf16);
    stats->bytes = stats->key_bytes + stats->selected * cn_page_row_bytes(&e->shape) * layers;
}

static cn_err cross(cn_engine *e, cn_slice *slice, seq *sq, int32_t seqs, cn_step_stats *stats,
                    cn_diag *diag) {
    const cn_model  *m = e->model;
    const cn_config *c = &m->config;
    const int64_t    d = c->hidden;

    for (int32_t b = 0; b < seqs; b++) {
        memcpy(e->s.cross + b * d, e->s.x + sq[b].row * d, (size_t)d * sizeof(float));
        memcpy(e->s.h + b * d, e->s.n + sq[b].row * d, (size_t)d * sizeof(float));
        CN_TRY(cn_view_extend(slice[sq[b].slice].view, slice[sq[b].slice].doc,
                              slice[sq[b].slice].doc->tokens + slice[sq[b].slice].tokens,
                              &sq[b].pages, &sq[b].tokens, diag));
    }
    if (m->index_query.rows && e->source[0] >= 0)
        CN_TRY(route(e, 0, &m->index_query, e->s.h, slice, sq, seqs, stats, diag));
    for (int32_t l = 0; l < c->cross_layers; l++)
        CN_TRY(cross_layer(e, l, slice, sq, seqs, stats, diag));
    count_reads(e, sq, seqs, stats);

    const int64_t head_begin = cn_clock_ns();
    norm(e, e->s.n, e->s.cross, m->final_norm, seqs);
    matmul(e, e->s.logits, e->s.logits_stride, e->s.n, d, &m->head, seqs, false);
    for (int32_t b = 0; b < seqs; b++) {
        const float *logits = e->s.logits + b * e->s.logits_stride;
        if (!are_finite(logits, c->vocab))
            return CN_FAIL(diag, CN_ENUMERIC, "the model computed a logit that is not finite");
        slice[sq[b].slice].logits = logits;
    }
    stats->head_ns += cn_clock_ns() - head_begin;
    return CN_OK;
}

/* ---- The step --------------------------------------------------------------------- */

static cn_err check_slice(const cn_engine *e, const cn_slice *slice, int32_t i, cn_diag *diag) {
    const cn_slice *s = &slice[i];
    const int32_t   vocab = e->model->config.vocab;
    if (!s->doc || s->doc->engine != e || (s->view && s->view->engine != e))
        return CN_FAIL(diag, CN_EINVAL, "slice %d: its document or view is of another engine", i);
    for (int32_t j = 0; j < i; j++)
        if (slice[j].doc == s->doc || (s->view && slice[j].view == s->view))
            return CN_FAIL(diag, CN_EINVAL, "slices %d and %d share a document or a view", j, i);
    if (s->tokens < 1 || s->tokens > CN_STEP_ROWS || !s->token)
        return CN_FAIL(diag, CN_EINVAL, "slice %d has %d tokens, want 1 to %d", i, s->tokens,
                       (int)CN_STEP_ROWS);
    if (s->tokens > s->doc->tokens_max - s->doc->tokens)
        return CN_FAIL(diag, CN_ETOOBIG,
                       "slice %d: %d tokens behind %" PRId64 ", the document has room for %" PRId64,
                       i, s->tokens, s->doc->tokens, s->doc->tokens_max);
    if (e->model->config.arm == CN_ARM_TRANSFORMER && s->doc->tokens + s->tokens > e->view_tokens)
        return CN_FAIL(diag, CN_ETOOBIG,
                       "slice %d: %d tokens behind %" PRId64 ", the engine's limit is %" PRId64, i,
                       s->tokens, s->doc->tokens, e->view_tokens);
    if (s->view && s->doc->tokens + s->tokens <= s->doc->held)
        return CN_FAIL(diag, CN_EINVAL,
                       "slice %d wants logits behind %" PRId64
                       " tokens, of which the document replays %" PRId64,
                       i, s->doc->tokens + s->tokens, s->doc->held);
    for (int32_t t = 0; t < s->tokens; t++)
        if (s->token[t] < 0 || s->token[t] >= vocab)
            return CN_FAIL(diag, CN_EINVAL, "slice %d: token %d is %d, the vocabulary has %d", i, t,
                           s->token[t], vocab);
    if (s->view && e->model->config.rope_global && s->view->tokens > 0)
        return CN_FAIL(diag, CN_EUNSUPPORTED,
                       "rope_global: pages of %" PRId64 " tokens depend on their place in a view",
                       s->view->tokens);
    return CN_OK;
}

/* Everything but growing the documents: until that a failure leaves them as they were. */
static cn_err run(cn_engine *e, cn_slice *slice, int32_t slices, int64_t rows, seq *sq,
                  int32_t seqs, cn_step_stats *stats, cn_diag *diag) {
    const int64_t begin = cn_clock_ns();
    embed(e, slice, slices);
    for (int32_t l = 0; l < e->model->config.self_layers; l++)
        self_layer(e, l, slice, slices, rows, stats);
    if (e->model->shared.rows)
        CN_TRY(share(e, slice, slices, rows, diag));
    else if (!are_finite(e->s.x, rows * e->model->config.hidden))
        return CN_FAIL(diag, CN_ENUMERIC, "the model computed a state that is not finite");
    stats->self_ns = cn_clock_ns() - begin - stats->attend_ns;
    return seqs ? cross(e, slice, sq, seqs, stats, diag) : CN_OK;
}

cn_err cn_engine_step(cn_engine *e, cn_slice *slice, int32_t slices, cn_step_stats *stats,
                      cn_diag *diag) {
    cn_step_stats own;
    const int64_t begin = cn_clock_ns();
    seq           sq[CN_STEP_VIEWS];
    int32_t       seqs = 0;
    int64_t       rows = 0;

    stats = stats ? stats : &own;
    *stats = (cn_step_stats){0};
    if (slices < 1 || slices > CN_STEP_ROWS)
        return CN_FAIL(diag, CN_EINVAL, "%d slices, want 1 to %d", slices, (int)CN_STEP_ROWS);
    for (int32_t i = 0; i < slices; i++) {
        slice[i].logits = NULL;
        slice[i].read = (cn_read){0};
        CN_TRY(check_slice(e, slice, i, diag));
        rows += slice[i].tokens;
        if (!slice[i].view) continue;
        if (seqs == CN_STEP_VIEWS)
            return CN_FAIL(diag, CN_EINVAL, "more than %d slices with a view", (int)CN_STEP_VIEWS);
        sq[seqs++] = (seq){.slice = i, .row = rows - 1};
    }
    if (rows > CN_STEP_ROWS)
        return CN_FAIL(diag, CN_EINVAL, "%" PRId64 " tokens in a step, limit %d", rows,
                       (int)CN_STEP_ROWS);

    cn_err err = run(e, slice, slices, rows, sq, seqs, stats, diag);
    for (int32_t i = 0; i < slices; i++)
        if (err)
            cn_doc_clear_tail(slice[i].doc);
        else
            slice[i].doc->tokens += slice[i].tokens;
    stats->rows = err ? 0 : rows;
    stats->wall_ns = cn_clock_ns() - begin;
    return err;
}

cn_err cn_engine_sample(cn_engine *e, const float *logits, const cn_sampling *s, int32_t *token_out,
                        cn_diag *diag) {
    *token_out = -1;
    const cn_sample_args args = {.token_out = token_out,
                                 .logits = logits,
                                 .scratch = e->s.sample,
                                 .count = e->model->config.vocab,
                                 .temperature = s->temperature,
                                 .top_p = s->top_p,
                                 .min_p = s->min_p,
                                 .seed = s->seed,
                                 .counter = s->counter};
    const cn_err         err = e->ops.sample(&args, e->pool);
    if (err == CN_EINVAL)
        return CN_FAIL(diag, err,
                       "sampling: temperature %g (0, or 0.001 to 100), top_p %g (over 0, to 1), "
                       "min_p %g (0 to 1)",
                       (double)s->temperature, (double)s->top_p, (double)s->min_p);
    if (err) return CN_FAIL(diag, err, "the logits are not numbers");
    return CN_OK;
}
