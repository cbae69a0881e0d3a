/* keep.c - Keys that sessions need, from the ledger: documents, and pages of conversations. */
#include "sessions/keep.h"

#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

const char *cn_keep_name(cn_keep_why why) {
    static const char *const names[] = {
#define X(name, text) text,
        CN_KEEP_LIST(X)
#undef X
    };
    return (unsigned)why < CN_KEEP_COUNT ? names[why] : "?";
}

void cn_keep_release(cn_keep *k) {
    free(k->key);
    *k = (cn_keep){0};
}

/* ---- The list ------------------------------------------------------------------------ */

static cn_err put(cn_keep *k, const cn_hash *key, cn_keep_why why) {
    if (k->keys == k->room) {
        const int64_t room = k->room ? 2 * k->room : 256;
        cn_keep_key  *more = realloc(k->key, (size_t)room * sizeof(*more));
        if (!more) return CN_ENOMEM;
        k->key = more;
        k->room = room;
    }
    k->key[k->keys++] = (cn_keep_key){*key, why};
    return CN_OK;
}

static int by_key(const void *left, const void *right) {
    const cn_keep_key *a = left, *b = right;
    const int          order = memcmp(a->key.bytes, b->key.bytes, CN_HASH_BYTES);
    return order ? order : (int)b->why - (int)a->why; // of one key the best reason first
}

void cn_keep_sort(cn_keep *k) {
    int64_t keys = 0;
    if (k->keys) qsort(k->key, (size_t)k->keys, sizeof(*k->key), by_key);
    for (int64_t i = 0; i < k->keys; i++)
        if (keys == 0 || !cn_hash_is_equal(&k->key[i].key, &k->key[keys - 1].key))
            k->key[keys++] = k->key[i];
    k->keys = keys;
}

cn_keep_why cn_keep_of(const cn_keep *k, const cn_hash *key) {
    int64_t lo = 0, hi = k->keys;
    while (lo < hi) {
        const int64_t mid = lo + (hi - lo) / 2;
        const int     order = memcmp(k->key[mid].key.bytes, key->bytes, CN_HASH_BYTES);
        if (order == 0) return k->key[mid].why;
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return CN_KEEP_UNREACHED;
}

/* ---- Documents ----------------------------------------------------------------------- */

typedef struct adding {
    cn_keep    *keep;
    cn_keep_why why;
    cn_err      err;
} adding;

static void on_document(void *ctx, const cn_ledger_document *d) {
    adding *a = ctx;
    if (!a->err) a->err = put(a->keep, &d->piece.key, a->why);
}

static cn_err no_memory(cn_err err, const cn_keep *k, cn_diag *diag) {
    return err ? CN_FAIL(diag, err, "no memory for %lld keys", (long long)k->keys) : CN_OK;
}

/* ---- A conversation's pages ------------------------------------------------------------ */

typedef struct conversation {
    cn_conversation_key key;
    cn_keep            *keep;
    cn_keep_why         why;
    int32_t             turn;               // that the tokens so far end in
    cn_hash             end[CN_KEEP_TURNS]; // of turns, the last `ends` in a ring
    int64_t             ends;
    bool                has_all_ends; // each is kept as much as the pages
    cn_err              err;
} conversation;

/* The tokens so far end a turn: its tail and window lie under this key. */
static void note_end(conversation *c) {
    if (c->key.tokens == 0) return;
    const cn_hash end = cn_conversation_key_get(&c->key);
    c->end[c->ends++ % CN_KEEP_TURNS] = end;
    if (c->has_all_ends && !c->err) c->err = put(c->keep, &end, c->why);
}

static void on_tokens(void *ctx, int32_t turn, int32_t step, const int32_t *token, int64_t tokens) {
    conversation *c = ctx;
    (void)step;
    if (turn != c->turn) note_end(c);
    c->turn = turn;
    while (tokens > 0 && !c->err) {
        const int64_t room = CN_PAGE_TOKENS - c->key.tokens % CN_PAGE_TOKENS;
        const int64_t n = tokens < room ? tokens : room;
        cn_conversation_key_put(&c->key, token, n);
        token += n;
        tokens -= n;
        if (n < room) continue;
        const cn_hash page = cn_conversation_key_get(&c->key);
        c->err = put(c->keep, &page, c->why);
    }
}

static cn_err add_conversation(cn_keep *k, cn_ledger *l, const cn_key_domain *domain,
                               const char *session, cn_keep_why why, bool has_all_ends,
                               cn_diag *diag) {
    conversation c = {.keep = k, .why = why, .has_all_ends = has_all_ends};
    cn_conversation_key_init(&c.key, domain);
    CN_TRY(cn_ledger_tokens(l, session, 0, on_tokens, &c, diag));
    note_end(&c);
    for (int64_t i = 0; i < CN_KEEP_TURNS && i < c.ends && !c.err; i++)
        c.err = put(k, &c.end[i], i == (c.ends - 1) % CN_KEEP_TURNS ? why : CN_KEEP_RECENT);
    return no_memory(c.err, k, diag);
}

cn_err cn_keep_add_session(cn_keep *k, cn_ledger *l, const cn_key_domain *domain,
                           const char *session, cn_keep_why why, cn_diag *diag) {
    adding               a = {k, why, CN_OK};
    const cn_ledger_seen all = {.session = session, .generations_max = INT64_MAX};
    CN_TRY(cn_ledger_documents_seen(l, &all, on_document, &a, diag));
    CN_TRY(cn_ledger_documents(l, session, 0, on_document, &a, diag)); // a parent's, of a fork
    CN_TRY(no_memory(a.err, k, diag));
    return add_conversation(k, l, domain, session, why, true, diag);
}

/* ---- All sessions ---------------------------------------------------------------------- */

typedef struct user {
    char    id[CN_LEDGER_ID_BYTES_MAX + 1];
    cn_hash model;
    bool    is_pinned;
} user;

typedef struct users {
    user   *list;
    int64_t count, room, seen;
    cn_err  err;
} users;

static void on_session(void *ctx, const cn_ledger_session *s) {
    users *u = ctx;
    if ((u->seen++ >= CN_KEEP_SESSIONS_MAX && !s->is_pinned) || u->err) return;
    if (u->count == u->room) {
        const int64_t room = u->room ? 2 * u->room : 64;
        user         *more = realloc(u->list, (size_t)room * sizeof(*more));
        u->err = more ? CN_OK : CN_ENOMEM;
        if (u->err) return;
        u->list = more;
        u->room = room;
    }
    user *one = &u->list[u->count++];
    *one = (user){.model = s->model, .is_pinned = s->is_pinned};
    memcpy(one->id, s->id, strlen(s->id) + 1);
}

static cn_err add_user(cn_keep *k, cn_ledger *l, const cn_key_domain *domain, const user *u,
                       cn_diag *diag) {
    bool    is_open;
    int64_t pid;
    CN_TRY(cn_ledger_session_is_open(l, u->id, &is_open, &pid, diag));
    const cn_keep_why own = u->is_pinned ? CN_KEEP_PINNED : CN_KEEP_SESSION;
    adding            a = {k, is_open && !u->is_pinned ? CN_KEEP_USED : own, CN_OK};
    CN_TRY(cn_ledger_documents(l, u->id, 0, on_document, &a, diag));
    CN_TRY(no_memory(a.err, k, diag));
    if (!cn_hash_is_equal(&u->model, domain->model)) return CN_OK;
    // An open session has its conversation in memory.
    return add_conversation(k, l, domain, u->id, own, false, diag);
}

static cn_err read_all(cn_keep *k, cn_ledger *l, const cn_key_domain *domain, users *u,
                       cn_diag *diag) {
    CN_TRY(cn_ledger_sessions(l, NULL, INT64_MAX, on_session, u, diag));
    CN_TRY(no_memory(u->err, k, diag));
    for (int64_t i = 0; i < u->count; i++) {
        const cn_err err = add_user(k, l, domain, &u->list[i], diag);
        if (err && err != CN_ENOTFOUND) return err; // removed meanwhile
    }
    adding               a = {k, CN_KEEP_RECENT, CN_OK};
    const cn_ledger_seen views = {.generations_max = CN_KEEP_VIEWS};
    CN_TRY(cn_ledger_documents_seen(l, &views, on_document, &a, diag));
    return no_memory(a.err, k, diag);
}

cn_err cn_keep_read(cn_keep *out, cn_ledger *l, const cn_key_domain *domain, cn_diag *diag) {
    users u = {0};
    *out = (cn_keep){0};
    const cn_err err = read_all(out, l, domain, &u, diag);
    free(u.list);
    if (err)
        cn_keep_release(out);
    else
        cn_keep_sort(out);
    return err;
}
