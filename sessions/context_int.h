/*
 * context_int.h - What the context's files share.  Private to sessions.
 *
 *   context.c        the folder: list, choose, know how each file is cut; what there is to see
 *   context_refs.c   long parts of the conversation
 *   context_pin.c    a view that stays as it was
 *   context_misses.c why documents are missing
 *   context_pages.c  prefill, write, bind
 */
#ifndef CN_SESSIONS_CONTEXT_INT_H
#define CN_SESSIONS_CONTEXT_INT_H

#include "sessions/context.h"

CN_C_BEGIN

/* What is cut into documents: a file of the folder, or a long part of the conversation. */
typedef struct cn_context_entry {
    const char         *path;
    cn_document_kind    kind;
    const cn_repo_file *file;  // NULL: a part, or pinned
    cn_ledger_text      text;  // of these
    cn_ledger_piece    *piece; // [pieces]; NULL: not known yet
    int32_t             pieces;
    int64_t             tokens;
    bool                was_read;
} cn_context_entry;

/* A part; path and text are its own. */
typedef struct cn_context_part {
    cn_context_ref   ref;
    cn_context_entry entry;
} cn_context_part;

/* The folder as it was listed, and which of its files are in. */
typedef struct cn_context_folder {
    cn_repo_files    *files;
    cn_context_entry *entry; // [files->count]
    cn_choice         choice;
    cn_choose_file   *choose;       // [choosable] what choice.chosen counts in
    int64_t          *choose_entry; // [choosable] index in entry
    int64_t           choosable;
} cn_context_folder;

/* The documents of the view, in order. */
typedef struct cn_context_shelf {
    cn_context_doc          *doc;    // [docs]
    const cn_context_entry **source; // [docs] what it is cut from
    cn_hash                 *pinned; // [docs] sorted keys: what the store must not evict
    int64_t                  docs;
    cn_hash                  id; // of paths, kinds and keys
} cn_context_shelf;

/* A document that the view held before. */
typedef struct cn_context_kept {
    const char     *path; // one of kept_path
    cn_ledger_piece piece;
} cn_context_kept;

/* A finished document that waits to be written, or that the store did not take. */
typedef struct cn_context_held {
    cn_doc  *doc;
    cn_hash  key;
    int32_t *token; // [tokens], then [lines] line starts; malloc'ed
    int32_t  tokens, lines;
    int64_t  text_bytes;
} cn_context_held;

struct cn_context {
    cn_host          *host;
    cn_host_kept      holds; // the shelf's documents, in the host's list
    cn_repo          *repo;
    bool              is_new_repo; // than the one that `folder` was listed from
    int64_t           budget;
    const cn_paths   *passed, *away, *added, *dropped;
    cn_context_folder folder;
    cn_context_part **part; // [parts] in the order of their making
    int64_t           parts, parts_room;
    cn_context_part **pinned; // [pinned_files] by path; of them only the entry counts
    int64_t           pinned_files, pinned_room;
    bool              is_pinned;
    cn_context_shelf  shelf;
    cn_context_plan   plan;

    cn_paths         kept_path; // sorted: the files of the session's documents of before
    cn_hash         *kept_key;  // [kept_keys] sorted: the keys of all of them
    int64_t          kept_keys;
    cn_context_kept *kept; // [kept_docs] the documents of these files, in order
    int64_t          kept_docs;
    cn_hash          kept_id; // shelf.id as it was then
    bool             has_kept;

    cn_hash *corrupt; // [corrupts] keys with a page that failed its check, until prefilled again
    int64_t  corrupts;
    bool     has_noted; // the ledger knows which documents of the shelf are stored

    // Prefill.
    cn_context_held         waiting[CN_CONTEXT_WRITE_DOCS];
    int32_t                 waiting_docs;
    cn_doc                 *spare[CN_CONTEXT_WRITE_DOCS];
    int32_t                 spares;
    cn_context_held        *resident; // [residents] documents that live in memory only
    int64_t                 residents, residents_room;
    cn_doc                 *current;                // being prefilled
    int64_t                 current_at;             // its document; -1: none
    cn_cut                  cut;                    // of what the current document is of
    const cn_context_entry *cut_entry;              // whose cut it is; NULL: none
    int64_t                 fresh_tokens, fresh_ns; // prefilled since nothing was missing
    cn_diag                 store_failure;
    int32_t                 gone_rounds; // bindings in a row that found pages gone

    // Binding.
    cn_pages_txn *txn;
    cn_page_ref  *page; // [pages]
    int64_t       pages;
    bool          is_bound;
};

/* ---- context.c --------------------------------------------------------------------- */

/* Count the plan anew from the shelf. */
void cn_context_count(cn_context *c);
/* Learn how an entry is cut: remembered, or read, cut and remembered.
 * CN_ENOTFOUND  the file has changed since it was listed. */
cn_err cn_context_know(cn_context *c, cn_context_entry *e, cn_diag *diag) CN_MUST_CHECK;
/* Read an entry and cut it. */
cn_err cn_context_cut(cn_context *c, const cn_context_entry *e, cn_cut *out,
                      cn_diag *diag) CN_MUST_CHECK;
/* The listing's entry of a path; NULL if it has none. */
const cn_context_entry *cn_context_entry_find(const cn_context *c, const char *path);

bool cn_context_is_kept_key(const cn_context *c, const cn_hash *key);
/* What a remembered cut is found by: git's id of a file, raw, or the hash of a text.  Its size. */
int32_t cn_context_raw_id(uint8_t out[CN_HASH_BYTES], const cn_context_entry *e);

/* ---- context_misses.c --------------------------------------------------------------- */

/* A page of this document failed its check; it was prefilled again. */
void cn_context_note_corrupt(cn_context *c, const cn_hash *key);
void cn_context_forget_corrupt(cn_context *c, const cn_hash *key);
/* Set `why` of each missing document that has none yet. */
void cn_context_find_reasons(cn_context *c);

/* ---- context_pin.c ------------------------------------------------------------------ */

/* Learn how the pinned files are cut. */
cn_err cn_context_know_pinned(cn_context *c, cn_diag *diag) CN_MUST_CHECK;
/* The pinned file of a path; NULL if there is none. */
const cn_context_entry *cn_context_pinned_find(const cn_context *c, const char *path);

/* ---- context_refs.c ---------------------------------------------------------------- */

/* Learn how all parts are cut. */
cn_err cn_context_know_parts(cn_context *c, cn_diag *diag) CN_MUST_CHECK;
void   cn_context_free_parts(cn_context *c, int64_t from);
/* path and text are copied; NULL: no memory. */
cn_context_part *cn_context_part_make(const char *path, cn_ledger_text text, cn_document_kind kind);
void             cn_context_part_free(cn_context_part *p); // NULL is allowed

/* ---- context_pages.c --------------------------------------------------------------- */

/* Write what waits, go on to the newest snapshot, and let go of the shelf. */
cn_err cn_context_settle(cn_context *c, cn_diag *diag) CN_MUST_CHECK;
/* Nothing of prefill or binding points at the shelf, its entries or their cuts any more. */
void cn_context_let_go(cn_context *c);
/* Look every page up, and count the plan's misses. */
void cn_context_find_missing(cn_context *c);
void cn_context_free_pages(cn_context *c);

static inline int64_t cn_context_pages_of(int64_t tokens) {
    return (tokens + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
}

CN_C_END

#endif
