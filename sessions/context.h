/*
 * context.h - The documents of a view: a repository's files, listed, chosen, cut, found and
 * prefilled; behind them long parts of the conversation (ref.h), in the order of their making.
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
#include "sessions/paths.h"
#include "tools/repo.h"

CN_C_BEGIN

enum {
    CN_CONTEXT_WRITE_DOCS = 16, // documents prefilled between two commits of pages
    CN_CONTEXT_GONE_MAX = 3,    // bindings in a row that find pages gone; then they stay in memory
};

typedef struct cn_context cn_context;

/* A document of the view, in order. */
typedef struct cn_context_doc {
    const char      *path; // valid until the next update
    cn_ledger_piece  piece;
    cn_document_kind kind;
    cn_miss          why;        // if it is missing
    bool             is_missing; // not all of its pages are in the store
    bool             is_copy;    // of a missing one before it: prefilled once
} cn_context_doc;

/* What the view holds and what it will cost: the price before it is paid. */
typedef struct cn_context_plan {
    int64_t files, documents;
    int64_t tokens;                        // of all documents
    int64_t cached_tokens, missing_tokens; // their parts
    int64_t file_tokens, ref_tokens;       // the same, by what they are of
    int64_t over_tokens;                   // the files' above the budget: grown or added
    int64_t refs;                          // long parts of the conversation
    int64_t missing_documents;
    int64_t files_read; // to know how they are cut; the others were remembered
    int64_t left_files, left_tokens;
    int64_t left_refs, left_ref_tokens; // dropped
    int64_t skipped_files;              // no text, or too large: tools/repo says why
    struct {
        int64_t count, tokens;
    } misses[CN_MISS_COUNT];
} cn_context_plan;

typedef struct cn_context_opts {
    const char *folder; // of a repository, or any folder
    int64_t     budget; // tokens; 0: CN_CHOOSE_BUDGET

    /* What a session says of paths; may be NULL.  Borrowed until cn_context_close, read by
     * each update; the last also by each refresh. */
    const cn_paths *passed; // files that its choice passed over
    const cn_paths *away;   // files that were in once and are not there now: kept, when they return
    const cn_paths *added;  // files that are in, above the budget too
    const cn_paths *dropped; // files and refs that are out
} cn_context_opts;

/* Open the folder; nothing is listed yet.
 *
 *   out   owned by the caller: cn_context_close().  NULL unless CN_OK.
 * Errors of cn_repo_open; CN_ENOMEM. */
cn_err cn_context_open(cn_context **out, cn_host *host, const cn_context_opts *opts,
                       cn_diag *diag) CN_MUST_CHECK;
void   cn_context_close(cn_context *c); // NULL is allowed

/* Remember what a session holds already, its documents of before, so that its choice is kept.
 * They are copied. */
cn_err cn_context_keep(cn_context *c, const cn_ledger_document *document, int64_t documents,
                       cn_diag *diag) CN_MUST_CHECK;

/* Bring the list of documents up to date with the working tree and find out which pages
 * are missing.  A folder that was replaced by another at its path is opened anew.  After an error
 * the context is as before.
 *
 * CN_ENOTFOUND  the folder is gone; or all that the view held, and git's part of the folder.
 * Errors of cn_repo_list, cn_repo_read (a file that keeps changing), cn_choose, cn_cut_file,
 * cn_ledger_blob_get. */
cn_err cn_context_update(cn_context *c, cn_diag *diag) CN_MUST_CHECK;

const cn_context_plan *cn_context_get_plan(const cn_context *c);
int64_t                cn_context_docs(const cn_context *c);
const cn_context_doc  *cn_context_doc_at(const cn_context *c, int64_t i);
/* The token that each line of document i begins in, [*lines_out]: as it is stored, or held in
 * memory; else there are none.  Valid until the next bind, update or close. */
void cn_context_doc_lines(cn_context *c, int64_t i, const int32_t **line_out, int32_t *lines_out);
/* What is left out, with the reason: plan.left_files files, then plan.left_refs refs.  NULL
 * past the last. */
const char *cn_context_left_at(const cn_context *c, int64_t i, int64_t *tokens_out,
                               const char **reason_out);
/* File i that is no text for a model, with the reason; NULL past the last. */
const char *cn_context_skipped_at(const cn_context *c, int64_t i, const char **reason_out);
/* Whether the folder has a file of this path, by the last update; if it is none for a view,
 * *skip_out says why, else it is NULL. */
bool     cn_context_has_file(const cn_context *c, const char *path, const char **skip_out);
cn_repo *cn_context_repo(cn_context *c);
/* Whether the documents are others than those that cn_context_keep was told last. */
bool cn_context_has_changed(const cn_context *c);
/* The files of those, by path, each once; NULL past the last. */
const char *cn_context_kept_at(const cn_context *c, int64_t i);

/* ---- Why documents are missing --------------------------------------------------------- */

typedef struct cn_context_miss {
    char   *path;
    char   *from; // CN_MISS_NEW: the path that had these bytes in the view before; NULL: none
    int32_t first_line, lines, tokens; // of the document
    cn_miss why;
    /* CN_MISS_CHANGED: the first byte in which the file differs from what the view had there
     * before.  0 if that is not known: what it was has left the store. */
    int64_t line;  // of the file as it is now, from 1
    int32_t token; // that holds it, from 1, of the document in which it is
} cn_context_miss;

/* Each missing document, in order, with its reason.
 *
 *   out  [*count_out], owned by the caller: cn_context_misses_free().
 *
 * Time: files that changed are read and cut again, as their prefill will do.
 * Errors of cn_repo_read, cn_cut_file; CN_ENOMEM. */
cn_err cn_context_explain(cn_context *c, cn_context_miss **out, int64_t *count_out,
                          cn_diag *diag) CN_MUST_CHECK;
void   cn_context_misses_free(cn_context_miss *miss, int64_t count);

/* ---- A view that stays as it was --------------------------------------------------------- */

/* Files are put, path and text copied; once the context is pinned, from the next update on, they
 * are the view's, whatever the folder holds.  Those that are dropped are out all the same. */
cn_err cn_context_put_pinned(cn_context *c, const char *path, cn_ledger_text text,
                             cn_diag *diag) CN_MUST_CHECK;
void   cn_context_pin(cn_context *c);
void   cn_context_unpin(cn_context *c);
bool   cn_context_is_pinned(const cn_context *c);

/* The text of a file as the documents that cn_context_keep was told last have it: from the folder,
 * if it is still that, else from the page store.
 *
 * CN_ENOTFOUND  neither has it any more; the diag names it. */
cn_err cn_context_recall(cn_context *c, const char *path, cn_buf *out, cn_diag *diag) CN_MUST_CHECK;

/* ---- Long parts of the conversation ------------------------------------------------ */

typedef struct cn_context_ref {
    const char *path;       // in its documents' header
    int32_t     turn, part; // as in cn_ledger_ref
    int64_t     tokens;     // of its documents; 0 until an update or refresh has cut them
    bool        is_dropped;
} cn_context_ref;

/* Put a part behind all others; it is in the view from the next update or refresh on.  path
 * and text, borrowed for the call, are copied; tokens and is_dropped are not read. */
cn_err cn_context_put_ref(cn_context *c, const cn_context_ref *ref, cn_ledger_text text,
                          cn_diag *diag) CN_MUST_CHECK;

/* Only the first `refs` parts stay; their documents are in the view as before. */
void cn_context_take_back(cn_context *c, int64_t refs);

int64_t               cn_context_refs(const cn_context *c);
const cn_context_ref *cn_context_ref_at(const cn_context *c, int64_t i);
const cn_context_ref *cn_context_ref_find(const cn_context *c, const char *path); // or NULL

/* cn_context_update without a new look at the folder: parts were put, or paths dropped.
 * Errors of cn_cut_file, cn_ledger_blob_get; then the context is as before. */
cn_err cn_context_refresh(cn_context *c, cn_diag *diag) CN_MUST_CHECK;

/* Whether the view holds a file in which `text` is what stands from `first_line` on, line ends
 * apart: then it is in documents already.  A file that has changed since the last update is
 * not held.   CN_ENOMEM. */
cn_err cn_context_holds(cn_context *c, const char *path, int64_t first_line, cn_ledger_text text,
                        bool *out, cn_diag *diag) CN_MUST_CHECK;

/* ---- Prefill ---------------------------------------------------------------------- */

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
 * so.  What a token took is kept as the host's rate (cn_host_put_rate).  Errors of
 * cn_engine_step, cn_repo_read, cn_host_put_rate, CN_ENOMEM. */
cn_err cn_context_prefill(cn_context *c, bool *done_out, cn_context_work *work,
                          cn_diag *diag) CN_MUST_CHECK;

/* The store's refusal, if pages could not be written since the last update; NULL if not. */
const cn_diag *cn_context_store_failure(const cn_context *c);

/* Set `view` to the documents' pages, in order, read in place from the newest snapshot.
 * The pages stay valid until the next bind, update or close.  Call it before each turn: a
 * page that has gone meanwhile makes its document missing, and *gone_out true: prefill
 * again, then bind.  After CN_CONTEXT_GONE_MAX such rounds what is prefilled stays in memory,
 * so that they end. */
cn_err cn_context_bind(cn_context *c, cn_view *view, bool *gone_out, cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif
