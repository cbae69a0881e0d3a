/*
 * fuzz_lmdb.c - A file that passes our check does LMDB no harm: it reads, deletes and adds.
 *
 * Input: a data file of LMDB with pages of 4,096 bytes, where a run of zero bytes is
 * written as 0xA7 and its length (u16); 0xA7 itself as 0xA7 0 0.
 */
#include "store/lmdb_check_int.h"

#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096, FILE_BYTES_MAX = 1 << 20, ESCAPE = 0xA7 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static size_t unpack(uint8_t *out, const uint8_t *data, size_t bytes) {
    size_t n = 0;
    for (size_t i = 0; i < bytes && n < FILE_BYTES_MAX;) {
        const size_t zeros = i + 2 < bytes ? data[i + 1] | (size_t)data[i + 2] << 8 : 0;
        if (data[i] != ESCAPE || i + 2 >= bytes || zeros == 0) {
            out[n++] = data[i];
            i += data[i] == ESCAPE && i + 2 < bytes ? 3 : 1;
        } else {
            for (size_t j = 0; j < zeros && n < FILE_BYTES_MAX; j++) out[n++] = 0;
            i += 3;
        }
    }
    return n;
}

/* Write a record, and learn from it where the file is mapped; 0 if LMDB refuses. */
static uintptr_t find_base(MDB_env *env, MDB_dbi *dbi) {
    MDB_txn  *txn;
    MDB_val   key = {4, "root"}, v = {4, "root"};
    uint64_t  pgno;
    uintptr_t base = 0;
    if (mdb_txn_begin(env, NULL, 0, &txn)) return 0;
    if (mdb_dbi_open(txn, NULL, 0, dbi) || mdb_put(txn, *dbi, &key, &v, 0)) {
        mdb_txn_abort(txn);
        return 0;
    }
    if (mdb_txn_commit(txn) || mdb_txn_begin(env, NULL, MDB_RDONLY, &txn)) return 0;
    if (mdb_get(txn, *dbi, &key, &v) == 0) {
        base = (uintptr_t)v.mv_data / PAGE_BYTES * PAGE_BYTES;
        memcpy(&pgno, (const uint8_t *)v.mv_data - (uintptr_t)v.mv_data % PAGE_BYTES, sizeof(pgno));
        base -= pgno * PAGE_BYTES;
    }
    mdb_txn_abort(txn);
    return base;
}

/* Read all, delete all, add some.  What LMDB answers does not matter, only that it does. */
static void use(MDB_env *env) {
    MDB_txn        *txn;
    MDB_dbi         dbi;
    MDB_cursor     *cursor;
    MDB_val         k, v;
    int             sum = 0;
    const uintptr_t base = find_base(env, &dbi);
    if (!base || mdb_txn_begin(env, NULL, 0, &txn)) return;
    if (mdb_cursor_open(txn, dbi, &cursor)) abort();
    for (int rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST); !rc;
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT))
        for (size_t i = 0; i < v.mv_size; i += 512) sum += ((const uint8_t *)v.mv_data)[i];
    for (int i = sum & 1; !mdb_cursor_get(cursor, &k, &v, MDB_FIRST) && i < 1000; i++) {
        const bool is_large = v.mv_size > PAGE_BYTES / 2; // the store deletes so
        if (is_large && !cn_lmdb_overflow_is_sound(base, v.mv_data, v.mv_size, PAGE_BYTES)) break;
        if (mdb_cursor_del(cursor, 0)) break;
    }
    mdb_cursor_close(cursor);
    for (uint64_t i = 0; i < 40; i++) {
        k = (MDB_val){sizeof(i), &i};
        v = (MDB_val){i % 5 ? 100 : 9000, NULL};
        if (mdb_put(txn, dbi, &k, &v, MDB_RESERVE)) break;
        memset(v.mv_data, 1, v.mv_size);
    }
    mdb_txn_commit(txn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static char  path[64];
    MDB_env     *env;
    uint64_t     unused;
    uint8_t     *room = malloc(FILE_BYTES_MAX);
    const size_t file_bytes = room ? unpack(room, data, bytes) : 0;
    uint8_t     *file = realloc(room, file_bytes ? file_bytes : 1); // exact: overreads are seen
    if (!file) abort();
    const cn_err err = cn_lmdb_check(file, file_bytes, PAGE_BYTES, &unused, NULL);
    cn_assert(err == CN_OK || err == CN_ECORRUPT || err == CN_EUNSUPPORTED || err == CN_ENOMEM);
    if (!err && unused < 1 << 16) {
        if (!path[0]) snprintf(path, sizeof(path), "/tmp/cairn-fuzz-%d", (int)getpid());
        const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (fd < 0 || write(fd, file, file_bytes) != (ssize_t)file_bytes) abort();
        close(fd);
        if (mdb_env_create(&env)) abort();
        mdb_env_set_mapsize(env, 64 << 20);
        if (mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOSYNC, 0600) == 0)
            for (int i = 0; i < 3; i++) use(env);
        mdb_env_close(env);
        unlink(path);
    }
    free(file);
    return 0;
}
