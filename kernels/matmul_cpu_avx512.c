/*
 * matmul_cpu_avx512.c - y = x W^T with dpbf16ps and vpdpbusd.
 *
 * Rows of x are converted into scratch once: to bf16, or to q split into bytes
 *
 *   lo = q & 255,  hi = (q >> 8) + 128,
 *   sum_k q w = 256 (sum_k hi w - 128 sum_k w) + sum_k lo w
 *
 * so that both halves are u8 x s8 products.  A tile is up to 6 rows of x by some panels
 * of W, all its sums in registers; a task is a block of rows, small enough for L2, by a
 * run of panels.  While a tile reads its panels it prefetches the next ones, in the order
 * of their addresses: the panels of a tile are as many streams, the bus likes one.
 *
 * Bound  many rows: dpbf16ps or vpdpbusd.  Few rows: the bus, cn_matmul_bytes().
 * Order  one chain an output, k ascending from 0, in a tile of any size: the bits of a
 *        row depend on neither the other rows nor the tasks nor the threads.
 * Error  BF16: (cols + 2) * 2^-24 * sum_k |x w| against the reference, one rounding of y
 *        more with `add`; numbers below 2^-126 count as 0.  I8: none, the same bits.
 */
#include "kernels/matmul.h"
#include "kernels/rows_int.h"

#include <immintrin.h>
#include <math.h>

enum {
    TILE_ROWS = 6,
    BF16_PANELS = 4,         // of a tile: 6 x 4 sums, 4 weights, a broadcast are 29 of 32 registers
    I8_PANELS = 2,           // 6 x 2 sums of hi, as many of lo, 2 weights, 2 broadcasts: 28
    AHEAD_TILES = 4,         // tiles of a block that prefetch: one alone falls behind the bus
    BLOCK_BYTES = 256 << 10, // converted rows of a block: a part of L2
    TASKS_PER_THREAD = 8,
    CONVERT_ELEMENTS = 8 << 10, // of a conversion task
};

/* A loop that is gone once R and C are known, so that arrays become registers. */
#ifdef __clang__
#define EACH(i, n) _Pragma("clang loop unroll(full)") for (int i = 0; i < (n); i++)
#else
#define EACH(i, n) _Pragma("GCC unroll 8") for (int i = 0; i < (n); i++)
#endif

/* gcc copies an accumulator at every step unless its type is the instruction's. */
typedef int32_t i32x16 __attribute__((vector_size(64)));

typedef struct job {
    const cn_matmul_args *a;
    int64_t               panel_bytes;
    int64_t               row_bytes; // of a converted row: cols * 2, then its step (I8)
    int32_t               groups;
    int64_t               block_rows, blocks;
    int64_t               task_panels, panel_tasks, threads;
} job;

/* ---- Conversion ---- */

static void convert_bf16(uint8_t *dst, const float *x, int32_t cols) {
    for (int32_t k = 0; k < cols; k += 16)
        _mm256_storeu_si256((__m256i *)(dst + k * 2),
                            (__m256i)_mm512_cvtneps_pbh(_mm512_load_ps(x + k)));
}

/* [groups][4 lo bytes, 4 hi bytes], then s / 32512. */
static void convert_i8(uint8_t *dst, const float *x, int32_t cols) {
    // As integers, magnitudes order like floats, and infinities and NaNs come last.
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i       max = _mm512_setzero_si512();
    for (int32_t k = 0; k < cols; k += 16)
        max = _mm512_max_epi32(max, _mm512_and_si512(magnitude, _mm512_load_si512(x + k)));
    const int32_t s_bits = _mm512_reduce_max_epi32(max);
    float         s;
    memcpy(&s, &s_bits, 4);

    const float inv = CN_MATMUL_QMAX / s;
    const float step = s_bits < 0x7f800000 ? s / CN_MATMUL_QMAX : NAN;
    for (int32_t k = 0; k < cols; k += 16) {
        // Where inv or the product is not finite the conversion gives INT32_MIN, and both bytes
        // taken from it are those of q = 0.
        const __m512i q =
            _mm512_cvt_roundps_epi32(_mm512_mul_ps(_mm512_load_ps(x + k), _mm512_set1_ps(inv)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const __m128i lo = _mm512_cvtepi32_epi8(q);
        const __m128i hi =
            _mm_xor_si128(_mm512_cvtepi32_epi8(_mm512_srai_epi32(q, 8)), _mm_set1_epi8((char)0x80));
        _mm_storeu_si128((__m128i *)(dst + k * 2), _mm_unpacklo_epi32(lo, hi));
        _mm_storeu_si128((__m128i *)(dst + k * 2 + 16), _mm_unpackhi_epi32(lo, hi));
    }
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
    __mmask16      last; // used rows of the last panel
    const uint8_t *x;
    int64_t        row_bytes;
    const uint8_t *w, *ahead; // panels; those that this thread reads next
    int64_t        panel_bytes;
    int32_t        groups, cols;
    const float   *scale;
    const int32_t *sum;
} tile;

static inline __m512i broadcast4(const uint8_t *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

static inline void put(const tile *t, int r, int c, int panels, __m512 product) {
    const __mmask16 mask = c == panels - 1 ? t->last : 0xffff;
    float          *y = t->y + r * t->y_stride + c * CN_PANEL_ROWS;
    const __m512    base = t->add ? _mm512_maskz_loadu_ps(mask, y) : _mm512_setzero_ps();
    _mm512_mask_storeu_ps(y, mask, _mm512_add_ps(base, product));
}

/* R and C are constants at every call. */
static inline __attribute__((always_inline)) void tile_bf16(const tile *t, const int R,
                                                            const int C) {
    __m512 sum[TILE_ROWS][BF16_PANELS];
    EACH(r, R) EACH(c, C) sum[r][c] = _mm512_setzero_ps();
    for (int64_t g = 0; g < t->groups; g++) {
        __m512bh w[BF16_PANELS];
        EACH(c, C) w[c] = (__m512bh)_mm512_load_si512(t->w + c * t->panel_bytes + g * 64);
        EACH(c, C) _mm_prefetch(t->ahead + (g * C + c) * 64, _MM_HINT_T1);
        EACH(r, R) {
            const __m512bh x = (__m512bh)broadcast4(t->x + r * t->row_bytes + g * 4);
            EACH(c, C) sum[r][c] = _mm512_dpbf16_ps(sum[r][c], x, w[c]);
        }
    }
    EACH(r, R) EACH(c, C) put(t, r, c, C, sum[r][c]);
}

/* The exact sum as f64, rounded to f32 once: 256 (hi - 128 sum) + lo, 8 outputs. */
static inline __m256 combine8(__m256i hi, __m256i lo) {
    return _mm512_cvtpd_ps(
        _mm512_fmadd_pd(_mm512_cvtepi32_pd(hi), _mm512_set1_pd(256), _mm512_cvtepi32_pd(lo)));
}

static inline __m512 combine(__m512i hi, __m512i lo, __m512i sum) {
    hi = _mm512_sub_epi32(hi, _mm512_slli_epi32(sum, 7));
    const __m256 a = combine8(_mm512_castsi512_si256(hi), _mm512_castsi512_si256(lo));
    const __m256 b = combine8(_mm512_extracti64x4_epi64(hi, 1), _mm512_extracti64x4_epi64(lo, 1));
    return _mm512_insertf32x8(_mm512_castps256_ps512(a), b, 1);
}

static inline __attribute__((always_inline)) void tile_i8(const tile *t, const int R, const int C) {
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
    EACH(r, R) {
        float step;
        memcpy(&step, t->x + r * t->row_bytes + t->cols * 2, 4);
        EACH(c, C) {
            const __m512 scale =
                _mm512_mul_ps(_mm512_set1_ps(step), _mm512_load_ps(t->scale + c * CN_PANEL_ROWS));
            const __m512 total = combine((__m512i)hi[r][c], (__m512i)lo[r][c],
                                         _mm512_load_si512(t->sum + c * CN_PANEL_ROWS));
            put(t, r, c, C, _mm512_mul_ps(total, scale));
        }
    }
}

#define TILE(type, R, C)                                                                           \
    static void type##_##R##x##C(const tile *t) {                                                  \
        tile_##type(t, R, C);                                                                      \
    }
#define TILES(R) TILE(bf16, R, 1) TILE(bf16, R, 4) TILE(i8, R, 1) TILE(i8, R, 2)
TILES(1)
TILES(2)
TILES(3)
TILES(4)
TILES(5)
TILES(6)

/* [one panel or the most][rows - 1] */
typedef void (*tile_fn)(const tile *t);
static const tile_fn bf16_tiles[2][TILE_ROWS] = {
    {bf16_1x1, bf16_2x1, bf16_3x1, bf16_4x1, bf16_5x1, bf16_6x1},
    {bf16_1x4, bf16_2x4, bf16_3x4, bf16_4x4, bf16_5x4, bf16_6x4},
};
static const tile_fn i8_tiles[2][TILE_ROWS] = {
    {i8_1x1, i8_2x1, i8_3x1, i8_4x1, i8_5x1, i8_6x1},
    {i8_1x2, i8_2x2, i8_3x2, i8_4x2, i8_5x2, i8_6x2},
};

/* ---- Tasks ---- */

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
    const int64_t         tile_panels = is_i8 ? I8_PANELS : BF16_PANELS;
    const int64_t         m0 = task / j->panel_tasks * j->block_rows;
    const int64_t         m1 = min64(m0 + j->block_rows, a->rows);
    const int64_t         panels = cn_weight_panels(w->rows);
    int64_t               p = task % j->panel_tasks * j->task_panels;
    const int64_t         p1 = min64(p + j->task_panels, panels);

    for (int64_t n; p < p1; p += n) {
        n = p1 - p >= tile_panels ? tile_panels : 1;
        const int64_t used = w->rows - (p + n - 1) * CN_PANEL_ROWS;
        tile          t = {
                     .y_stride = a->y_stride,
                     .add = a->add,
                     .last = used >= CN_PANEL_ROWS ? 0xffff : (__mmask16)((1u << used) - 1),
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

cn_err cn_matmul_avx512(const cn_matmul_args *a, void *stream) {
    CN_TRY(cn_matmul_check(a));
    if (a->rows == 0) return CN_OK;
    const cn_weight *w = a->w;
    const int64_t    panels = cn_weight_panels(w->rows);
    const int64_t    tasks = (int64_t)TASKS_PER_THREAD * cn_pool_threads(stream);
    job              j = {
                     .a = a,
                     .threads = cn_pool_threads(stream),
                     .panel_bytes = cn_weight_panel_bytes(w->type, w->cols),
                     .row_bytes = (int64_t)w->cols * 2 + 64,
                     .groups = w->cols / cn_weight_group(w->type),
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
