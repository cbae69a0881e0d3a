/*
 * window.h - Sliding-window attention with a document sink, and its K/V buffer.
 *
 * Token t of a document sees the tokens s of the same document with
 *
 *   s <= t  and  ( t - s < window  or  s < sink )
 *   o[t,h] = sum_s softmax_s( scale * q[t,h] . k[s,g] ) v[s,g],   g = h / (heads / kv_heads)
 *
 *   YOCO, section 2.1 (arXiv:2405.05254); the sink keeps a document's header (its
 *   path) visible to all its tokens.
 *
 * The buffer holds one layer of one document.  Tokens come in tiles of 16, aligned to
 * the document's start.  Tiles below ceil(sink/16) stay in place; the others share a
 * ring.  K lies transposed, so that one load gives 16 tokens of one dimension:
 *
 *   k [kv_heads][slots][head_dim][16 tokens]     v [kv_heads][slots][16 tokens][head_dim]
 *
 * Same bits: what is computed for token t is a function of q[t] and of the tokens it
 * sees alone: the same for one token (decode) and inside any run of tokens (prefill).
 * All tiles are visited in order of position, from a first tile that depends on
 * floor(t / 16) alone.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_WINDOW_H
#define CN_KERNELS_WINDOW_H

#include "kernels/types.h"

CN_C_BEGIN

enum { CN_WINDOW_TOKENS_MAX = 65536, CN_WINDOW_RUN_MAX = 4096 };

typedef struct cn_window {
    cn_bf16 *k;          // see above; 64-byte aligned; finite everywhere (zeroed at the start)
    cn_bf16 *v;          // likewise
    int32_t  kv_heads;   // 1..CN_HEADS_MAX
    int32_t  head_dim;   // multiple of CN_DIM_MULTIPLE, at most CN_HEAD_DIM_MAX
    int32_t  window;     // >= 1, tokens, the current one counted
    int32_t  sink;       // >= 0, tokens
    int32_t  ring_tiles; // cn_window_ring_tiles()
} cn_window;

static inline int32_t cn_window_sink_tiles(int32_t sink) {
    return (sink + CN_TILE_TOKENS - 1) / CN_TILE_TOKENS;
}

/* Ring tiles that runs of up to `run` tokens need: the window before the run's first
 * tile, the run, and one tile for each end that is not aligned. */
static inline int32_t cn_window_ring_tiles(int32_t window, int32_t run) {
    return (window + CN_TILE_TOKENS - 1) / CN_TILE_TOKENS +
           (run + CN_TILE_TOKENS - 1) / CN_TILE_TOKENS + 2;
}

static inline int32_t cn_window_slots(const cn_window *w) {
    return cn_window_sink_tiles(w->sink) + w->ring_tiles;
}

/* bf16 elements of k, and of v. */
static inline int64_t cn_window_elems(const cn_window *w) {
    return (int64_t)w->kv_heads * cn_window_slots(w) * w->head_dim * CN_TILE_TOKENS;
}

/* The slot that holds tile `tile` (position / 16). */
static inline int32_t cn_window_slot(const cn_window *w, int64_t tile) {
    const int32_t sink_tiles = cn_window_sink_tiles(w->sink);
    if (tile < sink_tiles) return (int32_t)tile;
    return sink_tiles + (int32_t)((tile - sink_tiles) % w->ring_tiles);
}

/* The first tile of the window part for all tokens of tile `tile`; the sink's tiles
 * below it are visited before. */
static inline int64_t cn_window_first_tile(const cn_window *w, int64_t tile) {
    const int64_t s = tile * CN_TILE_TOKENS - w->window + 1;
    return s <= 0 ? 0 : s / CN_TILE_TOKENS;
}

static inline cn_bf16 *cn_window_k(const cn_window *w, int32_t kv_head, int32_t slot) {
    return w->k + ((int64_t)kv_head * cn_window_slots(w) + slot) * w->head_dim * CN_TILE_TOKENS;
}

static inline cn_bf16 *cn_window_v(const cn_window *w, int32_t kv_head, int32_t slot) {
    return w->v + ((int64_t)kv_head * cn_window_slots(w) + slot) * w->head_dim * CN_TILE_TOKENS;
}

static inline bool cn_window_is_valid(const cn_window *w) {
    return w->k && w->v && cn_is_aligned(w->k, 64) && cn_is_aligned(w->v, 64) && w->kv_heads >= 1 &&
           w->kv_heads <= CN_HEADS_MAX && w->head_dim >= CN_DIM_MULTIPLE &&
           w->head_dim <= CN_HEAD_DIM_MAX && w->head_dim % CN_DIM_MULTIPLE == 0 && w->window >= 1 &&
           w->window <= CN_WINDOW_TOKENS_MAX && w->sink >= 0 && w->sink <= CN_WINDOW_TOKENS_MAX &&
           w->ring_tiles >= cn_window_ring_tiles(w->window, 1);
}

