/*
 * session_pages.c - The conversation's pages and windows: found again, kept, let go.
 *
 * A page of the conversation is stored under the key of all tokens up to its end, the window
 * under the key of all tokens: a fork finds both, and a turn adds its own pages, one partial
 * tail and one window.
 *
 * A window is as large as ten pages (of the default model 1.6 MB), so windows and tails stay only
 * behind the last turns and where forks stand.  Elsewhere the full pages are put back, and the last
 * tokens before their end are replayed to fill the window (cn_doc_restore_pages).
 */
#include "sessions/session_int.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>

static int64_t pages_of(int64_t tokens) {
    return (tokens + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
}

/* ---- Keys ---------------------------------------------------------------------------- */

typedef struct keys {
    cn_hash *page; // [tokens / 256] of the full pages
    cn_hash *end;  // [ends] of all tokens up to the end of each turn: its tail and window
} keys;

static void keys_release(keys *k) {
    free(k->page);
    free(k->end);
}

static cn_err keys_get(keys *out, const cn_session *s, cn_diag *diag) {
    const int64_t       full = s->tokens.count / CN_PAGE_TOKENS;
    cn_conversation_key k;
    int64_t             done = 0;
    *out = (keys){malloc(((size_t)full + 1) * sizeof(cn_hash)),
                  malloc(((size_t)s->ends + 1) * sizeof(cn_hash))};
    if (!out->page || !out->end) {
        keys_release(out);
        return CN_FAIL(diag, CN_ENOMEM, "no memory for the keys of %" PRId64 " pages", full);
    }
    cn_conversation_key_init(&k, &s->host->domain);
    for (int64_t e = 0; e < s->ends;) {
        const int64_t page_end = (done / CN_PAGE_TOKENS + 1) * CN_PAGE_TOKENS;
        const int64_t to = page_end < s->end[e].tokens ? page_end : s->end[e].tokens;
        cn_conversation_key_put(&k, s->tokens.token + done, to - done);
        done = to;
        if (done == page_end) out->page[done / CN_PAGE_TOKENS - 1] = cn_conversation_key_get(&k);
        if (done == s->end[e].tokens) out->end[e++] = cn_conversation_key_get(&k);
    }
    return CN_OK;
}

/* ---- Finding ------------------------------------------------------------------------- */

/* What the store has of the conversation, in one snapshot. */
typedef struct found {
    cn_pages_txn *txn;
    keys          key;
    cn_page_ref  *page;   // [tokens / 256 + 1]
    int64_t       held;   // full pages from the first one on
    void         *window; // room for one
} found;

static bool find_page(found *f, const cn_hash *key, int64_t number) {
    cn_pages_page page;
    if (cn_pages_get(f->txn, key, (int32_t)number, &page) != CN_PAGES_HIT) return false;
    f->page[number] = (cn_page_ref){page.body, page.tokens};
    return true;
}

static cn_err find(found *f, const cn_session *s, cn_diag *diag) {
    const int64_t tokens = s->tokens.count, full = tokens / CN_PAGE_TOKENS;
    CN_TRY(cn_pages_begin(&f->txn, s->host->pages, diag));
    CN_TRY(keys_get(&f->key, s, diag));
    f->page = calloc((size_t)full + 1, sizeof(*f->page));
    f->window = malloc((size_t)cn_doc_window_bytes(s->doc, tokens));
    if (!f->page || !f->window)
        return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " pages", full);
    while (f->held < full && find_page(f, &f->key.page[f->held], f->held)) f->held++;
    return CN_OK;
}

static void found_release(found *f) {
    cn_pages_end(f->txn);
    keys_release(&f->key);
    free(f->page);
    free(f->window);
}

/* Put the document back as it was behind turn `e`, if its tail and window are there. */
static bool restore_end(cn_session *s, found *f, int64_t e, int64_t *bytes) {
    const int64_t tokens = s->end[e].tokens, full = tokens / CN_PAGE_TOKENS;
    const int64_t pages = pages_of(tokens), window_bytes = cn_doc_window_bytes(s->doc, tokens);
    if (full > f->held) return false;
    const cn_page_ref after = f->page[full]; // where the tail goes for now
    const bool        is_there =
        (pages == full || find_page(f, &f->key.end[e], full)) &&
        cn_pages_get_window(f->txn, &f->key.end[e], f->window, window_bytes) == CN_PAGES_HIT &&
        cn_doc_restore(s->doc, tokens, f->page, pages, f->window, window_bytes, NULL) == CN_OK;
    f->page[full] = after;
    *bytes = pages * cn_engine_page_bytes(s->host->engine) + window_bytes;
    return is_there;
}

/* From the last turn's end that has its window, or with the last pages' tokens once more: whichever
 * replays less. */
static cn_err restore(cn_session *s, found *f, int64_t *bytes_out, cn_diag *diag) {
    const int64_t held = f->held * CN_PAGE_TOKENS, from = cn_doc_replay_from(s->doc, held);
    for (int64_t e = s->ends - 1; e >= 0 && s->end[e].tokens > from; e--) {
        if (!restore_end(s, f, e, bytes_out)) continue;
        cn_host_touch(s->host, &f->key.end[e], 1);
        s->stored_pages = s->end[e].tokens / CN_PAGE_TOKENS;
        return CN_OK;
    }
    *bytes_out = f->held * cn_engine_page_bytes(s->host->engine);
    s->stored_pages = f->held;
    return cn_doc_restore_pages(s->doc, held, f->page, f->held, diag);
}

cn_err cn_session_restore(cn_session *s, int64_t *bytes_out, cn_diag *diag) {
    found f = {0};
    *bytes_out = 0;
    if (s->is_restored && cn_doc_tokens(s->doc) == s->tokens.count) return CN_OK;
    cn_doc_reset(s->doc);
    s->is_restored = true;
    s->stored_pages = 0;
    if (s->tokens.count == 0) return CN_OK;
    if (s->tokens.count > CN_SESSION_TOKENS_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "a conversation of %" PRId64 " tokens, limit %d",
                       s->tokens.count, (int)CN_SESSION_TOKENS_MAX);
    cn_err err = CN_FAULT("sessions.window.restore")
                     ? CN_FAIL(diag, CN_ENOMEM, "no memory for the conversation's pages")
                     : find(&f, s, diag);
    if (!err) err = restore(s, &f, bytes_out, diag);
    if (!err) cn_host_touch(s->host, f.key.page, f.held);
    found_release(&f);
    return err;
}

/* ---- Letting go ---------------------------------------------------------------------- */

typedef struct forks {
    const cn_session *s;
    bool             *has_fork; // [ends]
} forks;

static void on_fork(void *ctx, const cn_ledger_session *fork) {
    forks *f = ctx;
    for (int64_t e = 0; e < f->s->ends; e++)
        if (f->s->end[e].turn == fork->forked_at) f->has_fork[e] = true;
}

/* Tails and windows behind older turns of this session; those taken over from a parent are the
 * parent's.  Every CN_SESSION_WINDOWS turns, for a commit takes longer than what it frees is
 * worth; what one time missed (a crash, a turn without pages), the next finds. */
static cn_err let_go(const cn_session *s, const keys *k, cn_diag *diag) {
    const int64_t last = s->ends - CN_SESSION_WINDOWS, first = last - 2 * CN_SESSION_WINDOWS;
    if (last <= 0 || s->ends % CN_SESSION_WINDOWS != 0) return CN_OK;
    cn_hash gone[2 * CN_SESSION_WINDOWS];
    int64_t count = 0;
    forks   f = {s, calloc((size_t)s->ends, sizeof(bool))};
    if (!f.has_fork) return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " turns", s->ends);
    cn_err err = cn_ledger_forks(s->host->ledger, s->row->id, on_fork, &f, diag);
    for (int64_t e = first > 0 ? first : 0; e < last && !err; e++) {
        const bool is_page = s->end[e].tokens % CN_PAGE_TOKENS == 0; // a full one, still wanted
        if (s->end[e].turn > s->row->forked_at && !f.has_fork[e] && !is_page)
            gone[count++] = k->end[e];
    }
    free(f.has_fork);
    return err || count == 0 ? err : cn_pages_delete(s->host->pages, gone, count, diag);
}

/* ---- Keeping ------------------------------------------------------------------------- */

static cn_err store(cn_session *s, const keys *k, cn_pages_item *item, void *window,
                    int64_t window_bytes, int64_t *bytes_out, cn_diag *diag) {
    const int64_t  pages = pages_of(s->tokens.count), full = s->tokens.count / CN_PAGE_TOKENS;
    const cn_hash *last = &k->end[s->ends - 1];
    int64_t        items = 0;
    for (int64_t p = s->stored_pages; p < pages; p++) {
        const cn_page_ref page = cn_doc_page(s->doc, p);
        item[items++] = (cn_pages_item){.kind = CN_PAGES_PAGE,
                                        .key = p < full ? &k->page[p] : last,
                                        .data = page.body,
                                        .number = (int32_t)p,
                                        .tokens = page.tokens};
    }
    cn_doc_window_save(s->doc, window);
    item[items++] = (cn_pages_item){
        .kind = CN_PAGES_WINDOW, .key = last, .data = window, .bytes = window_bytes};
    CN_TRY(cn_pages_write(s->host->pages, item, items, cn_clock_unix_ns() / 1000000000, bytes_out,
                          diag));
    s->stored_pages = full;
    return let_go(s, k, diag);
}

void cn_session_store(cn_session *s, int64_t *bytes_out) {
    const int64_t pages = pages_of(s->tokens.count);
    *bytes_out = 0;
    if (pages == 0 || cn_doc_tokens(s->doc) != s->tokens.count) return;
    const int64_t  window_bytes = cn_doc_window_bytes(s->doc, s->tokens.count);
    cn_pages_item *item = calloc((size_t)(pages - s->stored_pages) + 1, sizeof(*item));
    void          *window = CN_FAULT("sessions.window.store") ? NULL : malloc((size_t)window_bytes);
    keys           k = {0};
    cn_diag        diag = {.text = "no memory"};
    cn_err         err = item && window ? keys_get(&k, s, &diag) : CN_ENOMEM;
    if (!err) err = store(s, &k, item, window, window_bytes, bytes_out, &diag);
    if (err) cn_log(CN_LOG_WARN, "the conversation's pages are not stored: %s", diag.text);
    keys_release(&k);
    free(window);
    free(item);
}
