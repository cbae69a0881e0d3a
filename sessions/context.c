/*
 * context.c - From a folder to a bound view.
 *
 * A file's entry knows its pieces (keys and lengths).  Tokens are made only when a piece has
 * to be prefilled: the cheap path of an unchanged blob is one row of the ledger.
 */
#include "sessions/context.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { CHOOSE_ROUNDS = 4, READ_TRIES = 3 };

/* One file of the listing that was asked how it is cut. */
typedef struct entry {
    const cn_repo_file *file;
    cn_ledger_piece    *piece; // [pieces]; NULL: not known yet
    int32_t             pieces;
    int64_t             tokens;
    bool                was_read;
} entry;

/* A finished document that waits to be written, or that the store did not take. */
typedef struct held {
    cn_doc  *doc;
    cn_hash  key;
    int32_t *token; // [tokens], then [lines] line starts; malloc'ed
    int32_t  tokens, lines;
    int64_t  text_bytes;
} held;

struct cn_context {
    cn_host        *host;
    cn_repo        *repo;
    int64_t         budget;
    cn_repo_files  *files;
    entry          *entry; // [files->count]
    cn_choice       choice;
    cn_choose_file *choose;       // [choosable] what choice.chosen counts in
    int64_t        *choose_entry; // [choosable] index in entry
    int64_t         choosable;

    cn_context_doc *doc; // [docs]
    int64_t         docs;
    cn_context_plan plan;
    bool            has_changed;

    char   **kept_path; // [kept_paths] of the session's documents of before
    int64_t  kept_paths;
    char   **passed; // [passed_paths] what the choice passed over
    int64_t  passed_paths;
    cn_hash *kept_key; // [kept_keys] sorted
    int64_t  kept_keys;
    bool     has_kept;
    cn_hash *pinned; // [docs] sorted: what the store must not evict

    // Prefill.
    held         waiting[CN_CONTEXT_WRITE_DOCS];
    int32_t      waiting_docs;
    cn_doc      *spare[CN_CONTEXT_WRITE_DOCS];
    int32_t      spares;
    held        *resident; // [residents] documents that live in memory only
    int64_t      residents, residents_room;
    cn_doc      *current;    // being prefilled
    int64_t      current_at; // its document; -1: none
    cn_cut       cut;        // of the current document's file
    const entry *cut_entry;  // whose cut it is; NULL: none
    cn_diag      store_failure;

    // Binding.
    cn_pages_txn *txn;
    cn_page_ref  *page; // [pages]
    int64_t       pages;
    bool          is_bound;
};

static int64_t pages_of(int64_t tokens) {
    return (tokens + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
}

static int by_bytes(const void *a, const void *b) {
    return memcmp(a, b, CN_HASH_BYTES);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

cn_err cn_context_open(cn_context **out, cn_host *host, const cn_context_opts *opts,
                       cn_diag *diag) {
    *out = NULL;
    cn_context *c = calloc(1, sizeof(*c));
    if (!c) return CN_FAIL(diag, CN_ENOMEM, "no memory for a context");
    c->host = host;
    c->budget = opts->budget ? opts->budget : CN_CHOOSE_BUDGET;
    c->current_at = -1;
    cn_err err = cn_repo_open(&c->repo, &(cn_repo_opts){.path = opts->folder}, diag);
    if (err) {
        cn_context_close(c);
        return err;
    }
    *out = c;
    return CN_OK;
}

static void free_entries(entry *e, const cn_repo_files *files) {
    for (int64_t i = 0; e && i < files->count; i++) free(e[i].piece);
    free(e);
}

static void free_texts(char **text, int64_t count) {
    for (int64_t i = 0; text && i < count; i++) free(text[i]);
    free(text);
}

static void forget_kept(cn_context *c) {
    free_texts(c->kept_path, c->kept_paths);
    free_texts(c->passed, c->passed_paths);
    free(c->kept_key);
    c->kept_path = c->passed = NULL;
    c->kept_key = NULL;
    c->kept_paths = c->kept_keys = c->passed_paths = 0;
}

static void drop(held *h) {
    cn_doc_free(h->doc);
    free(h->token);
}

void cn_context_close(cn_context *c) {
    if (!c) return;
    cn_pages_end(c->txn);
    c->host->kept = NULL;
    c->host->kept_count = 0;
    for (int32_t i = 0; i < c->waiting_docs; i++) drop(&c->waiting[i]);
    for (int32_t i = 0; i < c->spares; i++) cn_doc_free(c->spare[i]);
    for (int64_t i = 0; i < c->residents; i++) drop(&c->resident[i]);
    cn_doc_free(c->current);
    cn_cut_release(&c->cut);
    cn_choice_release(&c->choice);
    free(c->choose);
    free(c->choose_entry);
    free(c->resident);
    free(c->page);
    free(c->doc);
    free(c->pinned);
    forget_kept(c);
    if (c->files) free_entries(c->entry, c->files);
    cn_repo_files_free(c->files);
    cn_repo_close(c->repo);
    free(c);
}

cn_err cn_context_keep(cn_context *c, const cn_ledger_document *document, int64_t documents,
                       const char *const *passed, int64_t passed_paths, cn_diag *diag) {
    forget_kept(c);
    c->has_kept = true;
    c->kept_path = calloc((size_t)documents + 1, sizeof(*c->kept_path));
    c->kept_key = calloc((size_t)documents + 1, sizeof(*c->kept_key));
    c->passed = calloc((size_t)passed_paths + 1, sizeof(*c->passed));
    bool ok = c->kept_path && c->kept_key && c->passed;
    for (int64_t i = 0; ok && i < documents; i++) {
        c->kept_key[c->kept_keys++] = document[i].piece.key;
        if (c->kept_paths && strcmp(c->kept_path[c->kept_paths - 1], document[i].path) == 0)
            continue; // pieces of one file follow each other
        c->kept_path[c->kept_paths] = strdup(document[i].path);
        ok = c->kept_path[c->kept_paths++] != NULL;
    }
    for (int64_t i = 0; ok && i < passed_paths; i++) {
        c->passed[c->passed_paths] = strdup(passed[i]);
        ok = c->passed[c->passed_paths++] != NULL;
    }
    if (!ok) {
        forget_kept(c);
        return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " documents", documents);
    }
    qsort(c->kept_key, (size_t)c->kept_keys, sizeof(*c->kept_key), by_bytes);
    qsort(c->kept_path, (size_t)c->kept_paths, sizeof(*c->kept_path), by_text);
    return CN_OK;
}

/* ---- Writing ----------------------------------------------------------------------- */

static cn_err renew(cn_context *c, bool *moved_out, cn_diag *diag) {
    if (moved_out) *moved_out = true;
    if (c->txn) return cn_pages_renew(c->txn, moved_out, diag);
    return cn_pages_begin(&c->txn, c->host->pages, diag);
}

/* Pages of waiting documents into the store; what it does not take stays in memory. */
static cn_err write_waiting(cn_context *c, cn_context_work *work, cn_diag *diag) {
    enum { DOC_ITEMS = CN_DOCUMENT_TOKENS_MAX / CN_PAGE_TOKENS + 1 };
    cn_pages_item item[CN_CONTEXT_WRITE_DOCS * DOC_ITEMS];
    cn_pages_doc  record[CN_CONTEXT_WRITE_DOCS];
    int64_t       items = 0, added = 0;
    const int64_t begin = cn_clock_ns();
    if (c->waiting_docs == 0) return CN_OK;
    for (int32_t i = 0; i < c->waiting_docs; i++) {
        const held *w = &c->waiting[i];
        record[i] = (cn_pages_doc){.token = w->token,
                                   .line = w->token + w->tokens,
                                   .tokens = w->tokens,
                                   .lines = w->lines,
                                   .text_bytes = w->text_bytes};
        item[items++] = (cn_pages_item){.kind = CN_PAGES_DOC, .key = &w->key, .doc = &record[i]};
        for (int64_t p = 0; p < cn_doc_pages(w->doc); p++) {
            const cn_page_ref page = cn_doc_page(w->doc, p);
            item[items++] = (cn_pages_item){.kind = CN_PAGES_PAGE,
                                            .key = &w->key,
                                            .data = page.body,
                                            .number = (int32_t)p,
                                            .tokens = page.tokens};
        }
    }
    // Nothing is bound meanwhile: let go of the snapshot, so that evicted space can be used.
    if (!c->is_bound) CN_TRY(renew(c, NULL, diag));
    const cn_err err = cn_pages_write(c->host->pages, item, items, cn_clock_unix_ns() / 1000000000,
                                      &added, &c->store_failure);
    work->store_ns += cn_clock_ns() - begin;
    work->bytes_written += added;
    if (!err) {
        for (int32_t i = 0; i < c->waiting_docs; i++) {
            free(c->waiting[i].token);
            c->spare[c->spares++] = c->waiting[i].doc;
        }
        c->waiting_docs = 0;
        return CN_OK;
    }
    cn_log(CN_LOG_WARN, "%d documents stay in memory: %s", c->waiting_docs, c->store_failure.text);
    if (c->residents + c->waiting_docs > c->residents_room) {
        const int64_t room = 2 * c->residents_room + CN_CONTEXT_WRITE_DOCS;
        held         *more = realloc(c->resident, (size_t)room * sizeof(*more));
        if (!more) return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " documents", room);
        c->resident = more;
        c->residents_room = room;
    }
    for (int32_t i = 0; i < c->waiting_docs; i++) c->resident[c->residents++] = c->waiting[i];
    c->waiting_docs = 0;
    return CN_OK;
}

/* ---- Update ----------------------------------------------------------------------- */

static cn_err remember(entry *e, const cn_cut *cut, const cn_host *h) {
    e->piece = calloc((size_t)cut->documents, sizeof(*e->piece));
    if (!e->piece) return CN_ENOMEM;
    e->pieces = cut->documents;
    e->tokens = cut->tokens;
    for (int32_t i = 0; i < cut->documents; i++) {
        const cn_document *d = &cut->document[i];
        e->piece[i] = (cn_ledger_piece){.key = cn_document_key(&h->domain, d->token, d->tokens),
                                        .tokens = d->tokens,
                                        .first_line = (int32_t)d->first_line,
                                        .lines = d->lines};
    }
    return CN_OK;
}

static cn_err cut_entry(cn_context *c, const entry *e, cn_cut *out, cn_diag *diag) {
    cn_buf text = {0};
    cn_err err = cn_repo_read(c->repo, e->file, &text, diag);
    if (!err)
        err = cn_cut_file(out,
                          &(cn_cut_args){.tokenizer = c->host->tokenizer,
                                         .file_role = c->host->roles.file,
                                         .path = e->file->path,
                                         .text = cn_buf_str(&text),
                                         .bytes = text.bytes},
                          diag);
    cn_buf_release(&text);
    return err;
}

/* git's id, raw. */
static int32_t raw_id(uint8_t out[20], const char *hex) {
    for (int i = 0; i < 20; i++) {
        unsigned byte = 0;
        for (int k = 0; k < 2; k++) {
            const char d = hex[2 * i + k];
            byte = byte * 16 + (unsigned)(d <= '9' ? d - '0' : d - 'a' + 10);
        }
        out[i] = (uint8_t)byte;
    }
    return 20;
}

/* How a file is cut: remembered, or read, cut and remembered. */
static cn_err know_entry(cn_context *c, entry *e, cn_diag *diag) {
    if (e->piece) return CN_OK;
    uint8_t        id[20];
    cn_ledger_blob blob = {.path = e->file->path, .id = id, .id_bytes = raw_id(id, e->file->id)};
    cn_err         err =
        cn_ledger_blob_get(c->host->ledger, &c->host->cut, &blob, &e->piece, &e->pieces, diag);
    if (err == CN_OK) {
        e->tokens = 0;
        for (int32_t i = 0; i < e->pieces; i++) e->tokens += e->piece[i].tokens;
        return CN_OK;
    }
    if (err != CN_ENOTFOUND) return err;
    cn_cut cut;
    CN_TRY(cut_entry(c, e, &cut, diag));
    err = remember(e, &cut, c->host);
    cn_cut_release(&cut);
    if (err) return CN_FAIL(diag, err, "no memory for the pieces of %s", e->file->path);
    e->was_read = true;
    blob.piece = e->piece;
    blob.pieces = e->pieces;
    return cn_ledger_blobs_put(c->host->ledger, &c->host->cut, &blob, 1, diag);
}

/* The next state, built aside so that a failure leaves the context as it was. */
typedef struct next {
    cn_repo_files  *files;
    entry          *entry;
    cn_choose_file *choose;
    int64_t        *choose_entry;
    int64_t         choosable;
    cn_choice       choice;
} next;

static bool is_kept_path(const cn_context *c, const char *path) {
    return c->kept_paths &&
           bsearch(&path, c->kept_path, (size_t)c->kept_paths, sizeof(*c->kept_path), by_text);
}

static bool is_kept_key(const cn_context *c, const cn_hash *key) {
    return c->kept_keys &&
           bsearch(key, c->kept_key, (size_t)c->kept_keys, sizeof(*c->kept_key), by_bytes);
}

/* What an earlier entry of the same path and id knew. */
static void carry_over(const cn_context *c, next *n) {
    int64_t old = 0;
    for (int64_t i = 0; c->files && i < n->files->count; i++) {
        const cn_repo_file *f = &n->files->file[i];
        while (old < c->files->count && strcmp(c->files->file[old].path, f->path) < 0) old++;
        if (old == c->files->count) return;
        entry *from = &c->entry[old];
        if (strcmp(c->files->file[old].path, f->path) || !from->piece || !f->id[0] ||
            strcmp(c->files->file[old].id, f->id))
            continue;
        cn_ledger_piece *piece = malloc((size_t)from->pieces * sizeof(*piece));
        if (!piece) return; // it will be found out again
        memcpy(piece, from->piece, (size_t)from->pieces * sizeof(*piece));
        n->entry[i].piece = piece;
        n->entry[i].pieces = from->pieces;
        n->entry[i].tokens = from->tokens;
    }
}

/* Choose with what is known of the files' tokens; ask those that were chosen; again, until
 * the choice rests on exact numbers. */
static cn_err choose(cn_context *c, next *n, cn_diag *diag) {
    cn_err err = CN_OK;
    for (int round = 0; round < CHOOSE_ROUNDS; round++) {
        bool is_exact = true;
        cn_choice_release(&n->choice);
        err = cn_choose(&n->choice,
                        &(cn_choose_args){.file = n->choose,
                                          .files = n->choosable,
                                          .budget = c->budget,
                                          .kept = (const char *const *)c->kept_path,
                                          .kept_files = c->kept_paths,
                                          .passed = (const char *const *)c->passed,
                                          .passed_files = c->passed_paths},
                        diag);
        for (int64_t i = 0; !err && i < n->choice.chosen_files; i++) {
            const int64_t at = n->choice.chosen[i];
            entry        *e = &n->entry[n->choose_entry[at]];
            is_exact &= e->piece != NULL;
            err = know_entry(c, e, diag);
            n->choose[at].tokens = e->tokens;
        }
        if (err || is_exact) break;
    }
    return err;
}

static cn_err list(cn_context *c, next *n, cn_diag *diag) {
    CN_TRY(cn_repo_list(&n->files, c->repo, c->files, NULL, diag));
    const size_t count = (size_t)n->files->count + 1;
    n->entry = calloc(count, sizeof(*n->entry));
    n->choose = calloc(count, sizeof(*n->choose));
    n->choose_entry = calloc(count, sizeof(*n->choose_entry));
    if (!n->entry || !n->choose || !n->choose_entry)
        return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " files", n->files->count);
    carry_over(c, n);
    for (int64_t i = 0; i < n->files->count; i++) {
        const cn_repo_file *f = &n->files->file[i];
        n->entry[i].file = f;
        if (f->skip != CN_REPO_SKIP_NONE) continue; // listed with its reason
        n->choose[n->choosable] =
            (cn_choose_file){.path = f->path, .bytes = f->bytes, .tokens = n->entry[i].tokens};
        n->choose_entry[n->choosable++] = i;
    }
    return CN_OK;
}

static void free_next(next *n) {
    if (n->files) free_entries(n->entry, n->files);
    cn_repo_files_free(n->files);
    cn_choice_release(&n->choice);
    free(n->choose);
    free(n->choose_entry);
}

/* The documents of the chosen files, in order. */
static cn_err gather(cn_context *c, const next *n, cn_context_doc **doc_out, cn_hash **pinned_out,
                     int64_t *docs_out, cn_diag *diag) {
    int64_t docs = 0, at = 0;
    for (int64_t i = 0; i < n->choice.chosen_files; i++)
        docs += n->entry[n->choose_entry[n->choice.chosen[i]]].pieces;
    cn_context_doc *doc = calloc((size_t)docs + 1, sizeof(*doc));
    cn_hash        *pinned = calloc((size_t)docs + 1, sizeof(*pinned));
    if (!doc || !pinned) {
        free(doc);
        free(pinned);
        return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " documents", docs);
    }
    for (int64_t i = 0; i < n->choice.chosen_files; i++) {
        const entry *e = &n->entry[n->choose_entry[n->choice.chosen[i]]];
        for (int32_t p = 0; p < e->pieces; p++) {
            // Why it would be missing, if it is: a path that was not there before, or bytes
            // that are others; what was there before and is gone was evicted.
            const bool    was_there = is_kept_key(c, &e->piece[p].key);
            const cn_miss why = was_there                        ? CN_MISS_EVICTED
                                : is_kept_path(c, e->file->path) ? CN_MISS_CHANGED
                                                                 : CN_MISS_NEW;
            doc[at] = (cn_context_doc){.path = e->file->path, .piece = e->piece[p], .why = why};
            pinned[at++] = e->piece[p].key;
        }
    }
    qsort(pinned, (size_t)docs, sizeof(*pinned), by_bytes);
    *doc_out = doc;
    *pinned_out = pinned;
    *docs_out = docs;
    return CN_OK;
}

static const held *find_resident(const cn_context *c, const cn_hash *key) {
    for (int64_t i = 0; i < c->residents; i++)
        if (cn_hash_is_equal(&c->resident[i].key, key)) return &c->resident[i];
    return NULL;
}

/* Look every page up; its checksum is verified at the first use. */
static void find_missing(cn_context *c) {
    memset(c->plan.misses, 0, sizeof(c->plan.misses));
    c->plan.cached_tokens = c->plan.missing_tokens = c->plan.missing_documents = 0;
    for (int64_t i = 0; i < c->docs; i++) {
        cn_context_doc *d = &c->doc[i];
        d->is_missing = false;
        if (!find_resident(c, &d->piece.key))
            for (int64_t p = 0; p < pages_of(d->piece.tokens); p++) {
                cn_pages_page        page;
                const cn_pages_state state = cn_pages_get(c->txn, &d->piece.key, (int32_t)p, &page);
                if (state == CN_PAGES_HIT) continue;
                d->is_missing = true;
                if (state == CN_PAGES_CORRUPT) d->why = CN_MISS_CORRUPT;
            }
        if (!d->is_missing) {
            c->plan.cached_tokens += d->piece.tokens;
            continue;
        }
        // The same document twice in a view (a copied file) is prefilled once.
        for (int64_t j = 0; j < i; j++)
            if (c->doc[j].is_missing && cn_hash_is_equal(&c->doc[j].piece.key, &d->piece.key))
                d->is_missing = false;
        if (!d->is_missing) {
            c->plan.cached_tokens += d->piece.tokens;
            continue;
        }
        c->plan.missing_documents++;
        c->plan.missing_tokens += d->piece.tokens;
        c->plan.misses[d->why].count++;
        c->plan.misses[d->why].tokens += d->piece.tokens;
    }
}

static bool are_same_docs(const cn_context *c, const cn_context_doc *doc, int64_t docs) {
    if (c->docs != docs) return false;
    for (int64_t i = 0; i < docs; i++)
        if (!cn_hash_is_equal(&c->doc[i].piece.key, &doc[i].piece.key) ||
            strcmp(c->doc[i].path, doc[i].path) != 0)
            return false;
    return true;
}

cn_err cn_context_update(cn_context *c, cn_diag *diag) {
    next            n = {0};
    cn_context_work work = {0};
    cn_context_doc *doc = NULL;
    cn_hash        *pinned = NULL;
    int64_t         docs = 0;
    cn_err err = write_waiting(c, &work, diag); // an earlier prefill was left in the middle
    if (err) return err;
    for (int tries = 0; tries < READ_TRIES; tries++) { // a file may change while we look
        free_next(&n);
        n = (next){0};
        err = list(c, &n, diag);
        if (!err) err = choose(c, &n, diag);
        if (err != CN_ENOTFOUND) break;
    }
    if (!err) err = gather(c, &n, &doc, &pinned, &docs, diag);
    if (!err) err = renew(c, NULL, diag);
    if (err) {
        free(doc);
        free(pinned);
        free_next(&n);
        return err;
    }
    c->has_changed = !are_same_docs(c, doc, docs);
    c->is_bound = false;
    c->current_at = -1;
    c->cut_entry = NULL;
    cn_cut_release(&c->cut);
    free(c->doc);
    free(c->pinned);
    if (c->files) free_entries(c->entry, c->files);
    cn_repo_files_free(c->files);
    cn_choice_release(&c->choice);
    free(c->choose);
    free(c->choose_entry);
    c->doc = doc;
    c->docs = docs;
    c->pinned = pinned;
    c->host->kept = pinned;
    c->host->kept_count = docs;
    c->files = n.files;
    c->entry = n.entry;
    c->choice = n.choice;
    c->choose = n.choose;
    c->choose_entry = n.choose_entry;
    c->choosable = n.choosable;
    c->plan = (cn_context_plan){.files = c->choice.chosen_files,
                                .documents = docs,
                                .left_files = c->choice.left_files,
                                .left_tokens = c->choice.left_tokens,
                                .skipped_files = c->files->skipped};
    for (int64_t i = 0; i < docs; i++) c->plan.tokens += doc[i].piece.tokens;
    for (int64_t i = 0; i < c->files->count; i++) c->plan.files_read += c->entry[i].was_read;
    find_missing(c);
    return CN_OK;
}

const cn_context_plan *cn_context_get_plan(const cn_context *c) {
    return &c->plan;
}

int64_t cn_context_docs(const cn_context *c) {
    return c->docs;
}

const cn_context_doc *cn_context_doc_at(const cn_context *c, int64_t i) {
    return &c->doc[i];
}

cn_repo *cn_context_repo(cn_context *c) {
    return c->repo;
}

bool cn_context_has_changed(const cn_context *c) {
    return c->has_changed;
}

const char *cn_context_left_at(const cn_context *c, int64_t i, int64_t *tokens_out,
                               const char **reason_out) {
    if (i >= c->choice.left_files) return NULL;
    const cn_left *left = &c->choice.left[i];
    *tokens_out = left->tokens;
    *reason_out = cn_left_text(left->reason);
    return c->choose[left->file].path;
}

const char *cn_context_skipped_at(const cn_context *c, int64_t i, const char **reason_out) {
    for (int64_t f = 0; c->files && f < c->files->count; f++)
        if (c->files->file[f].skip != CN_REPO_SKIP_NONE && i-- == 0) {
            *reason_out = cn_repo_skip_text(c->files->file[f].skip);
            return c->files->file[f].path;
        }
    return NULL;
}

/* ---- Prefill ---------------------------------------------------------------------- */

const cn_diag *cn_context_store_failure(const cn_context *c) {
    return c->store_failure.err ? &c->store_failure : NULL;
}

static const entry *entry_of(const cn_context *c, const char *path) {
    const cn_repo_file *f = cn_repo_files_find(c->files, path);
    return f ? &c->entry[f - c->files->file] : NULL;
}

/* The document's tokens: its file is read and cut (again, if only the cut was remembered). */
static cn_err load_tokens(cn_context *c, int64_t at, const cn_document **out, cn_diag *diag) {
    const entry *e = entry_of(c, c->doc[at].path);
    cn_assert(e);
    if (c->cut_entry != e) {
        cn_cut_release(&c->cut);
        c->cut_entry = NULL;
        CN_TRY(cut_entry(c, e, &c->cut, diag));
        c->cut_entry = e;
    }
    for (int32_t i = 0; i < c->cut.documents; i++)
        if (c->cut.document[i].first_line == c->doc[at].piece.first_line &&
            c->cut.document[i].tokens == c->doc[at].piece.tokens) {
            const cn_document *d = &c->cut.document[i];
            const cn_hash      key = cn_document_key(&c->host->domain, d->token, d->tokens);
            if (!cn_hash_is_equal(&key, &c->doc[at].piece.key)) continue;
            *out = d;
            return CN_OK;
        }
    return CN_FAIL(diag, CN_ECORRUPT, "the remembered cut of %s is not how it is cut",
                   c->doc[at].path);
}

static cn_err begin_document(cn_context *c, cn_diag *diag) {
    c->current_at = -1;
    for (int64_t i = 0; i < c->docs && c->current_at < 0; i++)
        if (c->doc[i].is_missing) c->current_at = i;
    if (c->current_at < 0) return CN_OK;
    if (!c->current) {
        if (c->spares)
            c->current = c->spare[--c->spares];
        else
            CN_TRY(cn_doc_create(&c->current, c->host->engine, CN_DOCUMENT_TOKENS_MAX, true, diag));
    }
    cn_doc_reset(c->current);
    return CN_OK;
}

cn_err cn_context_prefill(cn_context *c, bool *done_out, cn_context_work *work, cn_diag *diag) {
    *done_out = false;
    if (c->current_at < 0) CN_TRY(begin_document(c, diag));
    if (c->current_at < 0) {
        CN_TRY(write_waiting(c, work, diag));
        *done_out = true;
        return CN_OK;
    }
    const cn_document *d = NULL;
    CN_TRY(load_tokens(c, c->current_at, &d, diag));
    const int64_t begin = cn_clock_ns(), at = cn_doc_tokens(c->current), left = d->tokens - at;
    const int32_t n = left < CN_STEP_ROWS ? (int32_t)left : CN_STEP_ROWS;
    cn_slice      slice = {.doc = c->current, .token = d->token + at, .tokens = n};
    CN_TRY(cn_engine_step(c->host->engine, &slice, 1, NULL, diag));
    work->compute_ns += cn_clock_ns() - begin;
    work->tokens += n;
    if (n < left) return CN_OK;
    held *w = &c->waiting[c->waiting_docs];
    *w = (held){.doc = c->current,
                .key = c->doc[c->current_at].piece.key,
                .tokens = d->tokens,
                .lines = d->lines,
                .text_bytes = d->end - d->begin};
    w->token = malloc((size_t)(d->tokens + d->lines) * sizeof(*w->token));
    if (!w->token) return CN_FAIL(diag, CN_ENOMEM, "no memory for a document's tokens");
    memcpy(w->token, d->token, (size_t)d->tokens * sizeof(*w->token));
    memcpy(w->token + d->tokens, d->line_token, (size_t)d->lines * sizeof(*w->token));
    c->waiting_docs++;
    c->doc[c->current_at].is_missing = false;
    c->current = NULL;
    c->current_at = -1;
    return c->waiting_docs == CN_CONTEXT_WRITE_DOCS ? write_waiting(c, work, diag) : CN_OK;
}

/* ---- Binding ---------------------------------------------------------------------- */

cn_err cn_context_bind(cn_context *c, cn_view *view, bool *gone_out, cn_diag *diag) {
    bool moved = true;
    *gone_out = false;
    CN_TRY(renew(c, &moved, diag));
    if (c->is_bound && !moved) return CN_OK;
    int64_t pages = 0;
    for (int64_t i = 0; i < c->docs; i++) pages += pages_of(c->doc[i].piece.tokens);
    cn_page_ref *page = realloc(c->page, ((size_t)pages + 1) * sizeof(*page));
    if (!page) return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " pages", pages);
    c->page = page;
    c->pages = 0;
    for (int64_t i = 0; i < c->docs; i++) {
        const held *in_memory = find_resident(c, &c->doc[i].piece.key);
        for (int64_t p = 0; p < pages_of(c->doc[i].piece.tokens); p++) {
            cn_pages_page found;
            if (in_memory) {
                c->page[c->pages++] = cn_doc_page(in_memory->doc, p);
            } else if (cn_pages_get(c->txn, &c->doc[i].piece.key, (int32_t)p, &found) ==
                       CN_PAGES_HIT) {
                c->page[c->pages++] = (cn_page_ref){found.body, found.tokens};
            } else {
                c->doc[i].is_missing = true;
                c->doc[i].why = CN_MISS_EVICTED;
                *gone_out = true;
            }
        }
    }
    if (*gone_out) return CN_OK;
    CN_TRY(cn_view_set(view, c->page, c->pages, diag));
    c->is_bound = true;
    return CN_OK;
}
