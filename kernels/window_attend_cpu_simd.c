/*
 * window_attend_cpu_simd.c - Window attention: up to 16 tokens of one tile by one K/V head
 * a task.
 *
 * All tokens of a tile visit the same tiles of K and V, so the task's rows (token x head of
 * the group) go through them 8 at a time, 6 with AVX2: one load of K or V serves all of them.
 * Scores have 16 keys in the lanes, weighted V has 16 dimensions.  Tiles are taken in chunks of
 * 64 from the first visited one; a later chunk with a new maximum rescales what was summed
 * before.
 * Every chunk has a key that each of its rows sees: it holds a sink tile, or the row's own
 * tile, or two tiles of the window, of which the second is seen by all.
 *
 * Bound  f32 FMA for a run (16 tokens x group rows share K and V), the caches for one token.
 * Order  A score is one FMA chain over d.  Masked keys weigh 0.  A sum is 16 chains (s mod
 *        16) over the tiles and one fixed tree, a weighted V one FMA chain over s; 0 is
 *        added at the end, so that masked zeros cannot show in a sign.  The visited tiles
 *        depend on floor(t / 16): a token's bits are the same alone and in any run.
 * Error  with u = 2^-24, A = max_s sum_d |scale * q[d] * k[s,d]| and n visible tokens:
 *        |o - ref| <= u * (2 * (head_dim + 8) * A + n + 64) * max|v|.
 */
#include "kernels/pool.h"
#include "kernels/simd_int.h"
#include "kernels/window.h"

#include <math.h>

enum {
    LANES = CN_TILE_TOKENS,
    ROWS = V_PICK(8, 6),
    TILES = 64,
    WIDE = 4,
};

/* Up to ROWS rows on their way through the tiles; rows past the last are zeros. */
typedef struct block {
    _Alignas(64) float q[CN_HEAD_DIM_MAX][ROWS];
    _Alignas(64) float p[TILES][ROWS][LANES]; // a chunk's scores, then weights
    _Alignas(64) float o[ROWS][CN_HEAD_DIM_MAX];
    float          max[ROWS], sum[ROWS];
    int64_t        tile[TILES]; // the chunk's tiles, and where their K and V are
    const cn_bf16 *k[TILES], *v[TILES];
    int            tiles;
    int32_t        dim;
} block;

/* p[i..i+tiles) = q . K for `rows` rows. */
V_INLINE void score_tiles(block *b, int i, const int rows, const int tiles) {
    v_f32 sum[ROWS][WIDE], k[WIDE];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < tiles; j++) sum[r][j] = v_zero();
    for (int32_t d = 0; d < b->dim; d++) {
        for (int j = 0; j < tiles; j++) k[j] = v_from_bf16(b->k[i + j] + d * LANES);
        for (int r = 0; r < rows; r++) {
            const v_f32 q = v_set1(b->q[d][r]);
            for (int j = 0; j < tiles; j++) sum[r][j] = v_fma(q, k[j], sum[r][j]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < tiles; j++) v_store(b->p[i + j][r], sum[r][j]);
}

/* o[d..d+strips*16) += p V for `rows` rows. */
V_INLINE void weigh_tiles(block *b, int32_t d, const int rows, const int strips) {
    v_f32 sum[ROWS][WIDE], v[WIDE];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < strips; j++) sum[r][j] = v_load(&b->o[r][d + j * LANES]);
    for (int i = 0; i < b->tiles; i++)
        for (int s = 0; s < LANES; s++) {
            const cn_bf16 *row = b->v[i] + s * b->dim + d;
            for (int j = 0; j < strips; j++) v[j] = v_from_bf16(row + j * LANES);
            for (int r = 0; r < rows; r++) {
                const v_f32 p = v_set1(b->p[i][r][s]);
                for (int j = 0; j < strips; j++) sum[r][j] = v_fma(p, v[j], sum[r][j]);
            }
        }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < strips; j++) v_store(&b->o[r][d + j * LANES], sum[r][j]);
}

static int32_t clamp_lane(int64_t lane) {
    return lane < 0 ? 0 : lane > LANES ? LANES : (int32_t)lane;
}

/* The keys of `tile`, which does not lie after t, that token t sees: a bit each. */
static v_mask visible(const cn_window *w, int64_t t, int64_t tile) {
    const int64_t  base = tile * LANES;
    const uint32_t past = (2u << clamp_lane(t - base)) - 1; // s <= t
    const uint32_t window = ~0u << clamp_lane(t - w->window + 1 - base);
    const uint32_t sink = (1u << clamp_lane(w->sink - base)) - 1;
    return v_mask_from(past & (window | sink));
}

/* Row r's scores become weights; what was summed before is rescaled. */
static void softmax(block *b, int r, const cn_window *w, int64_t t, float scale) {
    v_f32 best = v_set1(b->max[r]), sum = v_zero();
    for (int i = 0; i < b->tiles; i++) {
        const v_f32 score = v_select(visible(w, t, b->tile[i]),
                                     v_mul(v_load(b->p[i][r]), v_set1(scale)), v_set1(-INFINITY));
        best = v_max(best, score);
        v_store(b->p[i][r], score);
    }
    const float max = v_max_lane(best);
    for (int i = 0; i < b->tiles; i++) {
        const v_f32 p = v_exp(v_sub(v_load(b->p[i][r]), v_set1(max)));
        sum = v_add(sum, p);
        v_store(b->p[i][r], p);
    }
    const v_f32 shrink = v_exp(v_sub(v_set1(b->max[r]), v_set1(max)));
    for (int32_t d = 0; d < b->dim; d += LANES)
        v_store(&b->o[r][d], v_mul(v_load(&b->o[r][d]), shrink));
    b->sum[r] = b->sum[r] * v_first(shrink) + v_sum(sum);
    b->max[r] = max;
}

/* Scores, weights and weighted V of a chunk for n <= rows rows. */
V_INLINE void attend_chunk(block *b, int n, const cn_window *w, const int64_t *t, float scale,
                           const int rows, const int wide) {
    int i = 0;
    for (; i + wide <= b->tiles; i += wide) score_tiles(b, i, rows, wide);
    for (; i < b->tiles; i++) score_tiles(b, i, rows, 1);
    for (int r = 0; r < n; r++) softmax(b, r, w, t[r], scale);
    int32_t d = 0;
    for (; d + wide * LANES <= b->dim; d += wide * LANES) weigh_tiles(b, d, rows, wide);
    for (; d < b->dim; d += LANES) weigh_tiles(b, d, rows, 1);
}

/* Rows first, ..., first + n - 1 of a tile's tokens x heads of one group. */
static void attend_rows(const cn_window_attend_args *a, int64_t tile, int32_t g, int64_t token,
                        int32_t first, int n) {
    const cn_window *w = a->w;
    const int32_t    group = a->heads / w->kv_heads;
    block            b;
    int64_t          t[ROWS];
    float           *out[ROWS];

    b.dim = w->head_dim;
    memset(b.q, 0, (size_t)b.dim * sizeof(b.q[0]));
    memset(b.o, 0, sizeof(b.o));
    for (int r = 0; r < n; r++) {
        const int64_t row = token - a->first + (first + r) / group;
        const int64_t at = (int64_t)(g * group + (first + r) % group) * b.dim;
        for (int32_t d = 0; d < b.dim; d++) b.q[d][r] = a->q[row * a->q_stride + at + d];
        out[r] = a->out + row * a->out_stride + at;
        t[r] = a->first + row;
        b.max[r] = -INFINITY;
        b.sum[r] = 0;
    }

    const int64_t from = cn_window_first_tile(w, tile);
    const int64_t sink =
        from < cn_window_sink_tiles(w->sink) ? from : cn_window_sink_tiles(w->sink);
    const int64_t visits = sink + tile + 1 - from;
    for (int64_t i = 0; i < visits;) {
        for (b.tiles = 0; b.tiles < TILES && i < visits; b.tiles++, i++) {
            b.tile[b.tiles] = i < sink ? i : from + i - sink;
            const int32_t slot = cn_window_slot(w, b.tile[b.tiles]);
            b.k[b.tiles] = cn_window_k(w, g, slot);
            b.v[b.tiles] = cn_window_v(w, g, slot);
        }
        // 16 sums in 32 registers, or 4 to 6 in 16, keep both FMA pipes busy.
        if (n > 4)
            attend_chunk(&b, n, w, t, a->scale, ROWS, V_PICK(2, 1));
        else if (n > 2)
            attend_chunk(&b, n, w, t, a->scale, 4, V_PICK(WIDE, 1));
        else if (n > 1)
            attend_chunk(&b, n, w, t, a->scale, 2, V_PICK(WIDE, 2));
        else
            attend_chunk(&b, n, w, t, a->scale, 1, WIDE);
    }

    for (int r = 0; r < n; r++)
        for (int32_t d = 0; d < b.dim; d++) out[r][d] = b.o[r][d] / b.sum[r] + 0.0f;
}

/* Task: a tile of the run, and a K/V head. */
static void attend_task(void *arg, int64_t task) {
    const cn_window_attend_args *a = arg;
    const int32_t                kv_heads = a->w->kv_heads;
    const int64_t                tile = a->first / LANES + task / kv_heads;
    const int64_t                end = a->first + a->rows;
    const int64_t                t0 = a->first > tile * LANES ? a->first : tile * LANES;
    const int64_t                t1 = end < (tile + 1) * LANES ? end : (tile + 1) * LANES;
    const int32_t                rows = (int32_t)(t1 - t0) * (a->heads / kv_heads);
    for (int32_t r = 0; r < rows; r += ROWS)
        attend_rows(a, tile, (int32_t)(task % kv_heads), t0, r, rows - r < ROWS ? rows - r : ROWS);
}

cn_err CN_SIMD(window_attend)(const cn_window_attend_args *a, void *stream) {
    CN_TRY(cn_window_attend_check(a));
    if (a->rows == 0) return CN_OK;
    const int64_t         tiles = (a->first + a->rows - 1) / LANES - a->first / LANES + 1;
    cn_window_attend_args job = *a;
    cn_pool_run(stream, attend_task, &job, tiles * a->w->kv_heads);
    return CN_OK;
}
