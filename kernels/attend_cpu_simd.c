/*
 * attend_cpu_simd.c - Attention of one token over scattered K|V rows, 256 rows a task.
 *
 * A task is a chunk of rows and one K/V head; it serves up to 4 heads of the group at a
 * time from one load of K and of V.  Scores hold 16 dimensions in the lanes and are
 * summed across lanes 16 rows at a time, transposing; V is weighted with 16 dimensions
 * in the lanes.  Dense attention makes its row addresses a chunk at a time and runs the
 * same core; where there is work for all threads, a task is a run of chunks with all heads.
 *
 * Bound  f32 FMA while the rows are in a cache (2 * group FLOPs for each bf16), latency of
 *        memory when they are not: rows are prefetched, K well ahead, V while K is scored.
 *        In a run of chunks the next chunk is, from its first byte to its last, evenly over
 *        the work on this one: in that order the processor's own prefetchers join in (a
 *        quarter faster than K here and V there), and nothing waits at a chunk's start.  From
 *        the second level of cache on, K and V come NEAR rows ahead.
 * Order  A score is 16 FMA chains (d mod 16) and one fixed tree; a chunk's sum is 16
 *        chains (i mod 16) and one fixed tree, its weighted V one FMA chain over i; chunks
 *        are merged in order.  Nothing depends on the thread, on where rows lie or on
 *        the heads beside.
 * Error  with u = 2^-24, A = max_i sum_d |scale * q[d] * K[i,d]| and
 *        n = min(count, 256) + 3 * ceil(count / 256):
 *        |o - ref| <= u * (2 * (head_dim / 16 + 10) * A + n + 64) * max|V|.
 */
#include "kernels/attend.h"
#include "kernels/math_int.h"
#include "kernels/pool.h"
#include "kernels/simd_int.h"

#include <math.h>

enum {
    CHUNK = CN_ATTEND_CHUNK,
    LANES = V_LANES,
    HEADS = 4,
    STRIPS = 4,
    AHEAD = 32,
    NEAR = 8,
    SUMS = V_PICK(16, 4), // rows or strips by heads that the registers hold
};
enum { RUN = 16, RUNS_PER_THREAD = 8 }; // chunks of a dense task at most; such tasks at least

/* What a chunk leaves in scratch for a head, behind head_dim floats of weighted V. */
typedef struct partial {
    float   max, sum;
    int32_t token; // dense, head 0: where the chunk's first row lies
    int64_t page;
    char    pad[40];
} partial;
_Static_assert(sizeof(partial) == 16 * sizeof(float), "as cn_attend_scratch_bytes has it");

static float *partial_out(const cn_attend_head *a, int64_t chunk, int32_t h) {
    return (float *)a->scratch + (chunk * a->heads + h) * (a->head_dim + 16);
}

static partial *partial_of(const cn_attend_head *a, int64_t chunk, int32_t h) {
    return (partial *)(void *)(partial_out(a, chunk, h) + a->head_dim);
}

/* Rows that are prefetched piece by piece: K or V of one head. */
typedef struct fetching {
    const cn_bf16 *const *row; // the next ones; NULL: none
    int64_t               at;  // elements of *row that are done
    int64_t               elems;
} fetching;

/* A chunk of rows, one K/V head of it, and what becomes of it for up to HEADS heads. */
typedef struct block {
    _Alignas(64) float quads[HEADS][CHUNK / 4][LANES]; // products with 4 rows: v_sum_quads
    _Alignas(64) float p[HEADS][CHUNK];                // weights
    const cn_bf16 *const *rows;
    int                   n;
    int64_t               k, v; // elements before K and V in a row
    int32_t               dim;
    fetching             *later; // what to prefetch meanwhile; NULL: this chunk's own rows
} block;

/* Where row i is; the last one stands in for rows past the end. */
static inline const cn_bf16 *row_at(const block *b, int i) {
    return b->rows[i < b->n ? i : b->n - 1];
}

static inline void fetch(const void *p, int32_t elems) {
    for (int32_t d = 0; d < elems; d += 32) // 64 bytes
        _mm_prefetch((const char *)((const cn_bf16 *)p + d), _MM_HINT_T0);
}

