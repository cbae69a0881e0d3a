/*
 * pages.c - The page cache over one LMDB database.
 *
 * Space.  LMDB cannot delete when it is full: a commit copies the tree pages that it
 * changes, and what a commit frees can be used by the second commit after it, and only
 * when no snapshot is older.  So a part of the map is never filled:
 *
 *   budget  what live values and trees may take; the rest of the map (1/16) holds what
 *           is freed but not yet usable
 *   room    1/64 of the map, at most 4 MiB: each commit that adds proves, in a nested
 *           transaction that it aborts, that so much is left, and has the disk promise it.
 *           A commit of an eviction needs less than half of it, so eviction always works
 *
 * Evicting ends with a small commit of its own, after which what it freed can be used.
 */
#include "store/pages.h"
#include "base/fault.h"
#include "base/file.h"
#include "store/lmdb_check_int.h"
#include "store/pages_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    VERSION = 1,
    ATTEMPTS_MAX = 5,
    PATH_BYTES = CN_PAGES_FOLDER_BYTES_MAX + 16,
    DBI_FREE = 0, // LMDB's own tree of free pages
    ROOM_PAGES_MIN = 64,
    ROOM_PAGES_MAX = 1024,
    PAGES_FREED_MAX = 4096,            // by one commit
    RUN_PAGES = PAGES_FREED_MAX / 512, // that list them: the largest run an eviction takes
    MARKS_MIN = 1 << 10,
    MARKS_MAX = 1 << 26,
};

#define ROOT_MAGIC UINT32_C(0x67506e43) // "CnPg"
#define MAP_BYTES_MAX (INT64_C(1) << 46)

/* The record that makes an LMDB file ours; each commit that deletes counts up. */
typedef struct root_record {
    uint32_t magic, version;
    uint64_t deletions;
    uint64_t pulses;
} root_record;

typedef struct use_record {
    int64_t created_s, used_s;
} use_record;

_Static_assert((int)CN_PAGES_PAGE == CN_SLOT_PAGE && (int)CN_PAGES_DOC == CN_SLOT_DOC &&
                   (int)CN_PAGES_WINDOW == CN_SLOT_WINDOW,
               "kinds are slots");

static const char root_key[] = "cairn pages";

/* What is open in this process: LMDB must not open one file twice. */
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static cn_pages       *open_list;

/* ---- LMDB's answers ----------------------------------------------------------------- */

cn_err cn_pages_fail_mdb(cn_pages *p, cn_diag *diag, int rc, const char *what, const char *file,
                         int line) {
    cn_err err = CN_EIO;
    switch (rc) {
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_BAD_TXN:  // after one of those
    case MDB_NOTFOUND: // of the root record: other answers of that kind are no failures
        err = CN_ECORRUPT;
        if (p) atomic_store(&p->is_damaged, true);
        break;
    case MDB_VERSION_MISMATCH:
        err = CN_EUNSUPPORTED;
        break;
    case MDB_READERS_FULL:
        err = CN_EBUSY;
        break;
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
        err = CN_ENOMEM;
        break;
    }
    return cn_fail(diag, err, file, line, "%s: %s", what, mdb_strerror(rc));
}

static bool is_full(int rc) {
    return rc == MDB_MAP_FULL || rc == ENOSPC || rc == EDQUOT;
}

static MDB_val val_of(const void *data, size_t bytes) {
    return (MDB_val){bytes, (void *)data};
}

static MDB_val val_of_key(const cn_value_key *key) {
    return val_of(key->bytes, sizeof(key->bytes));
}

static int read_root(cn_pages *p, MDB_txn *txn, root_record *out) {
    MDB_val key = val_of(root_key, sizeof(root_key) - 1), v;
    *out = (root_record){0};
    const int rc = mdb_get(txn, p->dbi, &key, &v);
    if (rc) return rc;
    if (v.mv_size != sizeof(*out)) return MDB_INVALID;
    memcpy(out, v.mv_data, sizeof(*out));
    return 0;
}

static int write_root(cn_pages *p, MDB_txn *txn, const root_record *root) {
    MDB_val key = val_of(root_key, sizeof(root_key) - 1), v = val_of(root, sizeof(*root));
    return CN_FAULT("store.pages.root") ? MDB_MAP_FULL : mdb_put(txn, p->dbi, &key, &v, 0);
}

static int count_deletion(cn_pages *p, MDB_txn *txn) {
    root_record root;
    const int   rc = read_root(p, txn, &root);
    root.deletions++;
    return rc ? rc : write_root(p, txn, &root);
}

cn_err cn_pages_check_writable(cn_pages *p, cn_diag *diag) {
    if (p->read_only) return CN_FAIL(diag, CN_EINVAL, "the cache is open for reading only");
    if (atomic_load(&p->is_damaged))
        return CN_FAIL(diag, CN_ECORRUPT, "the cache is damaged; it must be wiped");
    return CN_OK;
}

cn_err cn_pages_write_begin(cn_pages *p, MDB_txn **out, cn_diag *diag) {
    *out = NULL;
    CN_TRY(cn_pages_check_writable(p, diag));
    const int rc = CN_FAULT("store.pages.write") ? EIO : mdb_txn_begin(p->env, NULL, 0, out);
    return rc ? CN_FAIL_MDB(p, diag, rc, "begin to write the cache") : CN_OK;
}

/* The transaction is gone, whatever the answer. */
static int commit(MDB_txn *txn) {
    if (!CN_FAULT("store.pages.commit")) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return EIO;
}

/* ---- Verified once ------------------------------------------------------------------ */

/* One write of one value: rewritten values lie elsewhere or have another transaction. */
static uint64_t mark_of(const cn_pages *p, const cn_value_key *key, const void *value,
                        uint64_t written) {
    struct {
        cn_value_key key;
        uint32_t     zero;
        uint64_t     written, offset;
    } id = {*key, 0, written, (uintptr_t)value - p->base};
    const uint64_t mark = cn_xxh3(&id, sizeof(id), 0) & ~UINT64_C(1);
    return mark ? mark : 2;
}

/* The stored mark, odd if the value is bad; 0 if it is not there. */
static uint64_t find_mark(const cn_pages *p, uint64_t mark) {
    for (size_t i = mark >> 1 & (p->marks - 1);; i = (i + 1) & (p->marks - 1)) {
        const uint64_t m = atomic_load_explicit(&p->mark[i], memory_order_relaxed);
        if (m == 0 || (m & ~UINT64_C(1)) == mark) return m;
    }
}

static void add_mark(cn_pages *p, uint64_t mark) {
    if (atomic_fetch_add(&p->marked, 1) >= p->marks / 2) { // of evicted values, mostly
        for (size_t i = 0; i < p->marks; i++)
            atomic_store_explicit(&p->mark[i], 0, memory_order_relaxed);
        atomic_store(&p->marked, 1);
    }
    for (size_t i = mark >> 1 & (p->marks - 1);; i = (i + 1) & (p->marks - 1)) {
        uint64_t found = 0;
        if (atomic_compare_exchange_strong(&p->mark[i], &found, mark)) return;
        if ((found | 1) != (mark | 1)) continue;
        atomic_fetch_or(&p->mark[i], mark & 1); // it has gone bad since
        return;
    }
}

void cn_pages_quarantine(cn_pages *p, const cn_value_key *key, const MDB_val *v,
                         const cn_value_header *h) {
    const uint64_t mark = mark_of(p, key, v->mv_data, h->written);
    add_mark(p, mark | 1);
    atomic_fetch_add(&p->corrupt, 1);
    pthread_mutex_lock(&p->lock);
    if (p->bads < CN_PAGES_BAD_MAX) p->bad[p->bads++] = (cn_bad_value){*key, mark};
    pthread_mutex_unlock(&p->lock);
}

