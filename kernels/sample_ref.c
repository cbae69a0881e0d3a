/* sample_ref.c - The next token: greedy in one pass, else softmax, min_p, top_p and a draw.
 *
 * The largest weight is 1, so min_p compares with weights as they are.
 *
 * top_p needs the smallest weight of its run, not a sorted vocabulary.  Positive doubles
 * are in the order of their bits, so it is found by splitting on the highest bit in which
 * the weights differ and going on with the side that holds it.  Before that, n tokens that
 * each weigh less than (1 - top_p) / n of the mass together weigh less than what top_p may
 * drop: the run ends before it reaches them.
 */
#include "kernels/math_int.h"
#include "kernels/sample.h"
#include "kernels/sample_int.h"

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

/* The order of sums of sample.h, for weights given one by one. */
typedef struct chains {
    double  sum[8];
    int32_t n;
} chains;

static void add(chains *c, double weight) {
    c->sum[c->n++ % 8] += weight;
}

static double total(const chains *c) {
    double s[4];
    for (int k = 0; k < 4; k++) s[k] = c->sum[k] + c->sum[k + 4];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

/* The sum of the weights that have `bit`. */
static double mass_with(const uint64_t *bits, int32_t n, uint64_t bit) {
    chains c = {0};
    for (int32_t i = 0; i < n; i++) add(&c, bits[i] & bit ? from_bits(bits[i]) : 0);
    return total(&c);
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
    *equals_out = cn_sample_equals(from_bits(bits[0]), n, run, target);
    return from_bits(bits[0]);
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

/* The weights of the block from `first` on. */
static double sum_block(const double *weight, int32_t count, int32_t first) {
    chains c = {0};
    for (int32_t i = first; i < count && i < first + CN_SAMPLE_BLOCK; i++) add(&c, weight[i]);
    return total(&c);
}

static double sum_all(const double *weight, int32_t count) {
    double sum = 0;
    for (int32_t i = 0; i < count; i += CN_SAMPLE_BLOCK) sum += sum_block(weight, count, i);
    return sum;
}

static int32_t draw(const cn_sample_args *a, float max) {
    double      *weight = a->scratch;
    const double scale = 1.0 / a->temperature;
    for (int32_t i = 0; i < a->count; i++) {
        const double w = cn_exp(((double)a->logits[i] - max) * scale);
        weight[i] = w >= a->min_p ? w : 0;
    }
    if (a->top_p < 1)
        keep_top_p(weight, (uint64_t *)(weight + a->count), a->count, a->top_p,
                   sum_all(weight, a->count));

    // A number below 1 times the sum rounds below the sum: some block passes it.
    const double target = cn_uniform(a->seed, a->counter) * sum_all(weight, a->count);
    double       run = 0;
    for (int32_t first = 0;; first += CN_SAMPLE_BLOCK) {
        const double next = run + sum_block(weight, a->count, first);
        if (next > target)
            return first + cn_sample_walk(weight + first, a->count - first, run, target);
        run = next;
    }
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
