/*
 * sample_cpu_simd.c - The next token, 8 weights at a time.  Contract and order of sums: sample.h.
 *
 * The steps are those of sample_ref.c, which says why they are right.  Behind the last weight of
 * a row come zeros up to a whole vector, which no sum and no set notices.
 *
 * Bound  instructions: an exp in f64 for each token, about 40 for a vector of 8 with AVX-512,
 *        then about four passes over weights in L2.
 * Order  that of sample.h; exp is cn_exp's operations, one by one.
 * Error  0: the token of sample_ref.c.
 */
#include "kernels/sample.h"
#include "kernels/sample_int.h"
#include "kernels/simd_int.h"

#include <math.h>

enum { LANES = 8 }; // of f64

static cn_err find_max(float *max_out, const float *logits, int32_t count) {
    v_f32  max = v_set1(-INFINITY);
    v_mask bad = v_lanes(0); // NaN, or +infinity
    for (int32_t i = 0; i < count; i += V_LANES) {
        const v_f32 x =
            v_select(v_lanes(count - i), v_load_first(logits + i, count - i), v_set1(-INFINITY));
        bad = v_or_mask(bad, V_COMPARE(x, v_set1(INFINITY), _CMP_NLT_UQ));
        max = v_max(max, x);
    }
    if (v_bits(bad)) return CN_ENUMERIC;
    *max_out = v_max_lane(max);
    return *max_out == -INFINITY ? CN_ENUMERIC : CN_OK;
}

/* The first token whose logit is `max`. */
static int32_t find_first(const float *logits, int32_t count, float max) {
    for (int32_t i = 0;; i += V_LANES) {
        const v_f32    x = v_load_first(logits + i, count - i);
        const uint32_t found =
            v_bits(V_COMPARE_WHERE(v_lanes(count - i), x, v_set1(max), _CMP_EQ_OQ));
        if (found) return i + __builtin_ctz(found);
    }
}

/* Eight logits from token i on; -infinity, which weighs nothing, behind the last. */
V_INLINE v_f64 load_logits(const cn_sample_args *a, int32_t i) {
    float last[LANES];
    if (a->count - i >= LANES) return v_f64_from_f32(a->logits + i);
    for (int32_t k = 0; k < LANES; k++) last[k] = i + k < a->count ? a->logits[i + k] : -INFINITY;
    return v_f64_from_f32(last);
}

static void weigh(double *weight, const cn_sample_args *a, float max) {
    const v_f64 scale = v_set1_f64(1.0 / a->temperature), min_p = v_set1_f64(a->min_p);
    for (int32_t i = 0; i < a->count; i += LANES) {
        const v_f64 x = v_mul_f64(v_sub_f64(load_logits(a, i), v_set1_f64(max)), scale);
        const v_f64 w = v_exp_f64(x);
        v_storeu_f64(weight + i, v_keep_f64(V_COMPARE_F64(w, min_p, _CMP_GE_OQ), w));
    }
}

static double sum_block(const double *weight, int32_t count, int32_t first) {
    v_f64 sum = v_set1_f64(0);
    for (int32_t i = first; i < count && i < first + CN_SAMPLE_BLOCK; i += LANES)
        sum = v_add_f64(sum, v_loadu_f64(weight + i));
    return v_sum_f64(sum);
}

static double sum_all(const double *weight, int32_t count) {
    double sum = 0;
    for (int32_t i = 0; i < count; i += CN_SAMPLE_BLOCK) sum += sum_block(weight, count, i);
    return sum;
}

/* The bits that all of n >= 1 weights have, and those that any has. */
static void find_bits(uint64_t *all_out, uint64_t *any_out, const double *list, int32_t n) {
    const v_f64 first = v_set1_f64(list[0]);
    v_f64       all = first, any = first;
    for (int32_t i = 0; i < n; i += LANES) {
        const v_f64 v = v_select_f64(v_lanes_f64(n - i), v_loadu_f64(list + i), first);
        all = v_and_f64(all, v);
        any = v_or_f64(any, v);
    }
    uint64_t lane[2][LANES];
    v_storeu_f64((double *)lane[0], all);
    v_storeu_f64((double *)lane[1], any);
    *all_out = lane[0][0], *any_out = lane[1][0];
    for (int k = 1; k < LANES; k++) *all_out &= lane[0][k], *any_out |= lane[1][k];
}

static double mass_with(const double *list, int32_t n, uint64_t bit) {
    v_f64 sum = v_set1_f64(0);
    for (int32_t i = 0; i < n; i += LANES) {
        const v_f64 v = v_loadu_f64(list + i);
        sum = v_add_f64(sum, v_keep_f64(v_and_mask_f64(v_lanes_f64(n - i), v_has_bit(v, bit)), v));
    }
    return v_sum_f64(sum);
}

/* Keep in place the weights that have `bit`, or those that do not.  A vector is written at or
 * before where it was read. */
static int32_t keep_with(double *list, int32_t n, uint64_t bit, bool is_with) {
    int32_t kept = 0;
    for (int32_t i = 0; i < n; i += LANES) {
        const v_f64    v = v_loadu_f64(list + i);
        const uint32_t with = v_bits_f64(v_has_bit(v, bit));
        const uint32_t take = (is_with ? with : ~with) & v_bits_f64(v_lanes_f64(n - i));
        kept += v_compress_f64(list + kept, take, v);
    }
    return kept;
}

static double find_last(double *list, int32_t n, double target, int32_t *equals_out) {
    double   run = 0;
    uint64_t all, any;
    for (;;) {
        find_bits(&all, &any, list, n);
        if (all == any) break;
        const uint64_t bit = UINT64_C(1) << (63 - __builtin_clzll(all ^ any));
        const double   mass = mass_with(list, n, bit);
        const bool     is_with = run + mass >= target;
        if (!is_with) run += mass;
        n = keep_with(list, n, bit, is_with);
    }
    *equals_out = cn_sample_equals(list[0], n, run, target);
    return list[0];
}

static void keep_top_p(double *weight, double *list, int32_t count, double top_p, double mass) {
    const v_f64 least = v_set1_f64((1 - top_p) * mass / count);
    int32_t     n = 0, equals;
    for (int32_t i = 0; i < count; i += LANES) {
        const v_f64 w = v_loadu_f64(weight + i);
        n += v_compress_f64(list + n, v_bits_f64(V_COMPARE_F64(w, least, _CMP_GE_OQ)), w);
    }
    const v_f64 last = v_set1_f64(find_last(list, n, top_p * mass, &equals));
    for (int32_t i = 0; i < count; i += LANES) {
        const v_f64 w = v_loadu_f64(weight + i);
        v_storeu_f64(weight + i, v_keep_f64(V_COMPARE_F64(w, last, _CMP_GE_OQ), w));
        uint32_t equal = v_bits_f64(V_COMPARE_F64(w, last, _CMP_EQ_OQ));
        for (; equal; equal &= equal - 1)
            if (equals-- <= 0) weight[i + __builtin_ctz(equal)] = 0;
    }
}

static int32_t draw(const cn_sample_args *a, float max) {
    double *weight = a->scratch, *list = weight + (a->count + LANES - 1) / LANES * LANES;
    weigh(weight, a, max);
    if (a->top_p < 1) keep_top_p(weight, list, a->count, a->top_p, sum_all(weight, a->count));

    const double target = cn_uniform(a->seed, a->counter) * sum_all(weight, a->count);
    double       run = 0;
    for (int32_t first = 0;; first += CN_SAMPLE_BLOCK) {
        const double next = run + sum_block(weight, a->count, first);
        if (next > target)
            return first + cn_sample_walk(weight + first, a->count - first, run, target);
        run = next;
    }
}

cn_err CN_SIMD(sample)(const cn_sample_args *a, void *stream) {
    (void)stream;
    CN_TRY(cn_sample_check(a));
    float max;
    CN_TRY(find_max(&max, a->logits, a->count));
    *a->token_out = a->temperature > 0 ? draw(a, max) : find_first(a->logits, a->count, max);
    return CN_OK;
}
