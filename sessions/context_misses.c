/*
 * context_misses.c - Why documents are missing.
 *
 * In this order, the first that holds:
 *
 *   corrupt    one of its pages failed its check
 *   evicted    its pages were on the disk once
 *   unstored   the view held it before, and they never were
 *   model      the same bytes at this path were stored, or held, under the keys of other weights;
 *   format     of another layout or version of the cut
 *   changed    the view held other bytes at this path
 *   new        none of these
 */
#include "sessions/context_int.h"

#include "base/log.h"
#include "store/ledger_known.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- Reasons --------------------------------------------------------------------------- */

static int64_t find_corrupt(const cn_context *c, const cn_hash *key) {
    int64_t i = 0;
    while (i < c->corrupts && !cn_hash_is_equal(&c->corrupt[i], key)) i++;
    return i;
}

/* The store says it once, and the page is absent from then on. */
void cn_context_note_corrupt(cn_context *c, const cn_hash *key) {
    if (find_corrupt(c, key) < c->corrupts) return;
    cn_hash *more = realloc(c->corrupt, ((size_t)c->corrupts + 1) * sizeof(*more));
    if (!more) return; // it will be called evicted
    c->corrupt = more;
    c->corrupt[c->corrupts++] = *key;
}

void cn_context_forget_corrupt(cn_context *c, const cn_hash *key) {
    const int64_t i = find_corrupt(c, key);
    if (i < c->corrupts) c->corrupt[i] = c->corrupt[--c->corrupts];
}

static bool is_held(void *ctx, const cn_hash *key) {
    return cn_context_is_kept_key(ctx, key);
}

/* What is true of all documents of an entry: how its bytes are known under other keys. */
static cn_known known_elsewhere(cn_context *c, const cn_context_entry *e, cn_diag *diag) {
    uint8_t              id[CN_HASH_BYTES];
    const cn_ledger_blob blob = {.path = e->path, .id = id, .id_bytes = cn_context_raw_id(id, e)};
    const cn_ledger_elsewhere args = {&c->host->cut, &blob, is_held, c};
    cn_known                  known;
    return cn_ledger_blob_elsewhere(c->host->ledger, &args, &known, diag) ? CN_KNOWN_NOT : known;
}

static cn_miss reason_of_bytes(cn_context *c, const cn_context_entry *e, cn_diag *diag) {
    const cn_known known = known_elsewhere(c, e, diag);
    if (known == CN_KNOWN_MODEL) return CN_MISS_MODEL;
    if (known == CN_KNOWN_FORMAT) return CN_MISS_FORMAT;
    const bool was_there =
        e->kind == CN_DOCUMENT_FILE && cn_paths_sorted_has(&c->kept_path, e->path);
    return was_there ? CN_MISS_CHANGED : CN_MISS_NEW;
}

void cn_context_find_reasons(cn_context *c) {
    const cn_context_entry *last = NULL; // whose bytes' reason is known
    cn_miss                 of_bytes = CN_MISS_NEW;
    cn_diag                 diag = {0};
    for (int64_t i = 0; i < c->shelf.docs; i++) {
        cn_context_doc *d = &c->shelf.doc[i];
        const cn_hash  *key = &d->piece.key;
        bool            was_stored = false;
        if (!d->is_missing) continue;
        if (find_corrupt(c, key) < c->corrupts) d->why = CN_MISS_CORRUPT;
        if (d->why != CN_MISS_COUNT) continue;
        if (cn_ledger_stored_has(c->host->ledger, key, &was_stored, &diag)) was_stored = false;
        if (was_stored || cn_context_is_kept_key(c, key)) {
            d->why = was_stored ? c->host->lost : CN_MISS_UNSTORED;
            continue;
        }
        if (c->shelf.source[i] != last) of_bytes = reason_of_bytes(c, c->shelf.source[i], &diag);
        last = c->shelf.source[i];
        d->why = of_bytes;
    }
    if (diag.err) cn_log(CN_LOG_WARN, "why documents are missing is not known: %s", diag.text);
}

/* ---- The first difference ------------------------------------------------------------- */

/* A run of new documents of a file in the place of a run of old ones: what stands around both
 * is the same. */
typedef struct run {
    const cn_context_kept *was; // [was_docs]
    int64_t                was_docs;
    int32_t                first, docs; // of the file's pieces
} run;

static int32_t first_of_text(const int32_t *line, int32_t lines, int32_t tokens) {
    return lines ? line[0] : tokens;
}

/* The bytes of the documents that were there, as far as the store has them; whether it has all.
 * Their keys say that they are of this tokenizer. */
static bool read_was(const cn_context *c, const run *r, cn_buf *out) {
    for (int64_t i = 0; i < r->was_docs; i++) {
        cn_pages_doc d;
        if (cn_pages_get_doc(c->txn, &r->was[i].piece.key, &d) != CN_PAGES_HIT) return false;
        const cn_hash key = cn_document_key(&c->host->domain, d.token, d.tokens);
        if (!cn_hash_is_equal(&key, &r->was[i].piece.key)) return false;
        for (int32_t t = first_of_text(d.line, d.lines, d.tokens); t < d.tokens; t++) {
            size_t      bytes;
            const char *text = cn_tokenizer_bytes(c->host->tokenizer, d.token[t], &bytes);
            cn_buf_put(out, text, bytes);
        }
    }
    return !out->err;
}

/* Walk the bytes of the new documents along those of the old ones up to the first that differs;
 * not found where the old ones that the store lacks begin. */
static void locate(const cn_context *c, const run *r, const cn_cut *cut, cn_context_miss *out) {
    cn_buf     was = {0};
    const bool is_whole = read_was(c, r, &was);
    size_t     at = 0;
    for (int32_t i = r->first; i < r->first + r->docs; i++) {
        const cn_document *d = &cut->document[i];
        int64_t            line = d->first_line;
        for (int32_t t = first_of_text(d->line_token, d->lines, d->tokens); t < d->tokens; t++) {
            size_t      bytes;
            const char *text = cn_tokenizer_bytes(c->host->tokenizer, d->token[t], &bytes);
            for (size_t b = 0; b < bytes; b++, at++) {
                if (at < was.bytes && was.data[at] == text[b]) {
                    line += text[b] == '\n';
                    continue;
                }
                if (at < was.bytes || is_whole) {
                    out->line = line;
                    out->token = t + 1;
                }
                cn_buf_release(&was);
                return;
            }
        }
        out->line = line; // the text ends here, unless a document follows
        out->token = d->tokens;
    }
    if (!is_whole) out->line = out->token = 0;
    cn_buf_release(&was);
}

/* The next run of documents of `e` that were not there before; false if there is none. */
static bool next_run(const cn_context_entry *e, const cn_context_kept *was, int64_t was_docs,
                     run *r) {
    int64_t j = r->was ? r->was - was + r->was_docs : 0;
    for (int32_t i = r->first + r->docs; i < e->pieces; i++) {
        int64_t same = j;
        while (same < was_docs && !cn_hash_is_equal(&was[same].piece.key, &e->piece[i].key)) same++;
        if (same < was_docs) {
            j = same + 1;
            continue;
        }
        // From here to the next document that stands in both.
        *r = (run){&was[j], was_docs - j, i, e->pieces - i};
        for (int32_t k = i + 1; k < e->pieces; k++)
            for (int64_t o = j; o < was_docs; o++)
                if (cn_hash_is_equal(&was[o].piece.key, &e->piece[k].key)) {
                    r->was_docs = o - j;
                    r->docs = k - i;
                    return true;
                }
        return true;
    }
    return false;
}

/* Line and token of the changes in one file, `miss` its missing documents. */
static cn_err explain_changed(cn_context *c, const cn_context_entry *e, cn_context_miss *miss,
                              int64_t misses, cn_diag *diag) {
    cn_cut  cut;
    int64_t first = 0, docs = 0;
    while (first < c->kept_docs && strcmp(c->kept[first].path, e->path)) first++;
    while (first + docs < c->kept_docs && !strcmp(c->kept[first + docs].path, e->path)) docs++;
    const cn_err err = cn_context_cut(c, e, &cut, diag);
    if (err)
        return err == CN_ENOTFOUND ? CN_OK : err; // it changes while we look: its prefill says so
    if (cut.documents == e->pieces) {
        run r = {0};
        while (next_run(e, &c->kept[first], docs, &r)) {
            cn_context_miss found = {.line = 0};
            locate(c, &r, &cut, &found);
            for (int64_t m = 0; m < misses; m++)
                for (int32_t i = r.first; i < r.first + r.docs; i++)
                    if (miss[m].why == CN_MISS_CHANGED &&
                        miss[m].first_line == e->piece[i].first_line &&
                        miss[m].tokens == e->piece[i].tokens) {
                        miss[m].line = found.line;
                        miss[m].token = found.token;
                    }
        }
    }
    cn_cut_release(&cut);
    return CN_OK;
}

/* The file of the view before, gone now, that had these bytes. */
static const char *renamed_from(cn_context *c, const cn_context_entry *e) {
    uint8_t        id[CN_HASH_BYTES];
    cn_ledger_blob blob = {.id = id, .id_bytes = cn_context_raw_id(id, e)};
    for (int64_t i = 0; i < c->kept_path.count; i++) {
        cn_ledger_piece *piece = NULL;
        int32_t          pieces = 0;
        blob.path = c->kept_path.path[i];
        if (cn_context_entry_find(c, blob.path)) continue;
        if (cn_ledger_blob_get(c->host->ledger, &c->host->cut, &blob, &piece, &pieces, NULL) !=
            CN_OK)
            continue;
        const bool was_there = pieces && cn_context_is_kept_key(c, &piece[0].key);
        free(piece);
        if (was_there) return blob.path;
    }
    return NULL;
}

/* The documents of one entry. */
static cn_err explain(cn_context *c, const cn_context_entry *e, cn_context_miss *miss,
                      int64_t misses, cn_diag *diag) {
    bool has_changed = false, is_new = false;
    for (int64_t i = 0; i < misses; i++) {
        has_changed |= miss[i].why == CN_MISS_CHANGED;
        is_new |= miss[i].why == CN_MISS_NEW && e->kind == CN_DOCUMENT_FILE;
    }
    const char *from = is_new ? renamed_from(c, e) : NULL;
    for (int64_t i = 0; from && i < misses; i++) {
        miss[i].from = strdup(from);
        if (!miss[i].from) return CN_FAIL(diag, CN_ENOMEM, "no memory for %s", from);
    }
    return has_changed ? explain_changed(c, e, miss, misses, diag) : CN_OK;
}

cn_err cn_context_explain(cn_context *c, cn_context_miss **out, int64_t *count_out, cn_diag *diag) {
    int64_t          count = 0;
    cn_err           err = CN_OK;
    cn_context_miss *miss = calloc((size_t)c->plan.missing_documents + 1, sizeof(*miss));
    *out = NULL;
    *count_out = 0;
    if (!miss) return CN_FAIL(diag, CN_ENOMEM, "no memory for missing documents");
    for (int64_t i = 0, end; !err && i < c->shelf.docs; i = end) {
        const cn_context_entry *e = c->shelf.source[i];
        const int64_t           first = count;
        for (end = i; end < c->shelf.docs && c->shelf.source[end] == e; end++) {
            const cn_context_doc *d = &c->shelf.doc[end];
            if (!d->is_missing || count == c->plan.missing_documents) continue;
            miss[count] = (cn_context_miss){.path = strdup(d->path),
                                            .first_line = d->piece.first_line,
                                            .lines = d->piece.lines,
                                            .tokens = d->piece.tokens,
                                            .why = d->why};
            if (!miss[count++].path) err = CN_FAIL(diag, CN_ENOMEM, "no memory for %s", d->path);
        }
        if (!err && count > first) err = explain(c, e, &miss[first], count - first, diag);
    }
    if (err) {
        cn_context_misses_free(miss, count);
        return err;
    }
    *out = miss;
    *count_out = count;
    return CN_OK;
}

void cn_context_misses_free(cn_context_miss *miss, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        free(miss[i].path);
        free(miss[i].from);
    }
    free(miss);
}
