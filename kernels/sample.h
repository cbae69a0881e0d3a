/*
 * sample.h - The next token from a row of logits.
 *
 * temperature 0 is greedy: the largest logit, the lower token on a tie.  Else
 *
 *   p[i] = softmax_i( logits[i] / temperature )
 *   min_p  keeps i with p[i] >= min_p * max p
 *   top_p  keeps the shortest run of the largest p (ties: lower token first) whose sum
 *          reaches top_p of what min_p kept (Holtzman et al. 2020, arXiv:1904.09751)
 *
 * and one token is drawn from what is left by a uniform number that is a function of
 * (seed, counter) alone: the same request gives the same token again, on every path.  For that
 * all paths compute the weights e^((logit - max) / temperature) by the same f64 operations, and
 * every sum of weights in the same order: eight chains, the k-th over places i = k mod 8, then
 * chains k and k + 4, + 2, + 1; a row is summed in blocks of CN_SAMPLE_BLOCK, in order.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_SAMPLE_H
#define CN_KERNELS_SAMPLE_H

#include "kernels/types.h"

CN_C_BEGIN

typedef struct cn_sample_args {
    int32_t     *token_out;
    const float *logits;      // [count]; 4-byte aligned
    void        *scratch;     // cn_sample_scratch_bytes(count)
    int32_t      count;       // 1..CN_SAMPLE_COUNT_MAX
    float        temperature; // 0: greedy; else 1e-3..100
    float        top_p;       // 0 < top_p <= 1; 1 keeps all
    float        min_p;       // 0..1; 0 keeps all
    uint64_t     seed;
    uint64_t     counter; // tokens drawn before with this seed
} cn_sample_args;

enum { CN_SAMPLE_COUNT_MAX = 1 << 22, CN_SAMPLE_BLOCK = 256 };

/* CN_EINVAL    a constraint above does not hold.
 * CN_ENUMERIC  a logit is NaN or +infinity, or all are -infinity. */
typedef cn_err (*cn_sample_fn)(const cn_sample_args *a, void *stream);

cn_err cn_sample_ref(const cn_sample_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_sample_avx2(const cn_sample_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_sample_avx512(const cn_sample_args *a, void *stream) CN_MUST_CHECK;

static inline int64_t cn_sample_scratch_bytes(int32_t count) {
    return (int64_t)count * 16 + 256;
}

static inline cn_err cn_sample_check(const cn_sample_args *a) {
    if (!a->token_out || !a->logits || !a->scratch || a->count < 1 ||
        a->count > CN_SAMPLE_COUNT_MAX || !cn_is_aligned(a->scratch, CN_ALIGN_BYTES))
        return CN_EINVAL;
    if (!(a->temperature == 0 || (a->temperature >= 1e-3f && a->temperature <= 100)))
        return CN_EINVAL;
    if (!(a->top_p > 0 && a->top_p <= 1) || !(a->min_p >= 0 && a->min_p <= 1)) return CN_EINVAL;
    return CN_OK;
}

static inline int64_t cn_sample_bytes(const cn_sample_args *a) {
    return (int64_t)a->count * 4;
}

CN_C_END

#endif
