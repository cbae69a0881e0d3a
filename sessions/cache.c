/* cache.c - What the page store holds, collected and dropped by what it is held for. */
#include "sessions/cache.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- What there is ---------------------------------------------------------------------- */

typedef struct entry {
    cn_hash     key;
    cn_keep_why why;
    int64_t     used_s, pages, bytes;
    bool        has_doc, has_window;
    bool        goes;
} entry;

typedef struct entries {
    entry  *list;
    int64_t count, room;
    bool    is_out_of_memory;
} entries;

static bool on_entry(void *ctx, const cn_pages_entry *e) {
    entries *all = ctx;
    if (all->count == all->room) {
        const int64_t room = all->room ? 2 * all->room : 1024;
        entry        *more = realloc(all->list, (size_t)room * sizeof(*more));
        all->is_out_of_memory = !more;
        if (!more) return false;
        all->list = more;
        all->room = room;
    }
    all->list[all->count++] = (entry){.key = *e->key,
                                      .used_s = e->used_s,
                                      .pages = e->pages,
                                      .bytes = e->bytes,
                                      .has_doc = e->has_doc,
                                      .has_window = e->has_window};
    return true;
}

/* Owned by the caller: free(out->list), also after an error. */
static cn_err list_entries(cn_host *h, entries *out, cn_diag *diag) {
    cn_pages_txn *txn;
    *out = (entries){0};
    CN_TRY(cn_pages_begin(&txn, h->pages, diag));
    cn_err err = cn_pages_each(txn, on_entry, out, diag);
    cn_pages_end(txn);
    if (!err && out->is_out_of_memory)
        err = CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " keys", out->count);
    return err;
}

static cn_keep_why why_of(const cn_host *h, const cn_keep *keep, const cn_hash *key) {
    const cn_keep_why why = cn_keep_of(keep, key);
    return why < CN_KEEP_USED && cn_host_holds(h, key) ? CN_KEEP_USED : why;
}

/* The entries, each with what it is held for. */
static cn_err look(cn_host *h, entries *out, cn_diag *diag) {
    cn_keep keep;
    *out = (entries){0};
    CN_TRY(cn_keep_read(&keep, h->ledger, &h->domain, diag));
    const cn_err err = list_entries(h, out, diag);
    for (int64_t i = 0; i < out->count; i++) out->list[i].why = why_of(h, &keep, &out->list[i].key);
    cn_keep_release(&keep);
    return err;
}

static void add(cn_cache_sum *sum, const entry *e) {
    sum->keys++;
    sum->documents += e->has_doc;
    sum->pages += e->pages;
    sum->windows += e->has_window;
    sum->bytes += e->bytes;
}

cn_err cn_cache_count(cn_host *h, cn_cache_sum out[CN_KEEP_COUNT], cn_diag *diag) {
    entries all;
    memset(out, 0, CN_KEEP_COUNT * sizeof(*out));
    const cn_err err = look(h, &all, diag);
    for (int64_t i = 0; i < all.count && !err; i++) add(&out[all.list[i].why], &all.list[i]);
    free(all.list);
    return err;
}

/* ---- Garbage ---------------------------------------------------------------------------- */

/* What goes first comes first. */
static int by_want(const void *left, const void *right) {
    const entry *a = left, *b = right;
    if (a->why != b->why) return a->why < b->why ? -1 : 1;
    if (a->used_s != b->used_s) return a->used_s < b->used_s ? -1 : 1;
    return memcmp(a->key.bytes, b->key.bytes, CN_HASH_BYTES);
}

/* Mark and count what goes. */
static void choose(const entries *all, const cn_cache_gc_opts *opts, cn_cache_gc *out) {
    int64_t left = out->used_bytes;
    for (int64_t i = 0; i < all->count; i++) {
        entry *e = &all->list[i];
        e->goes = e->why == CN_KEEP_UNREACHED && e->used_s <= opts->now_s - CN_CACHE_IDLE_SECONDS;
        if (!e->goes) continue;
        add(&out->idle, e);
        left -= e->bytes;
    }
    if (all->count) qsort(all->list, (size_t)all->count, sizeof(*all->list), by_want);
    for (int64_t i = 0; i < all->count; i++) {
        entry *e = &all->list[i];
        if (e->goes) continue;
        e->goes = left > out->budget_bytes && cn_keep_may_go(e->why);
        add(e->goes ? &out->over[e->why] : &out->stays[e->why], e);
        left -= e->goes ? e->bytes : 0;
    }
    out->left_bytes = left;
}

/* Delete what goes, but what somebody needs by now. */
static cn_err delete_chosen(cn_host *h, const entries *all, cn_diag *diag) {
    cn_hash key[CN_CACHE_DELETE_KEYS];
    for (int64_t at = 0; at < all->count;) {
        cn_keep keep;
        int64_t keys = 0;
        CN_TRY(cn_keep_read(&keep, h->ledger, &h->domain, diag));
        for (; at < all->count && keys < CN_CACHE_DELETE_KEYS; at++)
            if (all->list[at].goes && cn_keep_may_go(why_of(h, &keep, &all->list[at].key)))
                key[keys++] = all->list[at].key;
        cn_keep_release(&keep);
        CN_TRY(cn_pages_delete(h->pages, key, keys, diag));
    }
    return CN_OK;
}

cn_err cn_cache_collect(cn_host *h, const cn_cache_gc_opts *opts, cn_cache_gc *out, cn_diag *diag) {
    cn_pages_stats stats;
    entries        all;
    *out = (cn_cache_gc){0};
    CN_TRY(cn_pages_stat(h->pages, &stats, diag));
    out->used_bytes = stats.used_bytes;
    out->budget_bytes = opts->budget_bytes < 0 ? stats.budget_bytes : opts->budget_bytes;
    cn_err err = look(h, &all, diag);
    if (!err) choose(&all, opts, out);
    if (!err && !opts->is_dry_run) {
        err = delete_chosen(h, &all, diag);
        if (!err) err = cn_pages_stat(h->pages, &stats, diag);
        out->left_bytes = stats.used_bytes;
    }
    free(all.list);
    return err;
}

/* ---- Dropping --------------------------------------------------------------------------- */

typedef struct sessions {
    const cn_cache_drop_opts *opts;
    struct {
        char id[CN_LEDGER_ID_BYTES_MAX + 1];
        bool is_meant;
    } * list;
    int64_t count, room, meant;
    bool    is_out_of_memory;
} sessions;

static void on_session(void *ctx, const cn_ledger_session *s) {
    sessions *all = ctx;
    if (all->is_out_of_memory) return;
    if (all->count == all->room) {
        const int64_t room = all->room ? 2 * all->room : 64;
        void         *more = realloc(all->list, (size_t)room * sizeof(*all->list));
        all->is_out_of_memory = !more;
        if (!more) return;
        all->list = more;
        all->room = room;
    }
    const cn_cache_drop_opts *o = all->opts;
    const bool                is_meant = o->session ? strcmp(s->id, o->session) == 0
                                         : o->repo  ? strcmp(s->repo, o->repo) == 0
                                                    : true;
    memcpy(all->list[all->count].id, s->id, strlen(s->id) + 1);
    all->list[all->count++].is_meant = is_meant;
    all->meant += is_meant;
}

static cn_err list_sessions(cn_host *h, sessions *all, cn_diag *diag) {
    const cn_cache_drop_opts *o = all->opts;
    CN_TRY(cn_ledger_sessions(h->ledger, NULL, INT64_MAX, on_session, all, diag));
    if (all->is_out_of_memory)
        return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " sessions", all->count);
    if (all->meant == 0 && (o->session || o->repo))
        return CN_FAIL(diag, CN_ENOTFOUND, "no session %s%s", o->session ? "" : "on ",
                       o->session ? o->session : o->repo);
    for (int64_t i = 0; i < all->count && !o->is_forced; i++) {
        bool    is_open;
        int64_t pid;
        if (!all->list[i].is_meant) continue;
        CN_TRY(cn_ledger_session_is_open(h->ledger, all->list[i].id, &is_open, &pid, diag));
        if (is_open)
            return CN_FAIL(diag, CN_EBUSY,
                           "session %s is open in process %" PRId64
                           ", which would write its pages again",
                           all->list[i].id, pid);
    }
    return CN_OK;
}

/* The keys of those that are meant, and of the others. */
static cn_err read_owners(cn_host *h, const sessions *all, cn_keep *mine, cn_keep *others,
                          cn_diag *diag) {
    for (int64_t i = 0; i < all->count; i++)
        CN_TRY(cn_keep_add_session(all->list[i].is_meant ? mine : others, h->ledger, &h->domain,
                                   all->list[i].id, CN_KEEP_SESSION, diag));
    cn_keep_sort(mine);
    cn_keep_sort(others);
    return CN_OK;
}

static void choose_drop(const entries *all, const cn_keep *mine, const cn_keep *others,
                        const cn_cache_drop_opts *opts, cn_cache_drop *out) {
    const bool is_all = !opts->session && !opts->repo;
    for (int64_t i = 0; i < all->count; i++) {
        entry     *e = &all->list[i];
        const bool is_mine = cn_keep_of(mine, &e->key) != CN_KEEP_UNREACHED,
                   is_others = cn_keep_of(others, &e->key) != CN_KEEP_UNREACHED;
        e->goes = is_all || !is_others || (is_mine && opts->is_forced);
        if (e->goes)
            add(is_mine || is_all ? &out->own : &out->nobodys, e);
        else if (is_mine)
            add(&out->shared, e);
    }
}

static cn_err drop(cn_host *h, const cn_cache_drop_opts *opts, sessions *who, cn_keep *mine,
                   cn_keep *others, entries *all, cn_cache_drop *out, cn_diag *diag) {
    CN_TRY(list_sessions(h, who, diag));
    CN_TRY(read_owners(h, who, mine, others, diag));
    CN_TRY(list_entries(h, all, diag));
    choose_drop(all, mine, others, opts, out);
    for (int64_t i = 0; i < all->count;) {
        cn_hash key[CN_CACHE_DELETE_KEYS];
        int64_t keys = 0;
        for (; i < all->count && keys < CN_CACHE_DELETE_KEYS; i++)
            if (all->list[i].goes) key[keys++] = all->list[i].key;
        CN_TRY(cn_pages_delete(h->pages, key, keys, diag));
    }
    return cn_pages_erase(h->pages, &out->erased, diag);
}

cn_err cn_cache_drop_pages(cn_host *h, const cn_cache_drop_opts *opts, cn_cache_drop *out,
                           cn_diag *diag) {
    sessions who = {.opts = opts};
    cn_keep  mine = {0}, others = {0};
    entries  all = {0};
    *out = (cn_cache_drop){0};
    const cn_err err = drop(h, opts, &who, &mine, &others, &all, out, diag);
    free(all.list);
    cn_keep_release(&mine);
    cn_keep_release(&others);
    free(who.list);
    return err;
}
