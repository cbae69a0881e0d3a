/*
 * engine.h - Documents, views and steps: token ids in, logits out.
 *
 * A cn_engine runs one model.  A cn_doc is one document being written: its tokens go
 * through the self-decoder, which sees this document alone, and leave K|V rows and index
 * keys in pages.  A page is a function of the model and of its document's tokens up to
 * the page's end: pages of finished documents can be kept anywhere (here they are plain
 * spans) and used again in any order.  A cn_view is an ordered list of such pages: what
 * one sequence attends to, followed by the pages of its own growing document, the
 * conversation.
 *
 * A step takes slices: runs of tokens for one or more documents.  Prefill of a file is
 * slices without a view (the cross-decoder never runs); a slice with a view also gives
 * the logits after its last token: one routing pass over the view's index keys, one top-k
 * set S, used by every cross layer (arXiv:2606.06467, section 3).  A decode step is a
 * slice of one token.  Several sequences make one step with several slices.
 *
 * The arms that CLSA is measured against (config.h) run here too.  A transformer has no pages
 * of its own to hand out: its documents are whole sequences, in views without other pages.
 *
 * Same bits: on one instruction-set path the pages and logits of a slice depend on its
 * document's tokens and its view alone: not on the other slices of the step, on how the
 * tokens were cut into steps, or on the number of threads.
 *
 * Threads: one thread makes all calls on an engine and what belongs to it.
 * Memory: create functions reserve; a step allocates nothing.
 *
 * Layer: engine -> base, kernels.
 */
#ifndef CN_ENGINE_ENGINE_H
#define CN_ENGINE_ENGINE_H

#include "base/err.h"
#include "engine/model.h"

CN_C_BEGIN

enum {
    CN_STEP_ROWS = 256, // tokens in one step, over all slices
    CN_STEP_VIEWS = 64, // slices with a view in one step
    CN_DOC_TOKENS_MAX = 1 << 22,
    CN_VIEW_TOKENS_MAX = 1 << 24,
    CN_VIEW_PAGES_MAX = 1 << 20,
};

typedef struct cn_engine cn_engine;
typedef struct cn_doc    cn_doc;
typedef struct cn_view   cn_view;

typedef struct cn_engine_opts {
    const cn_model *model;       // borrowed until cn_engine_close
    const char     *isa;         // "ref", "avx2", "avx512"; NULL: the fastest that runs here
    int32_t         threads;     // 0: one for each core
    int64_t         view_tokens; // most tokens of a view, its conversation counted; 0: 262,144
    int32_t         topk;        // size of S; 0: the model's index_topk
    bool            dense;       // attend to all tokens: weights with an index run as YOCO
} cn_engine_opts;

/* Reserve an engine for a model.
 *
 *   out  owned by the caller: cn_engine_close().  NULL unless CN_OK.
 *
 * CN_EINVAL       an option is out of range; the diag names it.
 * CN_EUNSUPPORTED this processor does not run `isa`.
 * CN_ENOMEM. */
cn_err cn_engine_open(cn_engine **out, const cn_engine_opts *opts, cn_diag *diag) CN_MUST_CHECK;

/* Its documents and views must have been freed.  NULL is allowed. */
void cn_engine_close(cn_engine *e);

/* Change what attention reads from the next step on: the top k (0: the model's index_topk), or all
 * tokens.  Pages and documents do not depend on it.
 *
 * CN_ETOOBIG  topk is over that of cn_engine_open (where 0 counts as the model's); the diag has
 *             both numbers. */
cn_err cn_engine_set_routing(cn_engine *e, int32_t topk, bool dense, cn_diag *diag) CN_MUST_CHECK;

const cn_model *cn_engine_model(const cn_engine *e);
const char     *cn_engine_isa(const cn_engine *e);
int32_t         cn_engine_threads(const cn_engine *e);
int64_t         cn_engine_memory_bytes(const cn_engine *e); // reserved, weights not counted
int64_t         cn_engine_view_tokens(const cn_engine *e);  // most tokens of a view

/* All that decides the bits of a page besides model and tokens: instruction-set path,
 * element types, shape, page size, version of the arithmetic.  Pages made under another
 * text must not be used.  Valid until the engine is closed. */
const char *cn_engine_layout(const cn_engine *e);

/* ---- Pages ------------------------------------------------------------------------ */

/* A page body (kernels/page.h), 64-byte aligned. */
typedef struct cn_page_ref {
    const void *body;
    int32_t     tokens; // 1..CN_PAGE_TOKENS
} cn_page_ref;

int64_t cn_engine_page_bytes(const cn_engine *e);

/* ---- Documents -------------------------------------------------------------------- */

/* Reserve a document of up to `tokens_max` tokens (memory is backed as it fills).
 *
 *   has_sink  whether the model's document_sink applies: true for files, false for a
 *             conversation.
 *
 * CN_ETOOBIG  tokens_max is over CN_DOC_TOKENS_MAX.   CN_ENOMEM. */
cn_err cn_doc_create(cn_doc **out, cn_engine *e, int64_t tokens_max, bool has_sink,
                     cn_diag *diag) CN_MUST_CHECK;
void   cn_doc_free(cn_doc *doc); // NULL is allowed

/* Empty again; memory is kept. */
void    cn_doc_reset(cn_doc *doc);
int64_t cn_doc_tokens(const cn_doc *doc);
int64_t cn_doc_pages(const cn_doc *doc); // 0 in a transformer
/* Page i, complete but for a last one that may still grow.  The bytes stay where they are
 * until the document is reset or freed; slots behind `tokens` are zero. */
cn_page_ref cn_doc_page(const cn_doc *doc, int64_t i);

/* What a document needs besides its pages to go on: the K and V of its last window (and
 * sink), all self layers, position by position.  A function of the document's tokens, so
 * its bytes can be compared and kept.  Bytes for a document of `tokens` tokens. */
int64_t cn_doc_window_bytes(const cn_doc *doc, int64_t tokens);
/*   out  [cn_doc_window_bytes(doc, cn_doc_tokens(doc))] */
void cn_doc_window_save(const cn_doc *doc, void *out);

/* Put a document back as it was after `tokens` tokens: pages are copied, the window is
 * loaded.
 *
 *   page    [ceil(tokens / 256)], all but the last full, their tokens add up to `tokens`
 *   window  `window_bytes` bytes
 *
 * CN_EINVAL   counts that disagree; the diag gives both numbers.  The document is empty.
 * CN_ETOOBIG  more tokens than the document has room for.
 * CN_EUNSUPPORTED  a transformer's document. */
cn_err cn_doc_restore(cn_doc *doc, int64_t tokens, const cn_page_ref *page, int64_t pages,
                      const void *window, int64_t window_bytes, cn_diag *diag) CN_MUST_CHECK;

/* The same without a window, which can be made again: the rows of `tokens` tokens are put back, and
 * the document stands at cn_doc_replay_from(doc, tokens).  The tokens from there on go through the
 * engine once more, without a view: up to `tokens` they fill the window and leave the pages as they
 * are.  From then on every bit is that of a document that was never away.
 *
 * Errors of cn_doc_restore. */
cn_err cn_doc_restore_pages(cn_doc *doc, int64_t tokens, const cn_page_ref *page, int64_t pages,
                            cn_diag *diag) CN_MUST_CHECK;
/* A row depends on no token before it but the window's in each self layer: `tokens` less
 * self_layers * (window - 1), not below 0; 0 with a sink. */
int64_t cn_doc_replay_from(const cn_doc *doc, int64_t tokens);

/* For benches: a transformer's document as if `tokens` tokens had been prefilled, with random K
 * and V in every layer (the same for the same seed): at full length a prefill takes minutes.
 *
 * CN_ETOOBIG       more tokens than the document or the engine's views have room for.
 * CN_EUNSUPPORTED  another arm: prefill it. */
cn_err cn_doc_fill(cn_doc *doc, int64_t tokens, uint64_t seed, cn_diag *diag) CN_MUST_CHECK;

/* ---- Views ------------------------------------------------------------------------ */

/* Reserve a view of up to `pages_max` pages, the conversation's counted. */
cn_err cn_view_create(cn_view **out, cn_engine *e, int64_t pages_max, cn_diag *diag) CN_MUST_CHECK;
void   cn_view_free(cn_view *view); // NULL is allowed

/* The pages of the view's finished documents, in order; replaces what was set before.
 *
 *   page  [pages], copied; the bodies are borrowed until the next set or free.
 *
 * CN_ETOOBIG  over pages_max or the engine's view_tokens; the diag gives both numbers.
 * CN_EINVAL   a page that is not aligned or has no tokens.
 * CN_EUNSUPPORTED  pages for a transformer: its K and V depend on all that stands before.
 * On failure the view is as before. */
cn_err cn_view_set(cn_view *view, const cn_page_ref *page, int64_t pages,
                   cn_diag *diag) CN_MUST_CHECK;
/* Tokens of the finished documents. */
int64_t cn_view_tokens(const cn_view *view);

/* ---- Steps ------------------------------------------------------------------------ */

/* Where the attention of one token goes, by the index that all cross layers share: the softmax of
 * its scores, times the model's index_scale, over S.  The index was trained to be the mean
 * dense attention of layers and heads, so this is the model's own estimate, no measurement.  Empty
 * where there are no such scores: dense attention, and the other arms. */
typedef struct cn_read {
    const int32_t *position; // [tokens] in the view, its conversation counted; ascending
    const float   *weight;   // [tokens] their sum is 1
    int32_t        tokens;
} cn_read;

typedef struct cn_slice {
    cn_doc        *doc;   // each document at most once in a step
    const int32_t *token; // [tokens] appended to the document; borrowed for the call
    int32_t        tokens;
    cn_view       *view;       // NULL: no logits.  Each view at most once in a step
    bool           wants_read; // fill `read`
    const float   *logits;     // out: [vocab] after the last token; valid until the next
                               // step with a view.  NULL without a view
    cn_read read;              // out: where its attention goes; valid as long as `logits`.  Empty
                               // if it is not wanted or there is no view
} cn_slice;

/* Where the time of a step went, in ns, and what it moved.  Parts are disjoint. */
typedef struct cn_step_stats {
    int64_t wall_ns;
    int64_t self_ns;   // embedding, self-decoder, shared K, V and index keys
    int64_t window_ns; // of self_ns: its windows
    int64_t route_ns;  // index query, scan, top-k, row addresses
    int64_t read_ns;   // of route_ns: `read` of slices that want it
    int64_t attend_ns; // attention over S, or over all tokens: a transformer's in every layer
    int64_t cross_ns;  // the rest of the cross-decoder
    int64_t head_ns;   // final norm and output matrix
    int64_t rows;      // tokens appended
    int64_t scored;    // index keys scored, of all sources
    int64_t key_bytes; // of these keys
    int64_t selected;  // rows attended, once a sequence
    int64_t bytes;     // of pages read for logits: keys scored, and rows in each layer
} cn_step_stats;

/* Append the tokens of all slices and compute logits where a view is given.
 *
 *   slice  [slices]; `logits` is filled.
 *   stats  may be NULL; overwritten.
 *
 * CN_EINVAL    no tokens, too many rows or views, a token out of the vocabulary, a document
 *              or view given twice or of another engine, logits within a replay; the diag names
 *              it.
 * CN_EUNSUPPORTED  rope_global with documents in the view: their pages would depend on place.
 * CN_ETOOBIG   a document or the view is full; the diag gives both numbers.
 * CN_ENUMERIC  the model computed a NaN or infinity.
 * On failure every document is as before. */
cn_err cn_engine_step(cn_engine *e, cn_slice *slice, int32_t slices, cn_step_stats *stats,
                      cn_diag *diag) CN_MUST_CHECK;

typedef struct cn_sampling {
    float    temperature; // 0: greedy
    float    top_p;       // 1: all
    float    min_p;       // 0: all
    uint64_t seed;
    uint64_t counter; // tokens drawn before
} cn_sampling;

/* The next token from logits [vocab] (kernels/sample.h has the rules).
 * CN_EINVAL  a setting is out of range.   CN_ENUMERIC  the logits are not numbers. */
cn_err cn_engine_sample(cn_engine *e, const float *logits, const cn_sampling *s, int32_t *token_out,
                        cn_diag *diag) CN_MUST_CHECK;

/* ---- Looking inside --------------------------------------------------------------- */

typedef enum {
    CN_TAP_H,      // f32 [rows, hidden]: the shared state of a slice's tokens
    CN_TAP_SCORES, // f32 [1, view tokens]: I of the slice's last token
    CN_TAP_SET,    // i32 [1, |S|]: positions in the view, ascending
    CN_TAP_CROSS,  // f32 [1, hidden]: x after a cross layer
    CN_TAP_SELF,   // f32 [rows, hidden]: x of a slice's tokens after a self layer
    // With cn_engine_set_tap_probs, before CN_TAP_CROSS:
    CN_TAP_PROBS,    // f32 [heads, view tokens]: softmax of a cross layer over the whole view
    CN_TAP_ATTENDED, // f32 [heads, head_dim]: what its attention brought back
} cn_tap_stage;

/* `layer` is the layer for SELF, CROSS, PROBS and ATTENDED, the index source for SCORES and SET,
 * else 0. */
typedef void (*cn_tap_fn)(void *ctx, cn_tap_stage stage, int32_t slice, int32_t layer,
                          const void *data, int64_t rows, int64_t cols);

/* Call `fn` within each step from now on (NULL: no more): for tests and for evidence. */
void cn_engine_set_tap(cn_engine *e, cn_tap_fn fn, void *ctx);

/* Give the tap CN_TAP_PROBS and ATTENDED, too, from now on (NULL: no more).  Where attention is
 * sparse PROBS are what dense attention would do with that layer's input.
 *
 *   probs  [heads, tokens_max], borrowed.  No step may have a larger view, its conversation
 *          counted.
 * Time: one thread, about 4 ns a token, layer and head of 64. */
void cn_engine_set_tap_probs(cn_engine *e, float *probs, int64_t tokens_max);

CN_C_END

#endif
