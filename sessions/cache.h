/*
 * cache.h - The page store's upkeep: what it holds and for whom, what may go, whether it is
 * right.
 *
 * Threads: that of the host.   Layer: sessions -> base, engine, store.
 */
#ifndef CN_SESSIONS_CACHE_H
#define CN_SESSIONS_CACHE_H

#include "sessions/host.h"

CN_C_BEGIN

enum {
    CN_CACHE_IDLE_SECONDS = 24 * 3600, // unreached and unused for so long is garbage
    CN_CACHE_SAMPLE_DOCUMENTS = 4,
    CN_CACHE_DELETE_KEYS = 256, // between two looks at who needs what
};

/* A document, or a page of a conversation with what lies beside it, is a key. */
typedef struct cn_cache_sum {
    int64_t keys, documents, pages, windows, bytes;
} cn_cache_sum;

/* What the store holds, by what it is held for.   Errors of cn_keep_read, cn_pages_each. */
cn_err cn_cache_count(cn_host *h, cn_cache_sum out[CN_KEEP_COUNT], cn_diag *diag) CN_MUST_CHECK;

/* ---- Garbage --------------------------------------------------------------------------- */

typedef struct cn_cache_gc_opts {
    int64_t budget_bytes; // what may stay; negative: the store's own budget
    int64_t now_s;        // unix seconds
    bool    is_dry_run;   // say what would go
} cn_cache_gc_opts;

typedef struct cn_cache_gc {
    cn_cache_sum idle;                 // goes: unreached, unused for CN_CACHE_IDLE_SECONDS
    cn_cache_sum over[CN_KEEP_COUNT];  // goes: over the budget
    cn_cache_sum stays[CN_KEEP_COUNT]; // in use and pinned: whatever the budget
    int64_t      budget_bytes, used_bytes, left_bytes; // before and after
} cn_cache_gc;

/* Delete garbage, then what is needed least until the rest fits the budget.  What a session
 * that is open somewhere needs, or a pinned one, never goes; snapshots keep what they see.  A
 * session that is opened meanwhile may have to prefill again: nothing else.
 *
 * Errors of cn_cache_count; of cn_pages_delete: some may be gone. */
cn_err cn_cache_collect(cn_host *h, const cn_cache_gc_opts *opts, cn_cache_gc *out,
                        cn_diag *diag) CN_MUST_CHECK;

/* ---- Dropping ---------------------------------------------------------------------------- */

typedef struct cn_cache_drop_opts {
    const char *session; // an exact id; or
    const char *repo;    // as sessions have it; or neither: everything
    bool        is_forced;
} cn_cache_drop_opts;

typedef struct cn_cache_drop {
    cn_cache_sum    own;     // gone: of the session or repository, or everything
    cn_cache_sum    nobodys; // gone: no session knows whose it is, so it may be of this one
    cn_cache_sum    shared;  // stays: another session has the same documents
    cn_pages_erased erased;
} cn_cache_drop;

/* Delete the pages of a session, of all sessions on a repository, or all, pinned or not, and
 * overwrite what they leave in the file.  What others share stays, unless forced.
 *
 * CN_ENOTFOUND  no such session; none on this repository.
 * CN_EBUSY      a session of these is open in a process, which the diag names; not if forced. */
cn_err cn_cache_drop_pages(cn_host *h, const cn_cache_drop_opts *opts, cn_cache_drop *out,
                           cn_diag *diag) CN_MUST_CHECK;

/* ---- Verifying (cache_verify.c) ------------------------------------------------------------ */

typedef struct cn_cache_verified {
    cn_pages_verified values;
    int64_t           documents, tokens; // that were prefilled again
    int64_t           wrong;             // of them: other bits; deleted
    int64_t           foreign; // looked at, and of another model, path or tenant: not comparable
} cn_cache_verified;

/* Verify the checksum of every value; then prefill `sample` documents, chosen at random, from
 * the tokens that their records hold, and compare all bits of their pages.  What is bad is
 * deleted, and prefilled again when it is needed.
 *
 * Errors of cn_pages_verify, cn_engine_step, CN_ENOMEM.
 * Time: a pass over the file, and the prefill of the sample. */
cn_err cn_cache_verify(cn_host *h, int64_t sample, cn_cache_verified *out,
                       cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif
