/*
 * topk_cpu_avx512.c - Exact top-k by splitting on bits, one thread.
 *
 * 1. With a guess: the positions of all scores not below it (lowered by MARGIN).  If they
 *    are at least k, and few, they are the candidates; else every score is.
 * 2. Map the candidates to integers in their order and find the k-th largest: split on
 *    the highest bit in which they differ, keep the side that holds it, repeat.
 * 3. In order of position, take what is above the k-th and the first of its equals.
 *
 * Bound  instructions: one pass over the scores with a good guess, else about four.  The
 *        split halves what it looks at while scores spread; each of its at most 32 steps
 *        reads what is left once or twice, so no input makes it quadratic.
 * Order  integers only: the result is that of topk_ref.c for every guess.
 * Error  0.
 */
#include "kernels/topk.h"

#include <immintrin.h>
#include <math.h>

enum {
    LANES = 16,
    MARGIN = 1 << 20, // of the guess, in the order of floats: 1/8 of an octave
    FEW = 4,          // candidates are few up to count / FEW: beyond, gathers cost more
};

static const uint32_t KEY_MIN = 0x007fffff; // of -infinity

/* Integers in the order of floats; -0 becomes +0. */
static inline __m512i keys_of(__m512 scores) {
    const __m512i bits = _mm512_castps_si512(_mm512_add_ps(scores, _mm512_setzero_ps()));
    const __m512i sign = _mm512_srai_epi32(bits, 31);
    return _mm512_xor_si512(bits, _mm512_or_si512(sign, _mm512_set1_epi32(INT32_MIN)));
}

static uint32_t key_of(float score) {
    return (uint32_t)_mm512_cvtsi512_si32(keys_of(_mm512_set1_ps(score)));
}

static float score_of(uint32_t key) {
    const uint32_t bits = key >> 31 ? key & 0x7fffffff : ~key;
    float          score;
    memcpy(&score, &bits, sizeof(score));
    return score;
}

/* The lanes of the vector at `at` that lie before `end`. */
static inline __mmask16 lanes_at(int64_t at, int64_t end) {
    return end - at >= LANES ? 0xffff : (__mmask16)((1u << (end - at)) - 1);
}

/* Write to `list` the positions of all scores that are not below `least`, NaN included,
 * and return their number.  Writes whole vectors: up to LANES - 1 past the last. */
static int64_t collect(int32_t *list, const float *scores, int64_t count, float least) {
    const __m512 bound = _mm512_set1_ps(least);
    __m512i      position = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    int64_t      n = 0;
    for (int64_t i = 0; i < count; i += LANES) {
        const __mmask16 lanes = lanes_at(i, count);
        const __m512    v = _mm512_maskz_loadu_ps(lanes, scores + i);
        const __mmask16 take = _mm512_mask_cmp_ps_mask(lanes, v, bound, _CMP_NLT_UQ);
        _mm512_storeu_si512(list + n, _mm512_maskz_compress_epi32(take, position));
        n += __builtin_popcount(take);
        position = _mm512_add_epi32(position, _mm512_set1_epi32(LANES));
    }
    return n;
}

/* The scores of candidates i, i + 1, ...: those listed, or, without a list, all. */
static inline __m512 load_candidates(const float *scores, const int32_t *list, int64_t i,
                                     __mmask16 lanes) {
    if (!list) return _mm512_maskz_loadu_ps(lanes, scores + i);
    const __m512i at = _mm512_maskz_loadu_epi32(lanes, list + i);
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), lanes, at, scores, 4);
}

/* keys[i] of every candidate; whether none is a NaN. */
static bool map_candidates(uint32_t *keys, const float *scores, const int32_t *list, int64_t n) {
    __mmask16 nan = 0;
    for (int64_t i = 0; i < n; i += LANES) {
        const __m512 v = load_candidates(scores, list, i, lanes_at(i, n));
        nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        _mm512_storeu_si512(keys + i, keys_of(v));
    }
    return !nan;
}

/* Keys whose bits under `mask` are those of `bits`: a step's undecided keys. */
typedef struct group {
    uint32_t mask, bits;
} group;

static inline __mmask16 members(group g, __m512i v, __mmask16 lanes) {
    return _mm512_mask_cmpeq_epi32_mask(lanes,
                                        _mm512_and_si512(v, _mm512_set1_epi32((int32_t)g.mask)),
                                        _mm512_set1_epi32((int32_t)g.bits));
}

/* The bits that all members have, and those that any has. */
static void find_bits(uint32_t *all_out, uint32_t *any_out, const uint32_t *keys, int64_t n,
                      group g) {
    __m512i all = _mm512_set1_epi32(-1), any = _mm512_setzero_si512();
    for (int64_t i = 0; i < n; i += LANES) {
        const __m512i   v = _mm512_loadu_si512(keys + i);
        const __mmask16 in = members(g, v, lanes_at(i, n));
        all = _mm512_mask_and_epi32(all, in, all, v);
        any = _mm512_mask_or_epi32(any, in, any, v);
    }
    *all_out = (uint32_t)_mm512_reduce_and_epi32(all);
    *any_out = (uint32_t)_mm512_reduce_or_epi32(any);
}

static int64_t count_members(const uint32_t *keys, int64_t n, group g) {
    int64_t found = 0;
    for (int64_t i = 0; i < n; i += LANES)
        found += __builtin_popcount(members(g, _mm512_loadu_si512(keys + i), lanes_at(i, n)));
    return found;
}

/* Drop all but the members.  A vector is written at or before where it was read. */
static int64_t keep_members(uint32_t *keys, int64_t n, group g) {
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i += LANES) {
        const __m512i   v = _mm512_loadu_si512(keys + i);
        const __mmask16 in = members(g, v, lanes_at(i, n));
        _mm512_storeu_si512(keys + kept, _mm512_maskz_compress_epi32(in, v));
        kept += __builtin_popcount(in);
    }
    return kept;
}

/* The k-th largest of keys[0..n), 1 <= k <= n, which are overwritten; *equals_out: how many
 * of the keys equal to it are among the k largest. */
static uint32_t select_key(uint32_t *keys, int64_t n, int64_t k, int64_t *equals_out) {
    group    g = {0, 0};
    int64_t  undecided = n;
    uint32_t all, any;
    for (;;) {
        find_bits(&all, &any, keys, n, g);
        if (all == any) break;
        const uint32_t bit = 0x80000000u >> __builtin_clz(all ^ any);
        g.mask = ~(bit - 1);
        g.bits = (all & g.mask) | bit;
        const int64_t with = count_members(keys, n, g);
        if (k <= with) {
            undecided = with;
        } else {
            g.bits ^= bit, k -= with, undecided -= with;
        }
        if (undecided <= n / 2) n = keep_members(keys, n, g); // not worth it for less
    }
    *equals_out = k;
    return all;
}

/* The positions of the candidates above `threshold` and of the first `equals` at it. */
static void emit(int32_t *set, const float *scores, const int32_t *list, int64_t n, float threshold,
                 int64_t equals) {
    const __m512  bound = _mm512_set1_ps(threshold);
    const __m512i iota = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask16 lanes = lanes_at(i, n);
        const __m512    v = load_candidates(scores, list, i, lanes);
        __mmask16       equal = _mm512_mask_cmp_ps_mask(lanes, v, bound, _CMP_EQ_OQ);
        if (__builtin_popcount(equal) > equals) { // only the first ones
            uint32_t rest = equal;
            for (int64_t e = 0; e < equals; e++) rest &= rest - 1;
            equal ^= (__mmask16)rest;
        }
        equals -= __builtin_popcount(equal);

        const __mmask16 take = _mm512_mask_cmp_ps_mask(lanes, v, bound, _CMP_GT_OQ) | equal;
        const __m512i   at = list ? _mm512_maskz_loadu_epi32(lanes, list + i)
                                  : _mm512_add_epi32(iota, _mm512_set1_epi32((int32_t)i));
        const int       taken = __builtin_popcount(take);
        _mm512_mask_storeu_epi32(set, (__mmask16)((1u << taken) - 1),
                                 _mm512_maskz_compress_epi32(take, at));
        set += taken;
    }
}

static bool has_nan(const float *scores, int64_t count) {
    __mmask16 nan = 0;
    for (int64_t i = 0; i < count; i += LANES) {
        const __m512 v = _mm512_maskz_loadu_ps(lanes_at(i, count), scores + i);
        nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    }
    return nan;
}

cn_err cn_topk_avx512(const cn_topk_args *a, void *stream) {
    (void)stream;
    CN_TRY(cn_topk_check(a));
    float threshold = -INFINITY;
    if (a->k >= a->count) {
        if (has_nan(a->scores, a->count)) return CN_ENUMERIC;
        for (int64_t i = 0; i < a->count; i++) a->set[i] = (int32_t)i;
    } else {
        uint32_t *keys = a->scratch; // [count], and LANES to spare
        int32_t  *list = (int32_t *)(keys + (a->count + 2 * LANES) / LANES * LANES), *found = NULL;
        int64_t   n = a->count, equals;
        if (!isnan(a->guess)) {
            const uint32_t guess = key_of(a->guess);
            const float    least = score_of(guess > KEY_MIN + MARGIN ? guess - MARGIN : KEY_MIN);
            const int64_t  above = collect(list, a->scores, a->count, least);
            if (above >= a->k && above <= a->count / FEW) n = above, found = list;
        }
        if (!map_candidates(keys, a->scores, found, n)) return CN_ENUMERIC;
        threshold = score_of(select_key(keys, n, a->k, &equals));
        emit(a->set, a->scores, found, n, threshold, equals);
    }
    if (a->threshold_out) *a->threshold_out = threshold;
    return CN_OK;
}
