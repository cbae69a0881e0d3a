/*
 * pages_kit.h - What the tests of the page cache share: a disk that fails, keys whose content
 * is a function of their number, folders.
 *
 * Every check compares whole bodies with what they must be; find_key() fails the test for a
 * wrong byte and counts the rest.  The calls by which LMDB writes (pwrite, writev, fdatasync)
 * are defined here, so that the n-th one can fail or kill the process within a write: include
 * this in one file of a program.
 */
#ifndef CN_TESTS_STORE_PAGES_KIT_H
#define CN_TESTS_STORE_PAGES_KIT_H

#include "store/lmdb_check_int.h"
#include "store/pages.h"
#include "store/value_int.h"
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    BODY = 8000, // 2 LMDB pages with 128 bytes of padding
    WINDOW = 2 * BODY + 7,
    TOKENS = 300,
    LINES = 40,
    MAP = 8 << 20,
    HOUR = 3600,
};

static bool is_bench; // sync for real

/* ---- A disk that fails -------------------------------------------------------------- */

static struct {
    enum { DISK_OK, DISK_ONCE, DISK_FOREVER, DISK_CRASH } mode;
    int     error;
    int64_t nth, passed;
    bool    was_hit;
} disk;

static inline void arm_disk(int mode, int error, int64_t nth) {
    disk.mode = mode;
    disk.error = error;
    disk.nth = nth;
    disk.passed = 0;
    disk.was_hit = false;
}

/* Whether this call must fail. */
static inline bool disk_fails(void) {
    if (disk.mode == DISK_OK) return false;
    const int64_t n = ++disk.passed;
    if (n < disk.nth || (n > disk.nth && disk.mode != DISK_FOREVER)) return false;
    disk.was_hit = true;
    errno = disk.error;
    return true;
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) {
    if (disk_fails()) {
        if (disk.mode != DISK_CRASH) return -1;
        syscall(SYS_pwrite64, fd, data, bytes / 2, at); // torn
        raise(SIGKILL);
    }
    return syscall(SYS_pwrite64, fd, data, bytes, at);
}

ssize_t writev(int fd, const struct iovec *v, int n) {
    if (disk_fails()) {
        if (disk.mode != DISK_CRASH) return -1;
        syscall(SYS_writev, fd, v, n / 2);
        raise(SIGKILL);
    }
    return syscall(SYS_writev, fd, v, n);
}

int fdatasync(int fd) {
    if (disk_fails()) {
        if (disk.mode != DISK_CRASH) return -1;
        raise(SIGKILL);
    }
    return is_bench ? (int)syscall(SYS_fdatasync, fd) : 0; // no test pulls the plug
}

/* ---- Keys and their content --------------------------------------------------------- */

static inline uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static inline void fill(void *to, size_t bytes, uint64_t seed) {
    for (size_t i = 0; i < bytes; i += 8) {
        const uint64_t word = mix(seed * 1000003 + i);
        memcpy((uint8_t *)to + i, &word, bytes - i < 8 ? bytes - i : 8);
    }
}

static inline bool is_filled(const void *data, size_t bytes, uint64_t seed) {
    for (size_t i = 0; i < bytes; i += 8) {
        const uint64_t word = mix(seed * 1000003 + i);
        if (memcmp((const uint8_t *)data + i, &word, bytes - i < 8 ? bytes - i : 8) != 0)
            return false;
    }
    return true;
}

static inline cn_hash key_of(int64_t i) {
    return cn_hash_of(&i, sizeof(i));
}

static inline uint64_t seed_of(int64_t i, int number) {
    return (uint64_t)i << 20 | (uint64_t)number;
}

enum { SEED_WINDOW = 1 << 16, SEED_TOKENS, SEED_LINES };

/* Write key i: `pages` pages, and with `has_all` a document and a window, in one commit. */
static inline cn_err write_key(cn_pages *p, int64_t body_bytes, int64_t i, int pages, bool has_all,
                               int64_t now_s, cn_diag *diag) {
    static uint8_t     window[WINDOW];
    int32_t            token[TOKENS], line[LINES];
    uint8_t           *body = malloc((size_t)(pages * body_bytes));
    const cn_hash      key = key_of(i);
    cn_pages_item      item[66] = {0};
    const int64_t      items = pages + (has_all ? 2 : 0);
    const cn_pages_doc doc = {
        .token = token, .line = line, .tokens = TOKENS, .lines = LINES, .text_bytes = 1000 + i};
    assert_true(body && pages <= 64);
    for (int n = 0; n < pages; n++) {
        fill(body + n * body_bytes, (size_t)body_bytes, seed_of(i, n));
        item[n] = (cn_pages_item){.kind = CN_PAGES_PAGE,
                                  .key = &key,
                                  .data = body + n * body_bytes,
                                  .number = n,
                                  .tokens = n + 1};
    }
    fill(window, WINDOW, seed_of(i, SEED_WINDOW));
    fill(token, sizeof(token), seed_of(i, SEED_TOKENS));
    fill(line, sizeof(line), seed_of(i, SEED_LINES));
    item[pages] = (cn_pages_item){.kind = CN_PAGES_DOC, .key = &key, .doc = &doc};
    item[pages + 1] =
        (cn_pages_item){.kind = CN_PAGES_WINDOW, .key = &key, .data = window, .bytes = WINDOW};
    const cn_err err = cn_pages_write(p, item, items, now_s, NULL, diag);
    free(body);
    return err;
}

typedef struct found {
    int hits, absent, corrupt;
} found;

static inline void count_state(found *f, cn_pages_state state) {
    f->hits += state == CN_PAGES_HIT;
    f->absent += state == CN_PAGES_ABSENT;
    f->corrupt += state == CN_PAGES_CORRUPT;
}

/* What of key i is there; wrong content fails the test. */
static inline found find_key(cn_pages_txn *t, int64_t body_bytes, int64_t i, int pages,
                             bool has_all) {
    static uint8_t window[WINDOW];
    const cn_hash  key = key_of(i);
    found          f = {0};
    for (int n = 0; n < pages; n++) {
        cn_pages_page        page;
        const cn_pages_state state = cn_pages_get(t, &key, n, &page);
        count_state(&f, state);
        assert_int_equal(page.body != NULL, state == CN_PAGES_HIT);
        if (state != CN_PAGES_HIT) continue;
        assert_int_equal(page.tokens, n + 1);
        assert_int_equal((uintptr_t)page.body % 64, 0);
        if (!is_filled(page.body, (size_t)body_bytes, seed_of(i, n)))
            t_fail(__FILE__, __LINE__, "key %lld page %d has a wrong byte", (long long)i, n);
    }
    if (!has_all) return f;
    cn_pages_doc doc;
    count_state(&f, cn_pages_get_doc(t, &key, &doc));
    if (doc.token) {
        assert_true(doc.tokens == TOKENS && doc.lines == LINES && doc.text_bytes == 1000 + i);
        assert_true(is_filled(doc.token, sizeof(int32_t) * TOKENS, seed_of(i, SEED_TOKENS)));
        assert_true(is_filled(doc.line, sizeof(int32_t) * LINES, seed_of(i, SEED_LINES)));
    }
    const cn_pages_state state = cn_pages_get_window(t, &key, window, WINDOW);
    count_state(&f, state);
    if (state == CN_PAGES_HIT) assert_true(is_filled(window, WINDOW, seed_of(i, SEED_WINDOW)));
    return f;
}

static inline found find_now(cn_pages *p, int64_t body_bytes, int64_t i, int pages, bool has_all) {
    cn_pages_txn *t;
    assert_err(cn_pages_begin(&t, p, &t_diag), CN_OK);
    const found f = find_key(t, body_bytes, i, pages, has_all);
    cn_pages_end(t);
    return f;
}

static inline void assert_whole(cn_pages *p, int64_t body_bytes, int64_t i, int pages,
                                bool has_all) {
    const found f = find_now(p, body_bytes, i, pages, has_all);
    assert_int_equal(f.hits, pages + (has_all ? 2 : 0));
}

static inline void assert_gone(cn_pages *p, int64_t body_bytes, int64_t i, int pages,
                               bool has_all) {
    const found f = find_now(p, body_bytes, i, pages, has_all);
    assert_int_equal(f.absent, pages + (has_all ? 2 : 0));
}

/* ---- Folders ------------------------------------------------------------------------ */

static inline const char *folder_of(const char *name) {
    static char path[4][256]; // the last four stay valid
    static int  next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof(path[next]), "%s/%s", t_tmp_dir(), name);
    return path[next];
}

static inline const char *data_path(const char *folder) {
    static char path[300];
    snprintf(path, sizeof(path), "%s/data.mdb", folder);
    return path;
}

static inline cn_pages *open_with(const cn_pages_opts *opts) {
    cn_pages *p;
    assert_err(cn_pages_open(&p, opts, &t_diag), CN_OK);
    return p;
}

static inline cn_pages *open_plain(const char *folder) {
    return open_with(&(cn_pages_opts){.folder = folder, .map_bytes = MAP, .body_bytes = BODY});
}

static inline cn_pages_stats stat_of(cn_pages *p) {
    cn_pages_stats s;
    assert_err(cn_pages_stat(p, &s, &t_diag), CN_OK);
    return s;
}

static inline uint8_t *read_whole(const char *path, size_t *bytes_out) {
    struct stat st;
    const int   fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    uint8_t *data = malloc((size_t)st.st_size + 1);
    assert_non_null(data);
    assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
    close(fd);
    *bytes_out = (size_t)st.st_size;
    return data;
}

static inline void write_whole(const char *path, const void *data, size_t bytes) {
    const int fd = open(path, O_WRONLY | O_CREAT, 0600); // O_TRUNC makes ext4 flush
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, bytes), bytes);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    close(fd);
}

static inline void flip_at(const char *path, size_t at, int bit) {
    uint8_t   byte;
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= (uint8_t)(1 << bit);
    assert_int_equal(syscall(SYS_pwrite64, fd, &byte, 1, at), 1);
    close(fd);
}

/* Where the newest value of key i, page `number` starts in the file. */
static inline size_t place_of(const char *path, int64_t i, int number) {
    uint8_t head[64];
    size_t  bytes, place = 0;
    fill(head, sizeof(head), seed_of(i, number));
    uint8_t *data = read_whole(path, &bytes);
    for (size_t at = 64; at + BODY <= bytes; at += 4096)
        if (memcmp(data + at, head, sizeof(head)) == 0) place = at - CN_VALUE_HEADER_BYTES;
    free(data);
    assert_true(place > 0);
    return place;
}

/* Flip a bit of all values of key i, page `number` in the file: what was deleted is there
 * until its place is used again. */
static inline void flip_copies(const char *path, int64_t i, int number, size_t at) {
    uint8_t head[64];
    size_t  bytes;
    fill(head, sizeof(head), seed_of(i, number));
    uint8_t *data = read_whole(path, &bytes);
    for (size_t body = 64; body + BODY <= bytes; body += 4096)
        if (memcmp(data + body, head, sizeof(head)) == 0) flip_at(path, body + at, 1);
    free(data);
}

/* The file passes the check, and no page of it is lost. */
static inline void assert_sound(const char *folder) {
    size_t   bytes;
    uint64_t unused;
    uint8_t *data = read_whole(data_path(folder), &bytes);
    assert_err(cn_lmdb_check(data, bytes, 4096, &unused, &t_diag), CN_OK);
    assert_int_equal(unused, 0);
    free(data);
}

/* For cn_pages_each: goes on. */
static inline bool sees_one(void *ctx, const cn_pages_entry *e) {
    (void)ctx, (void)e;
    return true;
}

#endif
