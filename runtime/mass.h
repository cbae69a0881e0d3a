/*
 * mass.h - How much of dense attention a set of k tokens holds, and what leaving the rest out
 * costs in cross-entropy: Table 4 of arXiv:2606.06467, computed through the engine.
 *
 * A is the mean over cross layers and heads of the dense cross-attention of one token.  Of the
 * tokens older than the model's index_local last ones, which are always in S, are taken
 *
 *   index        the k with the largest index scores: what S holds besides the last ones
 *   oracle       the k with the largest A: the best that one set for all layers and heads holds
 *   by layer     the k with the largest mean over heads in each layer, a set for each
 *
 * and their share of A is said, beside the share of the last index_local tokens.  Cross-entropy
 * is that of the token that really follows, dense and with each k, over the same places.
 *
 * Text: a document of the view behind all others, as it would stand in a conversation's place; from
 * each, places evenly apart.  Answers: those of a questions file (retrieval.h), each
 * turn's question and right answer written into a fresh conversation; turns with calls are passed
 * over.
 *
 * Threads: one.   Layer: runtime.
 */
#ifndef CN_RUNTIME_MASS_H
#define CN_RUNTIME_MASS_H

#include "runtime/retrieval.h"

CN_C_BEGIN

enum {
    CN_MASS_SETS = 4,
    CN_MASS_PLACES_MAX = 256,       // of one document or answer
    CN_MASS_SEQUENCE_TOKENS = 8192, // of one document, or question and answers
};

extern const int32_t cn_mass_topk[CN_MASS_SETS]; // 256, 512, 1024, 2048

/* Means over the places; shares of all of A. */
typedef struct cn_mass {
    int64_t sequences, places; // documents or questions; tokens predicted
    int64_t passed;            // questions passed over
    double  view_tokens;
    double  local; // share of the last index_local tokens
    double  index[CN_MASS_SETS], oracle[CN_MASS_SETS], by_layer[CN_MASS_SETS]; // without them
    double  dense_ce;                                                          // nats a token
    double  ce_change[CN_MASS_SETS], ce_error[CN_MASS_SETS]; // k less dense; standard error of it
} cn_mass;

typedef struct cn_mass_opts {
    cn_host           *host;              // its engine opened for CN_RETRIEVAL_TOPK_MAX
    cn_context        *context;           // up to date, nothing missing
    int32_t            documents, places; // of text: most documents; places over all
    const char        *questions;         // of answers: the file
    uint64_t           seed;              // which documents
    const atomic_bool *cancel;
    void (*on_sequence)(void *ctx, int64_t done); // may be NULL
    void *ctx;
} cn_mass_opts;

/* CN_EUNSUPPORTED  the model has no index that its layers share.
 * CN_ENOTFOUND     the view has no document of CN_PAGE_TOKENS tokens, or a page is not stored.
 * CN_ECORRUPT, CN_ETOOBIG  a line of the questions; the diag has its number.
 * Errors of cn_engine_step, cn_view_set, cn_file_read; CN_ENOMEM.
 * With `cancel` set: CN_OK, and the means so far. */
cn_err cn_mass_of_text(cn_mass *out, const cn_mass_opts *opts, cn_diag *diag) CN_MUST_CHECK;
cn_err cn_mass_of_answers(cn_mass *out, const cn_mass_opts *opts, cn_diag *diag) CN_MUST_CHECK;

/* ---- The sums, for tests ------------------------------------------------------------ */

/* For each of `k` (ascending): the sum of `value` over the k largest keys among `count`, ties to
 * the lower position; of all if k is not below count.
 *
 *   key, value  [count]
 *   scratch     [count] cn_mass_item
 *   sum_out     [ks] */
typedef struct cn_mass_item {
    float   key, value;
    int32_t position;
} cn_mass_item;

void cn_mass_top_sums(const float *key, const float *value, int64_t count, const int32_t *k,
                      int32_t ks, cn_mass_item *scratch, double *sum_out);

/* Nats of `token` under softmax of logits [vocab]. */
double cn_mass_cross_entropy(const float *logits, int32_t vocab, int32_t token);

CN_C_END

#endif
