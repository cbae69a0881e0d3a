/*
 * index_scan.h - The score of every token of a view, for one query token.
 *
 *   I[s] = sum_j w[j] act( q[j] . k[s] ),   act(v) = v or max(v, 0)
 *
 *   CLSA, section 3 (arXiv:2606.06467): one head, no activation, no weight.  With
 *   heads, relu and weights it is the DeepSeek form (clsa variants say which).
 *
 * q is rounded to bf16, keys are bf16, sums are f32.  The score of a key depends on q,
 * w and that key alone.  Scores of a page's tokens stand together, pages in order; a
 * NaN is left for top-k to report.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_INDEX_SCAN_H
#define CN_KERNELS_INDEX_SCAN_H

#include "kernels/page.h"

CN_C_BEGIN

typedef enum { CN_INDEX_ACT_NONE, CN_INDEX_ACT_RELU } cn_index_act;

enum { CN_INDEX_HEADS_MAX = 64 };

typedef struct cn_index_scan_args {
    float                *scores;    // [count]; 4-byte aligned
    const float          *q;         // [heads, dim]
    const float          *weight;    // [heads], or NULL: all 1; 4-byte aligned
    const cn_bf16 *const *page_keys; // [pages] one source's keys of each page (page.h), 64-byte
                                     // aligned
    const int32_t *page_tokens;      // [pages] 0..CN_PAGE_TOKENS
    int64_t        pages;            // >= 0
    int64_t        count;            // sum of page_tokens
    int32_t        heads;            // 1..CN_INDEX_HEADS_MAX
    int32_t        dim;              // index_dim of page.h
    cn_index_act   act;
} cn_index_scan_args;

/* CN_EINVAL  a constraint above does not hold; nothing was written. */
typedef cn_err (*cn_index_scan_fn)(const cn_index_scan_args *a, void *stream);

cn_err cn_index_scan_ref(const cn_index_scan_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_index_scan_avx2(const cn_index_scan_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_index_scan_avx512(const cn_index_scan_args *a, void *stream) CN_MUST_CHECK;

static inline cn_err cn_index_scan_check(const cn_index_scan_args *a) {
    if (a->pages < 0 || a->heads < 1 || a->heads > CN_INDEX_HEADS_MAX || a->dim < CN_DIM_MULTIPLE ||
        a->dim > CN_INDEX_DIM_MAX || a->dim % CN_DIM_MULTIPLE != 0)
        return CN_EINVAL;
    if (a->act != CN_INDEX_ACT_NONE && a->act != CN_INDEX_ACT_RELU) return CN_EINVAL;
    if (!a->q || !cn_is_aligned(a->q, CN_ALIGN_BYTES)) return CN_EINVAL;
    if (a->pages > 0 && (!a->scores || !a->page_keys || !a->page_tokens)) return CN_EINVAL;
    int64_t count = 0;
    for (int64_t p = 0; p < a->pages; p++) {
        if (a->page_tokens[p] < 0 || a->page_tokens[p] > CN_PAGE_TOKENS) return CN_EINVAL;
        if (!a->page_keys[p] || !cn_is_aligned(a->page_keys[p], CN_ALIGN_BYTES)) return CN_EINVAL;
        count += a->page_tokens[p];
    }
    return count == a->count ? CN_OK : CN_EINVAL;
}

static inline int64_t cn_index_scan_bytes(const cn_index_scan_args *a) {
    return a->count * ((int64_t)a->dim * 2 + 4);
}

static inline int64_t cn_index_scan_flops(const cn_index_scan_args *a) {
    return 2 * a->count * a->heads * (int64_t)a->dim;
}

CN_C_END

#endif
