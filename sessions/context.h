/*
 * context.h - A repository as the documents of a view: listed, chosen, cut, found, prefilled.
 *
 *   tools/repo lists the working tree -> choose.h picks files for a token budget -> cut.h
 *   makes documents of each (or the ledger remembers how this blob was cut, and the file is
 *   neither read nor tokenised) -> store/pages answers hit or miss -> the engine prefills
 *   misses, chunk by chunk, the caller owning the loop -> pages are written -> the view is
 *   bound to the pages where they lie in the store's map.
 *
 * Threads: one.   Layer: sessions -> base, engine, store, tools.
 */
#ifndef CN_SESSIONS_CONTEXT_H
#define CN_SESSIONS_CONTEXT_H

#include "sessions/choose.h"
#include "sessions/host.h"
#include "tools/repo.h"

CN_C_BEGIN

enum { CN_CONTEXT_WRITE_DOCS = 16 }; // documents prefilled between two commits of pages

typedef struct cn_context cn_context;

/* A document of the view, in order. */
typedef struct cn_context_doc {
    const char     *path; // valid until the next update
    cn_ledger_piece piece;
    cn_miss         why;        // if it is missing
    bool            is_missing; // not all of its pages are in the store
} cn_context_doc;

/* What the view holds and what it will cost: the price before it is paid. */
typedef struct cn_context_plan {
    int64_t files, documents;
    int64_t tokens;                        // of all documents
    int64_t cached_tokens, missing_tokens; // their parts
    int64_t missing_documents;
    int64_t files_read; // to know how they are cut; the others were remembered
    int64_t left_files, left_tokens;
    int64_t skipped_files; // no text, or too large: tools/repo says why
    struct {
        int64_t count, tokens;
    } misses[CN_MISS_COUNT];
} cn_context_plan;

typedef struct cn_context_opts {
    const char *folder; // of a repository, or any folder
    int64_t     budget; // tokens; 0: CN_CHOOSE_BUDGET
} cn_context_opts;

/* Open the folder; nothing is listed yet.
 *
 *   out   owned by the caller: cn_context_close().  NULL unless CN_OK.
 * Errors of cn_repo_open; CN_ENOMEM. */
cn_err cn_context_open(cn_context **out, cn_host *host, const cn_context_opts *opts,
                       cn_diag *diag) CN_MUST_CHECK;
void   cn_context_close(cn_context *c); // NULL is allowed

/* Remember what a session holds already, so that its choice is kept: its documents of
 * before, and the paths that were passed over when it chose.  All are copied. */
cn_err cn_context_keep(cn_context *c, const cn_ledger_document *document, int64_t documents,
                       const char *const *passed, int64_t passed_paths,
                       cn_diag *diag) CN_MUST_CHECK;

/* Bring the list of documents up to date with the working tree and find out which pages
 * are missing.  After an error the context is as before.
 * Errors of cn_repo_list, cn_repo_read (a file that keeps changing), cn_choose, cn_cut_file,
 * cn_ledger_blob_get. */
cn_err cn_context_update(cn_context *c, cn_diag *diag) CN_MUST_CHECK;

const cn_context_plan *cn_context_get_plan(const cn_context *c);
int64_t                cn_context_docs(const cn_context *c);
const cn_context_doc  *cn_context_doc_at(const cn_context *c, int64_t i);
/* File i that the choice left out, with the reason; NULL past the last. */
const char *cn_context_left_at(const cn_context *c, int64_t i, int64_t *tokens_out,
                               const char **reason_out);
/* File i that is no text for a model, with the reason; NULL past the last. */
const char *cn_context_skipped_at(const cn_context *c, int64_t i, const char **reason_out);
cn_repo    *cn_context_repo(cn_context *c);
/* Whether the last update changed the list of documents. */
bool cn_context_has_changed(const cn_context *c);

/* What a step of prefill did. */
typedef struct cn_context_work {
    int64_t tokens;     // prefilled
    int64_t compute_ns; // in the engine
    int64_t store_ns;   // writing pages
    int64_t bytes_written;
} cn_context_work;

/* Prefill the next chunk of a missing document, and write finished documents now and then.
 *
 *   done_out  nothing is missing any more, and all is written that the store takes.
 *   work      added to.
 *
 * A store that is full or fails costs only that: the pages stay in memory, `unstored` says
 * so.  Errors of cn_engine_step, cn_repo_read, CN_ENOMEM. */
cn_err cn_context_prefill(cn_context *c, bool *done_out, cn_context_work *work,
                          cn_diag *diag) CN_MUST_CHECK;

/* The store's refusal, if pages could not be written since the last update; NULL if not. */
const cn_diag *cn_context_store_failure(const cn_context *c);

/* Set `view` to the documents' pages, in order, read in place from the newest snapshot.
 * The pages stay valid until the next bind, update or close.  Call it before each turn: a
 * page that has gone meanwhile makes its document missing, and *gone_out true: prefill
 * again, then bind. */
cn_err cn_context_bind(cn_context *c, cn_view *view, bool *gone_out, cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif
