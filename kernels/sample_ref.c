/* sample_ref.c - The next token: greedy in one pass, else softmax, min_p, top_p and a draw.
 *
 * Weights are e^((logit - max) / temperature) in f64, so the largest is 1 and min_p
 * compares with them as they are.
 *
 * top_p needs the smallest weight of its run, not a sorted vocabulary.  Positive doubles
 * are in the order of their bits, so it is found by splitting on the highest bit in which
 * the weights differ and going on with the side that holds it.  Before that, n tokens that
 * each weigh less than (1 - top_p) / n of the mass together weigh less than what top_p may
 * drop: the run ends before it reaches them.
 */
#include "base/rand.h"
#include "kernels/math_int.h"
#include "kernels/sample.h"

#include <math.h>

static double from_bits(uint64_t bits) {
    double d;
    memcpy(&d, &bits, sizeof(d));
    return d;
}

static cn_err find_max(float *max_out, const float *logits, int32_t count) {
    enum { LANES = 16 }; // independent maxima, which compilers keep in vectors
    float   max[LANES];
    int32_t bad[LANES] = {0};
    for (int32_t j = 0; j < LANES; j++) max[j] = -INFINITY;
    int32_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int32_t j = 0; j < LANES; j++) {
            const float x = logits[i + j];
            max[j] = x > max[j] ? x : max[j];
            bad[j] |= !(x < INFINITY);
        }
    for (; i < count; i++) {
        max[0] = logits[i] > max[0] ? logits[i] : max[0];
        bad[0] |= !(logits[i] < INFINITY);
    }
    for (int32_t j = 0; j < LANES; j++) {
        max[0] = max[j] > max[0] ? max[j] : max[0];
        bad[0] |= bad[j];
    }
    *max_out = max[0];
    return bad[0] || max[0] == -INFINITY ? CN_ENUMERIC : CN_OK;
}

/* In [0, 1), 53 bits: output number `counter` of a splitmix64 that starts at the first
 * output of splitmix64(seed), so that seeds 1, 2, 3 do not share a sequence. */
static double uniform(uint64_t seed, uint64_t counter) {
    const uint64_t first = cn_rand_next(&seed);
    return (double)(cn_rand_mix(first + (counter + 1) * CN_RAND_STEP) >> 11) * 0x1p-53;
}

/* The sum of the weights that have `bit`. */
static double mass_with(const uint64_t *bits, int32_t n, uint64_t bit) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += bits[i] & bit ? from_bits(bits[i]) : 0;
    return sum;
}

/* Keep in place the weights that have `bit` (want = bit) or do not (want = 0). */
static int32_t keep_with(uint64_t *bits, int32_t n, uint64_t bit, uint64_t want) {
    int32_t kept = 0;
    for (int32_t i = 0; i < n; i++) {
        const uint64_t v = bits[i];
        bits[kept] = v;
        kept += (v & bit) == want;
    }
    return kept;
}

/* The smallest weight of the run that reaches `target`, from the bits of n >= 1 weights,
 * which are overwritten; *equals_out: how many tokens of that weight are in the run. */
static double find_last(uint64_t *bits, int32_t n, double target, int32_t *equals_out) {
    double run = 0; // of what is certainly larger
    for (;;) {
        uint64_t all = bits[0], any = bits[0];
        for (int32_t i = 1; i < n; i++) all &= bits[i], any |= bits[i];
        if (all == any) break;
        const uint64_t bit = UINT64_C(1) << (63 - __builtin_clzll(all ^ any));
        const double   mass = mass_with(bits, n, bit);
        const bool     is_with = run + mass >= target;
        if (!is_with) run += mass;
        n = keep_with(bits, n, bit, is_with ? bit : 0);
    }
    const double last = from_bits(bits[0]);
    *equals_out = 0;
    do run += last, ++*equals_out;
    while (run < target && *equals_out < n);
    return last;
}

/* Set the weight of all but the shortest run that reaches top_p * mass to 0. */
static void keep_top_p(double *weight, uint64_t *bits, int32_t count, double top_p, double mass) {
    const double least = (1 - top_p) * mass / count; // no more than the largest, which is 1
    int32_t      n = 0, equals;
    for (int32_t i = 0; i < count; i++)
        if (weight[i] >= least) memcpy(&bits[n++], &weight[i], sizeof(*bits));
    const double last = find_last(bits, n, top_p * mass, &equals);
    for (int32_t i = 0; i < count; i++)
        if (weight[i] < last || (weight[i] == last && equals-- <= 0)) weight[i] = 0;
}

static double sum_of(const double *x, int32_t n) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += x[i];
    return sum;
}

static int32_t draw(const cn_sample_args *a, float max) {
    double *weight = a->scratch;
    for (int32_t i = 0; i < a->count; i++) {
        const double w = cn_exp(((double)a->logits[i] - max) / a->temperature);
        weight[i] = w >= a->min_p ? w : 0;
    }
    if (a->top_p < 1)
        keep_top_p(weight, (uint64_t *)(weight + a->count), a->count, a->top_p,
                   sum_of(weight, a->count));

    // A number below 1 times the sum rounds below the sum: the walk ends within the row,
    // and never on a weight of 0.
    const double target = uniform(a->seed, a->counter) * sum_of(weight, a->count);
    int32_t      token = 0;
    for (double sum = weight[0]; sum <= target;) sum += weight[++token];
    return token;
}

cn_err cn_sample_ref(const cn_sample_args *a, void *stream) {
    (void)stream;
    CN_TRY(cn_sample_check(a));
    float max;
    CN_TRY(find_max(&max, a->logits, a->count));
    int32_t token = 0;
    if (a->temperature > 0)
        token = draw(a, max);
    else
        while (a->logits[token] != max) token++;
    *a->token_out = token;
    return CN_OK;
}
