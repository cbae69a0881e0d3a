/*
 * pages_int.h - What the page cache's files share.  Private to store.
 *
 *   pages.c         open, read, write, evict
 *   pages_upkeep.c  verify all of it; overwrite what is free
 */
#ifndef CN_STORE_PAGES_INT_H
#define CN_STORE_PAGES_INT_H

#include "store/pages.h"
#include "store/value_int.h"

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

CN_C_BEGIN

enum { CN_PAGES_BAD_MAX = 1024 }; // values waiting to be deleted; more are found again

typedef struct cn_bad_value {
    cn_value_key key;
    uint64_t     mark;
} cn_bad_value;

struct cn_pages {
    MDB_env *env;
    MDB_dbi  dbi;
    int      folder_fd; // holds a shared flock while open
    bool     read_only;
    int32_t (*wanted)(void *ctx, const cn_hash *key);
    void (*look)(void *ctx);
    void     *ctx;
    uintptr_t base; // of LMDB's map
    int64_t   page_bytes, body_bytes;
    int64_t   map_pages, budget_pages, room_pages;

    /* Marks of values that were verified: even if intact, odd if not; 0 is empty. */
    _Atomic uint64_t *mark;
    size_t            marks; // a power of two
    atomic_size_t     marked;

    pthread_mutex_t write_lock;            // one writer of this process at a time
    pthread_mutex_t lock;                  // of the two below; only a writer takes from them
    cn_bad_value    bad[CN_PAGES_BAD_MAX]; // quarantined, to be deleted
    int             bads;

    atomic_bool           is_damaged;
    atomic_uint_least64_t freed_txn; // of our last commit that evicted
    atomic_int_least64_t  hits, misses, corrupt, evicted;

    dev_t     dev;
    ino_t     ino;
    cn_pages *next; // in open_list
};

struct cn_pages_txn {
    cn_pages *p;
    MDB_txn  *txn;
    bool      is_live;
    uint64_t  deletions;
};

/* The cn_err of an LMDB result code, told with its text; damage is noted in p (may be NULL). */
#define CN_FAIL_MDB(p, diag, rc, what)                                                             \
    cn_pages_fail_mdb((p), (diag), (rc), (what), __FILE__, __LINE__)
cn_err cn_pages_fail_mdb(cn_pages *p, cn_diag *diag, int rc, const char *what, const char *file,
                         int line);

/* CN_EINVAL  open for reading only.   CN_ECORRUPT  damaged. */
cn_err cn_pages_check_writable(cn_pages *p, cn_diag *diag) CN_MUST_CHECK;

/* Transactions of LMDB; the first gives its result code. */
int    cn_pages_read_begin(cn_pages *p, MDB_txn **out);
cn_err cn_pages_write_begin(cn_pages *p, MDB_txn **out, cn_diag *diag) CN_MUST_CHECK;

/* A commit of almost nothing: what the commit before it freed can be used after it. */
cn_err cn_pages_pulse(cn_pages *p, cn_diag *diag) CN_MUST_CHECK;

/* Whether the value found under `key` is whole: its shape, LMDB's header before it, its
 * checksum.  *h is as stored. */
bool cn_pages_value_is_whole(cn_pages *p, const cn_value_key *key, const MDB_val *v,
                             cn_value_header *h);
/* Count a bad value: absent from now on, deleted by the next write. */
void cn_pages_quarantine(cn_pages *p, const cn_value_key *key, const MDB_val *v,
                         const cn_value_header *h);
/* Values that wait to be deleted. */
int cn_pages_bads(cn_pages *p);

/* The oldest snapshot that is open, in any process; UINT64_MAX: none.  *pid_out may be NULL. */
uint64_t cn_pages_oldest_snapshot(cn_pages *p, int64_t *pid_out);

CN_C_END

#endif
