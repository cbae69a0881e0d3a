/*
 * opbench.c - The cases of the op bench.
 *
 * Inputs are random.  What a decode step reads once (weights, pages) is laid out in a
 * block as large as the model's, so that caches help no more than they do in a session.
 */
#include "engine/opbench.h"

#include "base/block.h"
#include "base/clock.h"
#include "engine/engine_int.h"
#include "kernels/roof.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    CASE_MS = 150,
    REPS_MAX = 4000,
    ROWS = CN_STEP_ROWS,
    SCAN_TOKENS = 131072,
    DENSE_TOKENS = 32768,
    TOPK = 2048,
    SIZES = 64, // working sets whose bandwidth is measured
};

typedef struct bench {
    const cn_opbench_opts *opts;
    const cn_config       *c;
    cn_ops                 ops;
    cn_pool               *pool;
    cn_opbench_roofs       roofs;
    struct {
        int64_t bytes;
        double  gb_s;
    } bandwidth[SIZES]; // measured so far
    int      bandwidths;
    double   us[REPS_MAX];
    cn_block block;
    uint64_t seed;
} bench;

/* Roughly normal numbers, the same in every run. */
static void fill(bench *b, float *x, int64_t count, float scale) {
    for (int64_t i = 0; i < count; i++) {
        float sum = 0;
        for (int k = 0; k < 4; k++) {
            b->seed = b->seed * 6364136223846793005u + 1442695040888963407u;
            sum += (float)(b->seed >> 40) / 16777216.0f - 0.5f;
        }
        x[i] = sum * 1.7f * scale;
    }
}

static float *floats(bench *b, int64_t count) {
    float *x = cn_block_take(&b->block, count * (int64_t)sizeof(float));
    if (x) fill(b, x, count, 1);
    return x;
}

static cn_bf16 *bf16s(bench *b, int64_t count) {
    cn_bf16 *x = cn_block_take(&b->block, count * (int64_t)sizeof(cn_bf16));
    for (int64_t i = 0; x && i < count; i++) {
        float f;
        fill(b, &f, 1, 1);
        x[i] = cn_bf16_from_f32(f);
    }
    return x;
}

