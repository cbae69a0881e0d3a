/*
 * depth.h - What the model finds in a repository's view, by context length and depth.
 *
 * For each length, 4,096 tokens doubled up to a budget, the files that a session of that
 * budget would hold are copied to a scratch folder, and sessions are opened on the copy, so that
 * every question takes the way that cairn ask takes.
 *
 *   needle     a comment line `The passkey for WORD is 123456.` is planted at a depth, one at a
 *              time; "What is the passkey for WORD?"
 *   where      functions that are defined once in the view, by strict rules (definitions.h), at
 *              the depth where they stand; "Where is X defined?"
 *   signature  the same functions; "What is the signature of X?"
 *
 * Depth is the share of the view's tokens that stand before the place.  Each question is a
 * fresh conversation, asked in each mode: dense attention, and the top k for several k, as
 * far as a set of k leaves tokens out.  Right is the exact answer without a tool call: with a call
 * it was not found in the view.
 *
 * Threads: one.   Layer: runtime.
 */
#ifndef CN_RUNTIME_DEPTH_H
#define CN_RUNTIME_DEPTH_H

#include "runtime/retrieval.h"

CN_C_BEGIN

enum {
    CN_DEPTH_TOKENS_MIN = 4096, // the shortest context
    CN_DEPTH_LENGTHS_MAX = 16,
    CN_DEPTH_MODES_MAX = 5,
    CN_DEPTHS_MIN = 5,
    CN_DEPTHS_MAX = 20,
    CN_DEPTH_CELL_MAX = 100, // questions of one kind in a cell
};

typedef enum { CN_DEPTH_NEEDLE, CN_DEPTH_WHERE, CN_DEPTH_SIGNATURE, CN_DEPTH_KINDS } cn_depth_kind;

/* "needle", "where", "signature". */
const char *cn_depth_kind_name(cn_depth_kind kind);

typedef struct cn_depth_cell {
    int64_t questions, right;
    int64_t called; // answered with a tool call
    // One conversation at a time, needles only: documents that changed, and tokens sampled.
    int64_t prefill_tokens, prefill_ns, output_tokens, decode_ns;
} cn_depth_cell;

typedef struct cn_depth_length {
    int64_t budget;                     // that files were chosen for
    int64_t tokens, documents;          // of the view
    int64_t definitions;                // that can be asked for
    int64_t prefill_tokens, prefill_ns; // of what no shorter context held
    int32_t modes;                      // the first ones of cn_depth_result.topk
} cn_depth_length;

typedef struct cn_depth_result {
    int32_t         depths, lengths;
    cn_depth_length length[CN_DEPTH_LENGTHS_MAX];
    int32_t         topk[CN_DEPTH_MODES_MAX]; // of each mode; 0: dense
    cn_depth_cell   cell[CN_DEPTH_KINDS][CN_DEPTH_LENGTHS_MAX][CN_DEPTH_MODES_MAX][CN_DEPTHS_MAX];
} cn_depth_result;

typedef struct cn_depth_opts {
    cn_host    *host;            // its engine opened for CN_RETRIEVAL_TOPK_MAX
    const char *folder;          // the repository
    const char *scratch;         // an empty folder, in no repository; copies stay there
    int64_t     budget;          // tokens of the longest context
    int32_t     depths;          // CN_DEPTHS_MIN..CN_DEPTHS_MAX
    int32_t  needles, questions; // of a cell, 0..CN_DEPTH_CELL_MAX; the repository may have fewer
    uint64_t seed;
    FILE    *out; // a JSON line for each question; may be NULL
    const atomic_bool *cancel;
    /* A row of cells is there.  May be NULL. */
    void (*on_row)(void *ctx, const cn_depth_result *r, cn_depth_kind kind, int32_t length,
                   int32_t mode);
    void *ctx;
} cn_depth_opts;

/* Run it all; stops early, with CN_OK, when `cancel` is set.  Equal arguments give equal answers.
 *
 * A line of `out`:
 * {"kind","context_tokens","bytes_read","depth","share","topk","q","answer","text",
 * "calls","right"}: bytes of keys and rows that were read, depth the middle of the cell, share
 * where it stands as measured, topk 0 for dense, calls their number.
 *
 *   out  overwritten; what was measured so far, after an error too.
 *
 * CN_EINVAL    the scratch folder lies in a repository.
 * CN_ENOTFOUND no text in the repository.
 * Errors of cn_context_*, cn_session_open, cn_ask_each, cn_scratch_write; CN_ENOMEM. */
cn_err cn_depth_run(cn_depth_result *out, const cn_depth_opts *opts, cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif
