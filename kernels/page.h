/*
 * page.h - The body of a page: 256 tokens of one document's index keys and K|V rows.
 *
 *   index keys  [sources][16 tiles][index_dim/2][16 tokens][2]   bf16
 *   rows        [256][K: kv_heads * head_dim | V: the same]      bf16
 *
 * The index keys of 16 tokens lie side by side in pairs of dimensions: one load and
 * one dot-product instruction serve 16 keys, and no sum runs across lanes.  A row is
 * one token's K|V, contiguous, so that sparse attention reads whole cache lines in
 * place.  Bodies start on 64 bytes.  Tokens that a page does not hold are zero.
 *
 * Layer: kernels -> base.
 */
#ifndef CN_KERNELS_PAGE_H
#define CN_KERNELS_PAGE_H

#include "kernels/types.h"

CN_C_BEGIN

enum { CN_INDEX_DIM_MAX = 512, CN_INDEX_SOURCES_MAX = 128 };

typedef struct cn_page_shape {
    int32_t kv_dim;    // kv_heads * head_dim; multiple of CN_DIM_MULTIPLE
    int32_t index_dim; // multiple of CN_DIM_MULTIPLE, at most CN_INDEX_DIM_MAX; 0 if no source
    int32_t sources;   // 0..CN_INDEX_SOURCES_MAX: sets of index keys
} cn_page_shape;

/* Bytes of one source's keys in a page. */
static inline int64_t cn_page_keys_bytes(const cn_page_shape *s) {
    return (int64_t)CN_PAGE_TOKENS * s->index_dim * 2;
}

static inline int64_t cn_page_row_bytes(const cn_page_shape *s) {
    return (int64_t)s->kv_dim * 4;
}

static inline int64_t cn_page_bytes(const cn_page_shape *s) {
    return s->sources * cn_page_keys_bytes(s) + CN_PAGE_TOKENS * cn_page_row_bytes(s);
}

static inline int64_t cn_page_keys_offset(const cn_page_shape *s, int32_t source) {
    return source * cn_page_keys_bytes(s);
}

static inline int64_t cn_page_row_offset(const cn_page_shape *s, int32_t token) {
    return s->sources * cn_page_keys_bytes(s) + token * cn_page_row_bytes(s);
}

/* Element index, within one source's keys, of dimension `dim` of token `token`. */
static inline int64_t cn_page_key_elem(const cn_page_shape *s, int32_t token, int32_t dim) {
    return ((int64_t)(token / CN_TILE_TOKENS) * (s->index_dim / 2) + dim / 2) *
               (CN_TILE_TOKENS * 2) +
           token % CN_TILE_TOKENS * 2 + dim % 2;
}

static inline bool cn_page_shape_is_valid(const cn_page_shape *s) {
    if (s->kv_dim < CN_DIM_MULTIPLE || s->kv_dim > CN_DIM_MAX || s->kv_dim % CN_DIM_MULTIPLE)
        return false;
    if (s->sources < 0 || s->sources > CN_INDEX_SOURCES_MAX) return false;
    if (s->sources == 0) return s->index_dim == 0;
    return s->index_dim >= CN_DIM_MULTIPLE && s->index_dim <= CN_INDEX_DIM_MAX &&
           s->index_dim % CN_DIM_MULTIPLE == 0;
}

/* Round K, V and index keys of tokens first, ..., first + rows - 1 of one page to bf16
 * and write them into its body. */
typedef struct cn_page_put_args {
    void                *page; // cn_page_bytes(); 64-byte aligned
    const cn_page_shape *shape;
    const float         *kv;     // [rows, stride]: K|V side by side, 2 * kv_dim
    const float         *keys;   // [rows, stride]: sources * index_dim; NULL if sources is 0
    int64_t              stride; // floats
    int32_t              first;  // slot in the page
    int32_t              rows;   // first + rows <= CN_PAGE_TOKENS
} cn_page_put_args;

/* CN_EINVAL  a constraint above does not hold; nothing was written. */
typedef cn_err (*cn_page_put_fn)(const cn_page_put_args *a, void *stream);

cn_err cn_page_put_ref(const cn_page_put_args *a, void *stream) CN_MUST_CHECK;

static inline cn_err cn_page_put_check(const cn_page_put_args *a) {
    if (!a->page || !a->shape || !cn_page_shape_is_valid(a->shape) || !a->kv ||
        !cn_is_aligned(a->page, CN_ALIGN_BYTES))
        return CN_EINVAL;
    if (a->first < 0 || a->rows < 0 || a->rows > CN_PAGE_TOKENS ||
        a->first > CN_PAGE_TOKENS - a->rows)
        return CN_EINVAL;
    if (a->stride < 2 * (int64_t)a->shape->kv_dim) return CN_EINVAL;
    if (a->shape->sources > 0 &&
        (!a->keys || a->stride < (int64_t)a->shape->sources * a->shape->index_dim))
        return CN_EINVAL;
    return CN_OK;
}

static inline int64_t cn_page_put_bytes(const cn_page_put_args *a) {
    return a->rows * (2 * (int64_t)a->shape->kv_dim + a->shape->sources * a->shape->index_dim) *
           (4 + 2);
}

CN_C_END

#endif