static bool overflow_is_sound(cn_pages *p, const MDB_val *v) {
    if (cn_lmdb_overflow_is_sound(p->base, v->mv_data, v->mv_size, (size_t)p->page_bytes))
        return true;
    atomic_store(&p->is_damaged, true);
    return false;
}

bool cn_pages_value_is_whole(cn_pages *p, const cn_value_key *key, const MDB_val *v,
                             cn_value_header *h) {
    return cn_value_has_shape(h, key, v->mv_data, v->mv_size, (size_t)p->page_bytes) &&
           overflow_is_sound(p, v) && cn_value_is_intact(h, key, v->mv_data);
}

/* Whether what lies under `key` failed its check in this process. */
static bool is_quarantined(const cn_pages *p, const cn_value_key *key, const MDB_val *v) {
    cn_value_header h;
    cn_value_has_shape(&h, key, v->mv_data, v->mv_size, (size_t)p->page_bytes);
    return find_mark(p, mark_of(p, key, v->mv_data, h.written)) & 1;
}

/* ---- Read --------------------------------------------------------------------------- */

static cn_pages_state get_value(cn_pages_txn *t, const cn_value_key *key, cn_value_header *h,
                                const uint8_t **body_out) {
    cn_pages *p = t->p;
    MDB_val   k = val_of_key(key), v;

    *body_out = NULL;
    *h = (cn_value_header){0};
    const int rc = t->is_live ? mdb_get(t->txn, p->dbi, &k, &v) : MDB_NOTFOUND;
    if (rc == MDB_NOTFOUND) return CN_PAGES_ABSENT;
    if (rc) { // the tree is damaged, and LMDB refuses the snapshot from now on
        if (atomic_exchange(&p->is_damaged, true)) return CN_PAGES_ABSENT;
        atomic_fetch_add(&p->corrupt, 1);
        return CN_PAGES_CORRUPT;
    }
    bool is_good = cn_value_has_shape(h, key, v.mv_data, v.mv_size, (size_t)p->page_bytes);
    if (is_good && (h->slot >> 28) == CN_SLOT_PAGE) is_good = (int64_t)h->bytes == p->body_bytes;
    const uint64_t mark = mark_of(p, key, v.mv_data, h->written), known = find_mark(p, mark);
    if (known & 1) return CN_PAGES_ABSENT;
    if (!known && is_good)
        is_good = overflow_is_sound(p, &v) && cn_value_is_intact(h, key, v.mv_data);
    if (!is_good) {
        cn_pages_quarantine(p, key, &v, h);
        return CN_PAGES_CORRUPT;
    }
    if (!known) add_mark(p, mark);
    *body_out = (const uint8_t *)v.mv_data + CN_VALUE_HEADER_BYTES;
    cn_assert((uintptr_t)*body_out % 64 == 0);
    return CN_PAGES_HIT;
}

cn_pages_state cn_pages_get(cn_pages_txn *t, const cn_hash *key, int32_t number,
                            cn_pages_page *out) {
    cn_value_header h;
    const uint8_t  *body;
    *out = (cn_pages_page){0};
    cn_assert(number >= 0 && number <= CN_PAGES_NUMBER_MAX);
    const cn_value_key   k = cn_value_key_of(key, cn_slot(CN_SLOT_PAGE, number));
    const cn_pages_state state = get_value(t, &k, &h, &body);
    if (state == CN_PAGES_HIT) *out = (cn_pages_page){body, h.tokens};
    atomic_fetch_add_explicit(state == CN_PAGES_HIT ? &t->p->hits : &t->p->misses, 1,
                              memory_order_relaxed);
    return state;
}

/* Zero if there is none: then the key counts as never used. */
static int get_use(cn_pages *p, MDB_txn *txn, const cn_hash *key, use_record *out) {
    const cn_value_key k = cn_value_key_of(key, cn_slot(CN_SLOT_USE, 0));
    MDB_val            mk = val_of_key(&k), v;
    *out = (use_record){0};
    const int rc = mdb_get(txn, p->dbi, &mk, &v);
    if (rc == 0 && v.mv_size == sizeof(*out)) memcpy(out, v.mv_data, sizeof(*out));
    return rc == MDB_NOTFOUND ? 0 : rc;
}

cn_pages_state cn_pages_get_doc(cn_pages_txn *t, const cn_hash *key, cn_pages_doc *out) {
    cn_value_header h;
    const uint8_t  *body;
    use_record      use;
    *out = (cn_pages_doc){0};
    const cn_value_key   k = cn_value_key_of(key, cn_slot(CN_SLOT_DOC, 0));
    const cn_pages_state state = get_value(t, &k, &h, &body);
    if (state != CN_PAGES_HIT) return state;
    const int rc = get_use(t->p, t->txn, key, &use);
    if (rc) CN_FAIL_MDB(t->p, NULL, rc, "read the cache");
    const int32_t *ids = (const int32_t *)(const void *)body;
    *out = (cn_pages_doc){.token = h.tokens > 0 ? ids : NULL,
                          .line = h.lines > 0 ? ids + h.tokens : NULL,
                          .tokens = h.tokens,
                          .lines = h.lines,
                          .text_bytes = h.total,
                          .created_s = use.created_s,
                          .used_s = use.used_s};
    return state;
}

cn_pages_state cn_pages_get_window(cn_pages_txn *t, const cn_hash *key, void *out, int64_t bytes) {
    const int64_t part_bytes = t->p->body_bytes;
    for (int64_t done = 0, part = 0; done < bytes; done += part_bytes, part++) {
        const int64_t        here = bytes - done < part_bytes ? bytes - done : part_bytes;
        const cn_value_key   k = cn_value_key_of(key, cn_slot(CN_SLOT_WINDOW, part));
        cn_value_header      h;
        const uint8_t       *body;
        const cn_pages_state state = get_value(t, &k, &h, &body);
        if (state != CN_PAGES_HIT) return state;
        if (h.total != bytes || (int64_t)h.bytes != here) return CN_PAGES_ABSENT;
        memcpy((uint8_t *)out + done, body, (size_t)here);
    }
    return bytes > 0 ? CN_PAGES_HIT : CN_PAGES_ABSENT;
}

/* ---- Snapshots ---------------------------------------------------------------------- */

int cn_pages_read_begin(cn_pages *p, MDB_txn **out) {
    *out = NULL;
    if (CN_FAULT("store.pages.begin")) return ENOMEM;
    const int rc = mdb_txn_begin(p->env, NULL, MDB_RDONLY, out);
    int       dead = 0;
    if (rc != MDB_READERS_FULL || mdb_reader_check(p->env, &dead) || dead == 0) return rc;
    return mdb_txn_begin(p->env, NULL, MDB_RDONLY, out);
}

cn_err cn_pages_begin(cn_pages_txn **out, cn_pages *p, cn_diag *diag) {
    root_record root;
    *out = NULL;
    cn_pages_txn *t = CN_FAULT("store.pages.memory") ? NULL : calloc(1, sizeof(*t));
    if (!t) return CN_FAIL(diag, CN_ENOMEM, "no memory for a snapshot of the cache");
    int rc = cn_pages_read_begin(p, &t->txn);
    if (!rc) rc = read_root(p, t->txn, &root);
    if (rc) {
        mdb_txn_abort(t->txn);
        free(t);
        return CN_FAIL_MDB(p, diag, rc, "read the cache");
    }
    t->p = p;
    t->is_live = true;
    t->deletions = root.deletions;
    *out = t;
    return CN_OK;
}

cn_err cn_pages_renew(cn_pages_txn *t, bool *is_moved_out, cn_diag *diag) {
    root_record root;
    const bool  was_live = t->is_live;
    if (is_moved_out) *is_moved_out = true;
    if (was_live) mdb_txn_reset(t->txn);
    t->is_live = false;
    int rc = CN_FAULT("store.pages.renew") ? EIO : mdb_txn_renew(t->txn);
    if (!rc) {
        rc = read_root(t->p, t->txn, &root);
        if (rc) mdb_txn_reset(t->txn);
    }
    if (rc) return CN_FAIL_MDB(t->p, diag, rc, "renew a snapshot of the cache");
    if (is_moved_out) *is_moved_out = !was_live || root.deletions != t->deletions;
    t->is_live = true;
    t->deletions = root.deletions;
    return CN_OK;
}

void cn_pages_end(cn_pages_txn *t) {
    if (!t) return;
    mdb_txn_abort(t->txn);
    free(t);
}

/* ---- Walk over the keys ------------------------------------------------------------- */

typedef struct key_facts {
    cn_pages_entry e;
    int64_t        pages; // of LMDB
    int64_t        windows;
    cn_hash        key;
} key_facts;

typedef bool (*facts_fn)(void *ctx, const key_facts *f);

static int64_t lmdb_pages(const cn_pages *p, size_t value_bytes) {
    return ((int64_t)value_bytes + 16 + p->page_bytes - 1) / p->page_bytes;
}

static void add_fact(const cn_pages *p, key_facts *f, uint32_t slot, const MDB_val *v) {
    use_record use;
    switch (slot >> 28) {
    case CN_SLOT_USE:
        if (v->mv_size != sizeof(use)) return;
        memcpy(&use, v->mv_data, sizeof(use));
        f->e.created_s = use.created_s;
        f->e.used_s = use.used_s;
        return;
    case CN_SLOT_PAGE:
        f->e.pages++;
        break;
    case CN_SLOT_DOC:
        f->e.has_doc = true;
        break;
    case CN_SLOT_WINDOW:
        f->e.has_window = true;
        f->windows += (slot & CN_PAGES_NUMBER_MAX) == 0;
        break;
    }
    f->pages += lmdb_pages(p, v->mv_size);
}

/* Reads the tree's pages only: the size of a value stands there. */
static int walk_keys(cn_pages *p, MDB_txn *txn, facts_fn fn, void *ctx) {
    MDB_cursor *cursor;
    MDB_val     k, v;
    key_facts   f = {0};
    bool        has_key = false, goes_on = true;
    int         rc = mdb_cursor_open(txn, p->dbi, &cursor);
    if (rc) return rc;
    rc = CN_FAULT("store.pages.walk") ? EIO : mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
    for (; !rc && goes_on; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        cn_value_key key;
        if (k.mv_size != sizeof(key)) continue; // the root record
        memcpy(&key, k.mv_data, sizeof(key));
        if (!has_key || memcmp(key.bytes, f.key.bytes, CN_HASH_BYTES) != 0) {
            if (has_key) goes_on = fn(ctx, &f);
            f = (key_facts){0};
            memcpy(f.key.bytes, key.bytes, CN_HASH_BYTES);
            has_key = true;
        }
        add_fact(p, &f, cn_value_key_slot(&key), &v);
    }
    if (rc == MDB_NOTFOUND && goes_on && has_key) fn(ctx, &f);
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

typedef struct each_ctx {
    const cn_pages *p;
    bool (*fn)(void *ctx, const cn_pages_entry *e);
    void *ctx;
} each_ctx;

static bool each_one(void *ctx, const key_facts *f) {
    const each_ctx *c = ctx;
    cn_pages_entry  e = f->e;
    e.key = &f->key;
    e.bytes = f->pages * c->p->page_bytes;
    return c->fn(c->ctx, &e);
}

cn_err cn_pages_each(cn_pages_txn *t, bool (*fn)(void *ctx, const cn_pages_entry *e), void *ctx,
                     cn_diag *diag) {
    each_ctx c = {t->p, fn, ctx};
    if (!t->is_live) return CN_FAIL(diag, CN_EIO, "the snapshot of the cache was lost");
    const int rc = walk_keys(t->p, t->txn, each_one, &c);
    return rc ? CN_FAIL_MDB(t->p, diag, rc, "walk over the cache") : CN_OK;
}

/* Pages of the file that the newest snapshot uses. */
static int live_pages(cn_pages *p, MDB_txn *txn, int64_t *out) {
    const MDB_dbi trees[] = {DBI_FREE, p->dbi};
    *out = 2; // the meta pages
    for (int i = 0; i < 2; i++) {
        MDB_stat  s;
        const int rc = mdb_stat(txn, trees[i], &s);
        if (rc) return rc;
        *out += (int64_t)(s.ms_branch_pages + s.ms_leaf_pages + s.ms_overflow_pages);
    }
    return 0;
}

static bool count_one(void *ctx, const key_facts *f) {
    cn_pages_stats *s = ctx;
    s->keys++;
    s->docs += f->e.has_doc;
    s->pages += f->e.pages;
    s->windows += f->windows;
    return true;
}

cn_err cn_pages_stat(cn_pages *p, cn_pages_stats *out, cn_diag *diag) {
    MDB_txn    *txn;
    int64_t     live = 0;
    struct stat st = {0};
    int         fd;

    *out = (cn_pages_stats){0};
    int rc = cn_pages_read_begin(p, &txn);
    if (!rc) rc = live_pages(p, txn, &live);
    if (!rc) rc = walk_keys(p, txn, count_one, out);
    if (!rc) rc = mdb_env_get_fd(p->env, &fd);
    if (!rc && fstat(fd, &st)) rc = errno;
    mdb_txn_abort(txn);
    if (rc) {
        *out = (cn_pages_stats){0};
        return CN_FAIL_MDB(p, diag, rc, "count the cache");
    }
    out->used_bytes = live * p->page_bytes;
    out->budget_bytes = p->budget_pages * p->page_bytes;
    out->file_bytes = st.st_size;
    out->hits = atomic_load(&p->hits);
    out->misses = atomic_load(&p->misses);
    out->corrupt = atomic_load(&p->corrupt);
    out->evicted = atomic_load(&p->evicted);
    return CN_OK;
}

/* ---- Delete ------------------------------------------------------------------------- */

/* Delete what the cursor stands on.  LMDB frees the pages that the value's overflow header
 * names: it must be the one that was written. */
static int delete_here(cn_pages *p, MDB_cursor *cursor, const MDB_val *v, int64_t *pages) {
    if (v->mv_size > sizeof(use_record)) {
        if (!overflow_is_sound(p, v)) return MDB_CORRUPTED;
        *pages += lmdb_pages(p, v->mv_size);
    }
    return CN_FAULT("store.pages.delete") ? EIO : mdb_cursor_del(cursor, 0);
}

/* Delete values under `key` until it has none, or until pages_max LMDB pages are freed. */
static int delete_key(cn_pages *p, MDB_txn *txn, const cn_hash *key, int64_t pages_max,
                      int64_t *pages, int64_t *values, bool *is_done) {
    const cn_value_key first = cn_value_key_of(key, 0);
    MDB_cursor        *cursor;
    int                rc = mdb_cursor_open(txn, p->dbi, &cursor);
    if (rc) return rc;
    *is_done = false;
    while (*pages < pages_max) {
        MDB_val k = val_of_key(&first), v;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
        *is_done =
            rc == MDB_NOTFOUND || (!rc && (k.mv_size != CN_VALUE_KEY_BYTES ||
                                           memcmp(k.mv_data, key->bytes, CN_HASH_BYTES) != 0));
        if (*is_done) rc = 0;
        if (rc || *is_done) break;
        rc = delete_here(p, cursor, &v, pages);
        if (rc) break;
        ++*values;
    }
    mdb_cursor_close(cursor);
    return rc;
}

cn_err cn_pages_pulse(cn_pages *p, cn_diag *diag) {
    MDB_txn    *txn;
    root_record root;
    CN_TRY(cn_pages_write_begin(p, &txn, diag));
    int rc = read_root(p, txn, &root);
    root.pulses++;
    if (!rc) rc = write_root(p, txn, &root);
    rc = rc ? (mdb_txn_abort(txn), rc) : commit(txn);
    return rc ? CN_FAIL_MDB(p, diag, rc, "write the cache") : CN_OK;
}

typedef struct candidate {
    cn_hash key;
    int32_t wanted;
    int64_t used_s, pages;
} candidate;

typedef struct candidates {
    cn_pages            *p;
    candidate           *list;
    int64_t              count, room;
    const cn_pages_item *item; // whose keys stay
    int64_t              items;
    bool                 is_out_of_memory;
} candidates;

static int32_t want_of(const candidates *c, const cn_hash *key) {
    for (int64_t i = 0; i < c->items; i++)
        if (cn_hash_is_equal(c->item[i].key, key)) return CN_PAGES_KEPT;
    return c->p->wanted ? c->p->wanted(c->p->ctx, key) : 0;
}

/* One commit: delete keys from number *at on, as many as a half of the room allows, at six
 * tree pages a key and one for 512 freed page numbers.  The next commit cannot use yet
 * what this one frees, the one after it can. */
static cn_err delete_some(candidates *c, int64_t *at, bool may_spare, int64_t *pages_out,
                          int64_t *keys_out, cn_diag *diag) {
    cn_pages     *p = c->p;
    const int64_t keys_max = p->room_pages / 24 + 1, pages_max = PAGES_FREED_MAX;
    const int64_t first = *at;
    int64_t       values = 0, pages = 0, keys = 0;
    MDB_txn      *txn;
    int           rc = 0;
    CN_TRY(cn_pages_write_begin(p, &txn, diag));
    while (!rc && *at < c->count && *at - first < keys_max && pages < pages_max) {
        const cn_hash *key = &c->list[*at].key;
        const int64_t  before = values;
        bool           is_done = true;
        if (!may_spare || want_of(c, key) < CN_PAGES_KEPT)
            rc = delete_key(p, txn, key, pages_max, &pages, &values, &is_done);
        keys += !rc && is_done && values > before;
        *at += !rc && is_done;
    }
    if (!rc && values > 0) rc = count_deletion(p, txn);
    if (rc || values == 0) {
        mdb_txn_abort(txn);
    } else {
        const uint64_t id = mdb_txn_id(txn);
        rc = commit(txn);
        if (!rc) atomic_store(&p->freed_txn, id);
    }
    if (rc) return CN_FAIL_MDB(p, diag, rc, "delete from the cache");
    *pages_out += pages;
    *keys_out += keys;
    return CN_OK;
}

static cn_err delete_list(candidates *c, bool may_spare, int64_t *pages_out, int64_t *keys_out,
                          cn_diag *diag) {
    *pages_out = *keys_out = 0;
    CN_TRY(cn_pages_check_writable(c->p, diag));
    for (int64_t at = 0; at < c->count;)
        CN_TRY(delete_some(c, &at, may_spare, pages_out, keys_out, diag));
    return *keys_out > 0 ? cn_pages_pulse(c->p, diag) : CN_OK;
}

static bool add_candidate(candidates *c, const cn_hash *key, int64_t used_s, int64_t pages) {
    if (c->count == c->room) {
        const int64_t room = c->room ? 2 * c->room : 256;
        candidate    *list =
            CN_FAULT("store.pages.memory") ? NULL : realloc(c->list, (size_t)room * sizeof(*list));
        if (!list) return false;
        c->list = list;
        c->room = room;
    }
    c->list[c->count++] = (candidate){.key = *key, .used_s = used_s, .pages = pages};
    return true;
}

cn_err cn_pages_delete(cn_pages *p, const cn_hash *key, int64_t keys, cn_diag *diag) {
    candidates c = {.p = p};
    int64_t    pages, gone;
    cn_err     err = CN_OK;
    for (int64_t i = 0; i < keys && !err; i++)
        if (!add_candidate(&c, &key[i], 0, 0))
            err = CN_FAIL(diag, CN_ENOMEM, "no memory to delete %lld keys", (long long)keys);
    if (!err) {
        pthread_mutex_lock(&p->write_lock);
        err = delete_list(&c, false, &pages, &gone, diag);
        pthread_mutex_unlock(&p->write_lock);
    }
    free(c.list);
    return err;
}

/* ---- Evict -------------------------------------------------------------------------- */

static bool take_candidate(void *ctx, const key_facts *f) {
    candidates *c = ctx;
    c->is_out_of_memory = !add_candidate(c, &f->key, f->e.used_s, f->pages);
    return !c->is_out_of_memory;
}

static int order_by_want(const void *left, const void *right) {
    const candidate *a = left, *b = right;
    if (a->wanted != b->wanted) return a->wanted < b->wanted ? -1 : 1;
    if (a->used_s != b->used_s) return a->used_s < b->used_s ? -1 : 1;
    return memcmp(a->key.bytes, b->key.bytes, CN_HASH_BYTES);
}

/* The keys that may go, the least wanted first, until their pages add up to `pages_max`. */
static cn_err choose_victims(candidates *c, int64_t pages_max, int64_t *pages_out, cn_diag *diag) {
    MDB_txn *txn;
    int64_t  chosen = 0, pages = 0;
    *pages_out = 0;
    if (c->p->look) c->p->look(c->p->ctx);
    int rc = cn_pages_read_begin(c->p, &txn);
    if (!rc) rc = walk_keys(c->p, txn, take_candidate, c);
    mdb_txn_abort(txn);
    if (!rc && c->is_out_of_memory) rc = ENOMEM;
    if (rc) return CN_FAIL_MDB(c->p, diag, rc, "look for what to evict");
    for (int64_t i = 0; i < c->count; i++) c->list[i].wanted = want_of(c, &c->list[i].key);
    qsort(c->list, (size_t)c->count, sizeof(*c->list), order_by_want);
    for (int64_t i = 0; i < c->count && pages < pages_max; i++) {
        if (c->list[i].wanted == CN_PAGES_KEPT) break;
        pages += c->list[i].pages;
        c->list[chosen++] = c->list[i];
    }
    c->count = chosen;
    *pages_out = pages;
    return CN_OK;
}

/* Evict `wanted` pages, or nothing if fewer than `needed` may go. */
static cn_err evict(cn_pages *p, const cn_pages_item *item, int64_t items, int64_t needed,
                    int64_t wanted, int64_t *pages_out, cn_diag *diag) {
    candidates c = {.p = p, .item = item, .items = items};
    int64_t    pages, keys = 0;
    *pages_out = 0;
    cn_err err = choose_victims(&c, wanted, &pages, diag);
    if (!err && pages < needed)
        err = CN_FAIL(diag, CN_ENOMEM,
                      "the cache is full: %lld bytes wanted, %lld may be evicted, the rest is kept",
                      (long long)(needed * p->page_bytes), (long long)(pages * p->page_bytes));
    if (!err) err = delete_list(&c, true, pages_out, &keys, diag);
    atomic_fetch_add(&p->evicted, keys);
    free(c.list);
    return err;
}

cn_err cn_pages_evict(cn_pages *p, int64_t bytes, int64_t *freed_out, cn_diag *diag) {
    int64_t pages = 0;
    if (freed_out) *freed_out = 0;
    CN_TRY(cn_pages_check_writable(p, diag));
    if (bytes <= 0) return CN_OK;
    pthread_mutex_lock(&p->write_lock);
    const cn_err err = evict(p, NULL, 0, 0, (bytes - 1) / p->page_bytes + 1, &pages, diag);
    pthread_mutex_unlock(&p->write_lock);
    if (freed_out) *freed_out = pages * p->page_bytes;
    return err;
}

typedef struct reader {
    uint64_t txn;
    int64_t  pid;
} reader;

static int see_reader(const char *line, void *ctx) {
    reader            *oldest = ctx;
    long               pid;
    unsigned long long txn;
    if (sscanf(line, "%ld %*x %llu", &pid, &txn) == 2 && txn < oldest->txn)
        *oldest = (reader){txn, pid};
    return 0;
}

uint64_t cn_pages_oldest_snapshot(cn_pages *p, int64_t *pid_out) {
    reader oldest = {.txn = UINT64_MAX};
    int    dead;
    mdb_reader_check(p->env, &dead);
    mdb_reader_list(p->env, see_reader, &oldest);
    if (pid_out) *pid_out = oldest.pid;
    return oldest.txn;
}

/* Whether a snapshot, here or elsewhere, holds what our last eviction freed. */
static bool is_pinned(cn_pages *p) {
    return cn_pages_oldest_snapshot(p, NULL) <= atomic_load(&p->freed_txn);
}

/* ---- Write -------------------------------------------------------------------------- */

/* One value of an item. */
typedef struct part {
    cn_value_key    key;
    cn_value_header h;
    struct {
        const void *data;
        size_t      bytes;
    } span[2];
} part;

static int64_t parts_of(const cn_pages *p, const cn_pages_item *item) {
    return item->kind == CN_PAGES_WINDOW ? (item->bytes - 1) / p->body_bytes + 1 : 1;
}

static part part_of(const cn_pages *p, const cn_pages_item *item, int64_t i) {
    part out = {
        .key = cn_value_key_of(
            item->key, cn_slot(item->kind, item->kind == CN_PAGES_PAGE ? item->number : i))};
    switch (item->kind) {
    case CN_PAGES_PAGE:
        out.h.tokens = item->tokens;
        out.span[0].data = item->data;
        out.span[0].bytes = (size_t)p->body_bytes;
        break;
    case CN_PAGES_DOC:
        out.h.tokens = item->doc->tokens;
        out.h.lines = item->doc->lines;
        out.h.total = item->doc->text_bytes;
        out.span[0].data = item->doc->token;
        out.span[0].bytes = (size_t)item->doc->tokens * sizeof(int32_t);
        out.span[1].data = item->doc->line;
        out.span[1].bytes = (size_t)item->doc->lines * sizeof(int32_t);
        break;
    case CN_PAGES_WINDOW: {
        const int64_t done = i * p->body_bytes, rest = item->bytes - done;
        out.h.total = item->bytes;
        out.span[0].data = (const uint8_t *)item->data + done;
        out.span[0].bytes = (size_t)(rest < p->body_bytes ? rest : p->body_bytes);
        break;
    }
    }
    out.h.bytes = out.span[0].bytes + out.span[1].bytes;
    return out;
}

static bool doc_is_valid(const cn_pages_doc *d) {
    return d && d->tokens >= 0 && d->tokens <= CN_PAGES_TOKENS_MAX && d->lines >= 0 &&
           d->lines <= CN_PAGES_TOKENS_MAX && d->text_bytes >= 0 && (d->token || d->tokens == 0) &&
           (d->line || d->lines == 0);
}

static bool item_is_valid(const cn_pages *p, const cn_pages_item *item) {
    if (!item->key) return false;
    switch (item->kind) {
    case CN_PAGES_PAGE:
        return item->data && item->number >= 0 && item->number <= CN_PAGES_NUMBER_MAX &&
               item->tokens > 0;
    case CN_PAGES_DOC:
        return doc_is_valid(item->doc);
    case CN_PAGES_WINDOW:
        return item->data && item->bytes > 0 && item->bytes <= CN_PAGES_WINDOW_BYTES_MAX &&
               parts_of(p, item) <= CN_PAGES_NUMBER_MAX;
    }
    return false;
}

/* LMDB pages that the values of `item` which are not there yet will take. */
static int count_needed(cn_pages *p, MDB_txn *txn, const cn_pages_item *item, int64_t items,
                        int64_t *pages_out) {
    int64_t values = 0;
    *pages_out = 0;
    for (int64_t i = 0; i < items; i++)
        for (int64_t j = 0, parts = parts_of(p, &item[i]); j < parts; j++) {
            const part a = part_of(p, &item[i], j);
            MDB_val    k = val_of_key(&a.key), v;
            const int  rc = mdb_get(txn, p->dbi, &k, &v);
            if (rc == 0 && !is_quarantined(p, &a.key, &v)) continue;
            if (rc && rc != MDB_NOTFOUND) return rc;
            values++;
            *pages_out += lmdb_pages(p, (size_t)cn_value_bytes((int64_t)a.h.bytes, p->page_bytes));
        }
    *pages_out += values / 16 + 4; // of the tree: a leaf holds 70 values, when half full 35
    return 0;
}

/* A new value lies in memory as it will in the file: *end is behind the last of them. */
static void see_run(const cn_pages *p, const MDB_val *v, uint64_t *end) {
    uint64_t pgno;
    memcpy(&pgno, (const uint8_t *)v->mv_data - 16, sizeof(pgno));
    pgno += (uint64_t)lmdb_pages(p, v->mv_size);
    if (pgno > *end) *end = pgno;
}

static int delete_value(cn_pages *p, MDB_txn *txn, const cn_value_key *key) {
    MDB_cursor *cursor;
    MDB_val     k = val_of_key(key), v;
    int64_t     pages = 0;
    int         rc = mdb_cursor_open(txn, p->dbi, &cursor);
    if (rc) return rc;
    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_KEY);
    if (!rc) rc = delete_here(p, cursor, &v, &pages);
    mdb_cursor_close(cursor);
    return rc;
}

static int reserve(cn_pages *p, MDB_txn *txn, const part *a, MDB_val *v) {
    MDB_val k = val_of_key(&a->key);
    *v = val_of(NULL, (size_t)cn_value_bytes((int64_t)a->h.bytes, p->page_bytes));
    return CN_FAULT("store.pages.put") ? MDB_MAP_FULL
                                       : mdb_put(txn, p->dbi, &k, v, MDB_NOOVERWRITE | MDB_RESERVE);
}

static int put_part(cn_pages *p, MDB_txn *txn, part *a, uint64_t *end, int64_t *bytes) {
    MDB_val v;
    int     rc = reserve(p, txn, a, &v);
    if (rc == MDB_KEYEXIST && is_quarantined(p, &a->key, &v)) { // more than the list holds
        rc = delete_value(p, txn, &a->key);
        if (!rc) rc = count_deletion(p, txn);
        if (!rc) rc = reserve(p, txn, a, &v);
    }
    if (rc) return rc == MDB_KEYEXIST ? 0 : rc;
    see_run(p, &v, end);
    uint8_t *to = (uint8_t *)v.mv_data + CN_VALUE_HEADER_BYTES;
    for (int i = 0; i < 2; i++) {
        if (a->span[i].bytes > 0) memcpy(to, a->span[i].data, a->span[i].bytes);
        to += a->span[i].bytes;
    }
    a->h.written = mdb_txn_id(txn);
    cn_value_seal(&a->h, &a->key, v.mv_data, v.mv_size);
    *bytes += lmdb_pages(p, v.mv_size) * p->page_bytes;
    return 0;
}

/* Whether the use of a key must be written; *out is what then. */
static int is_use_due(cn_pages *p, MDB_txn *txn, const cn_hash *key, int64_t now_s, bool may_create,
                      use_record *out, bool *is_due) {
    const cn_value_key k = cn_value_key_of(key, cn_slot(CN_SLOT_USE, 0));
    MDB_val            mk = val_of_key(&k), v;
    const int          rc = mdb_get(txn, p->dbi, &mk, &v);
    *out = (use_record){now_s, now_s};
    *is_due = rc == MDB_NOTFOUND ? may_create : rc == 0;
    if (rc == 0 && v.mv_size == sizeof(*out)) {
        memcpy(out, v.mv_data, sizeof(*out));
        *is_due = out->used_s <= now_s - CN_PAGES_TOUCH_SECONDS ||
                  out->used_s >= now_s + CN_PAGES_TOUCH_SECONDS;
        out->used_s = now_s;
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int put_use(cn_pages *p, MDB_txn *txn, const cn_hash *key, int64_t now_s, bool may_create) {
    use_record use;
    bool       is_due;
    const int  rc = is_use_due(p, txn, key, now_s, may_create, &use, &is_due);
    if (rc || !is_due) return rc;
    const cn_value_key k = cn_value_key_of(key, cn_slot(CN_SLOT_USE, 0));
    MDB_val            mk = val_of_key(&k), v = val_of(&use, sizeof(use));
    return CN_FAULT("store.pages.put") ? MDB_MAP_FULL : mdb_put(txn, p->dbi, &mk, &v, 0);
}

/* Whether the room is left for the evictions that will come: in the map, and on the disk,
 * where what was put ends at page `end`.  In runs as small as what eviction needs, so that
 * pieces between other values count. */
static int secure_room(cn_pages *p, MDB_txn *txn, uint64_t end) {
    MDB_txn    *inner;
    MDB_envinfo info;
    int         fd, rc = mdb_env_info(p->env, &info);
    if (!rc) rc = mdb_env_get_fd(p->env, &fd);
    if (!rc) rc = mdb_txn_begin(p->env, txn, 0, &inner);
    if (rc) return rc;
    for (int64_t i = 0; i < p->room_pages / RUN_PAGES && !rc; i++) {
        MDB_val k = val_of(&i, sizeof(i)),
                v = val_of(NULL, (size_t)(RUN_PAGES * p->page_bytes - 16));
        rc = CN_FAULT("store.pages.room") ? MDB_MAP_FULL
                                          : mdb_put(inner, p->dbi, &k, &v, MDB_RESERVE);
        if (!rc) see_run(p, &v, &end);
    }
    mdb_txn_abort(inner);
    if (rc || end <= info.me_last_pgno) return rc; // all of it lies within the file

    const off_t first = (off_t)(info.me_last_pgno + 1) * p->page_bytes;
    const off_t last = (off_t)(end + RUN_PAGES) * p->page_bytes; // and some pages of the trees
    if (CN_FAULT("store.pages.room") ? (errno = ENOSPC, -1)
                                     : fallocate(fd, FALLOC_FL_KEEP_SIZE, first, last - first))
        return errno == ENOSPC || errno == EDQUOT ? errno : 0; // or this disk cannot promise
    return 0;
}

/* Delete the first `count` quarantined values, but those that were rewritten since. */
static int delete_bad(cn_pages *p, MDB_txn *txn, int count) {
    MDB_cursor *cursor;
    int64_t     pages = 0;
    int         rc = count > 0 ? mdb_cursor_open(txn, p->dbi, &cursor) : 0;
    if (rc || count == 0) return rc;
    for (int i = 0; i < count && !rc; i++) {
        const cn_bad_value *b = &p->bad[i];
        MDB_val             k = val_of_key(&b->key), v;
        cn_value_header     h;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_KEY);
        if (!rc) {
            cn_value_has_shape(&h, &b->key, v.mv_data, v.mv_size, (size_t)p->page_bytes);
            if (mark_of(p, &b->key, v.mv_data, h.written) == b->mark)
                rc = delete_here(p, cursor, &v, &pages);
        }
        if (rc == MDB_NOTFOUND) rc = 0;
    }
    mdb_cursor_close(cursor);
    return rc ? rc : count_deletion(p, txn);
}

int cn_pages_bads(cn_pages *p) {
    pthread_mutex_lock(&p->lock);
    const int count = p->bads;
    pthread_mutex_unlock(&p->lock);
    return count;
}

static void forget_bad(cn_pages *p, int count) {
    pthread_mutex_lock(&p->lock);
    p->bads -= count;
    memmove(p->bad, p->bad + count, (size_t)p->bads * sizeof(*p->bad));
    pthread_mutex_unlock(&p->lock);
}

/* All of a write but its commit.  MDB_MAP_FULL with *over_out > 0: so many pages over the
 * budget, nothing was put. */
static int fill(cn_pages *p, MDB_txn *txn, const cn_pages_item *item, int64_t items, int64_t now_s,
                int bads, int64_t *needed_out, int64_t *over_out, int64_t *bytes_out) {
    int64_t  live = 0;
    uint64_t end = 0;
    *needed_out = *over_out = *bytes_out = 0;
    int rc = delete_bad(p, txn, bads);
    if (!rc) rc = count_needed(p, txn, item, items, needed_out);
    if (!rc) rc = live_pages(p, txn, &live);
    if (rc) return rc;
    *over_out = live + *needed_out - p->budget_pages;
    if (*over_out > 0) return MDB_MAP_FULL;
    for (int64_t i = 0; i < items && !rc; i++) {
        for (int64_t j = 0, parts = parts_of(p, &item[i]); j < parts && !rc; j++) {
            part a = part_of(p, &item[i], j);
            rc = put_part(p, txn, &a, &end, bytes_out);
        }
        const bool is_new_key = i == 0 || !cn_hash_is_equal(item[i].key, item[i - 1].key);
        if (!rc && is_new_key) rc = put_use(p, txn, item[i].key, now_s, true);
    }
    return rc ? rc : secure_room(p, txn, end);
}

/* Free what a full write needs, or say why it cannot be. */
static cn_err make_space(cn_pages *p, const cn_pages_item *item, int64_t items, int full_rc,
                         int attempt, int64_t needed, int64_t over, cn_diag *diag) {
    const int64_t batch = p->map_pages / 64; // many small evictions would each sort all keys
    const int64_t bytes = needed * p->page_bytes;
    int64_t       freed;
    if (needed > p->budget_pages)
        return CN_FAIL(diag, CN_ENOMEM, "%lld bytes to write, the cache holds %lld",
                       (long long)bytes, (long long)(p->budget_pages * p->page_bytes));
    if (attempt == ATTEMPTS_MAX) return CN_FAIL_MDB(p, diag, full_rc, "write the cache");
    if (over > 0) return evict(p, item, items, over, over > batch ? over : batch, &freed, diag);

    // There should be space.  It is held, or in pieces, or the disk is full.
    if (is_pinned(p))
        return CN_FAIL(diag, CN_ENOMEM,
                       "no space for %lld bytes: an old snapshot holds what was evicted",
                       (long long)bytes);
    const cn_err err = evict(p, item, items, 1, (needed + p->room_pages) << attempt, &freed, diag);
    return err == CN_ENOMEM ? CN_FAIL_MDB(p, diag, full_rc, "write the cache") : err;
}

static cn_err write_all(cn_pages *p, const cn_pages_item *item, int64_t items, int64_t now_s,
                        int64_t *bytes_out, cn_diag *diag) {
    for (int attempt = 0;; attempt++) {
        const int bads = cn_pages_bads(p);
        int64_t   needed, over;
        MDB_txn  *txn;
        CN_TRY(cn_pages_write_begin(p, &txn, diag));
        int rc = fill(p, txn, item, items, now_s, bads, &needed, &over, bytes_out);
        rc = rc ? (mdb_txn_abort(txn), rc) : commit(txn);
        if (!rc) {
            forget_bad(p, bads);
            return CN_OK;
        }
        *bytes_out = 0;
        if (!is_full(rc)) return CN_FAIL_MDB(p, diag, rc, "write the cache");
        CN_TRY(make_space(p, item, items, rc, attempt, needed, over, diag));
    }
}

cn_err cn_pages_write(cn_pages *p, const cn_pages_item *item, int64_t items, int64_t now_s,
                      int64_t *bytes_out, cn_diag *diag) {
    int64_t bytes = 0;
    if (bytes_out) *bytes_out = 0;
    CN_TRY(cn_pages_check_writable(p, diag));
    if (items < 0 || items > CN_PAGES_ITEMS_MAX)
        return CN_FAIL(diag, CN_EINVAL, "%lld items, limit %d", (long long)items,
                       (int)CN_PAGES_ITEMS_MAX);
    for (int64_t i = 0; i < items; i++)
        if (!item_is_valid(p, &item[i]))
            return CN_FAIL(diag, CN_EINVAL, "item %lld of %lld is out of range", (long long)i,
                           (long long)items);
    pthread_mutex_lock(&p->write_lock);
    const cn_err err = write_all(p, item, items, now_s, &bytes, diag);
    pthread_mutex_unlock(&p->write_lock);
    if (bytes_out) *bytes_out = bytes;
    return err;
}

static int is_any_due(cn_pages *p, const cn_hash *key, int64_t keys, int64_t now_s, bool *out) {
    MDB_txn   *txn;
    use_record use;
    *out = false;
    int rc = cn_pages_read_begin(p, &txn);
    for (int64_t i = 0; i < keys && !rc && !*out; i++)
        rc = is_use_due(p, txn, &key[i], now_s, false, &use, out);
    mdb_txn_abort(txn);
    return rc;
}

cn_err cn_pages_touch(cn_pages *p, const cn_hash *key, int64_t keys, int64_t now_s, cn_diag *diag) {
    MDB_txn *txn;
    bool     is_due;
    CN_TRY(cn_pages_check_writable(p, diag));
    int rc = is_any_due(p, key, keys, now_s, &is_due);
    if (rc) return CN_FAIL_MDB(p, diag, rc, "read the cache");
    if (!is_due) return CN_OK;
    CN_TRY(cn_pages_write_begin(p, &txn, diag));
    for (int64_t i = 0; i < keys && !rc; i++) rc = put_use(p, txn, &key[i], now_s, false);
    if (!rc) rc = secure_room(p, txn, 0);
    rc = rc ? (mdb_txn_abort(txn), rc) : commit(txn);
    return rc ? CN_FAIL_MDB(p, diag, rc, "write the cache") : CN_OK;
}

/* ---- Open, close, wipe -------------------------------------------------------------- */

static cn_err check_opts(const cn_pages_opts *o, cn_diag *diag) {
    if (!o->folder || !o->folder[0] || strlen(o->folder) > CN_PAGES_FOLDER_BYTES_MAX)
        return CN_FAIL(diag, CN_EINVAL, "the cache's folder has no name, or one over %d bytes",
                       (int)CN_PAGES_FOLDER_BYTES_MAX);
    if (o->body_bytes < 1 || o->body_bytes > CN_PAGES_BODY_BYTES_MAX)
        return CN_FAIL(diag, CN_EINVAL, "pages of %lld bytes, limit %d", (long long)o->body_bytes,
                       (int)CN_PAGES_BODY_BYTES_MAX);
    if (o->map_bytes < CN_PAGES_MAP_BYTES_MIN || o->map_bytes > MAP_BYTES_MAX)
        return CN_FAIL(diag, CN_EINVAL, "a cache of %lld bytes, limits %d and %lld",
                       (long long)o->map_bytes, (int)CN_PAGES_MAP_BYTES_MIN,
                       (long long)MAP_BYTES_MAX);
    return CN_OK;
}

/* Open `folder` and lock it: exclusively if no other process has it open, else shared. */
static cn_err open_folder(int *fd_out, bool *is_alone_out, const char *folder, cn_diag *diag) {
    *is_alone_out = false;
    const int fd = CN_FAULT("store.pages.folder")
                       ? (errno = EMFILE, -1)
                       : open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *fd_out = fd;
    if (fd < 0) {
        const cn_err err = errno == ENOENT ? CN_ENOTFOUND : CN_EIO;
        return CN_FAIL(diag, err, "open %s: %s", folder, strerror(errno));
    }
    int rc = CN_FAULT("store.pages.lock") ? (errno = ENOLCK, -1) : flock(fd, LOCK_EX | LOCK_NB);
    *is_alone_out = rc == 0;
    while (rc && (errno == EWOULDBLOCK || errno == EINTR)) rc = flock(fd, LOCK_SH);
    if (!rc) return CN_OK;
    const cn_err err = CN_FAIL(diag, CN_EIO, "lock %s: %s", folder, strerror(errno));
    close(fd);
    *fd_out = -1;
    return err;
}

/* Enter `p` in the list of what is open, unless its folder is there. */
static cn_err enlist(cn_pages *p, const char *folder, cn_diag *diag) {
    struct stat st;
    cn_pages   *other;
    if (fstat(p->folder_fd, &st))
        return CN_FAIL(diag, CN_EIO, "stat %s: %s", folder, strerror(errno));
    pthread_mutex_lock(&open_lock);
    for (other = open_list; other; other = other->next)
        if (other->dev == st.st_dev && other->ino == st.st_ino) break;
    if (!other) {
        p->dev = st.st_dev;
        p->ino = st.st_ino;
        p->next = open_list;
        open_list = p;
    }
    pthread_mutex_unlock(&open_lock);
    if (other) return CN_FAIL(diag, CN_EINVAL, "%s is open in this process", folder);
    return CN_OK;
}

static void delist(cn_pages *p) {
    pthread_mutex_lock(&open_lock);
    for (cn_pages **at = &open_list; *at; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            break;
        }
    pthread_mutex_unlock(&open_lock);
}

/* The data file before LMDB sees it; nobody else has it open. */
static cn_err check_file(cn_pages *p, const char *folder, bool *exists_out, cn_diag *diag) {
    char        path[PATH_BYTES];
    cn_file_map map;
    cn_diag     why; // an absent file is no failure
    uint64_t    unused = 0;
    *exists_out = false;
    snprintf(path, sizeof(path), "%s/data.mdb", folder);
    cn_err err = cn_file_map_open(&map, path, (size_t)1 << 47, &why);
    if (err == CN_ENOTFOUND) return CN_OK;
    if (err) return CN_FAIL(diag, err == CN_EINVAL ? CN_ECORRUPT : err, "%s", why.text);
    if (map.bytes > 0) {
        err = cn_lmdb_check(map.data, map.bytes, (size_t)p->page_bytes, &unused, diag);
        *exists_out = true;
    }
    // LMDB loses no page; a file that says so has a wrong size, and would never be reused.
    if (!err && unused > map.bytes / (size_t)p->page_bytes / 8 + 1024)
        err = CN_FAIL(diag, CN_ECORRUPT, "%llu pages of %s are neither used nor free",
                      (unsigned long long)unused, path);
    cn_file_map_close(&map);
    return err;
}

static cn_err open_env(cn_pages *p, const cn_pages_opts *o, bool is_alone, cn_diag *diag) {
    const unsigned flags = MDB_NOTLS | MDB_NOMETASYNC | (o->read_only ? MDB_RDONLY : 0);
    const size_t   map_bytes = (size_t)(o->map_bytes / p->page_bytes * p->page_bytes);
    bool           exists = true;
    MDB_envinfo    info;
    int            dead;

    if (is_alone) CN_TRY(check_file(p, o->folder, &exists, diag));
    if (!exists && o->read_only) return CN_FAIL(diag, CN_ENOTFOUND, "no cache in %s", o->folder);
    int rc = CN_FAULT("store.pages.create") ? ENOMEM : mdb_env_create(&p->env);
    if (!rc && !exists) rc = mdb_env_set_mapsize(p->env, map_bytes); // else the file says it
    if (!rc)
        rc = CN_FAULT("store.pages.open") ? EACCES : mdb_env_open(p->env, o->folder, flags, 0600);
    if (rc == ENOENT) return CN_FAIL(diag, CN_ENOTFOUND, "no cache in %s", o->folder);
    // LMDB writes the map's size before it maps: what cannot be mapped must not stay like that.
    if (rc && !exists) unlinkat(p->folder_fd, "data.mdb", 0);
    if (rc == ENOMEM)
        return CN_FAIL(diag, CN_ENOMEM, "no address space for the cache's map, %lld bytes: %s",
                       (long long)map_bytes, o->folder);
    if (!rc) rc = mdb_env_info(p->env, &info);
    // All processes map the same size: it grows only when there is no other.
    if (!rc && is_alone && !o->read_only && info.me_mapsize < map_bytes)
        rc = mdb_env_set_mapsize(p->env, map_bytes);
    if (!rc) rc = mdb_reader_check(p->env, &dead);
    if (rc) return CN_FAIL_MDB(NULL, diag, rc, o->folder);
    return CN_OK;
}

/* Where LMDB mapped the file: from a small record, which lies within a leaf page, and
 * that page's own number. */
static uintptr_t find_base(const cn_pages *p, const void *record) {
    const size_t within = (uintptr_t)record % (uintptr_t)p->page_bytes;
    uint64_t     pgno;
    memcpy(&pgno, (const uint8_t *)record - within, sizeof(pgno));
    return (uintptr_t)record - within - pgno * (uint64_t)p->page_bytes;
}

/* Read the root record, or write it into a new file. */
static cn_err open_root(cn_pages *p, const char *folder, bool is_alone, cn_diag *diag) {
    const bool  may_write = is_alone && !p->read_only;
    MDB_txn    *txn;
    MDB_val     key = val_of(root_key, sizeof(root_key) - 1), v;
    MDB_stat    s;
    root_record root;

    int rc = CN_FAULT("store.pages.begin")
                 ? EIO
                 : mdb_txn_begin(p->env, NULL, may_write ? 0 : MDB_RDONLY, &txn);
    if (rc) return CN_FAIL_MDB(NULL, diag, rc, folder);
    rc = mdb_dbi_open(txn, NULL, 0, &p->dbi);
    if (!rc) rc = mdb_stat(txn, p->dbi, &s);
    if (!rc) rc = read_root(p, txn, &root);
    const bool is_new = rc == MDB_NOTFOUND && s.ms_entries == 0 && may_write;
    if (is_new) root = (root_record){.magic = ROOT_MAGIC, .version = VERSION};
    if (is_new) rc = 0;
    if (rc == MDB_NOTFOUND || (!rc && root.magic != ROOT_MAGIC)) rc = MDB_INVALID;
    if (!rc && root.version != VERSION) {
        mdb_txn_abort(txn);
        return CN_FAIL(diag, CN_EUNSUPPORTED, "%s has version %u, this program reads %d", folder,
                       root.version, VERSION);
    }
    root.pulses++; // also makes a grown map durable
    if (!rc && may_write) rc = write_root(p, txn, &root);
    rc = rc || !may_write ? (mdb_txn_abort(txn), rc) : commit(txn);
    if (!rc) rc = cn_pages_read_begin(p, &txn);
    if (rc) return CN_FAIL_MDB(NULL, diag, rc, folder);
    rc = mdb_get(txn, p->dbi, &key, &v);
    if (!rc) p->base = find_base(p, v.mv_data);
    mdb_txn_abort(txn);
    return rc ? CN_FAIL_MDB(NULL, diag, rc, folder) : CN_OK;
}

static cn_err plan_space(cn_pages *p, const cn_pages_opts *o, cn_diag *diag) {
    MDB_envinfo info;
    const int   rc = mdb_env_info(p->env, &info);
    if (rc) return CN_FAIL_MDB(NULL, diag, rc, o->folder);
    const int64_t map = (int64_t)info.me_mapsize;
    p->map_pages = (map < o->map_bytes ? map : o->map_bytes) / p->page_bytes;
    p->room_pages = p->map_pages / 64;
    if (p->room_pages < ROOM_PAGES_MIN) p->room_pages = ROOM_PAGES_MIN;
    if (p->room_pages > ROOM_PAGES_MAX) p->room_pages = ROOM_PAGES_MAX;
    const int64_t spare = p->map_pages / 16;
    p->budget_pages = p->map_pages - (spare > 2 * p->room_pages ? spare : 2 * p->room_pages);

    const int64_t values =
        p->map_pages / lmdb_pages(p, (size_t)cn_value_bytes(p->body_bytes, p->page_bytes));
    for (p->marks = MARKS_MIN; (int64_t)p->marks < 2 * values && p->marks < MARKS_MAX;)
        p->marks *= 2;
    p->mark = CN_FAULT("store.pages.memory") ? NULL : calloc(p->marks, sizeof(*p->mark));
    if (!p->mark) return CN_FAIL(diag, CN_ENOMEM, "no memory for the cache's %zu marks", p->marks);
    return CN_OK;
}

static void close_all(cn_pages *p) {
    delist(p);
    mdb_env_close(p->env);
    if (p->folder_fd >= 0) close(p->folder_fd);
    pthread_mutex_destroy(&p->write_lock);
    pthread_mutex_destroy(&p->lock);
    free(p->mark);
    free(p);
}

cn_err cn_pages_open(cn_pages **out, const cn_pages_opts *opts, cn_diag *diag) {
    bool is_alone;
    *out = NULL;
    CN_TRY(check_opts(opts, diag));
    if (!opts->read_only &&
        (CN_FAULT("store.pages.mkdir") ? (errno = EACCES, -1) : mkdir(opts->folder, 0700)) &&
        errno != EEXIST)
        return CN_FAIL(diag, CN_EIO, "make %s: %s", opts->folder, strerror(errno));
    cn_pages *p = CN_FAULT("store.pages.memory") ? NULL : calloc(1, sizeof(*p));
    if (!p) return CN_FAIL(diag, CN_ENOMEM, "no memory for the cache");
    pthread_mutex_init(&p->write_lock, NULL);
    pthread_mutex_init(&p->lock, NULL);
    p->read_only = opts->read_only;
    p->wanted = opts->wanted;
    p->look = opts->look;
    p->ctx = opts->ctx;
    p->body_bytes = opts->body_bytes;
    p->page_bytes = sysconf(_SC_PAGESIZE);
    cn_err err = open_folder(&p->folder_fd, &is_alone, opts->folder, diag);
    if (!err) err = enlist(p, opts->folder, diag);
    if (!err) err = open_env(p, opts, is_alone, diag);
    if (!err) err = open_root(p, opts->folder, is_alone, diag);
    if (!err) err = plan_space(p, opts, diag);
    if (!err && is_alone && flock(p->folder_fd, LOCK_SH)) // lets the others in
        err = CN_FAIL(diag, CN_EIO, "lock %s: %s", opts->folder, strerror(errno));
    if (err) {
        close_all(p);
        return err;
    }
    *out = p;
    return CN_OK;
}

void cn_pages_close(cn_pages *p) {
    if (!p) return;
    if (!p->read_only) mdb_env_sync(p->env, 1); // a cache: a failure costs a prefill
    close_all(p);
}

cn_err cn_pages_wipe(const char *folder, cn_diag *diag) {
    static const char *const files[] = {"data.mdb", "lock.mdb"};
    bool                     is_alone;
    int                      fd;
    if (!folder || !folder[0]) return CN_FAIL(diag, CN_EINVAL, "the cache's folder has no name");
    cn_err err = open_folder(&fd, &is_alone, folder, diag);
    if (err == CN_ENOTFOUND) return CN_OK;
    if (err) return err;
    if (!is_alone) err = CN_FAIL(diag, CN_EBUSY, "%s is in use by a process", folder);
    for (int i = 0; i < 2 && !err; i++)
        if ((CN_FAULT("store.pages.unlink") ? (errno = EIO, -1) : unlinkat(fd, files[i], 0)) &&
            errno != ENOENT)
            err = CN_FAIL(diag, CN_EIO, "remove %s/%s: %s", folder, files[i], strerror(errno));
    close(fd);
    return err;
}
