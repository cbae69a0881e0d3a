/*
 * context_pages.c - The pages of a view: looked up, prefilled where they are missing, written,
 * bound where they lie in the store's map.
 */
#include "sessions/context_int.h"

#include "base/clock.h"
#include "base/log.h"
#include "store/ledger_known.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const cn_context_held *find_resident(const cn_context *c, const cn_hash *key) {
    for (int64_t i = 0; i < c->residents; i++)
        if (cn_hash_is_equal(&c->resident[i].key, key)) return &c->resident[i];
    return NULL;
}

/* ---- Writing ----------------------------------------------------------------------- */

static void drop(cn_context_held *h) {
    cn_doc_free(h->doc);
    free(h->token);
}

void cn_context_free_pages(cn_context *c) {
    cn_pages_end(c->txn);
    for (int32_t i = 0; i < c->waiting_docs; i++) drop(&c->waiting[i]);
    for (int32_t i = 0; i < c->spares; i++) cn_doc_free(c->spare[i]);
    for (int64_t i = 0; i < c->residents; i++) drop(&c->resident[i]);
    cn_doc_free(c->current);
    cn_cut_release(&c->cut);
    free(c->resident);
    free(c->page);
}

static cn_err renew(cn_context *c, bool *moved_out, cn_diag *diag) {
    if (moved_out) *moved_out = true;
    if (c->txn) return cn_pages_renew(c->txn, moved_out, diag);
    return cn_pages_begin(&c->txn, c->host->pages, diag);
}

/* Tell the ledger what the store has now: once for a shelf all of it, for a process may have died
 * between the two. */
static void note_stored(cn_context *c) {
    const int64_t room = c->waiting_docs + (c->has_noted ? 0 : c->shelf.docs);
    cn_hash      *key = malloc((size_t)(room + 1) * sizeof(*key));
    cn_diag       diag = {0};
    int64_t       keys = 0;
    for (int32_t i = 0; key && i < c->waiting_docs; i++) key[keys++] = c->waiting[i].key;
    for (int64_t i = 0; key && !c->has_noted && i < c->shelf.docs; i++)
        if (!c->shelf.doc[i].is_missing && !c->shelf.doc[i].is_copy &&
            !find_resident(c, &c->shelf.doc[i].piece.key))
            key[keys++] = c->shelf.doc[i].piece.key;
    if (!key || cn_ledger_stored_put(c->host->ledger, key, keys, &diag))
        cn_log(CN_LOG_WARN, "the ledger does not know what was stored: %s", diag.text);
    else
        c->has_noted = true;
    free(key);
}

/* What was written and was gone when it was to be bound, again and again, is written no more:
 * a turn ends, whatever the disk or another process does. */
static cn_err write_pages(cn_context *c, const cn_pages_item *item, int64_t items, int64_t *added) {
    *added = 0;
    if (c->gone_rounds > CN_CONTEXT_GONE_MAX)
        return CN_FAIL(&c->store_failure, CN_EIO, "pages that were written were gone %d times",
                       c->gone_rounds);
    return cn_pages_write(c->host->pages, item, items, cn_clock_unix_ns() / 1000000000, added,
                          &c->store_failure);
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
        const cn_context_held *w = &c->waiting[i];
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
    const cn_err err = write_pages(c, item, items, &added);
    work->bytes_written += added;
    if (!err) {
        note_stored(c);
        for (int32_t i = 0; i < c->waiting_docs; i++) {
            free(c->waiting[i].token);
            c->spare[c->spares++] = c->waiting[i].doc;
        }
        c->waiting_docs = 0;
        work->store_ns += cn_clock_ns() - begin;
        return CN_OK;
    }
    work->store_ns += cn_clock_ns() - begin;
    cn_log(CN_LOG_WARN, "%d documents stay in memory: %s", c->waiting_docs, c->store_failure.text);
    if (c->residents + c->waiting_docs > c->residents_room) {
        const int64_t    room = 2 * c->residents_room + CN_CONTEXT_WRITE_DOCS;
        cn_context_held *more = realloc(c->resident, (size_t)room * sizeof(*more));
        if (!more) return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " documents", room);
        c->resident = more;
        c->residents_room = room;
    }
    for (int32_t i = 0; i < c->waiting_docs; i++) c->resident[c->residents++] = c->waiting[i];
    c->waiting_docs = 0;
    return CN_OK;
}

/* ---- Looking up --------------------------------------------------------------------- */

/* Its checksum is verified at the first use of a page. */
void cn_context_find_missing(cn_context *c) {
    memset(c->plan.misses, 0, sizeof(c->plan.misses));
    c->plan.cached_tokens = c->plan.missing_tokens = c->plan.missing_documents = 0;
    for (int64_t i = 0; i < c->shelf.docs; i++) {
        cn_context_doc *d = &c->shelf.doc[i];
        d->is_missing = d->is_copy = false;
        if (!find_resident(c, &d->piece.key))
            for (int64_t p = 0; p < cn_context_pages_of(d->piece.tokens); p++) {
                cn_pages_page        page;
                const cn_pages_state state = cn_pages_get(c->txn, &d->piece.key, (int32_t)p, &page);
                if (state == CN_PAGES_HIT) continue;
                d->is_missing = true;
                if (state == CN_PAGES_CORRUPT) cn_context_note_corrupt(c, &d->piece.key);
            }
        if (!d->is_missing) {
            c->plan.cached_tokens += d->piece.tokens;
            continue;
        }
        // The same document twice in a view (a copied file) is prefilled once.
        for (int64_t j = 0; j < i; j++)
            if (c->shelf.doc[j].is_missing &&
                cn_hash_is_equal(&c->shelf.doc[j].piece.key, &d->piece.key))
                d->is_copy = true;
        if (d->is_copy) {
            d->is_missing = false;
            c->plan.cached_tokens += d->piece.tokens;
            continue;
        }
        c->plan.missing_documents++;
        c->plan.missing_tokens += d->piece.tokens;
    }
    cn_context_find_reasons(c);
    for (int64_t i = 0; i < c->shelf.docs; i++) {
        const cn_context_doc *d = &c->shelf.doc[i];
        if (!d->is_missing) continue;
        c->plan.misses[d->why].count++;
        c->plan.misses[d->why].tokens += d->piece.tokens;
    }
}

void cn_context_let_go(cn_context *c) {
    c->is_bound = false;
    c->current_at = -1;
    c->cut_entry = NULL;
    cn_cut_release(&c->cut);
}

cn_err cn_context_settle(cn_context *c, cn_diag *diag) {
    cn_context_work work = {0};
    CN_TRY(write_waiting(c, &work, diag)); // an earlier prefill was left in the middle
    CN_TRY(renew(c, NULL, diag));
    cn_context_let_go(c);
    return CN_OK;
}

void cn_context_doc_lines(cn_context *c, int64_t i, const int32_t **line_out, int32_t *lines_out) {
    const cn_hash         *key = &c->shelf.doc[i].piece.key;
    const cn_context_held *h = find_resident(c, key);
    cn_pages_doc           doc;
    *line_out = NULL;
    *lines_out = 0;
    if (h) {
        *line_out = h->token + h->tokens;
        *lines_out = h->lines;
    } else if (cn_pages_get_doc(c->txn, key, &doc) == CN_PAGES_HIT) {
        *line_out = doc.line;
        *lines_out = doc.lines;
    }
}

/* ---- Prefill ---------------------------------------------------------------------- */

const cn_diag *cn_context_store_failure(const cn_context *c) {
    return c->store_failure.err ? &c->store_failure : NULL;
}

/* The document's tokens: its text is cut (again, if only the cut was remembered). */
static cn_err load_tokens(cn_context *c, int64_t at, const cn_document **out, cn_diag *diag) {
    const cn_context_entry *e = c->shelf.source[at];
    if (c->cut_entry != e) {
        cn_cut_release(&c->cut);
        c->cut_entry = NULL;
        CN_TRY(cn_context_cut(c, e, &c->cut, diag));
        c->cut_entry = e;
    }
    for (int32_t i = 0; i < c->cut.documents; i++)
        if (c->cut.document[i].first_line == c->shelf.doc[at].piece.first_line &&
            c->cut.document[i].tokens == c->shelf.doc[at].piece.tokens) {
            const cn_document *d = &c->cut.document[i];
            const cn_hash      key = cn_document_key(&c->host->domain, d->token, d->tokens);
            if (!cn_hash_is_equal(&key, &c->shelf.doc[at].piece.key)) continue;
            *out = d;
            return CN_OK;
        }
    return CN_FAIL(diag, CN_ECORRUPT, "the remembered cut of %s is not how it is cut",
                   c->shelf.doc[at].path);
}

static cn_err begin_document(cn_context *c, cn_diag *diag) {
    c->current_at = -1;
    for (int64_t i = 0; i < c->shelf.docs && c->current_at < 0; i++)
        if (c->shelf.doc[i].is_missing) c->current_at = i;
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

/* What was prefilled is measured, the cutting of files with it.  Few tokens would measure the
 * reading of a file: they count only if nothing better is known. */
static cn_err keep_rate(cn_context *c, cn_context_work *work, cn_diag *diag) {
    const int64_t tokens = c->fresh_tokens, ns = c->fresh_ns;
    c->fresh_tokens = c->fresh_ns = 0;
    if (tokens < CN_STEP_ROWS || (tokens < CN_DOCUMENT_TOKENS_MAX && c->host->prefill_ns > 0))
        return CN_OK;
    const int64_t begin = cn_clock_ns();
    const cn_err  err = cn_host_put_rate(c->host, (double)ns / (double)tokens, diag);
    work->store_ns += cn_clock_ns() - begin;
    return err;
}

cn_err cn_context_prefill(cn_context *c, bool *done_out, cn_context_work *work, cn_diag *diag) {
    const int64_t entered = cn_clock_ns();
    *done_out = false;
    if (c->current_at < 0) CN_TRY(begin_document(c, diag));
    if (c->current_at < 0) {
        CN_TRY(write_waiting(c, work, diag));
        CN_TRY(keep_rate(c, work, diag));
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
    c->fresh_ns += cn_clock_ns() - entered;
    c->fresh_tokens += n;
    if (n < left) return CN_OK;
    cn_context_held *w = &c->waiting[c->waiting_docs];
    *w = (cn_context_held){.doc = c->current,
                           .key = c->shelf.doc[c->current_at].piece.key,
                           .tokens = d->tokens,
                           .lines = d->lines,
                           .text_bytes = d->end - d->begin};
    w->token = malloc((size_t)(d->tokens + d->lines) * sizeof(*w->token));
    if (!w->token) return CN_FAIL(diag, CN_ENOMEM, "no memory for a document's tokens");
    memcpy(w->token, d->token, (size_t)d->tokens * sizeof(*w->token));
    memcpy(w->token + d->tokens, d->line_token, (size_t)d->lines * sizeof(*w->token));
    c->waiting_docs++;
    c->shelf.doc[c->current_at].is_missing = false;
    cn_context_forget_corrupt(c, &w->key);
    c->current = NULL;
    c->current_at = -1;
    return c->waiting_docs == CN_CONTEXT_WRITE_DOCS ? write_waiting(c, work, diag) : CN_OK;
}

/* ---- Binding ---------------------------------------------------------------------- */

cn_err cn_context_bind(cn_context *c, cn_view *view, bool *gone_out, cn_diag *diag) {
    bool moved = true;
    *gone_out = false;
    CN_TRY(renew(c, &moved, diag));
    cn_host_touch(c->host, c->shelf.pinned, c->shelf.docs);
    if (c->is_bound && !moved) return CN_OK;
    int64_t pages = 0;
    for (int64_t i = 0; i < c->shelf.docs; i++)
        pages += cn_context_pages_of(c->shelf.doc[i].piece.tokens);
    cn_page_ref *page = realloc(c->page, ((size_t)pages + 1) * sizeof(*page));
    if (!page) return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " pages", pages);
    c->page = page;
    c->pages = 0;
    for (int64_t i = 0; i < c->shelf.docs; i++) {
        const cn_context_held *in_memory = find_resident(c, &c->shelf.doc[i].piece.key);
        for (int64_t p = 0; p < cn_context_pages_of(c->shelf.doc[i].piece.tokens); p++) {
            cn_pages_page  found;
            cn_pages_state state = CN_PAGES_ABSENT;
            if (!in_memory)
                state = cn_pages_get(c->txn, &c->shelf.doc[i].piece.key, (int32_t)p, &found);
            if (in_memory) {
                c->page[c->pages++] = cn_doc_page(in_memory->doc, p);
            } else if (state == CN_PAGES_HIT) {
                c->page[c->pages++] = (cn_page_ref){found.body, found.tokens};
            } else {
                if (state == CN_PAGES_CORRUPT)
                    cn_context_note_corrupt(c, &c->shelf.doc[i].piece.key);
                c->shelf.doc[i].is_missing = true;
                c->shelf.doc[i].why = CN_MISS_EVICTED; // it was there a moment ago
                *gone_out = true;
            }
        }
    }
    if (*gone_out) {
        c->gone_rounds++;
        cn_context_find_missing(c); // the plan has them
        return CN_OK;
    }
    c->gone_rounds = 0;
    CN_TRY(cn_view_set(view, c->page, c->pages, diag));
    c->is_bound = true;
    return CN_OK;
}
