/*
 * index_scan_cpu_simd.c - Index scores, 16 keys a vector, some tiles x heads at a time.
 *
 * AVX-512 multiplies a pair of dimensions by dpbf16ps; AVX2 widens both to f32, which is a
 * shift and a mask, once for the heads that are summed together.
 *
 * Bound  the read bandwidth of the keys, cn_index_scan_bytes() / bandwidth, while there
 *        are few heads; dpbf16 or FMA throughput with more: from about 16 heads on with
 *        AVX-512, 4 with AVX2.
 * Reads  each key once from memory (4 tiles are at most 64 KB: the further heads find
 *        them in L1 or L2).  Pages lie anywhere, so each tile is prefetched by hand, line
 *        by line while an earlier one is summed, across the border of a page too.
 * Order  one chain for each (key, head), of dpbf16 over pairs of dimensions, ascending, or
 *        of FMA over dimensions, ascending; then score = fma(weight, act(chain), score) over heads,
 * ascending, from 0.  A lane sees its own key only: neighbours, tasks and threads cannot change a
 * bit. Error  <= (dim + heads + 4) 2^-24 sum_j |w[j]| sum_d |q[j,d] k[d]| while no value on the way
 * is denormal: dpbf16 takes those for 0, FMA does not.
 */
#include "kernels/index_scan.h"
#include "kernels/pool.h"
#include "kernels/simd_int.h"

#include <math.h>

enum {
    TILES = 4,
    HEADS = 4,
    SUMS = V_PICK(16, 4), // tiles x heads that the registers hold
    TASKS_PER_THREAD = 8,
    AHEAD_BYTES = 16 << 10, // 8 KB was slower at dim 64, 32 KB at dim 128
};

typedef struct scan {
    const cn_index_scan_args *args;
    int64_t                   pages_per_task;
    float                     floor; // what act() cuts at
    float                     weight[CN_INDEX_HEADS_MAX];
    v_term                    q[CN_INDEX_HEADS_MAX * CN_INDEX_DIM_MAX];
} scan;

/* A page, and where the next one begins. */
typedef struct page {
    const cn_bf16 *keys, *next_keys;
    int32_t        tiles, next_tiles;
} page;

static int32_t tiles_of(int32_t tokens) {
    return (tokens + CN_TILE_TOKENS - 1) / CN_TILE_TOKENS;
}

/* The tile to prefetch while `tile` is summed: AHEAD_BYTES on, in this page or the next,
 * but not past the next page and not within the tiles that are summed together. */
static const cn_bf16 *tile_ahead(const page *p, int32_t tile, int32_t dim) {
    const int32_t elems = CN_TILE_TOKENS * dim;
    int32_t       distance = AHEAD_BYTES / 2 / elems;
    if (distance < TILES) distance = TILES;
    if (distance > p->tiles) distance = p->tiles;
    const int32_t at = tile + distance, at_next = at - p->tiles;
    if (at < p->tiles) return p->keys + at * elems;
    return at_next < p->next_tiles ? p->next_keys + at_next * elems : p->keys;
}

/* score[0 .. tiles) += the heads [head, head + heads) of the tiles at `keys`. */
V_INLINE void add_heads(v_f32 *score, int tiles, const scan *s, int32_t head, int heads,
                        const cn_bf16 *keys, const cn_bf16 *const *ahead) {
    const int32_t dim = s->args->dim;
    const v_term *q = s->q + head * dim;
    v_f32         sum[HEADS][TILES];
    for (int h = 0; h < heads; h++)
        for (int t = 0; t < tiles; t++) sum[h][t] = v_zero();

    for (int32_t d = 0; d < dim; d += 2) {
        for (int t = 0; t < tiles; t++)
            _mm_prefetch((const char *)(ahead[t] + d * CN_TILE_TOKENS), _MM_HINT_T0);
        for (int step = 0; step < V_STEPS; step++) {
            v_factor both[HEADS];
            for (int h = 0; h < heads; h++) both[h] = v_set1_terms(q + h * dim + d, step);
            for (int t = 0; t < tiles; t++) {
                const v_factor key =
                    v_load_pairs(keys + ((int64_t)t * dim + d) * CN_TILE_TOKENS, step);
                for (int h = 0; h < heads; h++) sum[h][t] = v_add_products(sum[h][t], key, both[h]);
            }
        }
    }
    for (int h = 0; h < heads; h++) {
        const v_f32 weight = v_set1(s->weight[head + h]);
        for (int t = 0; t < tiles; t++) // max: a NaN in the second operand passes
            score[t] = v_fma(weight, v_max(v_set1(s->floor), sum[h][t]), score[t]);
    }
}

/* The scores of tiles [tile, tile + tiles) of a page; the last tile writes the tokens left. */
V_INLINE void scan_tiles(float *scores, int32_t tokens, int tiles, const scan *s, const page *p,
                         int32_t tile) {
    const int      group = SUMS / tiles < HEADS ? SUMS / tiles : HEADS;
    const int32_t  heads = s->args->heads, dim = s->args->dim;
    const cn_bf16 *keys = p->keys + (int64_t)tile * CN_TILE_TOKENS * dim, *ahead[TILES];
    v_f32          score[TILES];
    for (int t = 0; t < tiles; t++) {
        score[t] = v_zero();
        ahead[t] = tile_ahead(p, tile + t, dim);
    }
    int32_t head = 0;
    for (; head + group <= heads; head += group)
        add_heads(score, tiles, s, head, group, keys, ahead);
    if (group > 3 && heads - head == 3) add_heads(score, tiles, s, head, 3, keys, ahead);
    if (group > 2 && heads - head == 2) add_heads(score, tiles, s, head, 2, keys, ahead);
    if (group > 1 && heads - head == 1) add_heads(score, tiles, s, head, 1, keys, ahead);

    for (int t = 0; t < tiles; t++) {
        const int32_t at = (tile + t) * CN_TILE_TOKENS;
        v_store_first(scores + at, tokens - at, score[t]);
    }
}

static void scan_page(float *scores, int32_t tokens, const scan *s, const page *p) {
    const int32_t heads = s->args->heads, wide = SUMS / (heads < HEADS ? heads : HEADS);
    const int32_t tiles = wide < TILES ? wide : TILES;
    for (int32_t tile = 0, step; tile < p->tiles; tile += step) {
        const int32_t left = p->tiles - tile;
        step = left >= 2 * tiles ? tiles : left > tiles ? (left + 1) / 2 : left;
        if (step == 4) scan_tiles(scores, tokens, 4, s, p, tile);
        if (step == 3) scan_tiles(scores, tokens, 3, s, p, tile);
        if (step == 2) scan_tiles(scores, tokens, 2, s, p, tile);
        if (step == 1) scan_tiles(scores, tokens, 1, s, p, tile);
    }
}

static void scan_task(void *arg, int64_t task) {
    const scan               *s = arg;
    const cn_index_scan_args *a = s->args;
    const int64_t             first = task * s->pages_per_task;
    const int64_t end = first + s->pages_per_task < a->pages ? first + s->pages_per_task : a->pages;
    float        *scores = a->scores;
    for (int64_t i = 0; i < first; i++) scores += a->page_tokens[i];
    for (int64_t i = first; i < end; i++) {
        page p = {.keys = a->page_keys[i], .tiles = tiles_of(a->page_tokens[i])};
        if (i + 1 < end) {
            p.next_keys = a->page_keys[i + 1];
            p.next_tiles = tiles_of(a->page_tokens[i + 1]);
        }
        scan_page(scores, a->page_tokens[i], s, &p);
        scores += a->page_tokens[i];
    }
}

cn_err CN_SIMD(index_scan)(const cn_index_scan_args *a, void *stream) {
    CN_TRY(cn_index_scan_check(a));
    scan s;
    s.args = a;
    s.floor = a->act == CN_INDEX_ACT_RELU ? 0 : -INFINITY;
    for (int32_t j = 0; j < a->heads; j++) s.weight[j] = a->weight ? a->weight[j] : 1;
    for (int32_t i = 0; i < a->heads * a->dim; i += V_LANES)
        v_store_terms(s.q + i, v_load(a->q + i));

    const int64_t tasks_max = (int64_t)cn_pool_threads(stream) * TASKS_PER_THREAD;
    s.pages_per_task = (a->pages + tasks_max - 1) / tasks_max;
    if (a->pages > 0)
        cn_pool_run(stream, scan_task, &s, (a->pages + s.pages_per_task - 1) / s.pages_per_task);
    return CN_OK;
}
