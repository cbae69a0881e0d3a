/* topk_ref.c - The definition of right: a heap of the k best, then one pass in order.
 *
 * A score and its position make one 64-bit rank that no two tokens share, so that the
 * order of topk.h, ties included, is the order of integers.  O(count log k). */
#include "kernels/topk.h"

#include <math.h>

/* Larger score, larger rank; equal scores (-0 and +0 too), lower position, larger rank. */
static uint64_t rank_of(float score, int64_t position) {
    uint32_t    bits;
    const float v = score + 0.0f; // -0 becomes +0
    memcpy(&bits, &v, 4);
    const uint32_t key = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (uint64_t)key << 32 | (0xffffffffu - (uint32_t)position);
}

/* Put `rank` at the root of a heap, least first, and let it sink. */
static void replace_least(uint64_t *heap, int64_t n, uint64_t rank) {
    int64_t at = 0;
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (rank <= heap[child]) break;
        heap[at] = heap[child];
    }
    heap[at] = rank;
}

cn_err cn_topk_ref(const cn_topk_args *a, void *stream) {
    (void)stream;
    CN_TRY(cn_topk_check(a));
    for (int64_t i = 0; i < a->count; i++)
        if (isnan(a->scores[i])) return CN_ENUMERIC;

    uint64_t least = 0; // the rank of the last one taken
    if (a->k < a->count) {
        uint64_t *heap = a->scratch;
        memset(heap, 0, (size_t)a->k * sizeof(*heap)); // below every rank: the first k fill it
        for (int64_t i = 0; i < a->count; i++) {
            const uint64_t rank = rank_of(a->scores[i], i);
            if (rank > heap[0]) replace_least(heap, a->k, rank);
        }
        least = heap[0];
    }
    int32_t *set = a->set;
    float    threshold = -INFINITY;
    for (int64_t i = 0; i < a->count; i++) {
        const uint64_t rank = rank_of(a->scores[i], i);
        if (rank < least) continue;
        if (rank == least) threshold = a->scores[i] + 0.0f; // +0, never -0
        *set++ = (int32_t)i;
    }
    if (a->threshold_out) *a->threshold_out = threshold;
    return CN_OK;
}
