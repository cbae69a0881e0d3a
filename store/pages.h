/*
 * pages.h - The persistent cache of KV pages, document records and window states, in LMDB.
 *
 * This is a cache: whatever happens to its folder, the next turn costs a prefill and
 * nothing else.  What is read is what was written under that key, or it is absent.
 *
 * Everything lies under a 32-byte key that names its content (a hash of model, layout and
 * tokens), so nothing is ever changed, only added and evicted.  Under one key:
 *
 *   pages     number -> a page body, `tokens` tokens
 *   document  token ids and line starts: what evidence and verify need later
 *   window    opaque bytes, cut into values of a page's size; all of them or none
 *   use       when it was created and last used
 *
 * A key and all that lies under it is the unit of eviction.
 *
 * One LMDB database; keys are 36 bytes, the 32 above and a big-endian u32 slot, kind << 28 |
 * number: what belongs together is one range.  Values, but the use, are P * n - 16 bytes (P: a
 * page of LMDB, 4,096 bytes), so they fill n pages behind LMDB's own 16 bytes, and the
 * body lies on 64 bytes:
 *
 *   offset  bytes  field                                            (little-endian)
 *        0      4  magic     "CnV1"
 *        4      4  slot
 *        8      8  written   LMDB transaction that wrote it
 *       16      8  bytes     of the body
 *       24      4  tokens    page, document: tokens; window: 0
 *       28      4  lines     document: line starts
 *       32      8  total     document: bytes of text; window: bytes of all parts
 *       40      8  checksum  XXH3-64 of bytes 0..39 and the body, seeded with the key
 *       48      -  body, then zeros
 *
 * A checksum is verified before the first use of a value in a process, and again if the
 * value was evicted and written anew.  A value that fails is quarantined: counted, absent
 * from then on, deleted by the next write.  LMDB itself trusts its file and would follow a
 * damaged page number anywhere: the process that opens the folder alone first checks the
 * whole B-tree (store/lmdb_check_int.h).  A sector that cannot be read at all kills the
 * reader, as with any memory map.
 *
 * Several processes may open one folder.  Threads: any may call anything; a cn_pages_txn
 * is used by one thread at a time.  Readers never wait; writers take turns.
 *
 * Measured: 163,888-byte values in commits of 16 MB are written at 1.0 GB/s, the best at
 * 1.6, where a plain file with the same syncs takes 2.0; a get takes 0.13 us, 0.4 us when
 * its cache lines are cold, and 13 us at the first use, for the checksum; a renewal 0.1 us;
 * evicting 100 MB 12 ms.  (AMD EPYC, ext4 on a virtual disk that is shared: the rate of
 * writes varies by four.  build/release-cpu/tests/store/test_pages bench)
 *
 * Layer: store -> base.
 */
#ifndef CN_STORE_PAGES_H
#define CN_STORE_PAGES_H

#include "base/err.h"
#include "base/hash.h"

CN_C_BEGIN

enum {
    CN_PAGES_FOLDER_BYTES_MAX = 3072,
    CN_PAGES_BODY_BYTES_MAX = 1 << 28,
    CN_PAGES_NUMBER_MAX = (1 << 28) - 1, // of a page within its key
    CN_PAGES_WINDOW_BYTES_MAX = 1 << 30,
    CN_PAGES_TOKENS_MAX = 1 << 24, // of a document; of its lines too
    CN_PAGES_ITEMS_MAX = 1 << 16,  // in one write
    CN_PAGES_MAP_BYTES_MIN = 1 << 22,
    CN_PAGES_TOUCH_SECONDS = 3600,
    CN_PAGES_KEPT = INT32_MAX, // more than anything is wanted
};

typedef struct cn_pages     cn_pages;
typedef struct cn_pages_txn cn_pages_txn;

/* ---- Open ------------------------------------------------------------------------- */

typedef struct cn_pages_opts {
    const char *folder;     // borrowed for the call; made (0700, files 0600) if absent
    int64_t     map_bytes;  // the size budget: the file never grows beyond it
    int64_t     body_bytes; // of a page; other sizes may lie in the same folder
    bool        read_only;  // nothing is created; calls that write give CN_EINVAL

    /* How much `key` is wanted: what is wanted least is evicted first, of equals what was not
     * used longest; CN_PAGES_KEPT never.  NULL: all alike.  Called in write and evict, by
     * their thread, with the folder's write lock held: it must not call back. */
    int32_t (*wanted)(void *ctx, const cn_hash *key);
    /* An eviction begins: what `wanted` goes by may be looked up anew.  No lock is held that
     * another process waits for; it must not call back.  NULL: nothing to do. */
    void (*look)(void *ctx);
    void *ctx;
} cn_pages_opts;

/* Open a folder; at most once in a process.  map_bytes takes effect if no other process
 * has the folder open: a larger map grows, a smaller one limits what is kept from now on.
 *
 *   out  owned by the caller: cn_pages_close().  NULL unless CN_OK.
 *
 * CN_EINVAL        an option is out of range, or the folder is open in this process.
 * CN_ENOTFOUND     read_only, and there is nothing.
 * CN_ECORRUPT      what lies there is damaged, or is not ours: cn_pages_wipe, then open.
 * CN_EUNSUPPORTED  it was written by a newer version: the same.
 * CN_EIO, CN_ENOMEM.
 * Time: reads the B-tree, about 1/2,000 of the cache, if no other process has it open. */
cn_err cn_pages_open(cn_pages **out, const cn_pages_opts *opts, cn_diag *diag) CN_MUST_CHECK;

/* Wait for the disk and close.  Its transactions must have ended.  NULL is allowed. */
void cn_pages_close(cn_pages *p);

/* Remove the cache from `folder`: our files only, the folder stays.  None is fine.
 *
 * CN_EBUSY  a process (or this one) has it open.    CN_EINVAL, CN_EIO. */
cn_err cn_pages_wipe(const char *folder, cn_diag *diag) CN_MUST_CHECK;

/* ---- Read ------------------------------------------------------------------------- */

typedef enum {
    CN_PAGES_ABSENT,
    CN_PAGES_HIT,
    CN_PAGES_CORRUPT, // said once; then absent
} cn_pages_state;

/* A snapshot.  While it lives the space of what is evicted cannot be used again, here and
 * in other processes: end or renew it after each step, and before a large write.
 *
 * CN_EBUSY     too many snapshots are open (126, over all processes).
 * CN_ECORRUPT  the folder is damaged.   CN_EIO, CN_ENOMEM. */
cn_err cn_pages_begin(cn_pages_txn **out, cn_pages *p, cn_diag *diag) CN_MUST_CHECK;

/* Go on to the newest snapshot.  Pointers that the transaction gave are valid until it is
 * renewed or ended; after renewing still if *is_moved_out (may be NULL) is false: then
 * nothing was deleted between the two snapshots, by any process.
 *
 * CN_ECORRUPT, CN_EIO, CN_ENOMEM  then everything is absent until a renewal works. */
cn_err cn_pages_renew(cn_pages_txn *t, bool *is_moved_out, cn_diag *diag) CN_MUST_CHECK;
void   cn_pages_end(cn_pages_txn *t); // NULL is allowed

typedef struct cn_pages_page {
    const void *body; // body_bytes, 64-byte aligned
    int32_t     tokens;
} cn_pages_page;

/*   out  zeroed unless CN_PAGES_HIT.
 * Time: about a microsecond; the first use reads the body once. */
cn_pages_state cn_pages_get(cn_pages_txn *t, const cn_hash *key, int32_t number,
                            cn_pages_page *out);

typedef struct cn_pages_doc {
    const int32_t *token; // [tokens]
    const int32_t *line;  // [lines]: the token that each line starts with; NULL if none
    int32_t        tokens;
    int32_t        lines;
    int64_t        text_bytes;
    int64_t        created_s, used_s; // unix seconds; not read by write
} cn_pages_doc;

cn_pages_state cn_pages_get_doc(cn_pages_txn *t, const cn_hash *key, cn_pages_doc *out);

/* Copy a window state of `bytes` bytes, the size it was written with, to `out`.  A part
 * that is missing makes it absent.  `out` is undefined unless CN_PAGES_HIT. */
cn_pages_state cn_pages_get_window(cn_pages_txn *t, const cn_hash *key, void *out, int64_t bytes);

typedef struct cn_pages_entry {
    const cn_hash *key; // valid within the call
    int64_t        pages;
    int64_t        bytes; // on disk, of all that lies under the key
    int64_t        created_s, used_s;
    bool           has_doc, has_window;
} cn_pages_entry;

/* Call `fn` for each key, in order, until it returns false.  It must not write.
 *
 * CN_ECORRUPT  the folder is damaged.   CN_EIO. */
cn_err cn_pages_each(cn_pages_txn *t, bool (*fn)(void *ctx, const cn_pages_entry *e), void *ctx,
                     cn_diag *diag) CN_MUST_CHECK;

/* ---- Write ------------------------------------------------------------------------ */

typedef enum { CN_PAGES_PAGE = 1, CN_PAGES_DOC, CN_PAGES_WINDOW } cn_pages_kind;

