/*
 * topk.h - The exact k largest scores, as positions in ascending order.
 *
 * Order of scores: larger first; equal scores, lower position first; -0 equals +0;
 * infinities are ordinary values.  The same scores give the same set on every path
 * and device.  A NaN is refused: a model that makes one is broken, and a set that
 * silently holds or drops it would hide that.
 *
 * `guess` is where the k-th largest score may lie (the last step's threshold is a
 * good one).  It only changes the time: the result is always exact.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_TOPK_H
#define CN_KERNELS_TOPK_H

#include "kernels/types.h"

CN_C_BEGIN

enum { CN_TOPK_SCORES_MAX = 1 << 27 };

typedef struct cn_topk_args {
    int32_t     *set;           // [min(k, count)] out: positions, ascending; 4-byte aligned
    float       *threshold_out; // the k-th largest score; -INFINITY if k >= count; may be NULL
    const float *scores;        // [count]; 4-byte aligned
    void        *scratch;       // cn_topk_scratch_bytes(count)
    int64_t      count;         // 0..CN_TOPK_SCORES_MAX; 0 gives the empty set
    int32_t      k;             // >= 1
    float        guess;         // NaN: none
} cn_topk_args;

/* CN_EINVAL    a constraint above does not hold; nothing was written.
 * CN_ENUMERIC  a score is NaN; *set is undefined. */
typedef cn_err (*cn_topk_fn)(const cn_topk_args *a, void *stream);

cn_err cn_topk_ref(const cn_topk_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_topk_avx2(const cn_topk_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_topk_avx512(const cn_topk_args *a, void *stream) CN_MUST_CHECK;

static inline int64_t cn_topk_scratch_bytes(int64_t count) {
    return count * 8 + (64 << 10);
}

static inline cn_err cn_topk_check(const cn_topk_args *a) {
    if (a->count < 0 || a->count > CN_TOPK_SCORES_MAX || a->k < 1) return CN_EINVAL;
    if (a->count > 0 && (!a->set || !a->scores || !a->scratch)) return CN_EINVAL;
    if (!cn_is_aligned(a->scratch, CN_ALIGN_BYTES)) return CN_EINVAL;
    return CN_OK;
}

static inline int64_t cn_topk_bytes(const cn_topk_args *a) {
    return a->count * 4 + (a->k < a->count ? a->k : a->count) * 4;
}

CN_C_END

#endif