static inline void fetch_later(fetching *l, int32_t elems) {
    fetch(*l->row + l->at, elems);
    l->at += elems;
    if (l->at < l->elems) return;
    l->at = 0;
    l->row++;
}

/* While rows i..i+3 are scored. */
static inline void fetch_rows(const block *b, int i, fetching *later) {
    for (int r = i; r < i + 4; r++) {
        if (later) {
            fetch_later(later, b->dim);
            fetch(row_at(b, r + NEAR) + b->k, b->dim);
        } else {
            fetch(row_at(b, r + AHEAD) + b->k, b->dim);
            fetch(row_at(b, r) + b->v, b->dim);
        }
    }
}

/* quads of 4 rows at a time: q is [heads][dim]. */
V_INLINE void score_rows(block *b, const float *q, const int heads) {
    const int rows = SUMS / heads < 4 ? SUMS / heads : 4;
    fetching *later = b->later;
    for (int i = 0; i < b->n; i += 4) {
        v_f32          sum[4][HEADS];
        const cn_bf16 *k[4];
        fetch_rows(b, i, later);
        for (int r = 0; r < 4; r++) k[r] = row_at(b, i + r) + b->k;
        for (int r0 = 0; r0 < 4; r0 += rows) {
            for (int r = r0; r < r0 + rows; r++)
                for (int h = 0; h < heads; h++) sum[r][h] = v_zero();
            for (int32_t d = 0; d < b->dim; d += LANES) {
                v_f32 qd[HEADS];
                for (int h = 0; h < heads; h++) qd[h] = v_load(q + h * b->dim + d);
                for (int r = r0; r < r0 + rows; r++) {
                    const v_f32 kd = v_from_bf16(k[r] + d);
                    for (int h = 0; h < heads; h++) sum[r][h] = v_fma(qd[h], kd, sum[r][h]);
                }
            }
        }
        for (int h = 0; h < heads; h++)
            v_store(b->quads[h][i / 4], v_sum_quads(sum[0][h], sum[1][h], sum[2][h], sum[3][h]));
    }
}

/* Head h's scores become weights, their maximum and sum. */
static void softmax(block *b, int h, float scale, partial *out) {
    const v_f32 none = v_set1(-INFINITY);
    v_f32       max = none, sum = v_zero();
    for (int i = 0; i < b->n; i += LANES) {
        const float(*quad)[LANES] = &b->quads[h][i / 4];
        const v_f32 product =
            v_sum_columns(v_load(quad[0]), v_load(quad[1]), v_load(quad[2]), v_load(quad[3]));
        const v_f32 score = v_select(v_lanes(b->n - i), v_mul(product, v_set1(scale)), none);
        max = v_max(max, score);
        v_store(b->p[h] + i, score);
    }
    out->max = v_max_lane(max);
    for (int i = 0; i < b->n; i += LANES) {
        const v_f32 p = v_exp(v_sub(v_load(b->p[h] + i), v_set1(out->max)));
        sum = v_add(sum, p);
        v_store(b->p[h] + i, p);
    }
    out->sum = v_sum(sum);
}

/* out[h][d..d+strips*16) = sum_i p[h][i] * V[i]. */
V_INLINE void weigh_rows(const block *b, float *out, int64_t out_stride, int32_t d, const int heads,
                         const int strips) {
    fetching *later = d == 0 ? b->later : NULL;
    v_f32     sum[HEADS][STRIPS], v[STRIPS];
    for (int h = 0; h < heads; h++)
        for (int s = 0; s < strips; s++) sum[h][s] = v_zero();
    for (int i = 0; i < b->n; i++) {
        const cn_bf16 *row = b->rows[i] + b->v + d;
        if (later) {
            fetch_later(later, b->dim);
            fetch(row_at(b, i + NEAR) + b->v, b->dim);
        }
        for (int s = 0; s < strips; s++) v[s] = v_from_bf16(row + s * LANES);
        for (int h = 0; h < heads; h++) {
            const v_f32 p = v_set1(b->p[h][i]);
            for (int s = 0; s < strips; s++) sum[h][s] = v_fma(p, v[s], sum[h][s]);
        }
    }
    for (int h = 0; h < heads; h++)
        for (int s = 0; s < strips; s++) v_store(out + h * out_stride + d + s * LANES, sum[h][s]);
}