typedef struct cn_pages_item {
    cn_pages_kind       kind;
    const cn_hash      *key;
    const void         *data;   // page: body_bytes; window: `bytes`
    int64_t             bytes;  // window: >= 1
    int32_t             number; // page
    int32_t             tokens; // page: >= 1
    const cn_pages_doc *doc;
} cn_pages_item;

/* Write items in one commit: all of them or none.  What exists under the same key and
 * number is left as it is, unless it is quarantined.  If the cache is full, what is wanted
 * least is evicted, of equals what was not used longest; never CN_PAGES_KEPT, nor the keys
 * of `item`.
 *
 *   item       [items]; spans are borrowed for the call and copied once.  16 to 64 MiB
 *              in one call is a good size.
 *   now_s      unix seconds, for `created` and `used`.
 *   bytes_out  bytes that were added; may be NULL.
 *
 * CN_EINVAL    an item is out of range, or read_only.
 * CN_ENOMEM    it does not fit, even after evicting all that may be evicted and that
 *              helps: the diag says what keeps the space (kept keys, an old snapshot, a
 *              full disk).  Nothing was written.
 * CN_ECORRUPT  the folder is damaged: close, cn_pages_wipe, open.
 * CN_EIO       the disk failed.  Nothing was written.  If it failed in LMDB's meta page all
 *              calls give CN_EIO from now on: close and open again.
 * After any of them the cache reads as before, but for what was evicted. */
cn_err cn_pages_write(cn_pages *p, const cn_pages_item *item, int64_t items, int64_t now_s,
                      int64_t *bytes_out, cn_diag *diag) CN_MUST_CHECK;

/* Set `used` of keys to now_s where it is CN_PAGES_TOUCH_SECONDS off; one commit, or none
 * if nothing is due.  Unknown keys are ignored.  Errors as cn_pages_write. */
cn_err cn_pages_touch(cn_pages *p, const cn_hash *key, int64_t keys, int64_t now_s,
                      cn_diag *diag) CN_MUST_CHECK;

/* Delete keys and all that lies under them.  Unknown keys are ignored.
 * Several commits: after an error some may be gone.  Errors as cn_pages_write. */
cn_err cn_pages_delete(cn_pages *p, const cn_hash *key, int64_t keys, cn_diag *diag) CN_MUST_CHECK;

/* Evict keys, as a full write would, until `bytes` bytes are free that were not, or only kept
 * ones are left.  Snapshots that are open keep what they see.
 *
 *   freed_out  bytes freed; may be NULL. */
cn_err cn_pages_evict(cn_pages *p, int64_t bytes, int64_t *freed_out, cn_diag *diag) CN_MUST_CHECK;

/* ---- Looking inside --------------------------------------------------------------- */

typedef struct cn_pages_stats {
    int64_t keys, docs, pages, windows;           // in the folder
    int64_t used_bytes, budget_bytes, file_bytes; // live; kept at most; the file's size
    int64_t hits, misses, corrupt, evicted;       // by this process: pages, pages, values, keys
} cn_pages_stats;

/* Time: one walk over the keys. */
cn_err cn_pages_stat(cn_pages *p, cn_pages_stats *out, cn_diag *diag) CN_MUST_CHECK;

/* ---- Upkeep (pages_upkeep.c) ---------------------------------------------------------- */

typedef struct cn_pages_verified {
    int64_t values, bytes; // read
    int64_t corrupt;       // of the values: quarantined, and deleted
} cn_pages_verified;

/* Read every value and verify its checksum, whether it was verified before or not.  What is
 * open for reading only keeps its corrupt values.
 *
 * CN_ECORRUPT  the tree that holds the values is damaged.   CN_EIO, CN_ENOMEM.
 * Time: one pass over the file. */
cn_err cn_pages_verify(cn_pages *p, cn_pages_verified *out, cn_diag *diag) CN_MUST_CHECK;

typedef struct cn_pages_erased {
    int64_t bytes;      // overwritten with zeros
    int64_t held_bytes; // free, but not overwritten: a snapshot may see them
    int64_t holder_pid; // of the oldest snapshot; 0 if none holds anything
} cn_pages_erased;

/* Overwrite all space that no value and no snapshot uses, and wait for the disk: what was
 * deleted or evicted cannot be read from the file any more.  (What the file system or the
 * drive keep below the file is out of reach.)  Other processes may go on reading; they
 * wait to write.
 *
 * CN_EINVAL  read_only.   CN_ECORRUPT, CN_EIO, CN_ENOMEM.
 * Time: that of writing the free space. */
cn_err cn_pages_erase(cn_pages *p, cn_pages_erased *out, cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif
