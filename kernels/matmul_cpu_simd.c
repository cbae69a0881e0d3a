/*
 * matmul_cpu_simd.c - y = x W^T with dpbf16ps and vpdpbusd, or with FMA and vpmaddwd.
 *
 * Rows of x are converted into scratch once: for BF16 to v_term, for I8 with AVX2 to 16-bit q
 * and with AVX-512 to q split into bytes
 *
 *   lo = q & 255,  hi = (q >> 8) + 128,
 *   sum_k q w = 256 (sum_k hi w - 128 sum_k w) + sum_k lo w
 *
 * so that both halves are u8 x s8 products.  AVX2 has such a product too, vpmaddubsw, but it
 * saturates: there the weights are widened to 16 bits, once for the rows of a tile.
 *
 * A tile is up to 6 rows of x by some panels of W, all its sums in registers; a task is a block
 * of rows, small enough for L2, by a run of panels.  While a tile reads its panels it prefetches
 * the next ones, in the order of their addresses: the panels of a tile are as many streams, the
 * bus likes one.
 *
 * Bound  many rows: dpbf16ps or vpdpbusd; FMA, or vpmaddwd and its addition.  Few rows: the
 *        bus, cn_matmul_bytes().
 * Order  one chain an output, k ascending from 0, in a tile of any size: the bits of a
 *        row depend on neither the other rows nor the tasks nor the threads.
 * Error  BF16: (cols + 2) * 2^-24 * sum_k |x w| against the reference, one rounding of y
 *        more with `add`; dpbf16ps takes numbers below 2^-126 for 0.  I8: none, the same bits.
 */
#include "kernels/matmul.h"
#include "kernels/rows_int.h"
#include "kernels/simd_int.h"

#include <math.h>

enum {
    TILE_ROWS = 6,
    BF16_PANELS = 4, // of a tile: 6 x 4 sums, 4 weights, a broadcast are 29 of 32 registers;
                     // AVX2 has this many for one row only
    I8_PANELS = 2,   // 6 x 2 sums of hi, as many of lo, 2 weights, 2 broadcasts: 28; AVX2 has 1
    AHEAD_TILES = 4, // tiles of a block that prefetch: one alone falls behind the bus
    BLOCK_BYTES = V_PICK(256, 128) << 10, // converted rows of a block: a part of L2
    TASKS_PER_THREAD = 8,
    CONVERT_ELEMENTS = 8 << 10, // of a conversion task
};

/* A loop that is gone once R and C are known, so that arrays become registers. */
#ifdef __clang__
#define EACH(i, n) _Pragma("clang loop unroll(full)") for (int i = 0; i < (n); i++)
#else
#define EACH(i, n) _Pragma("GCC unroll 8") for (int i = 0; i < (n); i++)
#endif

typedef struct job {
    const cn_matmul_args *a;
    int64_t               panel_bytes;
    int64_t               row_bytes; // of a converted row: its elements, then its step (I8)
    int32_t               groups;
    int64_t               tile_panels;
    int64_t               block_rows, blocks;
    int64_t               task_panels, panel_tasks, threads;
} job;

/* ---- Conversion ---- */

static void convert_bf16(uint8_t *dst, const float *x, int32_t cols) {
    for (int32_t k = 0; k < cols; k += V_LANES) v_store_terms((v_term *)dst + k, v_load(x + k));
}

/* The largest magnitude of a row, or an infinity or a NaN if there is one. */
static float largest(const float *x, int32_t cols) {
    // As integers, magnitudes order like floats, and infinities and NaNs come last.
    v_i32 max = v_set1_i32(0);
    for (int32_t k = 0; k < cols; k += V_LANES)
        max = v_max_i32(max, v_and(v_set1_i32(0x7fffffff), v_loadu_i32(x + k)));
    const int32_t bits = v_max_lane_i32(max);
    float         s;
    memcpy(&s, &bits, 4);
    return s;
}

#ifdef __AVX512F__

/* 16 q: [groups][4 lo bytes, 4 hi bytes]. */
V_INLINE void store_q(uint8_t *dst, v_f32 scaled) {
    // Where x or inv is not finite the conversion gives INT32_MIN, and both bytes taken from it
    // are those of q = 0.
    const __m512i q =
        _mm512_cvt_roundps_epi32(scaled, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m128i lo = _mm512_cvtepi32_epi8(q);
    const __m128i hi =
        _mm_xor_si128(_mm512_cvtepi32_epi8(_mm512_srai_epi32(q, 8)), _mm_set1_epi8((char)0x80));
    _mm_storeu_si128((__m128i *)dst, _mm_unpacklo_epi32(lo, hi));
    _mm_storeu_si128((__m128i *)dst + 1, _mm_unpackhi_epi32(lo, hi));
}

#else

/* 16 q, in order. */
V_INLINE void store_q(uint8_t *dst, v_f32 scaled) {
    // Where x or inv is not finite the conversion gives INT32_MIN, of which 0 is made.
    const v_i32   q = V_MAP1(v_i32, cvtps_epi32, scaled);
    const __m256i none = _mm256_set1_epi32(INT32_MIN);
    const __m256i lo = _mm256_andnot_si256(_mm256_cmpeq_epi32(q.lo, none), q.lo);
    const __m256i hi = _mm256_andnot_si256(_mm256_cmpeq_epi32(q.hi, none), q.hi);
    const __m256i all = _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xD8);
    _mm256_storeu_si256((__m256i *)dst, all);
}

#endif

/* q, 2 bytes each, then s / 32512. */
static void convert_i8(uint8_t *dst, const float *x, int32_t cols) {
    const float s = largest(x, cols), inv = CN_MATMUL_QMAX / s;
    const float step = isfinite(s) ? s / CN_MATMUL_QMAX : NAN;
    for (int32_t k = 0; k < cols; k += V_LANES)
        store_q(dst + k * 2, v_mul(v_load(x + k), v_set1(inv)));
    memcpy(dst + cols * 2, &step, 4);
}

static void convert_rows(const void *args, int64_t first, int64_t end) {
    const job            *j = args;
    const cn_matmul_args *a = j->a;
    for (int64_t m = first; m < end; m++) {
        uint8_t *dst = (uint8_t *)a->scratch + m * j->row_bytes;
        if (a->w->type == CN_WEIGHT_I8)
            convert_i8(dst, a->x + m * a->x_stride, a->w->cols);
        else
            convert_bf16(dst, a->x + m * a->x_stride, a->w->cols);
    }
}

/* ---- Tiles ---- */

typedef struct tile {
    float         *y;
    int64_t        y_stride;
    bool           add;
    int64_t        last; // used rows of the last panel, 16 or more: all
    const uint8_t *x;
    int64_t        row_bytes;
    const uint8_t *w, *ahead; // panels; those that this thread reads next
    int64_t        panel_bytes;
    int32_t        groups, cols;
    const float   *scale;
    const int32_t *sum;
} tile;

V_INLINE void put(const tile *t, int r, int c, int panels, v_f32 product) {
    const int64_t lanes = c == panels - 1 ? t->last : CN_PANEL_ROWS;
    float        *y = t->y + r * t->y_stride + c * CN_PANEL_ROWS;
    v_store_first(y, lanes, v_add(t->add ? v_load_first(y, lanes) : v_zero(), product));
}

V_INLINE v_factor load_x(const tile *t, int r, int64_t g, int step) {
    return v_set1_terms((const v_term *)(t->x + r * t->row_bytes) + g * 2, step);
}

/* R and C are constants at every call. */
V_INLINE void tile_bf16(const tile *t, const int R, const int C) {
    v_f32 sum[TILE_ROWS][BF16_PANELS];
    EACH(r, R) EACH(c, C) sum[r][c] = v_zero();
    for (int64_t g = 0; g < t->groups; g++) {
        EACH(c, C) _mm_prefetch(t->ahead + (g * C + c) * 64, _MM_HINT_T1);
        EACH(step, V_STEPS) {
            v_factor w[BF16_PANELS], x[TILE_ROWS];
            if (C > R) { // the fewer first: they stay in registers
                EACH(r, R) x[r] = load_x(t, r, g, step);
                EACH(c, C) {
                    w[c] = v_load_pairs(t->w + c * t->panel_bytes + g * 64, step);
                    EACH(r, R) sum[r][c] = v_add_products(sum[r][c], x[r], w[c]);
                }
            } else {
                EACH(c, C) w[c] = v_load_pairs(t->w + c * t->panel_bytes + g * 64, step);
                EACH(r, R) {
                    x[r] = load_x(t, r, g, step);
                    EACH(c, C) sum[r][c] = v_add_products(sum[r][c], x[r], w[c]);
                }
            }
        }
    }
    EACH(r, R) EACH(c, C) put(t, r, c, C, sum[r][c]);
}