/* Heads first, ..., first + heads - 1, which share the block's K/V head. */
V_INLINE void attend_heads(const cn_attend_head *a, block *b, int64_t chunk, int32_t first,
                           const int heads) {
    score_rows(b, a->q + first * b->dim, heads);
    for (int h = 0; h < heads; h++) softmax(b, h, a->scale, partial_of(a, chunk, first + h));
    float        *out = partial_out(a, chunk, first);
    const int64_t stride = b->dim + 16;
    const int     strips = SUMS / heads < STRIPS ? SUMS / heads : STRIPS;
    int32_t       d = 0;
    for (; d + strips * LANES <= b->dim; d += strips * LANES)
        weigh_rows(b, out, stride, d, heads, strips);
    for (; d < b->dim; d += LANES) weigh_rows(b, out, stride, d, heads, 1);
}

static void attend_chunk(const cn_attend_head *a, int64_t chunk, int32_t kv_head,
                         const cn_bf16 *const *rows, int n, fetching *later) {
    const int32_t group = a->heads / a->kv_heads, end = (kv_head + 1) * group;
    block         b;
    b.rows = rows;
    b.n = n;
    b.dim = a->head_dim;
    b.k = (int64_t)kv_head * b.dim;
    b.v = b.k + (int64_t)a->kv_heads * b.dim;
    b.later = later;
    int32_t h = kv_head * group;
    for (; h + 4 <= end; h += 4, b.later = NULL) attend_heads(a, &b, chunk, h, 4);
    for (; h + 2 <= end; h += 2, b.later = NULL) attend_heads(a, &b, chunk, h, 2);
    for (; h < end; h++, b.later = NULL) attend_heads(a, &b, chunk, h, 1);
}

static int chunk_rows(int64_t count, int64_t chunk) {
    return count - chunk * CHUNK < CHUNK ? (int)(count - chunk * CHUNK) : CHUNK;
}

static void sparse_task(void *arg, int64_t task) {
    const cn_attend_sparse_args *a = arg;
    const int64_t                chunk = task / a->head.kv_heads;
    attend_chunk(&a->head, chunk, (int32_t)(task % a->head.kv_heads), a->rows + chunk * CHUNK,
                 chunk_rows(a->count, chunk), NULL);
}

/* Addresses of a dense chunk's rows, the last one again in what is left of CHUNK; their number. */
static int list_rows(const cn_bf16 *rows[CHUNK], const cn_attend_dense_args *a, int64_t chunk) {
    const int64_t  row_elems = (int64_t)a->head.kv_heads * a->head.head_dim * 2;
    const int      n = chunk_rows(a->count, chunk);
    const partial *from = partial_of(&a->head, chunk, 0);
    int32_t        token = from->token;
    int            i = 0;
    for (int64_t page = from->page; i < n; page++, token = 0)
        for (; i < n && token < a->page_tokens[page]; token++)
            rows[i++] = a->page_rows[page] + token * row_elems;
    for (; i < CHUNK; i++) rows[i] = rows[n - 1];
    return n;
}

/* A chunk and a K/V head. */
static void dense_task(void *arg, int64_t task) {
    const cn_attend_dense_args *a = arg;
    const int64_t               chunk = task / a->head.kv_heads;
    const cn_bf16              *rows[CHUNK];
    const int                   n = list_rows(rows, a, chunk);
    attend_chunk(&a->head, chunk, (int32_t)(task % a->head.kv_heads), rows, n, NULL);
}

typedef struct dense_runs {
    const cn_attend_dense_args *args;
    int64_t                     chunks;
    int64_t                     run; // chunks of a task
} dense_runs;

/* A run of chunks with all K/V heads. */
static void dense_run_task(void *arg, int64_t task) {
    const dense_runs           *runs = arg;
    const cn_attend_dense_args *a = runs->args;
    const int64_t               first = task * runs->run, left = runs->chunks - first;
    const int64_t               end = first + (left < runs->run ? left : runs->run);
    const cn_bf16              *rows[2][CHUNK];
    int                         n = list_rows(rows[0], a, first);
    for (int64_t c = first; c < end; c++) {
        const cn_bf16 **now = rows[(c - first) % 2], **next = rows[(c - first + 1) % 2];
        const int       n_next = c + 1 < end ? list_rows(next, a, c + 1) : 0;
        fetching        later = {next, 0, 2 * (int64_t)a->head.kv_heads * a->head.head_dim};
        for (int32_t g = 0; g < a->head.kv_heads; g++)
            attend_chunk(&a->head, c, g, now, n, n_next ? &later : NULL);
        n = n_next;
    }
}

/* Note where each chunk's first row lies. */
static void find_chunks(const cn_attend_dense_args *a) {
    int64_t before = 0, chunk = 0; // rows in earlier pages
    for (int64_t page = 0; page < a->pages; before += a->page_tokens[page++])
        for (; chunk * CHUNK < before + a->page_tokens[page]; chunk++) {
            partial *to = partial_of(&a->head, chunk, 0);
            to->page = page;
            to->token = (int32_t)(chunk * CHUNK - before);
        }
}

typedef struct merge {
    const cn_attend_head *head;
    int64_t               chunks;
} merge;

static void merge_task(void *arg, int64_t task) {
    const merge          *m = arg;
    const cn_attend_head *a = m->head;
    const int32_t         h = (int32_t)task;
    float                *out = a->out + h * a->head_dim;
    float                 max = -INFINITY, sum = 0;
    for (int64_t c = 0; c < m->chunks; c++) max = fmaxf(max, partial_of(a, c, h)->max);
    _Alignas(64) float o[CN_HEAD_DIM_MAX] = {0};
    for (int64_t c = 0; c < m->chunks; c++) {
        const float *from = partial_out(a, c, h);
        const float  shrink = cn_exp_f32(partial_of(a, c, h)->max - max);
        sum += shrink * partial_of(a, c, h)->sum;
        for (int32_t d = 0; d < a->head_dim; d++) o[d] += shrink * from[d];
    }
    for (int32_t d = 0; d < a->head_dim; d++) out[d] = o[d] / sum;
}

/* With many chunks the merge, too, is worth a second run of the pool. */
static void merge_chunks(const cn_attend_head *a, int64_t count, cn_pool *pool) {
    merge m = {a, (count + CHUNK - 1) / CHUNK};
    cn_pool_run(m.chunks > 32 ? pool : NULL, merge_task, &m, a->heads);
}

static int64_t tasks(const cn_attend_head *a, int64_t count) {
    return (count + CHUNK - 1) / CHUNK * a->kv_heads;
}

cn_err CN_SIMD(attend_sparse)(const cn_attend_sparse_args *a, void *stream) {
    CN_TRY(cn_attend_sparse_check(a));
    cn_attend_sparse_args job = *a;
    cn_pool_run(stream, sparse_task, &job, tasks(&a->head, a->count));
    merge_chunks(&a->head, a->count, stream);
    return CN_OK;
}

cn_err CN_SIMD(attend_dense)(const cn_attend_dense_args *a, void *stream) {
    CN_TRY(cn_attend_dense_check(a));
    cn_attend_dense_args job = *a;
    dense_runs           runs = {.args = &job, .chunks = (a->count + CHUNK - 1) / CHUNK};
    runs.run = runs.chunks / (RUNS_PER_THREAD * (int64_t)cn_pool_threads(stream));
    if (runs.run > RUN) runs.run = RUN;
    find_chunks(&job);
    if (runs.run > 1)
        cn_pool_run(stream, dense_run_task, &runs, (runs.chunks + runs.run - 1) / runs.run);
    else
        cn_pool_run(stream, dense_task, &job, tasks(&a->head, a->count));
    merge_chunks(&a->head, a->count, stream);
    return CN_OK;
}
