/*
 * pages_upkeep.c - Verify every value of the page cache; overwrite what is free in its file.
 *
 * Free space is what LMDB's tree of free pages lists.  A page listed there under
 * transaction n was freed by n: LMDB itself writes to it again once no snapshot is as old as
 * n and n is not the last commit.  Erasing follows the same rule under the write lock, so it is
 * as safe as any commit, also for the commit before the last, to which a crash may return.
 */
#include "base/fault.h"
#include "store/pages_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DBI_FREE = 0 };

#define ERASE_BYTES ((size_t)1 << 20) // in one call

/* ---- Verify ------------------------------------------------------------------------- */

typedef struct place {
    cn_value_key key;
    bool         has_key; // go on behind it; false: from the first
} place;

/* Verify values from `at` on, until the end (*done_out) or until the list of bad values is
 * full. */
static int verify_some(cn_pages *p, place *at, cn_pages_verified *out, bool *done_out) {
    MDB_txn    *txn;
    MDB_cursor *cursor;
    MDB_val     k = {sizeof(at->key), &at->key}, v;
    *done_out = false;
    int rc = cn_pages_read_begin(p, &txn);
    if (rc) return rc;
    rc = mdb_cursor_open(txn, p->dbi, &cursor);
    if (!rc) {
        rc = CN_FAULT("store.pages.walk")
                 ? EIO
                 : mdb_cursor_get(cursor, &k, &v, at->has_key ? MDB_SET_RANGE : MDB_FIRST);
        for (; !rc && cn_pages_bads(p) < CN_PAGES_BAD_MAX;
             rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
            cn_value_key    key;
            cn_value_header h;
            if (k.mv_size != sizeof(key)) continue; // the root record
            memcpy(&key, k.mv_data, sizeof(key));
            const bool is_again = at->has_key && memcmp(&key, &at->key, sizeof(key)) == 0;
            if (is_again || cn_value_key_slot(&key) >> 28 == CN_SLOT_USE) continue;
            at->key = key;
            at->has_key = true;
            out->values++;
            out->bytes += (int64_t)v.mv_size;
            if (cn_pages_value_is_whole(p, &key, &v, &h)) continue;
            out->corrupt++;
            cn_pages_quarantine(p, &key, &v, &h);
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    *done_out = rc == MDB_NOTFOUND;
    return *done_out ? 0 : rc;
}

cn_err cn_pages_verify(cn_pages *p, cn_pages_verified *out, cn_diag *diag) {
    place at = {.has_key = false};
    *out = (cn_pages_verified){0};
    for (bool done = false; !done;) {
        const int rc = verify_some(p, &at, out, &done);
        if (rc) return CN_FAIL_MDB(p, diag, rc, "verify the cache");
        if (p->read_only) {
            if (!done) return CN_FAIL(diag, CN_ECORRUPT, "%d bad values", (int)CN_PAGES_BAD_MAX);
        } else if (cn_pages_bads(p) > 0) {
            CN_TRY(cn_pages_write(p, NULL, 0, 0, NULL, diag)); // deletes them
        }
    }
    return CN_OK;
}

/* ---- Erase -------------------------------------------------------------------------- */

typedef struct eraser {
    int             fd;
    int64_t         page_bytes;
    const uint8_t  *zeros; // [ERASE_BYTES]
    cn_pages_erased out;
} eraser;

static int erase_run(eraser *e, uint64_t first, uint64_t pages) {
    int64_t at = (int64_t)first * e->page_bytes, left = (int64_t)pages * e->page_bytes;
    while (left > 0) {
        const size_t  n = left < (int64_t)ERASE_BYTES ? (size_t)left : ERASE_BYTES;
        const ssize_t done =
            CN_FAULT("store.pages.erase") ? (errno = EIO, -1) : pwrite(e->fd, e->zeros, n, at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return done < 0 ? errno : EIO;
        at += done;
        left -= done;
        e->out.bytes += done;
    }
    return 0;
}

/* One record of the tree of free pages: count, then page numbers, largest first. */
static int erase_record(eraser *e, const MDB_val *v, uint64_t pages_end) {
    uint64_t count, page, run = 0, run_first = 0;
    if (v->mv_size < sizeof(count)) return MDB_CORRUPTED;
    memcpy(&count, v->mv_data, sizeof(count));
    if (count > v->mv_size / sizeof(page) - 1) return MDB_CORRUPTED;
    for (uint64_t i = 0; i < count; i++) {
        memcpy(&page, (const uint8_t *)v->mv_data + (1 + i) * sizeof(page), sizeof(page));
        if (page < 2 || page >= pages_end) return MDB_CORRUPTED; // never the meta pages
        if (run && page + 1 == run_first) {
            run_first = page;
            run++;
            continue;
        }
        const int rc = run ? erase_run(e, run_first, run) : 0;
        if (rc) return rc;
        run_first = page;
        run = 1;
    }
    return run ? erase_run(e, run_first, run) : 0;
}

/* The write lock is held: what is free stays free. */
static int erase_free(cn_pages *p, eraser *e) {
    MDB_txn    *txn;
    MDB_cursor *cursor;
    MDB_val     k, v;
    MDB_envinfo info;
    struct stat st;
    int64_t     pid;
    // A snapshot that begins from now on is of the last commit, and needs nothing freed.
    uint64_t oldest = cn_pages_oldest_snapshot(p, &pid), id;
    int      rc = mdb_env_info(p->env, &info);
    if (!rc) rc = mdb_env_get_fd(p->env, &e->fd);
    if (!rc && fstat(e->fd, &st)) rc = errno;
    if (!rc) rc = cn_pages_read_begin(p, &txn);
    if (rc) return rc;
    const uint64_t last = mdb_txn_id(txn), pages_end = info.me_last_pgno + 1;
    if (oldest > last) oldest = last;
    rc = mdb_cursor_open(txn, DBI_FREE, &cursor);
    if (!rc) {
        while (!rc && (rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0) {
            if (k.mv_size != sizeof(id)) {
                rc = MDB_CORRUPTED;
                break;
            }
            memcpy(&id, k.mv_data, sizeof(id));
            if (id < oldest) {
                rc = erase_record(e, &v, pages_end);
            } else if (id < last && v.mv_size > sizeof(id)) { // the last frees pages of trees only
                e->out.held_bytes += (int64_t)(v.mv_size / sizeof(id) - 1) * e->page_bytes;
                e->out.holder_pid = pid;
            }
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    if (rc == MDB_NOTFOUND) rc = 0;
    // What a crash left behind the last page.
    const uint64_t file_pages = (uint64_t)(st.st_size / p->page_bytes);
    if (!rc && file_pages > pages_end) rc = erase_run(e, pages_end, file_pages - pages_end);
    if (!rc && (CN_FAULT("store.pages.erase") ? (errno = EIO, -1) : fdatasync(e->fd))) rc = errno;
    return rc;
}

cn_err cn_pages_erase(cn_pages *p, cn_pages_erased *out, cn_diag *diag) {
    MDB_txn *lock;
    eraser   e = {.page_bytes = p->page_bytes};
    *out = (cn_pages_erased){0};
    CN_TRY(cn_pages_check_writable(p, diag));
    uint8_t *zeros = CN_FAULT("store.pages.memory") ? NULL : calloc(1, ERASE_BYTES);
    if (!zeros) return CN_FAIL(diag, CN_ENOMEM, "no memory to erase the cache");
    e.zeros = zeros;
    pthread_mutex_lock(&p->write_lock);
    cn_err err = cn_pages_pulse(p, diag); // so that the commit that deleted is not the last
    if (!err) err = cn_pages_write_begin(p, &lock, diag);
    if (!err) {
        const int rc = erase_free(p, &e);
        mdb_txn_abort(lock);
        if (rc) err = CN_FAIL_MDB(p, diag, rc, "erase the cache's free space");
    }
    pthread_mutex_unlock(&p->write_lock);
    free(zeros);
    if (!err) *out = e.out;
    return err;
}