/* Row r's outputs of panel c from their exact sums, which are rounded once. */
V_INLINE void put_i8(const tile *t, int r, int c, int panels, v_f32 sum) {
    float step;
    memcpy(&step, t->x + r * t->row_bytes + t->cols * 2, 4);
    const v_f32 scale = v_mul(v_set1(step), v_load(t->scale + c * CN_PANEL_ROWS));
    put(t, r, c, panels, v_mul(sum, scale));
}

/* gcc copies an accumulator at every step unless its type is the instruction's. */
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef int32_t i32x8 __attribute__((vector_size(32)));

#ifdef __AVX512F__

V_INLINE __m512i broadcast4(const uint8_t *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

/* The exact sum as f64, rounded to f32 once: 256 (hi - 128 sum) + lo, 8 outputs. */
V_INLINE __m256 combine8(__m256i hi, __m256i lo) {
    return _mm512_cvtpd_ps(
        _mm512_fmadd_pd(_mm512_cvtepi32_pd(hi), _mm512_set1_pd(256), _mm512_cvtepi32_pd(lo)));
}

V_INLINE __m512 combine(__m512i hi, __m512i lo, __m512i sum) {
    hi = _mm512_sub_epi32(hi, _mm512_slli_epi32(sum, 7));
    const __m256 a = combine8(_mm512_castsi512_si256(hi), _mm512_castsi512_si256(lo));
    const __m256 b = combine8(_mm512_extracti64x4_epi64(hi, 1), _mm512_extracti64x4_epi64(lo, 1));
    return _mm512_insertf32x8(_mm512_castps256_ps512(a), b, 1);
}

V_INLINE void tile_i8(const tile *t, const int R, const int C) {
    i32x16 lo[TILE_ROWS][I8_PANELS], hi[TILE_ROWS][I8_PANELS];
    EACH(r, R) EACH(c, C) lo[r][c] = hi[r][c] = (i32x16){0};
    for (int64_t g = 0; g < t->groups; g++) {
        __m512i w[I8_PANELS];
        EACH(c, C) w[c] = _mm512_load_si512(t->w + c * t->panel_bytes + g * 64);
        EACH(c, C) _mm_prefetch(t->ahead + (g * C + c) * 64, _MM_HINT_T1);
        EACH(r, R) {
            const uint8_t *x = t->x + r * t->row_bytes + g * 8;
            const __m512i  x_lo = broadcast4(x), x_hi = broadcast4(x + 4);
            EACH(c, C) {
                lo[r][c] = (i32x16)_mm512_dpbusd_epi32((__m512i)lo[r][c], x_lo, w[c]);
                hi[r][c] = (i32x16)_mm512_dpbusd_epi32((__m512i)hi[r][c], x_hi, w[c]);
            }
        }
    }
    EACH(r, R) EACH(c, C) {
        const __m512i sum = _mm512_load_si512(t->sum + c * CN_PANEL_ROWS);
        put_i8(t, r, c, C, combine((__m512i)hi[r][c], (__m512i)lo[r][c], sum));
    }
}

#else

/* As many groups of 4 columns have a sum that fits 32 bits. */
enum { SUM_GROUPS = 128 };
_Static_assert((int64_t)SUM_GROUPS * 4 * CN_MATMUL_QMAX * 127 <= INT32_MAX, "sums fit");

/* The sums of 8 outputs, of which a and b hold two terms each. */
V_INLINE v_f64 add_terms(__m256i a, __m256i b) {
    const __m256i sum = _mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xD8);
    return (v_f64){_mm256_cvtepi32_pd(_mm256_castsi256_si128(sum)),
                   _mm256_cvtepi32_pd(_mm256_extracti128_si256(sum, 1))};
}

/* Add to `total` the products of groups from, ..., end - 1 with 4 * V outputs of a panel from
 * output 4 * first on.  A vector holds two terms of 4 outputs. */
V_INLINE void add_groups(const tile *t, double (*total)[CN_PANEL_ROWS], int64_t from, int64_t end,
                         const int first, const int R, const int V) {
    i32x8   sum[TILE_ROWS][4];
    __m256i w[4];
    EACH(r, R) EACH(v, V) sum[r][v] = (i32x8){0};
    for (int64_t g = from; g < end; g++) {
        const __m128i *bytes = (const __m128i *)(t->w + g * 64) + first;
        EACH(v, V) w[v] = _mm256_cvtepi8_epi16(_mm_load_si128(bytes + v));
        if (first == 0) _mm_prefetch(t->ahead + g * 64, _MM_HINT_T1);
        EACH(r, R) {
            int64_t four;
            memcpy(&four, t->x + r * t->row_bytes + g * 8, 8);
            const __m256i x = _mm256_set1_epi64x(four);
            EACH(v, V) sum[r][v] += (i32x8)_mm256_madd_epi16(w[v], x);
        }
    }
    EACH(r, R) for (int v = 0; v < V; v += 2) {
        double *to = &total[r][(first + v) * 4];
        v_storeu_f64(
            to, v_add_f64(v_loadu_f64(to), add_terms((__m256i)sum[r][v], (__m256i)sum[r][v + 1])));
    }
}

/* One panel: its outputs in one pass, or, with many rows, in two, for want of registers. */
V_INLINE void tile_i8(const tile *t, const int R, const int C) {
    _Alignas(64) double total[TILE_ROWS][CN_PANEL_ROWS] = {0}; // exact: whole, below 2^53
    for (int64_t from = 0; from < t->groups; from += SUM_GROUPS) {
        const int64_t end = t->groups - from < SUM_GROUPS ? t->groups : from + SUM_GROUPS;
        add_groups(t, total, from, end, 0, R, R > 2 ? 2 : 4);
        if (R > 2) add_groups(t, total, from, end, 2, R, 2);
    }
    EACH(r, R) {
        const v_f64 a = v_loadu_f64(total[r]), b = v_loadu_f64(total[r] + 8);
        const v_f32 sums = {_mm256_set_m128(_mm256_cvtpd_ps(a.hi), _mm256_cvtpd_ps(a.lo)),
                            _mm256_set_m128(_mm256_cvtpd_ps(b.hi), _mm256_cvtpd_ps(b.lo))};
        put_i8(t, r, 0, C, sums);
    }
}

#endif

/* Panels of a wide tile of R rows; the last panels of a task are taken one by one. */
#ifdef __AVX512F__
#define BF16_WIDE(R) BF16_PANELS
#define I8_WIDE I8_PANELS
#else
#define BF16_WIDE(R) ((R) == 1 ? BF16_PANELS : (R) == 2 ? BF16_PANELS / 2 : 1)
#define I8_WIDE 1
#endif

#define TILE(name, type, R, C)                                                                     \
    static void name##R(const tile *t) {                                                           \
        tile_##type(t, R, C);                                                                      \
    }
#define TILES(R)                                                                                   \
    TILE(bf16_, bf16, R, 1)                                                                        \
    TILE(bf16_wide, bf16, R, BF16_WIDE(R)) TILE(i8_, i8, R, 1) TILE(i8_wide, i8, R, I8_WIDE)
TILES(1)
TILES(2)
TILES(3)
TILES(4)
TILES(5)
TILES(6)

/* [one panel or as many as fit][rows - 1] */
typedef void (*tile_fn)(const tile *t);
static const tile_fn bf16_tiles[2][TILE_ROWS] = {
    {bf16_1, bf16_2, bf16_3, bf16_4, bf16_5, bf16_6},
    {bf16_wide1, bf16_wide2, bf16_wide3, bf16_wide4, bf16_wide5, bf16_wide6},
};
static const tile_fn i8_tiles[2][TILE_ROWS] = {
    {i8_1, i8_2, i8_3, i8_4, i8_5, i8_6},
    {i8_wide1, i8_wide2, i8_wide3, i8_wide4, i8_wide5, i8_wide6},
};