static cn_weight weight(bench *b, cn_weight_type type, int32_t rows, int32_t cols) {
    cn_weight     w = {.type = type, .rows = rows, .cols = cols};
    const int64_t bytes = cn_weight_data_bytes(type, rows, cols);
    w.data = cn_block_take(&b->block, bytes);
    if (type == CN_WEIGHT_I8) {
        const int64_t padded = cn_weight_panels(rows) * CN_PANEL_ROWS;
        w.scale = floats(b, padded);
        w.sum = cn_block_take(&b->block, padded * (int64_t)sizeof(int32_t));
    }
    if (!w.data) return w;                    // planning
    for (int64_t i = 0; i < bytes / 2; i++) { // bf16 below 1, and any two int8
        b->seed = b->seed * 6364136223846793005u + 1442695040888963407u;
        const uint16_t r = (uint16_t)(b->seed >> 45);
        ((uint16_t *)w.data)[i] = type == CN_WEIGHT_I8 ? r & 0x7f7f : (r & 0x80ff) | 0x3e00;
    }
    for (int64_t r = 0; type == CN_WEIGHT_I8 && r < rows; r++)
        for (int32_t k = 0; k < cols; k++) w.sum[r] += (int32_t)cn_weight_at(&w, (int32_t)r, k);
    return w;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* GB/s of reading a buffer of (within 3 %) `bytes` bytes, measured once. */
static double bandwidth(bench *b, int64_t bytes) {
    for (int i = 0; i < b->bandwidths; i++)
        if (llabs(b->bandwidth[i].bytes - bytes) <= bytes / 32) return b->bandwidth[i].gb_s;
    const double gb_s = cn_roof_bandwidth(b->ops.isa, bytes < 16384 ? 16384 : bytes, b->pool);
    if (b->bandwidths < SIZES) {
        b->bandwidth[b->bandwidths].bytes = bytes;
        b->bandwidth[b->bandwidths++].gb_s = gb_s;
    }
    return gb_s;
}

typedef struct work {
    const char *op;
    int64_t     bytes; // that must move
    int64_t     flops;
    int64_t     held; // bytes of the working set, if larger than `bytes`
    const char *rate; // which peak `flops` are at
    double      peak; // Gop/s; 0: flops are not counted
} work;

/* Time `call` until the case's time is used up, and report it. */
#define CASE(b, work_, call, ...)                                                                  \
    do {                                                                                           \
        char shape_[96];                                                                           \
        snprintf(shape_, sizeof(shape_), __VA_ARGS__);                                             \
        int           reps_ = 0;                                                                   \
        const int64_t end_ = cn_clock_ns() + (int64_t)case_ms(b) * 1000000;                        \
        cn_assert((call) == CN_OK);                                                                \
        while (reps_ < REPS_MAX && (reps_ < 3 || cn_clock_ns() < end_)) {                          \
            const int64_t begin_ = cn_clock_ns();                                                  \
            cn_assert((call) == CN_OK);                                                            \
            (b)->us[reps_++] = (double)(cn_clock_ns() - begin_) / 1e3;                             \
        }                                                                                          \
        report((b), &(work_), shape_, reps_);                                                      \
    } while (0)

static int32_t case_ms(const bench *b) {
    return b->opts->case_ms ? b->opts->case_ms : CASE_MS;
}

static bool wants(const bench *b, const char *op) {
    return b->block.data &&
           (!b->opts->only || strncmp(op, b->opts->only, strlen(b->opts->only)) == 0);
}

static void report(bench *b, const work *w, const char *shape, int reps) {
    qsort(b->us, (size_t)reps, sizeof(b->us[0]), by_value);
    cn_opbench_row row = {.op = w->op,
                          .shape = shape,
                          .us = b->us[0],
                          .us_median = b->us[reps / 2],
                          .bound = "bytes"};
    row.gb_s = (double)w->bytes / row.us / 1e3;
    row.gop_s = w->peak > 0 ? (double)w->flops / row.us / 1e3 : 0;
    row.roof_us = (double)w->bytes / bandwidth(b, w->held > w->bytes ? w->held : w->bytes) / 1e3;
    const double flops_us = w->peak > 0 ? (double)w->flops / w->peak / 1e3 : 0;
    if (flops_us > row.roof_us) {
        row.roof_us = flops_us;
        row.bound = w->rate;
    }
    row.percent = 100 * row.roof_us / row.us;
    b->opts->on_row(b->opts->ctx, &row);
}

/* ---- Cases ------------------------------------------------------------------------ */

/* Each takes its memory in both passes (planning, running) and runs in the second. */

static void bench_rows(bench *b) {
    const cn_config *c = b->c;
    const int32_t    q = c->heads * c->head_dim;
    float *x = floats(b, (int64_t)ROWS * 2 * c->ffn), *y = floats(b, (int64_t)ROWS * c->ffn);
    float *cos = floats(b, (int64_t)ROWS * c->head_dim);
    if (wants(b, "rmsnorm")) {
        const cn_rmsnorm_args a = {.y = y,
                                   .x = x,
                                   .gain = cos,
                                   .rows = ROWS,
                                   .y_stride = c->hidden,
                                   .x_stride = c->hidden,
                                   .heads = 1,
                                   .dim = c->hidden,
                                   .eps = 1e-6f};
        const work            w = {"rmsnorm", cn_rmsnorm_bytes(&a), 0, 0, "", 0};
        CASE(b, w, b->ops.rmsnorm(&a, b->pool), "%d x %d", ROWS, c->hidden);
    }
    if (wants(b, "rope")) {
        const cn_rope_args a = {.x = x,
                                .cos = cos,
                                .sin = cos,
                                .rows = ROWS,
                                .stride = q,
                                .heads = c->heads,
                                .dim = c->head_dim,
                                .layout = c->rope_layout};
        const work         w = {"rope", cn_rope_bytes(&a), 0, 0, "", 0};
        CASE(b, w, b->ops.rope(&a, b->pool), "%d x %d x %d", ROWS, c->heads, c->head_dim);
    }
    if (wants(b, "swiglu")) {
        const cn_swiglu_args a = {.y = y,
                                  .x = x,
                                  .rows = ROWS,
                                  .y_stride = c->ffn,
                                  .x_stride = 2 * c->ffn,
                                  .dim = c->ffn};
        const work           w = {"swiglu", cn_swiglu_bytes(&a), 0, 0, "", 0};
        CASE(b, w, b->ops.swiglu(&a, b->pool), "%d x %d", ROWS, c->ffn);
    }
}

/* One product of ROWS rows at each shape of the model. */
static void bench_matmul_many(bench *b, cn_weight_type type) {
    const cn_config *c = b->c;
    const int32_t    q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const struct {
        const char *what;
        int32_t     rows, cols;
    } shape[] = {{"q|k|v", q + 2 * kv, c->hidden},
                 {"o", c->hidden, q},
                 {"gate|up", 2 * c->ffn, c->hidden},
                 {"down", c->hidden, c->ffn},
                 {"k|v|index", 2 * kv + c->index_dim, c->hidden}};
    for (size_t i = 0; i < sizeof(shape) / sizeof(shape[0]); i++) {
        const cn_weight w = weight(b, type, shape[i].rows, shape[i].cols);
        float *x = floats(b, (int64_t)ROWS * w.cols), *y = floats(b, (int64_t)ROWS * w.rows);
        void  *scratch = cn_block_take(&b->block, cn_matmul_scratch_bytes(ROWS, w.cols));
        if (!wants(b, "matmul")) continue;
        const cn_matmul_args a = {.y = y,
                                  .x = x,
                                  .w = &w,
                                  .scratch = scratch,
                                  .rows = ROWS,
                                  .y_stride = w.rows,
                                  .x_stride = w.cols};
        const work           k = {"matmul",
                                  cn_matmul_bytes(&a),
                                  cn_matmul_flops(&a),
                                  0,
                        type == CN_WEIGHT_I8 ? "int8" : "bf16",
                        type == CN_WEIGHT_I8 ? b->roofs.int8_gop_s : b->roofs.bf16_gop_s};
        CASE(b, k, b->ops.matmul(&a, b->pool), "%d x %d -> %d (%s), %s", ROWS, w.cols, w.rows,
             shape[i].what, type == CN_WEIGHT_I8 ? "int8" : "bf16");
    }
}

enum { FEW_MAX = 4 * CN_LAYERS_MAX * 2 + 4 };

typedef struct few {
    bench         *b;
    cn_weight      w[FEW_MAX];
    int32_t        count;
    cn_matmul_args args;
    int64_t        bytes, flops;
} few;

static void few_add(few *f, cn_weight_type type, int32_t rows, int32_t cols) {
    const cn_weight      w = weight(f->b, type, rows, cols);
    const cn_matmul_args a = {.w = &w, .rows = f->args.rows};
    f->bytes += cn_matmul_bytes(&a);
    f->flops += cn_matmul_flops(&a);
    f->w[f->count++] = w;
}

static cn_err few_run(few *f) {
    for (int32_t i = 0; i < f->count; i++) {
        f->args.w = &f->w[i];
        CN_TRY(f->b->ops.matmul(&f->args, f->b->pool));
    }
    return CN_OK;
}

/* All products of a decode step, one after the other: weights come from where a step finds
 * them. */
static void bench_matmul_few(bench *b, cn_weight_type type) {
    const cn_config *c = b->c;
    const int32_t    q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    few             *f = calloc(1, sizeof(*f));
    cn_assert(f);
    f->b = b;
    f->args.rows = 1;
    for (int32_t l = 0; l < c->self_layers + c->cross_layers; l++) {
        few_add(f, type, l < c->self_layers ? q + 2 * kv : q, c->hidden);
        few_add(f, type, c->hidden, q);
        few_add(f, type, 2 * c->ffn, c->hidden);
        few_add(f, type, c->hidden, c->ffn);
    }
    few_add(f, type, 2 * kv + c->index_dim, c->hidden);
    few_add(f, type, c->vocab, c->hidden);
    int32_t widest = 2 * c->ffn > c->vocab ? 2 * c->ffn : c->vocab;
    if (q + 2 * kv > widest) widest = q + 2 * kv;
    const int32_t in = c->ffn > q ? c->ffn : q, cols = in > c->hidden ? in : c->hidden;
    f->args.x = floats(b, 8 * (int64_t)cols);
    f->args.y = floats(b, 8 * (int64_t)widest);
    f->args.x_stride = cols;
    f->args.y_stride = widest;
    f->args.scratch = cn_block_take(&b->block, cn_matmul_scratch_bytes(8, cols));
    for (int32_t rows = 1; rows <= 8 && wants(b, "matmul"); rows *= 4) {
        f->args.rows = rows;
        const work k = {"matmul",
                        f->bytes,
                        f->flops * rows,
                        0,
                        type == CN_WEIGHT_I8 ? "int8" : "bf16",
                        type == CN_WEIGHT_I8 ? b->roofs.int8_gop_s : b->roofs.bf16_gop_s};
        CASE(b, k, few_run(f), "%d row%s, all %d products, %s", rows, rows == 1 ? "" : "s",
             f->count, type == CN_WEIGHT_I8 ? "int8" : "bf16");
        if (rows == 1) {
            b->roofs.weights_bytes = f->bytes;
            b->roofs.weights_gb_s = bandwidth(b, f->bytes);
        }
    }
    free(f);
}

static void bench_window(bench *b) {
    const cn_config *c = b->c;
    cn_window        w = {.kv_heads = c->kv_heads,
                          .head_dim = c->head_dim,
                          .window = c->window,
                          .sink = c->sink,
                          .ring_tiles = cn_window_ring_tiles(c->window, ROWS)};
    const int32_t    q = c->heads * c->head_dim;
    w.k = bf16s(b, cn_window_elems(&w));
    w.v = bf16s(b, cn_window_elems(&w));
    float *x = floats(b, (int64_t)ROWS * q), *y = floats(b, (int64_t)ROWS * q);
    if (!wants(b, "window")) return;
    cn_window_attend_args a = {.w = &w,
                               .out = y,
                               .q = x,
                               .out_stride = q,
                               .q_stride = q,
                               .first = 1024,
                               .rows = ROWS,
                               .heads = c->heads,
                               .scale = 0.125f};
    for (; a.rows >= 1; a.rows = a.rows > 1 ? 1 : 0) {
        const work k = {"window_attend", cn_window_attend_bytes(&a), cn_window_attend_flops(&a), 0,
                        "f32",           b->roofs.f32_gop_s};
        CASE(b, k, b->ops.window_attend(&a, b->pool), "%d token%s, window %d + %d, %d/%d x %d",
             (int)a.rows, a.rows == 1 ? "" : "s", c->window, c->sink, c->heads, c->kv_heads,
             c->head_dim);
    }
}

static void bench_scan(bench *b, int32_t heads, int32_t dim, cn_index_act act, bool weighted) {
    enum { PAGES = SCAN_TOKENS / CN_PAGE_TOKENS };
    const cn_bf16 **keys = cn_block_take(&b->block, PAGES * (int64_t)sizeof(*keys));
    int32_t        *tokens = cn_block_take(&b->block, PAGES * (int64_t)sizeof(*tokens));
    float          *scores = floats(b, SCAN_TOKENS), *q = floats(b, (int64_t)heads * dim);
    float          *weights = floats(b, heads);
    cn_bf16        *all = bf16s(b, (int64_t)SCAN_TOKENS * dim);
    if (!wants(b, "index_scan")) return;
    for (int p = 0; p < PAGES; p++) {
        keys[p] = all + (int64_t)p * CN_PAGE_TOKENS * dim;
        tokens[p] = CN_PAGE_TOKENS;
    }
    const cn_index_scan_args a = {.scores = scores,
                                  .q = q,
                                  .weight = weighted ? weights : NULL,
                                  .page_keys = keys,
                                  .page_tokens = tokens,
                                  .pages = PAGES,
                                  .count = SCAN_TOKENS,
                                  .heads = heads,
                                  .dim = dim,
                                  .act = act};
    const work               k = {"index_scan", cn_index_scan_bytes(&a), cn_index_scan_flops(&a), 0,
                                  "bf16",       b->roofs.bf16_gop_s};
    CASE(b, k, b->ops.index_scan(&a, b->pool), "%d keys, %d x %d%s%s", SCAN_TOKENS, heads, dim,
         act == CN_INDEX_ACT_RELU ? ", relu" : "", weighted ? ", weighted" : "");
}

static void bench_topk(bench *b) {
    float   *scores = floats(b, SCAN_TOKENS);
    int32_t *set = cn_block_take(&b->block, TOPK * (int64_t)sizeof(*set));
    void    *scratch = cn_block_take(&b->block, cn_topk_scratch_bytes(SCAN_TOKENS));
    if (!wants(b, "topk")) return;
    float        threshold;
    cn_topk_args a = {.set = set,
                      .threshold_out = &threshold,
                      .scores = scores,
                      .scratch = scratch,
                      .count = SCAN_TOKENS,
                      .k = TOPK,
                      .guess = NAN};
    const work   k = {"topk", cn_topk_bytes(&a), 0, 0, "", 0};
    CASE(b, k, b->ops.topk(&a, b->pool), "%d of %d, no guess", TOPK, SCAN_TOKENS);
    // The next token's scores are near this one's: move them all a little, keep the guess.
    a.guess = threshold;
    for (int64_t i = 0; i < SCAN_TOKENS; i++) {
        float noise;
        fill(b, &noise, 1, 0.02f);
        scores[i] += noise;
    }
    CASE(b, k, b->ops.topk(&a, b->pool), "%d of %d, guess of the step before", TOPK, SCAN_TOKENS);
}

static void bench_attend(bench *b) {
    const cn_config *c = b->c;
    const int64_t    row = 2 * (int64_t)c->kv_heads * c->head_dim;
    const int32_t    q = c->heads * c->head_dim, count = c->index_topk + c->index_local;
    const int64_t    pages = DENSE_TOKENS / CN_PAGE_TOKENS;
    cn_bf16         *all = bf16s(b, DENSE_TOKENS * row);
    const cn_bf16  **rows = cn_block_take(&b->block, count * (int64_t)sizeof(*rows));
    const cn_bf16  **first = cn_block_take(&b->block, pages * (int64_t)sizeof(*first));
    int32_t         *tokens = cn_block_take(&b->block, pages * (int64_t)sizeof(*tokens));
    float           *x = floats(b, q), *y = floats(b, q);
    void            *scratch =
        cn_block_take(&b->block, cn_attend_scratch_bytes(DENSE_TOKENS, c->heads, c->head_dim));
    if (!b->block.data) return;
    for (int32_t i = 0; i < count; i++) rows[i] = all + (int64_t)i * (DENSE_TOKENS / count) * row;
    for (int64_t p = 0; p < pages; p++) {
        first[p] = all + p * CN_PAGE_TOKENS * row;
        tokens[p] = CN_PAGE_TOKENS;
    }
    const cn_attend_head head = {.out = y,
                                 .q = x,
                                 .scratch = scratch,
                                 .heads = c->heads,
                                 .kv_heads = c->kv_heads,
                                 .head_dim = c->head_dim,
                                 .scale = 0.125f};
    if (wants(b, "attend_sparse")) {
        const cn_attend_sparse_args a = {.head = head, .rows = rows, .count = count};
        const work k = {"attend_sparse", cn_attend_sparse_bytes(&a), cn_attend_sparse_flops(&a), 0,
                        "f32",           b->roofs.f32_gop_s};
        CASE(b, k, b->ops.attend_sparse(&a, b->pool), "%d rows, %d/%d x %d", count, c->heads,
             c->kv_heads, c->head_dim);
    }
    if (wants(b, "attend_dense")) {
        const cn_attend_dense_args a = {.head = head,
                                        .page_rows = first,
                                        .page_tokens = tokens,
                                        .pages = pages,
                                        .count = DENSE_TOKENS};
        const work k = {"attend_dense", cn_attend_dense_bytes(&a), cn_attend_dense_flops(&a), 0,
                        "f32",          b->roofs.f32_gop_s};
        CASE(b, k, b->ops.attend_dense(&a, b->pool), "%d rows, %d/%d x %d", DENSE_TOKENS, c->heads,
             c->kv_heads, c->head_dim);
    }
}

static void bench_small(bench *b) {
    const cn_config    *c = b->c;
    const cn_weight     w = weight(b, CN_WEIGHT_I8, c->vocab, c->hidden);
    const cn_page_shape shape = {c->kv_heads * c->head_dim, c->index_dim, 1};
    const int64_t       stride = 2 * shape.kv_dim + shape.index_dim;
    float              *x = floats(b, (int64_t)ROWS * (c->hidden > stride ? c->hidden : stride));
    float              *logits = floats(b, c->vocab);
    int32_t            *token = cn_block_take(&b->block, ROWS * (int64_t)sizeof(*token));
    void               *page = cn_block_take(&b->block, cn_page_bytes(&shape));
    void               *scratch = cn_block_take(&b->block, cn_sample_scratch_bytes(c->vocab));
    cn_window           win = {.kv_heads = c->kv_heads,
                               .head_dim = c->head_dim,
                               .window = c->window,
                               .sink = c->sink,
                               .ring_tiles = cn_window_ring_tiles(c->window, ROWS)};
    win.k = bf16s(b, cn_window_elems(&win));
    win.v = bf16s(b, cn_window_elems(&win));
    if (!b->block.data) return;
    for (int i = 0; i < ROWS; i++) token[i] = (int32_t)((int64_t)i * 7919 % c->vocab);
    if (wants(b, "embed")) {
        const cn_embed_args a = {.y = x, .token = token, .w = &w, .rows = ROWS, .factor = 1};
        const work          k = {"embed", cn_embed_bytes(&a), 0, 0, "", 0};
        CASE(b, k, b->ops.embed(&a, b->pool), "%d x %d, int8", ROWS, c->hidden);
    }
    if (wants(b, "window_append")) {
        const cn_window_append_args a = {.w = &win,
                                         .k = x,
                                         .v = x + shape.kv_dim,
                                         .stride = stride,
                                         .first = 1024,
                                         .rows = ROWS};
        const work                  k = {"window_append", cn_window_append_bytes(&a), 0, 0, "", 0};
        CASE(b, k, b->ops.window_append(&a, b->pool), "%d x 2 x %d", ROWS, shape.kv_dim);
    }
    if (wants(b, "page_put")) {
        const cn_page_put_args a = {.page = page,
                                    .shape = &shape,
                                    .kv = x,
                                    .keys = x + 2 * shape.kv_dim,
                                    .stride = stride,
                                    .rows = ROWS};
        const work             k = {"page_put", cn_page_put_bytes(&a), 0, 0, "", 0};
        CASE(b, k, b->ops.page_put(&a, b->pool), "%d x (%d + %d)", ROWS, 2 * shape.kv_dim,
             shape.index_dim);
    }
    for (int greedy = 1; greedy >= 0 && wants(b, "sample"); greedy--) {
        int32_t        got;
        cn_sample_args a = {.token_out = &got,
                            .logits = logits,
                            .scratch = scratch,
                            .count = c->vocab,
                            .temperature = greedy ? 0 : 0.8f,
                            .top_p = greedy ? 1 : 0.95f};
        const work     k = {"sample", cn_sample_bytes(&a), 0, 0, "", 0};
        CASE(b, k, b->ops.sample(&a, b->pool), "%d, %s", c->vocab,
             greedy ? "greedy" : "temperature 0.8, top-p 0.95");
    }
}

static void bench_all(bench *b) {
    bench_matmul_many(b, CN_WEIGHT_BF16);
    bench_matmul_many(b, CN_WEIGHT_I8);
    bench_matmul_few(b, CN_WEIGHT_BF16);
    bench_matmul_few(b, CN_WEIGHT_I8);
    bench_scan(b, b->c->index_heads, b->c->index_dim, b->c->index_act, b->c->index_weighted);
    bench_scan(b, 1, 128, CN_INDEX_ACT_NONE, false);
    bench_topk(b);
    bench_attend(b);
    bench_window(b);
    bench_rows(b);
    bench_small(b);
}

cn_err cn_opbench_run(const cn_opbench_opts *opts, cn_opbench_roofs *roofs_out, cn_diag *diag) {
    *roofs_out = (cn_opbench_roofs){0};
    bench *b = calloc(1, sizeof(*b));
    if (!b) return CN_FAIL(diag, CN_ENOMEM, "no memory for a bench");
    b->opts = opts;
    b->c = opts->config;
    b->seed = 1;
    cn_err err = cn_ops_choose(&b->ops, opts->isa, diag);
    if (err) goto out;
    err = cn_pool_create(&b->pool, cn_threads_or_cores(opts->threads), diag);
    if (err) goto out;
    bench_all(b); // planning
    err = cn_block_reserve(&b->block, diag);
    if (err) goto out;
    b->roofs.threads = cn_pool_threads(b->pool);
    b->roofs.bf16_gop_s = cn_roof_bf16(b->ops.isa, b->pool);
    b->roofs.int8_gop_s = cn_roof_int8(b->ops.isa, b->pool);
    b->roofs.f32_gop_s = cn_roof_f32(b->ops.isa, b->pool);
    bench_all(b);
    *roofs_out = b->roofs;
out:
    cn_pool_free(b->pool);
    cn_block_release(&b->block);
    free(b);
    return err;
}

/* ---- Floors of a whole token ---------------------------------------------------------- */

/* Buffers beyond this are no slower. */
enum { BANDWIDTH_BYTES_MAX = 512 << 20, BANDWIDTH_BYTES_MIN = 16384 };

static double read_us(const cn_engine *e, int64_t bytes) {
    if (bytes == 0) return 0;
    const int64_t size = bytes < BANDWIDTH_BYTES_MIN   ? BANDWIDTH_BYTES_MIN
                         : bytes > BANDWIDTH_BYTES_MAX ? BANDWIDTH_BYTES_MAX
                                                       : bytes;
    return (double)bytes / cn_roof_bandwidth(e->ops.isa, size, e->pool) / 1e3;
}

static int64_t weight_elems(const cn_weight *w) {
    return (int64_t)w->rows * w->cols;
}

static int64_t layer_elems(const cn_layer *l) {
    return weight_elems(&l->in) + weight_elems(&l->query) + weight_elems(&l->o) +
           weight_elems(&l->gate_up) + weight_elems(&l->down);
}

/* Weights that every token of a prefill meets. */
static int64_t self_elems(const cn_model *m) {
    int64_t elems = weight_elems(&m->shared);
    for (int32_t l = 0; l < m->config.self_layers; l++) elems += layer_elems(&m->self[l]);
    return elems;
}

cn_step_bytes cn_step_bytes_plan(const cn_engine *e, int64_t tokens) {
    const cn_model  *m = e->model;
    const cn_config *c = &m->config;
    const bool       sees_all = c->arm == CN_ARM_TRANSFORMER;
    const bool       is_dense = sees_all || e->source[0] < 0;
    const int64_t    row = cn_page_row_bytes(&e->shape), sources = is_dense ? 0 : e->shape.sources;
    const int64_t    set = is_dense || tokens < e->set_max ? tokens : e->set_max;
    const int64_t    seen = tokens < c->window ? tokens : c->window; // conversations have no sink
    int64_t          weights = self_elems(m) + weight_elems(&m->head);
    if (!is_dense) weights += weight_elems(&m->index_query);
    for (int32_t l = 0; l < c->cross_layers; l++) {
        weights += layer_elems(&m->cross[l]);
        if (is_dense) weights -= weight_elems(&m->cross[l].query);
    }

    cn_step_bytes b = {.weights = weights * (c->int8_rows ? 1 : 2),
                       .windows = sees_all ? 0 : seen * row * c->self_layers,
                       .keys = tokens * e->shape.index_dim * 2 * sources,
                       .rows = set * row * (sees_all ? c->self_layers : c->cross_layers)};
    b.once = b.weights + b.windows + b.keys + (sees_all ? b.rows : set * row);
    return b;
}

void cn_floor_measure(cn_floor *out, cn_engine *e, int64_t tokens) {
    const cn_config *c = &e->model->config;
    const double     peak =
        c->int8_rows ? cn_roof_int8(e->ops.isa, e->pool) : cn_roof_bf16(e->ops.isa, e->pool);
    const bool   sees_all = c->arm == CN_ARM_TRANSFORMER;
    const double seen = sees_all ? (double)tokens / 2 : c->window + c->sink;
    const double flops = 4.0 * seen * c->heads * c->head_dim * c->self_layers;
    *out = (cn_floor){.bytes = cn_step_bytes_plan(e, tokens), .peak_gop_s = peak};
    // A step walks over all of this once, so that is the buffer whose bandwidth counts; the rows of
    // S are read again by each further cross layer, from a nearer cache.
    const int64_t again = out->bytes.weights + out->bytes.windows + out->bytes.keys +
                          out->bytes.rows - out->bytes.once;
    const double once_us = read_us(e, out->bytes.once);
    out->decode_us = once_us;
    if (again) {
        const int64_t layers = c->cross_layers - 1;
        out->decode_us += read_us(e, again / layers) * (double)layers;
    }
    out->gb_s = (double)out->bytes.once / once_us / 1e3;
    out->prefill_us = 2.0 * (double)self_elems(e->model) / peak / 1e3 +
                      flops / cn_roof_f32(e->ops.isa, e->pool) / 1e3;
}
