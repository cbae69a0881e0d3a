/*
 * topk_cpu_simd.c - Exact top-k by splitting on bits, one thread.
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
#include "kernels/simd_int.h"
#include "kernels/topk.h"

#include <math.h>

enum {
    MARGIN = 1 << 20, // of the guess, in the order of floats: 1/8 of an octave
    FEW = 4,          // candidates are few up to count / FEW: beyond, gathers cost more
};

static const uint32_t KEY_MIN = 0x007fffff; // of -infinity

/* Integers in the order of floats; -0 becomes +0. */
V_INLINE v_i32 keys_of(v_f32 scores) {
    const v_i32 bits = v_as_i32(v_add(scores, v_zero()));
    return v_xor(bits, v_or(v_sign_i32(bits), v_set1_i32(INT32_MIN)));
}

static uint32_t key_of(float score) {
    return v_and_lanes(keys_of(v_set1(score)));
}

static float score_of(uint32_t key) {
    const uint32_t bits = key >> 31 ? key & 0x7fffffff : ~key;
    float          score;
    memcpy(&score, &bits, sizeof(score));
    return score;
}

/* Write to `list` the positions of all scores that are not below `least`, NaN included,
 * and return their number.  Writes whole vectors: up to V_LANES - 1 past the last. */
static int64_t collect(int32_t *list, const float *scores, int64_t count, float least) {
    const v_f32 bound = v_set1(least);
    v_i32       position = v_iota();
    int64_t     n = 0;
    for (int64_t i = 0; i < count; i += V_LANES) {
        const v_mask lanes = v_lanes(count - i);
        const v_f32  v = v_load_where(lanes, scores + i);
        const v_mask take = V_COMPARE_WHERE(lanes, v, bound, _CMP_NLT_UQ);
        n += v_compress(list + n, v_bits(take), position);
        position = v_add_i32(position, v_set1_i32(V_LANES));
    }
    return n;
}

/* The scores of candidates i, i + 1, ...: those listed, or, without a list, all. */
V_INLINE v_f32 load_candidates(const float *scores, const int32_t *list, int64_t i, v_mask lanes) {
    if (!list) return v_load_where(lanes, scores + i);
    return v_gather_where(lanes, scores, v_load_where_i32(lanes, list + i));
}

/* keys[i] of every candidate; whether none is a NaN. */
static bool map_candidates(uint32_t *keys, const float *scores, const int32_t *list, int64_t n) {
    v_mask nan = v_lanes(0);
    for (int64_t i = 0; i < n; i += V_LANES) {
        const v_f32 v = load_candidates(scores, list, i, v_lanes(n - i));
        nan = v_or_mask(nan, V_COMPARE(v, v, _CMP_UNORD_Q));
        v_storeu_i32(keys + i, keys_of(v));
    }
    return !v_bits(nan);
}

/* Keys whose bits under `mask` are those of `bits`: a step's undecided keys. */
typedef struct group {
    uint32_t mask, bits;
} group;

V_INLINE v_mask members(group g, v_i32 v, v_mask lanes) {
    return v_equal_where_i32(lanes, v_and(v, v_set1_i32((int32_t)g.mask)),
                             v_set1_i32((int32_t)g.bits));
}

/* The bits that all members have, and those that any has. */
static void find_bits(uint32_t *all_out, uint32_t *any_out, const uint32_t *keys, int64_t n,
                      group g) {
    v_i32 all = v_set1_i32(-1), any = v_set1_i32(0);
    for (int64_t i = 0; i < n; i += V_LANES) {
        const v_i32  v = v_loadu_i32(keys + i);
        const v_mask in = members(g, v, v_lanes(n - i));
        all = v_and_where(in, all, v);
        any = v_or_where(in, any, v);
    }
    *all_out = v_and_lanes(all);
    *any_out = v_or_lanes(any);
}

static int64_t count_members(const uint32_t *keys, int64_t n, group g) {
    int64_t found = 0;
    for (int64_t i = 0; i < n; i += V_LANES)
        found += __builtin_popcount(v_bits(members(g, v_loadu_i32(keys + i), v_lanes(n - i))));
    return found;
}

/* Drop all but the members.  A vector is written at or before where it was read. */
static int64_t keep_members(uint32_t *keys, int64_t n, group g) {
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i += V_LANES) {
        const v_i32 v = v_loadu_i32(keys + i);
        kept += v_compress((int32_t *)keys + kept, v_bits(members(g, v, v_lanes(n - i))), v);
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

/* The positions of the candidates above `threshold` and of the first `equals` at it: k. */
static void emit(int32_t *set, int64_t k, const float *scores, const int32_t *list, int64_t n,
                 float threshold, int64_t equals) {
    const v_f32 bound = v_set1(threshold);
    int32_t     last[V_LANES]; // where a whole vector does not fit
    for (int64_t i = 0, taken = 0; i < n; i += V_LANES) {
        const v_mask lanes = v_lanes(n - i);
        const v_f32  v = load_candidates(scores, list, i, lanes);
        uint32_t     equal = v_bits(V_COMPARE_WHERE(lanes, v, bound, _CMP_EQ_OQ));
        if (__builtin_popcount(equal) > equals) { // only the first ones
            uint32_t rest = equal;
            for (int64_t e = 0; e < equals; e++) rest &= rest - 1;
            equal ^= rest;
        }
        equals -= __builtin_popcount(equal);

        const uint32_t take = v_bits(V_COMPARE_WHERE(lanes, v, bound, _CMP_GT_OQ)) | equal;
        const v_i32    at =
            list ? v_load_where_i32(lanes, list + i) : v_add_i32(v_iota(), v_set1_i32((int32_t)i));
        const bool fits = k - taken >= V_LANES;
        const int  found = v_compress(fits ? set + taken : last, take, at);
        if (!fits) memcpy(set + taken, last, (size_t)found * sizeof(*set));
        taken += found;
    }
}

static bool has_nan(const float *scores, int64_t count) {
    v_mask nan = v_lanes(0);
    for (int64_t i = 0; i < count; i += V_LANES) {
        const v_f32 v = v_load_where(v_lanes(count - i), scores + i);
        nan = v_or_mask(nan, V_COMPARE(v, v, _CMP_UNORD_Q));
    }
    return v_bits(nan);
}

cn_err CN_SIMD(topk)(const cn_topk_args *a, void *stream) {
    (void)stream;
    CN_TRY(cn_topk_check(a));
    float threshold = -INFINITY;
    if (a->k >= a->count) {
        if (has_nan(a->scores, a->count)) return CN_ENUMERIC;
        for (int64_t i = 0; i < a->count; i++) a->set[i] = (int32_t)i;
    } else {
        uint32_t *keys = a->scratch; // [count], and V_LANES to spare
        int32_t  *list = (int32_t *)(keys + (a->count + 2 * V_LANES) / V_LANES * V_LANES),
                *found = NULL;
        int64_t n = a->count, equals;
        if (!isnan(a->guess)) {
            const uint32_t guess = key_of(a->guess);
            const float    least = score_of(guess > KEY_MIN + MARGIN ? guess - MARGIN : KEY_MIN);
            const int64_t  above = collect(list, a->scores, a->count, least);
            if (above >= a->k && above <= a->count / FEW) n = above, found = list;
        }
        if (!map_candidates(keys, a->scores, found, n)) return CN_ENUMERIC;
        threshold = score_of(select_key(keys, n, a->k, &equals));
        emit(a->set, a->k, a->scores, found, n, threshold, equals);
    }
    if (a->threshold_out) *a->threshold_out = threshold;
    return CN_OK;
}
