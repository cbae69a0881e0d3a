/*
 * engine_int.h - What engine.c, doc.c and view.c share.  Private to engine.
 *
 * Layer: engine -> base, kernels.
 */
#ifndef CN_ENGINE_ENGINE_INT_H
#define CN_ENGINE_ENGINE_INT_H

#include "base/block.h"
#include "engine/engine.h"
#include "kernels/ops.h"
#include "kernels/pool.h"

CN_C_BEGIN

/* Raised by any change that gives a page other bits. */
enum { CN_ARITHMETIC_VERSION = 1 };

/* All pointers are into `block`.  R is CN_STEP_ROWS, V is CN_STEP_VIEWS. */
typedef struct cn_scratch {
    float          *x;         // [R, hidden] the residual stream of the self-decoder
    float          *n;         // [R, hidden] x after a norm
    float          *in;        // [R, in_stride] q|k|v, or q
    float          *att;       // [R, heads * head_dim]
    float          *gate_up;   // [R, 2 ffn]
    float          *act;       // [R, ffn]
    float          *shared;    // [R, shared_stride] K|V|index key
    float          *cos, *sin; // [R, head_dim / 2]
    float          *cross;     // [V, hidden] the residual stream of the cross-decoder
    float          *h;         // [V, hidden] shared state of the last tokens
    float          *query;     // [V, query_stride] index q, then w, of one source
    float          *logits;    // [V, logits_stride]
    float          *scores;    // [view_tokens]
    int32_t        *set;       // [V, set_max]
    float          *weight;    // [V, set_max] of slices that want it
    const cn_bf16 **rows;      // [V, set_max] addresses of S
    const cn_bf16 **own_rows;  // [pages of view_tokens] transformer: a document's pages in a layer
    int32_t        *own_fill;  // likewise
    void           *matmul;    // for the widest product of R rows
    void           *attend;    // for all tokens of a view
    void           *topk;      // for all tokens of a view
    void           *sample;    // for the vocabulary
    int64_t         in_stride, shared_stride, query_stride, logits_stride;
} cn_scratch;

struct cn_engine {
    const cn_model *model;
    cn_ops          ops;
    cn_pool        *pool;
    cn_page_shape   shape;
    int64_t         view_tokens;
    int32_t         topk, topk_max;        // now; as opened
    int32_t         set_max;               // tokens of S at most
    int32_t         source[CN_LAYERS_MAX]; // cross layer -> index source whose set it uses; -1: all
    int32_t         page_layers; // of a document's pages: 1; transformer: one for each layer
    cn_scratch      s;
    cn_block        block;
    cn_tap_fn       tap;
    void           *tap_ctx;
    float          *tap_probs;
    int64_t         tap_probs_tokens;
    char            layout[160];
};

struct cn_doc {
    cn_engine *engine;
    int64_t    tokens;
    int64_t    held; // tokens whose rows are in the pages; above `tokens` during a replay
    int64_t    tokens_max;
    int64_t    pages_max; // ceil(tokens_max / 256)
    uint8_t   *pages;     // [page_layers, pages_max, page bytes]
    cn_window *window;    // [self_layers]; NULL in a transformer
    cn_block   block;
};

struct cn_view {
    cn_engine      *engine;
    int64_t         pages_max;
    int64_t         pages;       // of finished documents; entries behind them are a step's
    int64_t         tokens;      // of finished documents
    const cn_bf16 **page_rows;   // [pages_max]
    const cn_bf16 **page_keys;   // [sources, pages_max]
    int32_t        *page_tokens; // [pages_max]
    float          *guess;       // [sources] the last threshold of top-k; NaN: none
    cn_block        block;
};

/* Page `page` of a document, in `layer` of page_layers. */
static inline uint8_t *cn_doc_page_body(const cn_doc *doc, int32_t layer, int64_t page) {
    return doc->pages + (layer * doc->pages_max + page) * cn_page_bytes(&doc->engine->shape);
}

/* The op table for an instruction-set path by name; NULL: the fastest that runs here.
 * CN_EINVAL  no such path.   CN_EUNSUPPORTED  this processor does not run it. */
cn_err cn_ops_choose(cn_ops *ops, const char *isa, cn_diag *diag) CN_MUST_CHECK;

/* `threads`, or one for each core if it is 0. */
int32_t cn_threads_or_cores(int32_t threads);

/* Zero the slots of the last page behind the document's rows: a step that failed may have
 * written there. */
void cn_doc_clear_tail(cn_doc *doc);

/* CN_TAP_PROBS and ATTENDED of one sequence, if they are wanted.
 *
 *   q, out  [heads, head_dim] of the layer's attention. */
void cn_tap_attention(const cn_engine *e, int32_t slice, int32_t layer, const cn_view *view,
                      int64_t pages, int64_t tokens, const float *q, const float *out);

/* The softmax of scale * scores over the positions of a set; nothing where one is no number.
 *
 *   weight  [count] what the answer's weights are
 *   scores  of a whole view
 *   set     [count] what the answer's positions are */
cn_read cn_read_weigh(float *weight, const float *scores, const int32_t *set, int64_t count,
                      float scale);

/* Append the pages of `doc`, as if it held `tokens` tokens, behind the view's own: the
 * view then has *pages_out pages and *tokens_out tokens for one step.
 * CN_ETOOBIG  the view or the engine's view_tokens is full. */
cn_err cn_view_extend(cn_view *view, const cn_doc *doc, int64_t tokens, int64_t *pages_out,
                      int64_t *tokens_out, cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif
