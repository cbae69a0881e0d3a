/*
 * walk_kit.h - A session follows a repository from commit to commit: what each step prefills,
 * what its changed documents have, and what a prefix cache would have prefilled.
 *
 * A prefix cache reuses the longest beginning that a view shares, to the token, with one that it
 * holds; everything behind the first difference is prefilled again.  Two are counted: one that
 * holds the last view, and one that never forgets any.
 */
#ifndef CN_TESTS_SESSIONS_WALK_KIT_H
#define CN_TESTS_SESSIONS_WALK_KIT_H

#include "tests/test.h"

#include "sessions/session.h"

typedef struct w_doc {
    cn_hash key;
    int32_t tokens;
} w_doc;

typedef struct w_view {
    w_doc  *doc;
    int64_t docs, tokens;
} w_view;

enum { W_VIEWS_MAX = 256 };

/* All views so far. */
typedef struct w_walk {
    w_view view[W_VIEWS_MAX];
    int    views;
} w_walk;

typedef struct w_step {
    int64_t context;     // tokens of the view
    int64_t changed;     // of them in documents that no view before had, each counted once
    int64_t documents;   // so many of these
    int64_t prefix;      // what a prefix cache that never forgets would have prefilled
    int64_t prefix_last; // and one that holds the last view
} w_step;

static inline void w_release(w_walk *w) {
    for (int i = 0; i < w->views; i++) free(w->view[i].doc);
    w->views = 0;
}

static inline bool w_has(const w_view *v, const cn_hash *key, int64_t before) {
    for (int64_t i = 0; i < before; i++)
        if (cn_hash_is_equal(&v->doc[i].key, key)) return true;
    return false;
}

/* Tokens at the beginning that two documents share. */
static inline int64_t w_shared(cn_pages_txn *txn, const w_doc *a, const w_doc *b) {
    cn_pages_doc x, y;
    int64_t      n = 0;
    if (cn_pages_get_doc(txn, &a->key, &x) != CN_PAGES_HIT ||
        cn_pages_get_doc(txn, &b->key, &y) != CN_PAGES_HIT)
        return 0;
    while (n < x.tokens && n < y.tokens && x.token[n] == y.token[n]) n++;
    return n;
}

/* The same of two views. */
static inline int64_t w_prefix(cn_pages_txn *txn, const w_view *a, const w_view *b) {
    int64_t i = 0, tokens = 0;
    for (; i < a->docs && i < b->docs && cn_hash_is_equal(&a->doc[i].key, &b->doc[i].key); i++)
        tokens += a->doc[i].tokens;
    if (i < a->docs && i < b->docs) tokens += w_shared(txn, &a->doc[i], &b->doc[i]);
    return tokens;
}

/* The session's view as its last turn had it: compared with all before, then one of them. */
static inline w_step w_next(w_walk *w, cn_host *h, cn_session *s) {
    cn_context   *c = cn_session_context(s);
    w_step        step = {.context = cn_context_get_plan(c)->tokens};
    cn_pages_txn *txn;
    assert_true(w->views < W_VIEWS_MAX);
    w_view *v = &w->view[w->views];
    *v = (w_view){.doc = calloc((size_t)cn_context_docs(c) + 1, sizeof(*v->doc))};
    assert_non_null(v->doc);
    for (; v->docs < cn_context_docs(c); v->docs++) {
        const cn_ledger_piece *p = &cn_context_doc_at(c, v->docs)->piece;
        v->doc[v->docs] = (w_doc){p->key, p->tokens};
        v->tokens += p->tokens;
    }
    for (int64_t i = 0; i < v->docs; i++) {
        bool is_known = w_has(v, &v->doc[i].key, i);
        for (int k = 0; k < w->views && !is_known; k++)
            is_known = w_has(&w->view[k], &v->doc[i].key, w->view[k].docs);
        if (is_known) continue;
        step.changed += v->doc[i].tokens;
        step.documents++;
    }
    int64_t reused = 0;
    assert_err(cn_pages_begin(&txn, h->pages, &t_diag), CN_OK);
    for (int k = 0; k < w->views; k++) {
        const int64_t n = w_prefix(txn, v, &w->view[k]);
        if (n > reused) reused = n;
        if (k == w->views - 1) step.prefix_last = v->tokens - n;
    }
    cn_pages_end(txn);
    step.prefix = v->tokens - reused;
    if (w->views == 0) step.prefix_last = v->tokens;
    w->views++;
    return step;
}

/* Documents stand in the order of their paths, parts of the conversation behind them. */
static inline void w_assert_order(cn_session *s) {
    cn_context *c = cn_session_context(s);
    for (int64_t i = 1; i < cn_context_docs(c); i++) {
        const cn_context_doc *a = cn_context_doc_at(c, i - 1), *b = cn_context_doc_at(c, i);
        if (b->kind != CN_DOCUMENT_FILE) continue;
        assert_int_equal(a->kind, CN_DOCUMENT_FILE);
        const int order = strcmp(a->path, b->path);
        assert_true(order < 0 || (order == 0 && a->piece.first_line <= b->piece.first_line));
    }
}

#endif
