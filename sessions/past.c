/* past.c - Documents by their keys: tokens found, pages found or made. */
#include "sessions/past.h"

#include "tools/repo.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A document of the generation that is bound. */
typedef struct wanted {
    char            *path;
    cn_ledger_piece  piece;
    cn_document_kind kind;
    cn_tokens        token;     // empty: not found yet
    bool             has_pages; // in the store, of this engine
    cn_doc          *doc;       // else, once it is prefilled
} wanted;

typedef struct list {
    wanted *doc; // [docs]
    int64_t docs, room;
    bool    failed;
} list;

/* A long part of the conversation. */
typedef struct part {
    char  *path, *text;
    size_t bytes;
} part;

struct cn_past {
    cn_host       *host;
    cn_ledger     *ledger;
    char          *session;
    cn_repo       *repo;  // NULL: the folder is gone
    cn_repo_files *files; // likewise
    part          *part;  // [parts]
    int64_t        parts, parts_room;
    bool           parts_failed;
    list           now;
    cn_pages_txn  *txn;
    cn_page_ref   *page; // what the view reads
    cn_past_found  found;
};

/* ---- Opening ----------------------------------------------------------------------- */

static void on_ref(void *ctx, const cn_ledger_ref *r) {
    cn_past *p = ctx;
    if (p->parts == p->parts_room) {
        const int64_t room = p->parts_room ? 2 * p->parts_room : 16;
        part         *more = realloc(p->part, (size_t)room * sizeof(*more));
        p->parts_failed |= !more;
        if (!more) return;
        p->part = more;
        p->parts_room = room;
    }
    part *to = &p->part[p->parts++];
    *to = (part){strdup(r->path), malloc(r->text.bytes + 1), r->text.bytes};
    p->parts_failed |= !to->path || !to->text;
    if (to->text) memcpy(to->text, r->text.data, r->text.bytes);
}

static cn_err open_past(cn_past *p, const char *session, const char *folder, cn_diag *diag) {
    p->session = strdup(session);
    if (!p->session) return CN_FAIL(diag, CN_ENOMEM, "no memory for an earlier view");
    CN_TRY(cn_ledger_refs(p->ledger, session, 0, on_ref, p, diag));
    if (p->parts_failed) return CN_FAIL(diag, CN_ENOMEM, "no memory for %s's long parts", session);
    // A folder that is gone, or cannot be listed, has no file: what is lost is said by each bind.
    if (folder && cn_repo_open(&p->repo, &(cn_repo_opts){.path = folder}, NULL) == CN_OK &&
        cn_repo_list(&p->files, p->repo, NULL, NULL, NULL)) {
        cn_repo_close(p->repo);
        p->repo = NULL;
    }
    return cn_pages_begin(&p->txn, p->host->pages, diag);
}

cn_err cn_past_open(cn_past **out, cn_host *host, cn_ledger *ledger, const char *session,
                    const char *folder, cn_diag *diag) {
    *out = NULL;
    cn_past *p = calloc(1, sizeof(*p));
    if (!p) return CN_FAIL(diag, CN_ENOMEM, "no memory for an earlier view");
    p->host = host;
    p->ledger = ledger;
    const cn_err err = open_past(p, session, folder, diag);
    if (err) {
        cn_past_close(p);
        return err;
    }
    *out = p;
    return CN_OK;
}

static void free_list(list *l) {
    for (int64_t i = 0; i < l->docs; i++) {
        free(l->doc[i].path);
        cn_tokens_release(&l->doc[i].token);
        cn_doc_free(l->doc[i].doc);
    }
    free(l->doc);
    *l = (list){0};
}

static void forget_found(cn_past_found *f) {
    for (int64_t i = 0; i < f->lost_documents; i++) free(f->lost[i].path);
    free(f->lost);
    *f = (cn_past_found){0};
}

void cn_past_close(cn_past *p) {
    if (!p) return;
    cn_pages_end(p->txn);
    free_list(&p->now);
    forget_found(&p->found);
    for (int64_t i = 0; i < p->parts; i++) {
        free(p->part[i].path);
        free(p->part[i].text);
    }
    free(p->part);
    free(p->page);
    cn_repo_files_free(p->files);
    cn_repo_close(p->repo);
    free(p->session);
    free(p);
}

const cn_past_found *cn_past_get_found(const cn_past *p) {
    return &p->found;
}

bool cn_past_has_path(const cn_past *p, const char *path) {
    for (int64_t i = 0; i < p->now.docs; i++)
        if (strcmp(p->now.doc[i].path, path) == 0) return true;
    return false;
}

/* ---- Tokens ------------------------------------------------------------------------ */

static void on_document(void *ctx, const cn_ledger_document *d) {
    list *l = ctx;
    if (l->failed) return;
    if (l->docs == l->room) {
        const int64_t room = l->room ? 2 * l->room : 256;
        wanted       *more = realloc(l->doc, (size_t)room * sizeof(*more));
        l->failed = !more;
        if (!more) return;
        l->doc = more;
        l->room = room;
    }
    l->doc[l->docs] = (wanted){.path = strdup(d->path), .piece = d->piece, .kind = d->kind};
    l->failed = !l->doc[l->docs].path;
    l->docs += !l->failed;
}

/* Documents that are the same as in the view before have what they had. */
static void carry_over(list *to, list *from) {
    int64_t at = 0; // most stand in the same order
    for (int64_t i = 0; i < to->docs; i++)
        for (int64_t k = 0; k < from->docs; k++, at++) {
            wanted *w = &from->doc[at % from->docs];
            if (!w->token.count || !cn_hash_is_equal(&w->piece.key, &to->doc[i].piece.key))
                continue;
            to->doc[i].token = w->token;
            to->doc[i].doc = w->doc;
            w->token = (cn_tokens){0};
            w->doc = NULL;
            break;
        }
}

static bool is_key_of(const cn_past *p, const wanted *w, const int32_t *token, int64_t tokens) {
    const cn_hash key = cn_document_key(&p->host->domain, token, tokens);
    return cn_hash_is_equal(&key, &w->piece.key);
}

/* From the store's record; what lies under a key is what was written under it. */
static cn_err find_record(cn_past *p, wanted *w) {
    cn_pages_doc record;
    if (w->token.count || cn_pages_get_doc(p->txn, &w->piece.key, &record) != CN_PAGES_HIT ||
        record.tokens != w->piece.tokens)
        return CN_OK;
    return cn_tokens_put(&w->token, record.token, record.tokens);
}

/* Of one path, from document `first` on. */
static int64_t pieces_from(const list *l, int64_t first) {
    int64_t end = first + 1;
    while (end < l->docs && strcmp(l->doc[end].path, l->doc[first].path) == 0) end++;
    return end - first;
}

static bool has_shape(const wanted *w, int64_t pieces, const cn_cut *cut) {
    bool same = cut->documents == pieces;
    for (int64_t i = 0; same && i < pieces; i++)
        same = cut->document[i].tokens == w[i].piece.tokens &&
               cut->document[i].first_line == w[i].piece.first_line &&
               cut->document[i].lines == w[i].piece.lines;
    return same;
}

typedef enum { BY_KEY, BY_SHAPE } match;

/* Take tokens of a text's pieces: those with the documents' keys, or all by their shape. */
static cn_err match_cut(cn_past *p, wanted *w, int64_t pieces, const cn_cut *cut, match by) {
    if (by == BY_SHAPE && !has_shape(w, pieces, cut)) return CN_OK;
    for (int64_t i = 0; i < pieces; i++) {
        if (w[i].token.count) continue;
        for (int32_t d = 0; d < cut->documents; d++) {
            const cn_document *c = &cut->document[d];
            if (by == BY_SHAPE ? d != i : !is_key_of(p, &w[i], c->token, c->tokens)) continue;
            CN_TRY(cn_tokens_put(&w[i].token, c->token, c->tokens));
            break;
        }
    }
    return CN_OK;
}

static const part *find_part(const cn_past *p, const char *path) {
    for (int64_t i = 0; i < p->parts; i++)
        if (strcmp(p->part[i].path, path) == 0) return &p->part[i];
    return NULL;
}

/* The text that documents of a path were cut from, if there is one; *found says. */
static cn_err read_text(cn_past *p, const wanted *w, cn_buf *text, bool *found, cn_diag *diag) {
    *found = false;
    if (w->kind == CN_DOCUMENT_REF) {
        const part *of = find_part(p, w->path);
        if (of) cn_buf_put(text, of->text, of->bytes);
        *found = of != NULL;
    } else if (p->files) {
        const cn_repo_file *f = cn_repo_files_find(p->files, w->path);
        *found = f && f->skip == CN_REPO_SKIP_NONE && cn_repo_read(p->repo, f, text, NULL) == CN_OK;
    }
    return text->err ? CN_FAIL(diag, text->err, "no memory for %s", w->path) : CN_OK;
}

static cn_err find_in_text(cn_past *p, wanted *w, int64_t pieces, match by, cn_diag *diag) {
    cn_buf text = {0};
    cn_cut cut;
    bool   found;
    cn_err err = read_text(p, w, &text, &found, diag);
    if (!err && found) {
        err = cn_cut_file(&cut,
                          &(cn_cut_args){.tokenizer = p->host->tokenizer,
                                         .file_role = p->host->roles.file,
                                         .path = w->path,
                                         .text = cn_buf_str(&text),
                                         .bytes = text.bytes},
                          diag);
        if (!err) {
            err = match_cut(p, w, pieces, &cut, by);
            if (err) err = CN_FAIL(diag, err, "no memory for %s", w->path);
            cn_cut_release(&cut);
        }
    }
    cn_buf_release(&text);
    return err;
}

static bool has_all(const wanted *w, int64_t pieces) {
    for (int64_t i = 0; i < pieces; i++)
        if (!w[i].token.count) return false;
    return true;
}

static cn_err find_tokens(cn_past *p, cn_diag *diag) {
    list   *l = &p->now;
    int64_t known = 0; // files that were known by their keys
    for (int64_t i = 0; i < l->docs; i++)
        if (find_record(p, &l->doc[i])) return CN_FAIL(diag, CN_ENOMEM, "no memory for a document");
    for (int64_t i = 0, n; i < l->docs; i += n) {
        n = pieces_from(l, i);
        if (!has_all(&l->doc[i], n)) CN_TRY(find_in_text(p, &l->doc[i], n, BY_KEY, diag));
        for (int64_t k = i; k < i + n; k++) known += l->doc[k].token.count > 0;
    }
    // The text of a long part is the ledger's own; a file's may have changed, unless no key can
    // match at all.
    for (int64_t i = 0, n; i < l->docs; i += n) {
        n = pieces_from(l, i);
        if (has_all(&l->doc[i], n) || (known && l->doc[i].kind == CN_DOCUMENT_FILE)) continue;
        CN_TRY(find_in_text(p, &l->doc[i], n, BY_SHAPE, diag));
        if (l->doc[i].kind == CN_DOCUMENT_FILE && has_all(&l->doc[i], n)) p->found.assumed += n;
    }
    return CN_OK;
}

static cn_err list_lost(cn_past *p, cn_diag *diag) {
    cn_past_found *f = &p->found;
    for (int64_t i = 0; i < p->now.docs; i++) f->lost_documents += !p->now.doc[i].token.count;
    if (f->lost_documents == 0) return CN_OK;
    f->lost = calloc((size_t)f->lost_documents, sizeof(*f->lost));
    f->lost_documents = 0;
    if (!f->lost) return CN_FAIL(diag, CN_ENOMEM, "no memory for what is lost");
    for (int64_t i = 0; i < p->now.docs; i++) {
        const wanted *w = &p->now.doc[i];
        if (w->token.count) continue;
        char *path = strdup(w->path);
        if (!path) return CN_FAIL(diag, CN_ENOMEM, "no memory for what is lost");
        f->lost[f->lost_documents++] =
            (cn_past_lost){path, w->piece.tokens, w->piece.first_line, w->piece.lines};
        f->lost_tokens += w->piece.tokens;
    }
    return CN_OK;
}

/* ---- Pages ------------------------------------------------------------------------- */

static int64_t pages_of(int64_t tokens) {
    return (tokens + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
}

/* Pages of another engine lie under its own keys: they are never these. */
static bool has_pages(cn_past *p, const wanted *w) {
    if (!is_key_of(p, w, w->token.token, w->token.count)) return false;
    for (int64_t i = 0; i < pages_of(w->token.count); i++) {
        cn_pages_page page;
        if (cn_pages_get(p->txn, &w->piece.key, (int32_t)i, &page) != CN_PAGES_HIT) return false;
    }
    return true;
}

static cn_err prefill(cn_past *p, wanted *w, cn_diag *diag) {
    CN_TRY(cn_doc_create(&w->doc, p->host->engine, w->token.count, true, diag));
    for (int64_t at = 0; at < w->token.count;) {
        const int64_t left = w->token.count - at;
        cn_slice      slice = {.doc = w->doc,
                               .token = w->token.token + at,
                               .tokens = left < CN_STEP_ROWS ? (int32_t)left : CN_STEP_ROWS};
        CN_TRY(cn_engine_step(p->host->engine, &slice, 1, NULL, diag));
        at += slice.tokens;
    }
    p->found.prefilled_tokens += w->token.count;
    return CN_OK;
}

static cn_err set_view(cn_past *p, cn_view *view, cn_diag *diag) {
    int64_t pages = 0, at = 0;
    for (int64_t i = 0; i < p->now.docs; i++) pages += pages_of(p->now.doc[i].token.count);
    cn_page_ref *page = realloc(p->page, ((size_t)pages + 1) * sizeof(*page));
    if (!page) return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " pages", pages);
    p->page = page;
    for (int64_t i = 0; i < p->now.docs; i++) {
        wanted *w = &p->now.doc[i];
        w->has_pages = !w->doc && has_pages(p, w);
        if (!w->doc && !w->has_pages) CN_TRY(prefill(p, w, diag));
        for (int64_t k = 0; k < pages_of(w->token.count); k++) {
            cn_pages_page found = {0};
            if (w->has_pages) (void)cn_pages_get(p->txn, &w->piece.key, (int32_t)k, &found);
            page[at++] =
                w->has_pages ? (cn_page_ref){found.body, found.tokens} : cn_doc_page(w->doc, k);
        }
        p->found.tokens += w->token.count;
    }
    p->found.documents = p->now.docs;
    return cn_view_set(view, page, pages, diag);
}

static cn_err read_list(cn_past *p, int64_t generation, cn_diag *diag) {
    list next = {0};
    if (generation) {
        cn_err err =
            cn_ledger_documents(p->ledger, p->session, generation, on_document, &next, diag);
        if (!err && next.failed) err = CN_FAIL(diag, CN_ENOMEM, "no memory for a view");
        if (err) {
            free_list(&next);
            return err;
        }
    }
    carry_over(&next, &p->now);
    free_list(&p->now);
    p->now = next;
    return CN_OK;
}

cn_err cn_past_bind(cn_past *p, int64_t generation, cn_view *view, cn_diag *diag) {
    CN_TRY(cn_view_set(view, NULL, 0, diag)); // it lets go of what is freed now
    forget_found(&p->found);
    CN_TRY(read_list(p, generation, diag));
    CN_TRY(cn_pages_renew(p->txn, NULL, diag));
    CN_TRY(find_tokens(p, diag));
    CN_TRY(list_lost(p, diag));
    return p->found.lost_documents ? CN_OK : set_view(p, view, diag);
}