/* ---- Tasks ---- */

/* Panels of the tiles for so many rows.  One row of I8 waits for the bus: one stream is best. */
static int64_t panels_for(cn_weight_type type, int64_t rows) {
    if (type == CN_WEIGHT_I8) return rows == 1 ? 1 : I8_WIDE;
    return BF16_WIDE(rows);
}

static inline int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline int64_t div_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static void product_task(void *arg, int64_t task) {
    const job            *j = arg;
    const cn_matmul_args *a = j->a;
    const cn_weight      *w = a->w;
    const bool            is_i8 = w->type == CN_WEIGHT_I8;
    const int64_t         m0 = task / j->panel_tasks * j->block_rows;
    const int64_t         m1 = min64(m0 + j->block_rows, a->rows);
    const int64_t         panels = cn_weight_panels(w->rows);
    int64_t               p = task % j->panel_tasks * j->task_panels;
    const int64_t         p1 = min64(p + j->task_panels, panels);

    for (int64_t n; p < p1; p += n) {
        n = p1 - p >= j->tile_panels ? j->tile_panels : 1;
        tile t = {
            .y_stride = a->y_stride,
            .add = a->add,
            .last = w->rows - (p + n - 1) * CN_PANEL_ROWS,
            .row_bytes = j->row_bytes,
            .w = (const uint8_t *)w->data + p * j->panel_bytes,
            .panel_bytes = j->panel_bytes,
            .groups = j->groups,
            .cols = w->cols,
            .scale = is_i8 ? w->scale + p * CN_PANEL_ROWS : NULL,
            .sum = is_i8 ? w->sum + p * CN_PANEL_ROWS : NULL,
        };
        const int64_t  next = p + n < p1 ? p + n : p1 + (j->threads - 1) * j->task_panels;
        const uint8_t *ahead =
            (const uint8_t *)w->data + (next < panels ? next : p) * j->panel_bytes;
        for (int64_t m = m0; m < m1; m += TILE_ROWS) {
            const int64_t rows = min64(TILE_ROWS, m1 - m);
            t.y = a->y + m * a->y_stride + p * CN_PANEL_ROWS;
            t.x = (const uint8_t *)a->scratch + m * j->row_bytes;
            t.ahead = m - m0 < AHEAD_TILES * TILE_ROWS ? ahead : t.w;
            (is_i8 ? i8_tiles : bf16_tiles)[n > 1][rows - 1](&t);
        }
    }
}

cn_err CN_SIMD(matmul)(const cn_matmul_args *a, void *stream) {
    CN_TRY(cn_matmul_check(a));
    if (a->rows == 0) return CN_OK;
    const cn_weight *w = a->w;
    const int64_t    panels = cn_weight_panels(w->rows);
    const int64_t    tasks = (int64_t)TASKS_PER_THREAD * cn_pool_threads(stream);
    job              j = {
                     .a = a,
                     .threads = cn_pool_threads(stream),
                     .panel_bytes = cn_weight_panel_bytes(w->type, w->cols),
                     .row_bytes = w->cols * (w->type == CN_WEIGHT_I8 ? 2 : (int64_t)sizeof(v_term)) + 64,
                     .groups = w->cols / cn_weight_group(w->type),
                     .tile_panels = panels_for(w->type, a->rows),
    };
    j.blocks = div_up(a->rows * j.row_bytes, BLOCK_BYTES);
    j.block_rows = div_up(div_up(a->rows, j.blocks), TILE_ROWS) * TILE_ROWS;
    j.blocks = div_up(a->rows, j.block_rows);
    j.task_panels = div_up(panels * j.blocks, tasks * BF16_PANELS) * BF16_PANELS;
    j.panel_tasks = div_up(panels, j.task_panels);

    cn_rows_run(stream, convert_rows, &j, a->rows, w->cols, CONVERT_ELEMENTS);
    cn_pool_run(stream, product_task, &j, j.blocks * j.panel_tasks);
    return CN_OK;
}
