/*
 * attend.h - Attention of one token over K|V rows that lie in pages, read in place.
 *
 *   o[h] = sum_{i < count} softmax_i( scale * q[h] . K[i,g] ) V[i,g],  g = h / (heads / kv_heads)
 *
 *   CLSA, section 3 (arXiv:2606.06467): the rows are K[S], V[S], the same S for all
 *   layers.  attend_sparse takes S as row addresses, attend_dense all tokens of a list
 *   of pages in order.
 *
 * Same bits: rows are taken in the order of their place i in the list, in chunks of
 * CN_ATTEND_CHUNK; a chunk's maximum, sum and weighted V depend on its rows alone, and
 * chunks are merged in order.  So attend_dense over pages equals attend_sparse over the
 * addresses of all their rows, bit for bit, with any number of threads.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_ATTEND_H
#define CN_KERNELS_ATTEND_H

#include "kernels/page.h"

CN_C_BEGIN

enum { CN_ATTEND_CHUNK = 256 };

typedef struct cn_attend_head {
    float       *out;      // [heads, head_dim]; not q
    const float *q;        // [heads, head_dim]
    void        *scratch;  // cn_attend_scratch_bytes()
    int32_t      heads;    // multiple of kv_heads, at most CN_HEADS_MAX
    int32_t      kv_heads; // >= 1
    int32_t      head_dim; // multiple of CN_DIM_MULTIPLE, at most CN_HEAD_DIM_MAX
    float        scale;    // finite, > 0
} cn_attend_head;

/* `rows` are tokens over all: chunks x heads x (head_dim + max and sum, padded). */
static inline int64_t cn_attend_scratch_bytes(int64_t rows, int32_t heads, int32_t head_dim) {
    const int64_t chunks = (rows + CN_ATTEND_CHUNK - 1) / CN_ATTEND_CHUNK;
    return chunks * heads * ((int64_t)head_dim + 16) * (int64_t)sizeof(float) + 64;
}

static inline cn_err cn_attend_head_check(const cn_attend_head *a) {
    if (a->kv_heads < 1 || a->heads < 1 || a->heads > CN_HEADS_MAX || a->heads % a->kv_heads != 0 ||
        a->head_dim < CN_DIM_MULTIPLE || a->head_dim > CN_HEAD_DIM_MAX ||
        a->head_dim % CN_DIM_MULTIPLE != 0)
        return CN_EINVAL;
    if (!(a->scale > 0) || !(a->scale < 1e30f)) return CN_EINVAL;
    if (!a->out || !a->q || a->out == a->q || !a->scratch ||
        !cn_is_aligned(a->out, CN_ALIGN_BYTES) || !cn_is_aligned(a->q, CN_ALIGN_BYTES) ||
        !cn_is_aligned(a->scratch, CN_ALIGN_BYTES))
        return CN_EINVAL;
    return CN_OK;
}

typedef struct cn_attend_sparse_args {
    cn_attend_head        head;
    const cn_bf16 *const *rows;  // [count] addresses of K|V rows, each 64-byte aligned; no NULL
    int64_t               count; // >= 1
} cn_attend_sparse_args;

/* CN_EINVAL  a constraint above does not hold; nothing was written. */
typedef cn_err (*cn_attend_sparse_fn)(const cn_attend_sparse_args *a, void *stream);

cn_err cn_attend_sparse_ref(const cn_attend_sparse_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_attend_sparse_avx2(const cn_attend_sparse_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_attend_sparse_avx512(const cn_attend_sparse_args *a, void *stream) CN_MUST_CHECK;

static inline cn_err cn_attend_sparse_check(const cn_attend_sparse_args *a) {
    CN_TRY(cn_attend_head_check(&a->head));
    return a->rows && a->count >= 1 ? CN_OK : CN_EINVAL;
}

static inline int64_t cn_attend_sparse_bytes(const cn_attend_sparse_args *a) {
    return a->count * a->head.kv_heads * a->head.head_dim * 4;
}

static inline int64_t cn_attend_sparse_flops(const cn_attend_sparse_args *a) {
    return 4 * a->count * a->head.heads * (int64_t)a->head.head_dim;
}

typedef struct cn_attend_dense_args {
    cn_attend_head        head;
    const cn_bf16 *const *page_rows;   // [pages] address of each page's first row, 64-byte aligned
    const int32_t        *page_tokens; // [pages] tokens that it holds, 0..CN_PAGE_TOKENS
    int64_t               pages;       // >= 1
    int64_t               count;       // sum of page_tokens, >= 1
} cn_attend_dense_args;

/* CN_EINVAL  a constraint above does not hold; nothing was written. */
typedef cn_err (*cn_attend_dense_fn)(const cn_attend_dense_args *a, void *stream);

cn_err cn_attend_dense_ref(const cn_attend_dense_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_attend_dense_avx2(const cn_attend_dense_args *a, void *stream) CN_MUST_CHECK;
cn_err cn_attend_dense_avx512(const cn_attend_dense_args *a, void *stream) CN_MUST_CHECK;

static inline cn_err cn_attend_dense_check(const cn_attend_dense_args *a) {
    CN_TRY(cn_attend_head_check(&a->head));
    if (!a->page_rows || !a->page_tokens || a->pages < 1 || a->count < 1) return CN_EINVAL;
    int64_t count = 0;
    for (int64_t p = 0; p < a->pages; p++) {
        if (a->page_tokens[p] < 0 || a->page_tokens[p] > CN_PAGE_TOKENS) return CN_EINVAL;
        count += a->page_tokens[p];
    }
    return count == a->count ? CN_OK : CN_EINVAL;
}

static inline int64_t cn_attend_dense_bytes(const cn_attend_dense_args *a) {
    return a->count * a->head.kv_heads * a->head.head_dim * 4;
}

static inline int64_t cn_attend_dense_flops(const cn_attend_dense_args *a) {
    return 4 * a->count * a->head.heads * (int64_t)a->head.head_dim;
}

CN_C_END

#endif