/* Round K and V of tokens first, ..., first + rows - 1 to bf16 and put them into their
 * tiles; what a ring slot held before is overwritten lane by lane. */
typedef struct cn_window_append_args {
    const cn_window *w;
    const float     *k;      // [rows, stride], kv_heads * head_dim used
    const float     *v;      // [rows, stride]
    int64_t          stride; // floats; >= kv_heads * head_dim, multiple of 16
    int64_t          first;  // position in the document, >= 0
    int64_t          rows;   // 0..CN_WINDOW_RUN_MAX, and no more than the ring is made for
} cn_window_append_args;

/* CN_EINVAL  a constraint above does not hold; nothing was written. */
typedef cn_err (*cn_window_append_fn)(const cn_window_append_args *a, void *stream);

cn_err cn_window_append_ref(const cn_window_append_args *a, void *stream) CN_MUST_CHECK;

static inline cn_err cn_window_append_check(const cn_window_append_args *a) {
    if (!a->w || !cn_window_is_valid(a->w)) return CN_EINVAL;
    if (a->rows < 0 || a->rows > CN_WINDOW_RUN_MAX || a->first < 0 ||
        cn_window_ring_tiles(a->w->window, (int32_t)a->rows) > a->w->ring_tiles)
        return CN_EINVAL;
    if (!a->k || !a->v || a->stride % 16 || a->stride < (int64_t)a->w->kv_heads * a->w->head_dim)
        return CN_EINVAL;
    return CN_OK;
}

static inline int64_t cn_window_append_bytes(const cn_window_append_args *a) {
    return a->rows * a->w->kv_heads * a->w->head_dim * 2 * (4 + 2);
}

/* The attention of tokens first, ..., first + rows - 1, whose K and V (and those of
 * all tokens that they see) are in the buffer. */
typedef struct cn_window_attend_args {
    const cn_window *w;
    float           *out;        // [rows, out_stride], heads * head_dim written; not q
    const float     *q;          // [rows, q_stride]
    int64_t          out_stride; // floats; multiple of 16
    int64_t          q_stride;   // floats; multiple of 16
    int64_t          first;      // position in the document, >= 0
    int64_t          rows;       // 0..CN_WINDOW_RUN_MAX
    int32_t          heads;      // multiple of kv_heads, at most CN_HEADS_MAX
    float            scale;      // finite, > 0
} cn_window_attend_args;

/* CN_EINVAL  a constraint above does not hold; nothing was written. */
typedef cn_err (*cn_window_attend_fn)(const cn_window_attend_args *a, void *stream);

cn_err cn_window_attend_ref(const cn_window_attend_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_window_attend_avx2(const cn_window_attend_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_window_attend_avx512(const cn_window_attend_args *a, void *stream) CN_MUST_CHECK;

static inline cn_err cn_window_attend_check(const cn_window_attend_args *a) {
    if (!a->w || !cn_window_is_valid(a->w)) return CN_EINVAL;
    if (a->heads < 1 || a->heads > CN_HEADS_MAX || a->heads % a->w->kv_heads != 0 ||
        !(a->scale > 0) || !(a->scale < 1e30f))
        return CN_EINVAL;
    if (a->rows < 0 || a->rows > CN_WINDOW_RUN_MAX || a->first < 0 ||
        cn_window_ring_tiles(a->w->window, (int32_t)a->rows) > a->w->ring_tiles)
        return CN_EINVAL;
    const int64_t width = (int64_t)a->heads * a->w->head_dim;
    if (!a->out || !a->q || a->out == a->q || a->out_stride < width || a->q_stride < width ||
        a->out_stride % 16 || a->q_stride % 16 || !cn_is_aligned(a->out, CN_ALIGN_BYTES) ||
        !cn_is_aligned(a->q, CN_ALIGN_BYTES))
        return CN_EINVAL;
    return CN_OK;
}

/* Pairs of (query token, visible token): both counts below are for these. */
static inline int64_t cn_window_attend_pairs(const cn_window_attend_args *a) {
    int64_t pairs = 0;
    for (int64_t t = a->first; t < a->first + a->rows; t++) {
        const int64_t lo = t - a->w->window + 1 > 0 ? t - a->w->window + 1 : 0;
        pairs += t + 1 - lo + (a->w->sink < lo ? a->w->sink : lo);
    }
    return pairs;
}

static inline int64_t cn_window_attend_flops(const cn_window_attend_args *a) {
    return 4 * cn_window_attend_pairs(a) * a->heads * a->w->head_dim;
}

/* The K and V that the run sees, once, and q and out. */
static inline int64_t cn_window_attend_bytes(const cn_window_attend_args *a) {
    int64_t seen = a->rows + a->w->window - 1 + a->w->sink;
    if (seen > a->first + a->rows) seen = a->first + a->rows;
    return seen * a->w->kv_heads * a->w->head_dim * 4 + a->rows * a->heads * a->w->head_dim * 8;
}

CN_C_END

#endif
