/* context_pin.c - A view that stays as it was, and the texts that it is made of. */
#include "sessions/context_int.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- Pinned files ---------------------------------------------------------------------- */

bool cn_context_is_pinned(const cn_context *c) {
    return c->is_pinned;
}

void cn_context_unpin(cn_context *c) {
    if (c->is_pinned) {
        // The shelf points at entries that go; the next update makes another.
        cn_context_let_go(c);
        c->shelf.docs = 0;
    }
    while (c->pinned_files > 0) cn_context_part_free(c->pinned[--c->pinned_files]);
    free(c->pinned);
    c->pinned = NULL;
    c->pinned_room = 0;
    c->is_pinned = false;
}

cn_err cn_context_put_pinned(cn_context *c, const char *path, cn_ledger_text text, cn_diag *diag) {
    if (c->pinned_files == c->pinned_room) {
        const int64_t     room = c->pinned_room ? 2 * c->pinned_room : 64;
        cn_context_part **more = realloc(c->pinned, (size_t)room * sizeof(*more));
        if (!more) return CN_FAIL(diag, CN_ENOMEM, "no memory for %s", path);
        c->pinned = more;
        c->pinned_room = room;
    }
    cn_context_part *p = cn_context_part_make(path, text, CN_DOCUMENT_FILE);
    if (!p) return CN_FAIL(diag, CN_ENOMEM, "no memory for %s", path);
    int64_t at = c->pinned_files++;
    for (; at > 0 && strcmp(c->pinned[at - 1]->entry.path, path) > 0; at--)
        c->pinned[at] = c->pinned[at - 1];
    c->pinned[at] = p;
    return CN_OK;
}

void cn_context_pin(cn_context *c) {
    c->is_pinned = true;
}

cn_err cn_context_know_pinned(cn_context *c, cn_diag *diag) {
    for (int64_t i = 0; i < c->pinned_files; i++)
        CN_TRY(cn_context_know(c, &c->pinned[i]->entry, diag));
    return CN_OK;
}

const cn_context_entry *cn_context_pinned_find(const cn_context *c, const char *path) {
    for (int64_t i = 0; i < c->pinned_files; i++)
        if (strcmp(c->pinned[i]->entry.path, path) == 0) return &c->pinned[i]->entry;
    return NULL;
}

/* ---- What a file was ------------------------------------------------------------------- */

/* The first of a path's documents of before, and how many there are. */
static int64_t find_kept(const cn_context *c, const char *path, int64_t *count_out) {
    int64_t first = 0;
    *count_out = 0;
    while (first < c->kept_docs && strcmp(c->kept[first].path, path)) first++;
    while (first + *count_out < c->kept_docs && !strcmp(c->kept[first + *count_out].path, path))
        ++*count_out;
    return first;
}

static bool has_pieces(const cn_context_kept *kept, int64_t count, const cn_ledger_piece *piece,
                       int64_t pieces) {
    bool is_same = count == pieces;
    for (int64_t i = 0; is_same && i < count; i++)
        is_same = cn_hash_is_equal(&kept[i].piece.key, &piece[i].key);
    return is_same;
}

/* The pieces of the documents' records, one behind the other; false if one is not there. */
static bool read_records(const cn_context *c, const cn_context_kept *kept, int64_t count,
                         cn_buf *out) {
    for (int64_t i = 0; i < count; i++) {
        cn_pages_doc d;
        if (cn_pages_get_doc(c->txn, &kept[i].piece.key, &d) != CN_PAGES_HIT) return false;
        for (int32_t t = d.lines ? d.line[0] : d.tokens; t < d.tokens; t++) {
            size_t      bytes;
            const char *text = cn_tokenizer_bytes(c->host->tokenizer, d.token[t], &bytes);
            cn_buf_put(out, text, bytes);
        }
    }
    return !out->err;
}

/* Whether `text` is cut into just these documents: then it is what they were made of. */
static bool makes(cn_context *c, const char *path, const cn_buf *text, const cn_context_kept *kept,
                  int64_t count) {
    const cn_context_entry e = {.path = path, .text = {cn_buf_str(text), text->bytes}};
    cn_cut                 cut;
    if (cn_context_cut(c, &e, &cut, NULL)) return false;
    bool is_same = cut.documents == count;
    for (int64_t i = 0; is_same && i < count; i++) {
        const cn_hash key =
            cn_document_key(&c->host->domain, cut.document[i].token, cut.document[i].tokens);
        is_same = cn_hash_is_equal(&key, &kept[i].piece.key);
    }
    cn_cut_release(&cut);
    return is_same;
}

cn_err cn_context_recall(cn_context *c, const char *path, cn_buf *out, cn_diag *diag) {
    int64_t                 count;
    const cn_context_kept  *kept = &c->kept[find_kept(c, path, &count)];
    const cn_context_entry *e = cn_context_entry_find(c, path);
    cn_buf                  text = {0};
    if (e && e->piece && has_pieces(kept, count, e->piece, e->pieces) && e->file)
        return cn_repo_read(c->repo, e->file, out, diag);
    if (read_records(c, kept, count, &text) && makes(c, path, &text, kept, count)) {
        cn_buf_put(out, cn_buf_str(&text), text.bytes);
        cn_buf_release(&text);
        return out->err ? CN_FAIL(diag, out->err, "no memory for %s", path) : CN_OK;
    }
    cn_buf_release(&text);
    return CN_FAIL(diag, CN_ENOTFOUND,
                   "%s has changed since the view was made, and what it was is not in the store "
                   "any more; a turn without a pin brings the view up to date",
                   path);
}
