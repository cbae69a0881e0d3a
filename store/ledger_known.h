/*
 * ledger_known.h - What the ledger knows of documents that are not in the page store: whether
 * they ever were, and whether the same file was cut and stored under other keys.
 *
 * A key alone says nothing of why its pages are missing.  So the ledger remembers
 *
 *   stored   keys whose pages reached the disk once: the CN_LEDGER_STORED_MAX put last
 *   domains  what the `model` of a cn_ledger_cut stands for: weights, and numeric layout;
 *            written with the first blob that is cut for it
 *
 * No promise rests on them: they explain a bill.
 *
 * Layer: store -> base.
 */
#ifndef CN_STORE_LEDGER_KNOWN_H
#define CN_STORE_LEDGER_KNOWN_H

#include "store/ledger.h"

CN_C_BEGIN

enum { CN_LEDGER_STORED_MAX = 1 << 20 };

/* These documents' pages are on the disk.  One transaction. */
cn_err cn_ledger_stored_put(cn_ledger *l, const cn_hash *key, int64_t keys,
                            cn_diag *diag) CN_MUST_CHECK;
/* Whether this document's pages ever were. */
cn_err cn_ledger_stored_has(cn_ledger *l, const cn_hash *key, bool *out,
                            cn_diag *diag) CN_MUST_CHECK;

/* How a blob is known that was cut under another domain or by another version of the cut. */
typedef enum {
    CN_KNOWN_NOT,
    CN_KNOWN_MODEL,  // for other weights, config or tokenizer
    CN_KNOWN_FORMAT, // for these, but by another layout, backend or version of the cut
} cn_known;

/* Whether a blob of this path and id, of the same tenant, was stored under other keys; those of the
 * same weights are the nearer ones.
 *
 *   blob     path and id; piece and pieces are not read.
 *   is_held  whether the caller knows a key as one that was used, besides those that were put as
 *            stored; may be NULL.  It must not call into the ledger. */
typedef struct cn_ledger_elsewhere {
    const cn_ledger_cut  *cut; // with weights
    const cn_ledger_blob *blob;
    bool (*is_held)(void *ctx, const cn_hash *key);
    void *ctx;
} cn_ledger_elsewhere;

cn_err cn_ledger_blob_elsewhere(cn_ledger *l, const cn_ledger_elsewhere *args, cn_known *out,
                                cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif
