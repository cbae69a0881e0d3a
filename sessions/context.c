/*
 * context.c - From a folder to the documents of a view.
 *
 * An entry knows its pieces (keys and lengths).  Tokens are made only when a piece has to be
 * prefilled: the cheap path of an unchanged blob is one row of the ledger.
 */
#include "sessions/context_int.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { CHOOSE_ROUNDS = 4, READ_TRIES = 3 };

static int by_bytes(const void *a, const void *b) {
    return memcmp(a, b, CN_HASH_BYTES);
}

cn_err cn_context_open(cn_context **out, cn_host *host, const cn_context_opts *opts,
                       cn_diag *diag) {
    static const cn_paths none;
    *out = NULL;
    cn_context *c = calloc(1, sizeof(*c));
    if (!c) return CN_FAIL(diag, CN_ENOMEM, "no memory for a context");
    c->host = host;
    c->holds.next = host->kept;
    host->kept = &c->holds;
    c->budget = opts->budget ? opts->budget : CN_CHOOSE_BUDGET;
    c->passed = opts->passed ? opts->passed : &none;
    c->away = opts->away ? opts->away : &none;
    c->added = opts->added ? opts->added : &none;
    c->dropped = opts->dropped ? opts->dropped : &none;
    c->current_at = -1;
    cn_err err = cn_repo_open(&c->repo, &(cn_repo_opts){.path = opts->folder}, diag);
    if (err) {
        cn_context_close(c);
        return err;
    }
    *out = c;
    return CN_OK;
}

static void free_folder(cn_context_folder *f) {
    for (int64_t i = 0; f->entry && i < f->files->count; i++) free(f->entry[i].piece);
    free(f->entry);
    cn_repo_files_free(f->files);
    cn_choice_release(&f->choice);
    free(f->choose);
    free(f->choose_entry);
    *f = (cn_context_folder){0};
}

static void free_shelf(cn_context_shelf *s) {
    free(s->doc);
    free(s->source);
    free(s->pinned);
    *s = (cn_context_shelf){0};
}

static void forget_kept(cn_context *c) {
    cn_paths_release(&c->kept_path);
    free(c->kept_key);
    free(c->kept);
    c->kept_key = NULL;
    c->kept = NULL;
    c->kept_keys = c->kept_docs = 0;
}

void cn_context_close(cn_context *c) {
    if (!c) return;
    cn_context_free_pages(c);
    for (cn_host_kept **at = &c->host->kept; *at; at = &(*at)->next)
        if (*at == &c->holds) {
            *at = c->holds.next;
            break;
        }
    forget_kept(c);
    free_shelf(&c->shelf);
    cn_context_free_parts(c, 0);
    free(c->part);
    cn_context_unpin(c);
    free(c->corrupt);
    free_folder(&c->folder);
    cn_repo_close(c->repo);
    free(c);
}

/* ---- What a session holds ------------------------------------------------------------ */

/* A list of documents by all that decides it: documents in order, each with its path. */
static void put_id(cn_hasher *h, const char *path, cn_document_kind kind, const cn_hash *key) {
    cn_hasher_put_sized(h, path, strlen(path));
    cn_hasher_put_u64(h, (uint64_t)kind);
    cn_hasher_put(h, key->bytes, CN_HASH_BYTES);
}

cn_err cn_context_keep(cn_context *c, const cn_ledger_document *document, int64_t documents,
                       cn_diag *diag) {
    const char *last = NULL;
    cn_hasher   id;
    forget_kept(c);
    cn_hasher_init(&id, NULL);
    c->has_kept = true;
    c->kept_key = calloc((size_t)documents + 1, sizeof(*c->kept_key));
    c->kept = calloc((size_t)documents + 1, sizeof(*c->kept));
    bool ok = c->kept_key && c->kept;
    for (int64_t i = 0; ok && i < documents; i++) {
        const cn_ledger_document *d = &document[i];
        put_id(&id, d->path, d->kind, &d->piece.key);
        c->kept_key[c->kept_keys++] = d->piece.key;
        if (d->kind != CN_DOCUMENT_FILE) continue;
        if (!last || strcmp(last, d->path)) { // pieces of one file follow each other
            ok = cn_paths_put(&c->kept_path, d->path) == CN_OK;
            if (!ok) break;
            last = c->kept_path.path[c->kept_path.count - 1];
        }
        c->kept[c->kept_docs++] = (cn_context_kept){last, d->piece};
    }
    if (!ok) {
        forget_kept(c);
        return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " documents", documents);
    }
    c->kept_id = cn_hasher_end(&id);
    qsort(c->kept_key, (size_t)c->kept_keys, sizeof(*c->kept_key), by_bytes);
    cn_paths_sort(&c->kept_path);
    return CN_OK;
}

bool cn_context_is_kept_key(const cn_context *c, const cn_hash *key) {
    return c->kept_keys &&
           bsearch(key, c->kept_key, (size_t)c->kept_keys, sizeof(*c->kept_key), by_bytes);
}

bool cn_context_has_changed(const cn_context *c) {
    return !c->has_kept || !cn_hash_is_equal(&c->kept_id, &c->shelf.id);
}

const char *cn_context_kept_at(const cn_context *c, int64_t i) {
    return i < c->kept_path.count ? c->kept_path.path[i] : NULL;
}

/* ---- How entries are cut ------------------------------------------------------------- */

static cn_err remember(cn_context_entry *e, const cn_cut *cut, const cn_host *h) {
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

cn_err cn_context_cut(cn_context *c, const cn_context_entry *e, cn_cut *out, cn_diag *diag) {
    cn_buf      read = {0};
    cn_cut_args args = {.tokenizer = c->host->tokenizer,
                        .file_role = c->host->roles.file,
                        .path = e->path,
                        .text = e->text.data,
                        .bytes = e->text.bytes};
    if (e->file) {
        CN_TRY(cn_repo_read(c->repo, e->file, &read, diag));
        args.text = cn_buf_str(&read);
        args.bytes = read.bytes;
    }
    const cn_err err = cn_cut_file(out, &args, diag);
    cn_buf_release(&read);
    return err;
}

int32_t cn_context_raw_id(uint8_t out[CN_HASH_BYTES], const cn_context_entry *e) {
    enum { GIT_BYTES = 20 };
    if (!e->file) {
        memcpy(out, cn_hash_of(e->text.data, e->text.bytes).bytes, CN_HASH_BYTES);
        return CN_HASH_BYTES;
    }
    for (int i = 0; i < GIT_BYTES; i++) {
        unsigned byte = 0;
        for (int k = 0; k < 2; k++) {
            const char d = e->file->id[2 * i + k];
            byte = byte * 16 + (unsigned)(d <= '9' ? d - '0' : d - 'a' + 10);
        }
        out[i] = (uint8_t)byte;
    }
    return GIT_BYTES;
}

cn_err cn_context_know(cn_context *c, cn_context_entry *e, cn_diag *diag) {
    if (e->piece) return CN_OK;
    uint8_t        id[CN_HASH_BYTES];
    cn_ledger_blob blob = {.path = e->path, .id = id, .id_bytes = cn_context_raw_id(id, e)};
    cn_err         err =
        cn_ledger_blob_get(c->host->ledger, &c->host->cut, &blob, &e->piece, &e->pieces, diag);
    if (err == CN_OK) {
        e->tokens = 0;
        for (int32_t i = 0; i < e->pieces; i++) e->tokens += e->piece[i].tokens;
        return CN_OK;
    }
    if (err != CN_ENOTFOUND) return err;
    cn_cut cut;
    CN_TRY(cn_context_cut(c, e, &cut, diag));
    err = remember(e, &cut, c->host);
    cn_cut_release(&cut);
    if (err) return CN_FAIL(diag, err, "no memory for the pieces of %s", e->path);
    e->was_read = true;
    blob.piece = e->piece;
    blob.pieces = e->pieces;
    return cn_ledger_blobs_put(c->host->ledger, &c->host->cut, &blob, 1, diag);
}

/* ---- The folder ---------------------------------------------------------------------- */

/* What an earlier entry of the same path and id knew. */
static void carry_over(const cn_context *c, cn_context_folder *n) {
    const cn_context_folder *was = &c->folder;
    int64_t                  old = 0;
    for (int64_t i = 0; was->files && i < n->files->count; i++) {
        const cn_repo_file *f = &n->files->file[i];
        while (old < was->files->count && strcmp(was->files->file[old].path, f->path) < 0) old++;
        if (old == was->files->count) return;
        const cn_context_entry *from = &was->entry[old];
        if (strcmp(was->files->file[old].path, f->path) || !from->piece || !f->id[0] ||
            strcmp(was->files->file[old].id, f->id))
            continue;
        cn_ledger_piece *piece = malloc((size_t)from->pieces * sizeof(*piece));
        if (!piece) return; // it will be found out again
        memcpy(piece, from->piece, (size_t)from->pieces * sizeof(*piece));
        n->entry[i].piece = piece;
        n->entry[i].pieces = from->pieces;
        n->entry[i].tokens = from->tokens;
    }
}

static cn_err list(cn_context *c, cn_context_folder *n, cn_diag *diag) {
    CN_TRY(cn_repo_list(&n->files, c->repo, c->is_new_repo ? NULL : c->folder.files, NULL, diag));
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
        n->entry[i].path = f->path;
        n->entry[i].kind = CN_DOCUMENT_FILE;
        if (f->skip != CN_REPO_SKIP_NONE) continue; // listed with its reason
        n->choose[n->choosable] =
            (cn_choose_file){.path = f->path, .bytes = f->bytes, .tokens = n->entry[i].tokens};
        n->choose_entry[n->choosable++] = i;
    }
    return CN_OK;
}

/* Choose with what is known of the files' tokens; ask those that were chosen; again, until
 * the choice rests on exact numbers. */
static cn_err choose(cn_context *c, cn_context_folder *n, cn_diag *diag) {
    cn_paths kept = {0};
    if (cn_paths_put_all(&kept, &c->kept_path) || cn_paths_put_all(&kept, c->away)) {
        cn_paths_release(&kept);
        return CN_FAIL(diag, CN_ENOMEM, "no memory for the paths of a view");
    }
    const cn_choose_args args = {.file = n->choose,
                                 .files = n->choosable,
                                 .budget = c->budget,
                                 .kept = (const char *const *)kept.path,
                                 .kept_files = kept.count,
                                 .passed = (const char *const *)c->passed->path,
                                 .passed_files = c->passed->count,
                                 .added = (const char *const *)c->added->path,
                                 .added_files = c->added->count,
                                 .dropped = (const char *const *)c->dropped->path,
                                 .dropped_files = c->dropped->count};
    cn_err               err = CN_OK;
    for (int round = 0; round < CHOOSE_ROUNDS; round++) {
        bool is_exact = true;
        cn_choice_release(&n->choice);
        err = cn_choose(&n->choice, &args, diag);
        for (int64_t i = 0; !err && i < n->choice.chosen_files; i++) {
            const int64_t     at = n->choice.chosen[i];
            cn_context_entry *e = &n->entry[n->choose_entry[at]];
            is_exact &= e->piece != NULL;
            err = cn_context_know(c, e, diag);
            n->choose[at].tokens = e->tokens;
        }
        if (err || is_exact) break;
    }
    cn_paths_release(&kept);
    return err;
}

/* ---- The shelf ----------------------------------------------------------------------- */

static void put_docs(cn_context_shelf *s, const cn_context_entry *e, cn_hasher *id) {
    for (int32_t p = 0; p < e->pieces; p++) {
        put_id(id, e->path, e->kind, &e->piece[p].key);
        s->doc[s->docs] = (cn_context_doc){
            .path = e->path, .piece = e->piece[p], .kind = e->kind, .why = CN_MISS_COUNT};
        s->source[s->docs] = e;
        s->pinned[s->docs++] = e->piece[p].key;
    }
}

/* A file of the view, in order: chosen, or pinned and not dropped; NULL past the last. */
static const cn_context_entry *next_file(const cn_context *c, const cn_context_folder *f,
                                         int64_t *at) {
    while (c->is_pinned && *at < c->pinned_files) {
        const cn_context_entry *e = &c->pinned[(*at)++]->entry;
        if (!cn_paths_has(c->dropped, e->path)) return e;
    }
    if (c->is_pinned || *at == f->choice.chosen_files) return NULL;
    return &f->entry[f->choose_entry[f->choice.chosen[(*at)++]]];
}

/* The documents of the files, then those of the parts. */
static cn_err gather(const cn_context *c, const cn_context_folder *f, cn_context_shelf *s,
                     cn_diag *diag) {
    const cn_context_entry *e;
    int64_t                 docs = 0;
    for (int64_t at = 0; (e = next_file(c, f, &at));) docs += e->pieces;
    for (int64_t i = 0; i < c->parts; i++) docs += c->part[i]->entry.pieces;
    s->doc = calloc((size_t)docs + 1, sizeof(*s->doc));
    s->source = calloc((size_t)docs + 1, sizeof(*s->source));
    s->pinned = calloc((size_t)docs + 1, sizeof(*s->pinned));
    if (!s->doc || !s->source || !s->pinned)
        return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " documents", docs);
    cn_hasher id;
    cn_hasher_init(&id, NULL);
    for (int64_t at = 0; (e = next_file(c, f, &at));) put_docs(s, e, &id);
    for (int64_t i = 0; i < c->parts; i++)
        if (!cn_paths_has(c->dropped, c->part[i]->ref.path)) put_docs(s, &c->part[i]->entry, &id);
    s->id = cn_hasher_end(&id);
    qsort(s->pinned, (size_t)s->docs, sizeof(*s->pinned), by_bytes);
    return CN_OK;
}

static void plan(cn_context *c) {
    const cn_choice *choice = &c->folder.choice;
    c->plan = (cn_context_plan){.files = choice->chosen_files,
                                .left_files = choice->left_files,
                                .left_tokens = choice->left_tokens,
                                .skipped_files = c->folder.files ? c->folder.files->skipped : 0};
    for (int64_t i = 0; c->folder.files && i < c->folder.files->count; i++)
        c->plan.files_read += c->folder.entry[i].was_read;
    for (int64_t i = 0; c->is_pinned && i < c->pinned_files; i++) {
        const bool is_dropped = cn_paths_has(c->dropped, c->pinned[i]->entry.path);
        c->plan.files += !is_dropped;
        c->plan.left_files += is_dropped;
        c->plan.left_tokens += is_dropped ? c->pinned[i]->entry.tokens : 0;
    }
    for (int64_t i = 0; i < c->parts; i++) {
        cn_context_ref *r = &c->part[i]->ref;
        r->is_dropped = cn_paths_has(c->dropped, r->path);
        c->plan.refs += !r->is_dropped;
        c->plan.left_refs += r->is_dropped;
        c->plan.left_ref_tokens += r->is_dropped ? r->tokens : 0;
    }
}

void cn_context_count(cn_context *c) {
    plan(c);
    c->plan.documents = c->shelf.docs;
    for (int64_t i = 0; i < c->shelf.docs; i++) {
        const cn_context_doc *d = &c->shelf.doc[i];
        *(d->kind == CN_DOCUMENT_FILE ? &c->plan.file_tokens : &c->plan.ref_tokens) +=
            d->piece.tokens;
    }
    c->plan.tokens = c->plan.file_tokens + c->plan.ref_tokens;
    if (c->plan.file_tokens > c->budget) c->plan.over_tokens = c->plan.file_tokens - c->budget;
    cn_context_find_missing(c);
}

/* The shelf of `folder` (the context's own, or the next one, which moves here) is the view's. */
static cn_err put_shelf(cn_context *c, cn_context_folder *folder, cn_diag *diag) {
    cn_context_shelf s = {0};
    cn_err           err = cn_context_know_parts(c, diag);
    if (!err) err = cn_context_know_pinned(c, diag);
    if (!err) err = gather(c, folder, &s, diag);
    if (!err) err = cn_context_settle(c, diag);
    if (err) {
        free_shelf(&s);
        return err;
    }
    free_shelf(&c->shelf);
    c->shelf = s;
    c->has_noted = false;
    c->holds.key = s.pinned;
    c->holds.keys = s.docs;
    if (folder != &c->folder) {
        free_folder(&c->folder);
        c->folder = *folder;
        *folder = (cn_context_folder){0};
    }
    cn_context_count(c);
    return CN_OK;
}

/* The folder may have gone since it was opened, or come back as another. */
static cn_err find_folder(cn_context *c, cn_diag *diag) {
    cn_repo    *now = NULL;
    cn_diag     why = {0};
    const char *root = cn_repo_root(c->repo);
    if (cn_repo_is_there(c->repo)) return CN_OK;
    cn_err err = cn_repo_open(&now, &(cn_repo_opts){.path = root}, &why);
    if (!err && strcmp(cn_repo_root(now), root)) { // a folder of the repository around it
        cn_repo_close(now);
        err = CN_ENOTFOUND;
    }
    if (err == CN_ENOTFOUND)
        return CN_FAIL(diag, err, "%s is not there any more; nothing is lost: it may come back",
                       root);
    if (err) return CN_FAIL(diag, err, "%s", why.text);
    cn_repo_close(c->repo);
    c->repo = now;
    c->is_new_repo = true; // what was known of its files is of another's
    return CN_OK;
}

/* A disk that is not mounted looks like this: no repository, no file, where there were some. */
static cn_err check_emptied(const cn_context *c, const cn_context_folder *n, cn_diag *diag) {
    if (n->files->count || cn_repo_is_git(c->repo) || c->kept_docs == 0) return CN_OK;
    return CN_FAIL(diag, CN_ENOTFOUND,
                   "%s is empty, and had %" PRId64 " files in the view; nothing is lost: they may "
                   "come back",
                   cn_repo_root(c->repo), c->kept_path.count);
}

static cn_err look(cn_context *c, cn_context_folder *n, cn_diag *diag) {
    CN_TRY(find_folder(c, diag));
    CN_TRY(list(c, n, diag));
    CN_TRY(check_emptied(c, n, diag));
    return choose(c, n, diag);
}

cn_err cn_context_update(cn_context *c, cn_diag *diag) {
    cn_context_folder n = {0};
    cn_err            err = CN_OK;
    if (c->is_pinned) return put_shelf(c, &n, diag);
    for (int tries = 0; tries < READ_TRIES; tries++) { // a file may change while we look
        free_folder(&n);
        err = look(c, &n, diag);
        if (err != CN_ENOTFOUND) break;
    }
    if (!err) err = put_shelf(c, &n, diag);
    if (!err) c->is_new_repo = false;
    free_folder(&n);
    return err;
}

cn_err cn_context_refresh(cn_context *c, cn_diag *diag) {
    return put_shelf(c, &c->folder, diag);
}

/* ---- What there is to see ------------------------------------------------------------ */

const cn_context_plan *cn_context_get_plan(const cn_context *c) {
    return &c->plan;
}

int64_t cn_context_docs(const cn_context *c) {
    return c->shelf.docs;
}

const cn_context_doc *cn_context_doc_at(const cn_context *c, int64_t i) {
    return &c->shelf.doc[i];
}

cn_repo *cn_context_repo(cn_context *c) {
    return c->repo;
}

const cn_context_entry *cn_context_entry_find(const cn_context *c, const char *path) {
    if (c->is_pinned) return cn_context_pinned_find(c, path);
    const cn_repo_files *files = c->folder.files;
    const cn_repo_file  *f = files ? cn_repo_files_find(files, path) : NULL;
    return f ? &c->folder.entry[f - files->file] : NULL;
}

bool cn_context_has_file(const cn_context *c, const char *path, const char **skip_out) {
    const cn_context_entry *e = cn_context_entry_find(c, path);
    *skip_out = e && e->file && e->file->skip != CN_REPO_SKIP_NONE
                    ? cn_repo_skip_text(e->file->skip)
                    : NULL;
    return e != NULL;
}

const char *cn_context_left_at(const cn_context *c, int64_t i, int64_t *tokens_out,
                               const char **reason_out) {
    const cn_choice *choice = &c->folder.choice;
    if (i < choice->left_files) {
        const cn_left *left = &choice->left[i];
        *tokens_out = left->tokens;
        *reason_out = cn_left_text(left->reason);
        return c->folder.choose[left->file].path;
    }
    i -= choice->left_files;
    for (int64_t p = 0; c->is_pinned && p < c->pinned_files; p++)
        if (cn_paths_has(c->dropped, c->pinned[p]->entry.path) && i-- == 0) {
            *tokens_out = c->pinned[p]->entry.tokens;
            *reason_out = cn_left_text(CN_LEFT_DROPPED);
            return c->pinned[p]->entry.path;
        }
    for (int64_t p = 0; p < c->parts; p++)
        if (c->part[p]->ref.is_dropped && i-- == 0) {
            *tokens_out = c->part[p]->ref.tokens;
            *reason_out = cn_left_text(CN_LEFT_DROPPED);
            return c->part[p]->ref.path;
        }
    return NULL;
}

const char *cn_context_skipped_at(const cn_context *c, int64_t i, const char **reason_out) {
    const cn_repo_files *files = c->folder.files;
    for (int64_t f = 0; files && f < files->count; f++)
        if (files->file[f].skip != CN_REPO_SKIP_NONE && i-- == 0) {
            *reason_out = cn_repo_skip_text(files->file[f].skip);
            return files->file[f].path;
        }
    return NULL;
}
