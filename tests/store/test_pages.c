/*
 * test_pages.c - What the page cache gives back is what was written under that key, or
 * nothing: after eviction, damage of any byte, a full disk, a crash, beside other processes.
 *
 * Method: the content of key i is a function of i, so every check compares whole bodies
 * with what they must be; has_key() fails the test for a wrong byte and counts the rest.
 * The calls by which LMDB writes (pwrite, writev, fdatasync) are defined here, so that the
 * n-th one can fail or kill the process in the middle of a write.
 *
 *   build/release-cpu/tests/store/test_pages bench       speed, printed
 *   build/release-cpu/tests/store/test_pages thorough    damages every byte of LMDB's pages
 */
#include "base/clock.h"
#include "base/fault.h"
#include "store/lmdb_check_int.h"
#include "store/pages.h"
#include "store/value_int.h"
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    BODY = 8000, // 2 LMDB pages with 128 bytes of padding
    WINDOW = 2 * BODY + 7,
    TOKENS = 300,
    LINES = 40,
    MAP = 8 << 20,
    HOUR = 3600,
};

static bool is_bench, is_thorough;

/* ---- A disk that fails -------------------------------------------------------------- */

static struct {
    enum { DISK_OK, DISK_ONCE, DISK_FOREVER, DISK_CRASH } mode;
    int     error;
    int64_t nth, passed;
    bool    was_hit;
} disk;

static void arm_disk(int mode, int error, int64_t nth) {
    disk.mode = mode;
    disk.error = error;
    disk.nth = nth;
    disk.passed = 0;
    disk.was_hit = false;
}

/* Whether this call must fail. */
static bool disk_fails(void) {
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

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static void fill(void *to, size_t bytes, uint64_t seed) {
    for (size_t i = 0; i < bytes; i += 8) {
        const uint64_t word = mix(seed * 1000003 + i);
        memcpy((uint8_t *)to + i, &word, bytes - i < 8 ? bytes - i : 8);
    }
}

static bool is_filled(const void *data, size_t bytes, uint64_t seed) {
    for (size_t i = 0; i < bytes; i += 8) {
        const uint64_t word = mix(seed * 1000003 + i);
        if (memcmp((const uint8_t *)data + i, &word, bytes - i < 8 ? bytes - i : 8) != 0)
            return false;
    }
    return true;
}

static cn_hash key_of(int64_t i) {
    return cn_hash_of(&i, sizeof(i));
}

static uint64_t seed_of(int64_t i, int number) {
    return (uint64_t)i << 20 | (uint64_t)number;
}

enum { SEED_WINDOW = 1 << 16, SEED_TOKENS, SEED_LINES };

/* Write key i: `pages` pages, and with `has_all` a document and a window, in one commit. */
static cn_err write_key(cn_pages *p, int64_t body_bytes, int64_t i, int pages, bool has_all,
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

static void count_state(found *f, cn_pages_state state) {
    f->hits += state == CN_PAGES_HIT;
    f->absent += state == CN_PAGES_ABSENT;
    f->corrupt += state == CN_PAGES_CORRUPT;
}

/* What of key i is there; wrong content fails the test. */
static found find_key(cn_pages_txn *t, int64_t body_bytes, int64_t i, int pages, bool has_all) {
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

static found find_now(cn_pages *p, int64_t body_bytes, int64_t i, int pages, bool has_all) {
    cn_pages_txn *t;
    assert_err(cn_pages_begin(&t, p, &t_diag), CN_OK);
    const found f = find_key(t, body_bytes, i, pages, has_all);
    cn_pages_end(t);
    return f;
}

static void assert_whole(cn_pages *p, int64_t body_bytes, int64_t i, int pages, bool has_all) {
    const found f = find_now(p, body_bytes, i, pages, has_all);
    assert_int_equal(f.hits, pages + (has_all ? 2 : 0));
}

static void assert_gone(cn_pages *p, int64_t body_bytes, int64_t i, int pages, bool has_all) {
    const found f = find_now(p, body_bytes, i, pages, has_all);
    assert_int_equal(f.absent, pages + (has_all ? 2 : 0));
}

/* ---- Folders ------------------------------------------------------------------------ */

static const char *folder_of(const char *name) {
    static char path[4][256]; // the last four stay valid
    static int  next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof(path[next]), "%s/%s", t_tmp_dir(), name);
    return path[next];
}

static const char *data_path(const char *folder) {
    static char path[300];
    snprintf(path, sizeof(path), "%s/data.mdb", folder);
    return path;
}

static cn_pages *open_with(const cn_pages_opts *opts) {
    cn_pages *p;
    assert_err(cn_pages_open(&p, opts, &t_diag), CN_OK);
    return p;
}

static cn_pages *open_plain(const char *folder) {
    return open_with(&(cn_pages_opts){.folder = folder, .map_bytes = MAP, .body_bytes = BODY});
}

static cn_pages_stats stat_of(cn_pages *p) {
    cn_pages_stats s;
    assert_err(cn_pages_stat(p, &s, &t_diag), CN_OK);
    return s;
}

static uint8_t *read_whole(const char *path, size_t *bytes_out) {
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

static void write_whole(const char *path, const void *data, size_t bytes) {
    const int fd = open(path, O_WRONLY | O_CREAT, 0600); // O_TRUNC makes ext4 flush
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, bytes), bytes);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    close(fd);
}

static void flip_at(const char *path, size_t at, int bit) {
    uint8_t   byte;
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= (uint8_t)(1 << bit);
    assert_int_equal(syscall(SYS_pwrite64, fd, &byte, 1, at), 1);
    close(fd);
}

/* Where the newest value of key i, page `number` starts in the file. */
static size_t place_of(const char *path, int64_t i, int number) {
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
static void flip_copies(const char *path, int64_t i, int number, size_t at) {
    uint8_t head[64];
    size_t  bytes;
    fill(head, sizeof(head), seed_of(i, number));
    uint8_t *data = read_whole(path, &bytes);
    for (size_t body = 64; body + BODY <= bytes; body += 4096)
        if (memcmp(data + body, head, sizeof(head)) == 0) flip_at(path, body + at, 1);
    free(data);
}

/* The file passes the check, and no page of it is lost. */
static void assert_sound(const char *folder) {
    size_t   bytes;
    uint64_t unused;
    uint8_t *data = read_whole(data_path(folder), &bytes);
    assert_err(cn_lmdb_check(data, bytes, 4096, &unused, &t_diag), CN_OK);
    assert_int_equal(unused, 0);
    free(data);
}

/* ---- Read and write ----------------------------------------------------------------- */

static void test_values_come_back(void **state) {
    (void)state;
    static const int64_t bodies[] = {64, 2000, 4032, 4033, BODY, 163840};
    const mode_t         mask = umask(0);
    for (size_t b = 0; b < sizeof(bodies) / sizeof(bodies[0]); b++) {
        char name[32];
        snprintf(name, sizeof(name), "back-%zu", b);
        const cn_pages_opts o = {
            .folder = folder_of(name), .map_bytes = 32 << 20, .body_bytes = bodies[b]};
        t_note("bodies of %lld bytes", (long long)bodies[b]);
        cn_pages *p = open_with(&o);
        for (int round = 0; round < 2; round++) {
            for (int i = 0; i < 20; i++) {
                if (round == 0) {
                    assert_gone(p, o.body_bytes, i, i % 5, i % 2);
                    assert_err(write_key(p, o.body_bytes, i, i % 5, i % 2, 7000 + i, &t_diag),
                               CN_OK);
                }
                assert_whole(p, o.body_bytes, i, i % 5, i % 2);
            }
            assert_gone(p, o.body_bytes, 99, 3, true);
            const cn_pages_stats s = stat_of(p);
            assert_int_equal(s.keys, 18); // 0 and 10 are empty
            assert_int_equal(s.pages, 40);
            assert_int_equal(s.docs, 10);
            assert_int_equal(s.windows, 10);
            assert_true(s.used_bytes <= s.file_bytes && s.used_bytes <= s.budget_bytes);
            assert_true(s.corrupt == 0 && s.evicted == 0 && s.hits >= 40 && s.misses >= 3);
            cn_pages_close(p);
            assert_sound(o.folder);
            p = open_with(&o);
        }
        cn_pages_close(p);
        struct stat st;
        assert_int_equal(stat(o.folder, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0700);
        assert_int_equal(stat(data_path(o.folder), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    umask(mask);
}

static void test_windows_and_documents_of_any_size(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, BODY - 1, BODY, BODY + 1, 5 * BODY, 5 * BODY + 13};
    cn_pages            *p = open_plain(folder_of("sizes"));
    uint8_t             *data = t_alloc(6 * BODY), *got = t_alloc(6 * BODY);
    cn_pages_txn        *t;
    for (int i = 0; i < 6; i++) {
        const cn_hash key = key_of(i);
        fill(data, (size_t)sizes[i], (uint64_t)i);
        const int32_t       ids[] = {7, 8, 9, 10};
        const cn_pages_doc  doc = {.token = i % 3 ? ids : NULL,
                                   .tokens = i % 3,
                                   .line = i % 2 ? ids + 2 : NULL,
                                   .lines = i % 2,
                                   .text_bytes = INT64_C(1) << 40};
        const cn_pages_item item[] = {
            {.kind = CN_PAGES_WINDOW, .key = &key, .data = data, .bytes = sizes[i]},
            {.kind = CN_PAGES_DOC, .key = &key, .doc = &doc}};
        assert_err(cn_pages_write(p, item, 2, 50, NULL, &t_diag), CN_OK);
    }
    assert_err(cn_pages_begin(&t, p, &t_diag), CN_OK);
    for (int i = 0; i < 6; i++) {
        const cn_hash key = key_of(i);
        cn_pages_doc  doc;
        uint8_t      *exact = t_alloc((size_t)sizes[i]);
        assert_int_equal(cn_pages_get_window(t, &key, exact, sizes[i]), CN_PAGES_HIT);
        assert_true(is_filled(exact, (size_t)sizes[i], (uint64_t)i));
        t_free(exact);
        assert_int_equal(cn_pages_get_window(t, &key, got, sizes[i] + 1), CN_PAGES_ABSENT);
        assert_int_equal(cn_pages_get_window(t, &key, got, sizes[i] - 1), CN_PAGES_ABSENT);
        assert_int_equal(cn_pages_get_doc(t, &key, &doc), CN_PAGES_HIT);
        assert_true(doc.tokens == i % 3 && (doc.tokens == 0) == (doc.token == NULL));
        assert_true(doc.lines == i % 2 && (doc.lines == 0) == (doc.line == NULL));
        if (doc.tokens > 0) assert_int_equal(doc.token[0], 7);
        if (doc.lines > 0) assert_int_equal(doc.line[0], 9);
        assert_int_equal(doc.text_bytes, INT64_C(1) << 40);
        assert_true(doc.created_s == 50 && doc.used_s == 50);
    }
    cn_pages_end(t);
    cn_pages_close(p);
    t_free(data);
    t_free(got);
}

static void test_what_exists_is_left_alone(void **state) {
    (void)state;
    cn_pages     *p = open_plain(folder_of("same"));
    const cn_hash key = key_of(3);
    uint8_t      *zeros = calloc(1, BODY);
    int64_t       bytes = -1;
    assert_err(write_key(p, BODY, 3, 2, true, 100, &t_diag), CN_OK);
    const cn_pages_item item[] = {
        {.kind = CN_PAGES_PAGE, .key = &key, .data = zeros, .number = 1, .tokens = 9},
        {.kind = CN_PAGES_PAGE, .key = &key, .data = zeros, .number = 2, .tokens = 9},
        {.kind = CN_PAGES_PAGE, .key = &key, .data = zeros, .number = 2, .tokens = 8}};
    assert_err(cn_pages_write(p, item, 1, 100, &bytes, &t_diag), CN_OK);
    assert_int_equal(bytes, 0);
    assert_err(cn_pages_write(p, item, 3, 100, &bytes, &t_diag), CN_OK);
    assert_int_equal(bytes, 2 * 4096); // one of the two that are new
    assert_err(cn_pages_write(p, item, 0, 100, &bytes, &t_diag), CN_OK);
    assert_int_equal(bytes, 0);
    assert_whole(p, BODY, 3, 2, true);
    cn_pages_txn *t;
    cn_pages_page page;
    assert_err(cn_pages_begin(&t, p, &t_diag), CN_OK);
    assert_int_equal(cn_pages_get(t, &key, 2, &page), CN_PAGES_HIT);
    assert_int_equal(page.tokens, 9);
    cn_pages_end(t);
    cn_pages_close(p);
    free(zeros);
}

/* Two models in one folder: each reads its own, and both share the budget. */
static void test_two_page_sizes_share_a_folder(void **state) {
    (void)state;
    const char         *folder = folder_of("two");
    const cn_pages_opts small = {.folder = folder, .map_bytes = MAP, .body_bytes = BODY};
    const cn_pages_opts large = {.folder = folder, .map_bytes = MAP, .body_bytes = 163840};
    for (int round = 0; round < 6; round++) {
        cn_pages *p = open_with(&small);
        for (int i = 0; i < 40; i++)
            assert_err(write_key(p, BODY, round * 100 + i, 4, true, round, &t_diag), CN_OK);
        assert_whole(p, BODY, round * 100 + 39, 4, true);
        cn_pages_close(p);
        p = open_with(&large);
        assert_whole(p, 163840, round * 100 + 39, 0, false);
        for (int i = 50; i < 70; i++)
            assert_err(write_key(p, 163840, round * 100 + i, 1, true, round, &t_diag), CN_OK);
        assert_whole(p, 163840, round * 100 + 69, 1, true);
        cn_pages_close(p);
        assert_sound(folder);
    }
}

static bool sees_one(void *ctx, const cn_pages_entry *e) {
    (void)ctx, (void)e;
    return true;
}

static bool list_entry(void *ctx, const cn_pages_entry *e) {
    cn_pages_entry *list = ctx;
    for (int i = 0; i < 8; i++) {
        const cn_hash key = key_of(i);
        if (cn_hash_is_equal(&key, e->key)) list[i] = *e;
    }
    return true;
}

static bool count_to_three(void *ctx, const cn_pages_entry *e) {
    (void)e;
    return ++*(int *)ctx < 3;
}

static void test_each_lists_all_keys(void **state) {
    (void)state;
    cn_pages      *p = open_plain(folder_of("each"));
    cn_pages_entry list[8] = {0};
    cn_pages_txn  *t;
    int            count = 0;
    assert_err(cn_pages_begin(&t, p, &t_diag), CN_OK);
    assert_err(cn_pages_each(t, count_to_three, &count, &t_diag), CN_OK);
    assert_int_equal(count, 0);
    for (int i = 0; i < 8; i++)
        assert_err(write_key(p, BODY, i, i + 1, i % 2, 100 + i, &t_diag), CN_OK);
    assert_err(cn_pages_each(t, count_to_three, &count, &t_diag), CN_OK);
    assert_int_equal(count, 0); // the snapshot is older
    assert_err(cn_pages_renew(t, NULL, &t_diag), CN_OK);
    assert_err(cn_pages_each(t, list_entry, list, &t_diag), CN_OK);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(list[i].pages, i + 1);
        assert_true(list[i].created_s == 100 + i && list[i].used_s == 100 + i);
        assert_true(list[i].has_doc == i % 2 && list[i].has_window == i % 2);
        assert_int_equal(list[i].bytes, 4096 * (2 * (i + 1) + (i % 2 ? 1 + 2 + 2 + 1 : 0)));
    }
    assert_err(cn_pages_each(t, count_to_three, &count, &t_diag), CN_OK);
    assert_int_equal(count, 3);
    cn_pages_end(t);

    // Delete: whole keys, unknown ones ignored.
    const cn_hash gone[] = {key_of(2), key_of(77), key_of(5)};
    assert_err(cn_pages_delete(p, gone, 3, &t_diag), CN_OK);
    assert_err(cn_pages_delete(p, gone, 3, &t_diag), CN_OK);
    assert_err(cn_pages_delete(p, NULL, 0, &t_diag), CN_OK);
    for (int i = 0; i < 8; i++)
        if (i == 2 || i == 5)
            assert_gone(p, BODY, i, i + 1, i % 2);
        else
            assert_whole(p, BODY, i, i + 1, i % 2);
    assert_int_equal(stat_of(p).keys, 6);
    cn_pages_close(p);
    assert_sound(folder_of("each"));
}

/* ---- Snapshots ---------------------------------------------------------------------- */

static void test_snapshot_keeps_what_it_sees(void **state) {
    (void)state;
    cn_pages     *p = open_plain(folder_of("snapshot"));
    cn_pages_txn *t, *u;
    cn_pages_page page[4];
    bool          is_moved;
    const cn_hash key = key_of(1), other = key_of(2);
    assert_err(write_key(p, BODY, 1, 4, true, 100, &t_diag), CN_OK);
    assert_err(cn_pages_begin(&t, p, &t_diag), CN_OK);
    for (int n = 0; n < 4; n++) assert_int_equal(cn_pages_get(t, &key, n, &page[n]), CN_PAGES_HIT);

    assert_err(write_key(p, BODY, 2, 1, true, 200, &t_diag), CN_OK);
    assert_gone(p, BODY, 9, 1, false);
    assert_int_equal(find_key(t, BODY, 2, 1, true).absent, 3);
    assert_err(cn_pages_renew(t, &is_moved, &t_diag), CN_OK);
    assert_false(is_moved); // only added: pointers stay
    assert_int_equal(find_key(t, BODY, 2, 1, true).hits, 3);
    for (int n = 0; n < 4; n++) {
        cn_pages_page again;
        assert_int_equal(cn_pages_get(t, &key, n, &again), CN_PAGES_HIT);
        assert_ptr_equal(again.body, page[n].body);
    }

    // Evicted, and the file written full: what the snapshot sees stays.
    int64_t freed;
    assert_err(cn_pages_evict(p, 1, &freed, &t_diag), CN_OK);
    assert_true(freed >= 4 * 2 * 4096);
    assert_gone(p, BODY, 1, 4, true);
    cn_err err = CN_OK;
    for (int i = 100; i < 2000 && !err; i++) err = write_key(p, BODY, i, 4, true, 300, &t_diag);
    assert_err(err, CN_ENOMEM);
    assert_non_null(strstr(t_diag.text, "snapshot"));
    for (int n = 0; n < 4; n++) assert_true(is_filled(page[n].body, BODY, seed_of(1, n)));
    assert_int_equal(find_key(t, BODY, 1, 4, true).hits, 6);
    // The cache was not emptied for nothing while space was held.
    const int64_t before = stat_of(p).keys;
    for (int i = 0; i < 20; i++) {
        err = write_key(p, BODY, 5000 + i, 4, true, 300, &t_diag);
        assert_err(err, CN_ENOMEM);
    }
    assert_int_equal(stat_of(p).keys, before);
    assert_true(before > MAP / (15 * 4096) / 2);

    assert_err(cn_pages_begin(&u, p, &t_diag), CN_OK);
    assert_err(cn_pages_renew(t, &is_moved, &t_diag), CN_OK);
    assert_true(is_moved);
    assert_err(cn_pages_renew(t, &is_moved, &t_diag), CN_OK);
    assert_false(is_moved);
    assert_int_equal(find_key(t, BODY, 1, 4, true).absent, 6);
    cn_pages_end(u);
    cn_pages_end(t);
    cn_pages_end(NULL);
    assert_err(write_key(p, BODY, 6000, 4, true, 300, &t_diag), CN_OK);
    assert_whole(p, BODY, 6000, 4, true);
    assert_err(cn_pages_delete(p, &other, 1, &t_diag), CN_OK);
    cn_pages_close(p);
    assert_sound(folder_of("snapshot"));
}

static void test_snapshots_are_limited(void **state) {
    (void)state;
    cn_pages     *p = open_plain(folder_of("readers"));
    cn_pages_txn *t[200];
    int           n = 0;
    cn_err        err = CN_OK;
    for (; n < 200 && !err; n += !err) err = cn_pages_begin(&t[n], p, &t_diag);
    assert_err(err, CN_EBUSY);
    assert_null(t[n]);
    assert_true(n >= 100);
    while (n > 0) cn_pages_end(t[--n]);
    assert_err(cn_pages_begin(&t[0], p, &t_diag), CN_OK);
    cn_pages_end(t[0]);
    cn_pages_close(p);
}

/* ---- Eviction ----------------------------------------------------------------------- */

static bool is_in_list(void *ctx, const cn_hash *key) {
    const int64_t *list = ctx; // ends with -1
    for (; *list >= 0; list++) {
        const cn_hash k = key_of(*list);
        if (cn_hash_is_equal(&k, key)) return true;
    }
    return false;
}

static void test_least_recently_used_goes_first(void **state) {
    (void)state;
    int64_t       kept[] = {2, -1};
    const int64_t one = 4096 * (3 * 2 + 1 + 5);
    const char   *folder = folder_of("lru");
    cn_pages     *p = open_with(&(cn_pages_opts){.folder = folder,
                                                 .map_bytes = MAP,
                                                 .body_bytes = BODY,
                                                 .is_kept = is_in_list,
                                                 .ctx = kept});
    int64_t       freed;
    for (int i = 0; i < 10; i++)
        assert_err(write_key(p, BODY, i, 3, true, 100000 + i, &t_diag), CN_OK);
    // 0 and 4 were used again; 1 too recently to be written down, 3 in a past that never was.
    const cn_hash touched[] = {key_of(0), key_of(4), key_of(55)};
    const cn_hash recent = key_of(1), back = key_of(3);
    assert_err(cn_pages_touch(p, touched, 3, 100000 + HOUR + 4, &t_diag), CN_OK);
    assert_err(cn_pages_touch(p, &recent, 1, 100001 + HOUR - 1, &t_diag), CN_OK);
    assert_err(cn_pages_touch(p, &back, 1, 100003 - HOUR, &t_diag), CN_OK);
    assert_int_equal(stat_of(p).keys, 10); // a touch adds no key
    static const int order[] = {3, 1, 5, 6, 7, 8, 9, 0, 4};
    for (int i = 0; i < 9; i++) {
        t_note("evicting number %d", i);
        assert_err(cn_pages_evict(p, one, &freed, &t_diag), CN_OK);
        assert_int_equal(freed, one);
        assert_int_equal(stat_of(p).evicted, i + 1);
        for (int j = 0; j < 9; j++)
            if (j <= i)
                assert_gone(p, BODY, order[j], 3, true);
            else
                assert_whole(p, BODY, order[j], 3, true);
        assert_whole(p, BODY, 2, 3, true);
    }
    assert_err(cn_pages_evict(p, one, &freed, &t_diag), CN_OK);
    assert_int_equal(freed, 0);
    assert_err(cn_pages_evict(p, 0, &freed, &t_diag), CN_OK);
    kept[0] = -1;
    assert_err(cn_pages_evict(p, INT64_MAX, &freed, &t_diag), CN_OK);
    assert_int_equal(freed, one);
    assert_int_equal(stat_of(p).keys, 0);
    cn_pages_close(p);
    assert_sound(folder);
}

static void test_used_again_is_written_down(void **state) {
    (void)state;
    cn_pages     *p = open_plain(folder_of("touch"));
    const cn_hash key = key_of(0);
    cn_pages_txn *t;
    cn_pages_doc  doc;
    static const struct {
        int64_t now_s, used_s;
    } cases[] = {{100 + HOUR - 1, 100},
                 {100 + HOUR, 100 + HOUR},
                 {100 + HOUR + 1, 100 + HOUR},
                 {101, 100 + HOUR},
                 {100, 100},
                 {INT64_C(1) << 40, INT64_C(1) << 40},
                 {(INT64_C(1) << 40) + HOUR * 2, (INT64_C(1) << 40) + HOUR * 2}};
    assert_err(write_key(p, BODY, 0, 1, true, 100, &t_diag), CN_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        t_note("case %zu", i);
        assert_err(i % 2 ? write_key(p, BODY, 0, 1, true, cases[i].now_s, &t_diag)
                         : cn_pages_touch(p, &key, 1, cases[i].now_s, &t_diag),
                   CN_OK);
        assert_err(cn_pages_begin(&t, p, &t_diag), CN_OK);
        assert_int_equal(cn_pages_get_doc(t, &key, &doc), CN_PAGES_HIT);
        assert_int_equal(doc.used_s, cases[i].used_s);
        assert_int_equal(doc.created_s, 100);
        cn_pages_end(t);
    }
    cn_pages_close(p);
}

/* Several times the map, at each size of commit: the newest stay, the file never grows out. */
static void test_full_map_evicts(void **state) {
    (void)state;
    static const int64_t bodies[] = {BODY, 163840};
    static const int     pages[] = {1, 4, 20};
    for (int b = 0; b < 2; b++)
        for (int c = 0; c < 3; c++) {
            char name[32];
            snprintf(name, sizeof(name), "full-%d-%d", b, c);
            const char   *folder = folder_of(name);
            const int64_t key_bytes = pages[c] * (bodies[b] + 4096) + 5 * 4096 + bodies[b] * b;
            const int     keys = (int)(4 * MAP / key_bytes);
            cn_pages     *p = open_with(
                    &(cn_pages_opts){.folder = folder, .map_bytes = MAP, .body_bytes = bodies[b]});
            for (int i = 0; i < keys; i++) {
                t_note("bodies of %lld, %d pages a key, key %d of %d", (long long)bodies[b],
                       pages[c], i, keys);
                assert_err(write_key(p, bodies[b], i, pages[c], true, i, &t_diag), CN_OK);
            }
            const cn_pages_stats s = stat_of(p);
            assert_true(s.file_bytes <= MAP && s.used_bytes <= s.budget_bytes);
            assert_true(s.budget_bytes > MAP * 7 / 8);
            assert_int_equal(s.evicted + s.keys, keys);
            for (int i = 0; i < keys; i++) // the newest, all of them whole
                if (i >= s.evicted)
                    assert_whole(p, bodies[b], i, pages[c], true);
                else
                    assert_gone(p, bodies[b], i, pages[c], true);
            if (pages[c] < 20) assert_true(s.used_bytes > MAP * 3 / 4);
            cn_pages_close(p);
            assert_sound(folder);
        }
}

/* A quarter of the map in one commit: little more is evicted than it needs, whether that
 * takes many commits or one. */
static void test_large_write_evicts_what_it_needs(void **state) {
    (void)state;
    static const struct {
        int64_t map_bytes, body_bytes;
        int     pages;
    } cases[] = {{MAP, BODY, 3}, {8 * MAP, 163840, 20}};
    for (int c = 0; c < 2; c++) {
        const int64_t map = cases[c].map_bytes, body_bytes = cases[c].body_bytes;
        const int64_t value_bytes = cn_value_bytes(body_bytes, 4096) + 16;
        const int64_t key_bytes = cases[c].pages * value_bytes;
        cn_pages     *p = open_with(&(cn_pages_opts){
                .folder = folder_of(c ? "one" : "chunks"), .map_bytes = map, .body_bytes = body_bytes});
        for (int64_t i = 0; i < map / key_bytes; i++)
            assert_err(write_key(p, body_bytes, i, cases[c].pages, false, i, &t_diag), CN_OK);
        const cn_pages_stats before = stat_of(p);
        const cn_hash        key = key_of(9999);
        uint8_t             *data = calloc(1, (size_t)map / 4);
        const cn_pages_item  item = {
             .kind = CN_PAGES_WINDOW, .key = &key, .data = data, .bytes = map / 4};
        const int64_t needed = (map / 4 / body_bytes + 1) * value_bytes;
        assert_true(before.evicted > 0);
        assert_err(cn_pages_write(p, &item, 1, 5000, NULL, &t_diag), CN_OK);
        const int64_t freed = (stat_of(p).evicted - before.evicted) * key_bytes;
        assert_true(freed >= needed / 2 && freed <= needed + map / 16);
        cn_pages_close(p);
        free(data);
    }
}

static bool is_any_kept(void *ctx, const cn_hash *key) {
    (void)key;
    return *(const bool *)ctx;
}

static void test_what_cannot_fit_is_refused_whole(void **state) {
    (void)state;
    bool        is_kept = true;
    const char *folder = folder_of("kept");
    cn_pages   *p = open_with(&(cn_pages_opts){.folder = folder,
                                               .map_bytes = MAP,
                                               .body_bytes = BODY,
                                               .is_kept = is_any_kept,
                                               .ctx = &is_kept});
    int         i = 0;
    cn_err      err = CN_OK;
    for (; i < 1000 && !err; i += !err) err = write_key(p, BODY, i, 8, true, i, &t_diag);
    assert_err(err, CN_ENOMEM);
    assert_non_null(strstr(t_diag.text, "kept"));
    assert_true(i > MAP / 8 * 7 / (8 * 8192 + 6 * 4096));
    for (int j = 0; j < i; j++) assert_whole(p, BODY, j, 8, true);
    assert_gone(p, BODY, i, 8, true);
    is_kept = false;
    assert_err(write_key(p, BODY, i, 8, true, i, &t_diag), CN_OK);
    assert_gone(p, BODY, 0, 8, true);
    assert_whole(p, BODY, i, 8, true);

    // More than the whole cache: nothing is evicted for it.
    const int64_t before = stat_of(p).keys;
    const cn_hash key = key_of(999);
    uint8_t      *data = calloc(1, MAP);
    cn_pages_item item = {.kind = CN_PAGES_WINDOW, .key = &key, .data = data, .bytes = MAP};
    assert_err(cn_pages_write(p, &item, 1, 5, NULL, &t_diag), CN_ENOMEM);
    assert_int_equal(stat_of(p).keys, before);
    // And what was just written may use all of it, but for what belongs to the same key.
    item.bytes = MAP / 2;
    assert_err(cn_pages_write(p, &item, 1, 5, NULL, &t_diag), CN_OK);
    item.kind = CN_PAGES_PAGE;
    item.tokens = 1;
    err = CN_OK;
    for (item.number = 0; item.number < 5000 && !err; item.number++)
        err = cn_pages_write(p, &item, 1, 5 + HOUR * item.number, NULL, &t_diag);
    assert_err(err, CN_ENOMEM);
    assert_int_equal(stat_of(p).keys, 1);
    assert_int_equal(stat_of(p).windows, 1);
    cn_pages_close(p);
    free(data);
    assert_sound(folder);
}

/* ---- Damage: values ----------------------------------------------------------------- */

/* One byte of a value changed while nobody had it open. */
static void check_flip(const char *folder, size_t place, size_t at, bool must_fail) {
    const char *path = data_path(folder);
    t_note("byte %zu of the value", at);
    flip_at(path, place + at, (int)(at % 8));
    cn_pages     *p = open_plain(folder);
    cn_pages_txn *t;
    assert_err(cn_pages_begin(&t, p, &t_diag), CN_OK);
    found f = find_key(t, BODY, 1, 3, true);
    assert_int_equal(f.corrupt, must_fail);
    assert_int_equal(f.hits, must_fail ? 4 : 5);
    f = find_key(t, BODY, 1, 3, true);
    assert_int_equal(f.absent, must_fail); // said once
    assert_int_equal(f.hits, must_fail ? 4 : 5);
    assert_int_equal(stat_of(p).corrupt, must_fail);
    cn_pages_end(t);
    cn_pages_close(p);
    flip_at(path, place + at, (int)(at % 8));
}

static void test_no_damaged_value_is_used(void **state) {
    (void)state;
    const char *folder = folder_of("flips");
    cn_pages   *p = open_plain(folder);
    for (int i = 0; i < 20; i++) assert_err(write_key(p, BODY, i, 3, true, 5, &t_diag), CN_OK);
    cn_pages_close(p);
    const size_t     place = place_of(data_path(folder), 1, 1);
    const size_t     padding = CN_VALUE_HEADER_BYTES + BODY, end = 2 * 4096 - 16;
    static const int numbers[] = {SEED_TOKENS, SEED_WINDOW};
    size_t           bytes;
    uint8_t         *data = read_whole(data_path(folder), &bytes);
    for (size_t at = padding; at < end; at++) assert_int_equal(data[place + at], 0);
    for (int i = 0; i < 20; i++) { // in one page, which LMDB reuses without clearing it
        const size_t doc = place_of(data_path(folder), i, SEED_TOKENS);
        for (size_t at = CN_VALUE_HEADER_BYTES + 4 * (TOKENS + LINES); at < 4096 - 16; at++)
            assert_int_equal(data[doc + at], 0);
    }
    free(data);
    for (size_t at = 0; at < CN_VALUE_HEADER_BYTES + 16; at++) check_flip(folder, place, at, true);
    for (int i = 0; i < 20; i++)
        check_flip(folder, place, (size_t)t_rand_range(64, padding - 1), true);
    check_flip(folder, place, padding - 1, true);
    check_flip(folder, place, padding, false);
    check_flip(folder, place, end - 1, false);
    for (int i = 0; i < 2; i++) // of a document and of a window
        for (size_t at = 0; at < 60; at += 7)
            check_flip(folder, place_of(data_path(folder), 1, numbers[i]), at, true);
}

/* Whole and sound values in each other's place, and one with a header of another key. */
static void test_swapped_values_are_not_used(void **state) {
    (void)state;
    const char *folder = folder_of("swap");
    cn_pages   *p = open_plain(folder);
    for (int i = 0; i < 2; i++) assert_err(write_key(p, BODY, i, 2, true, 5, &t_diag), CN_OK);
    cn_pages_close(p);
    size_t       bytes;
    const char  *path = data_path(folder);
    const size_t a = place_of(path, 0, 1), b = place_of(path, 1, 1), c = place_of(path, 0, 0);
    uint8_t     *data = read_whole(path, &bytes);
    for (int i = 0; i < 3; i++) {
        static const int absent[3][2] = {{1, 1}, {2, 0}, {0, 1}};
        const size_t     n = CN_VALUE_HEADER_BYTES + BODY;
        uint8_t         *damaged = malloc(bytes);
        memcpy(damaged, data, bytes);
        if (i < 2) memcpy(damaged + a, data + (i == 0 ? b : c), n);
        if (i < 2) memcpy(damaged + (i == 0 ? b : c), data + a, n);
        if (i == 2) memcpy(damaged + b, data + a, CN_VALUE_HEADER_BYTES);
        write_whole(path, damaged, bytes);
        free(damaged);
        t_note("swap %d", i);
        p = open_plain(folder);
        for (int k = 0; k < 2; k++) {
            const found f = find_now(p, BODY, k, 2, true);
            assert_int_equal(f.corrupt, absent[i][k]);
            assert_int_equal(f.hits, 4 - absent[i][k]);
        }
        cn_pages_close(p);
    }
    free(data);
}

static void test_a_bad_value_is_replaced(void **state) {
    (void)state;
    const char *folder = folder_of("heal");
    cn_pages   *p = open_plain(folder);
    bool        is_moved;
    for (int i = 0; i < 4; i++) assert_err(write_key(p, BODY, i, 3, true, 5, &t_diag), CN_OK);

    // Verified once: what changes under an open page is not seen, what is read first is.
    assert_whole(p, BODY, 0, 3, true);
    flip_at(data_path(folder), place_of(data_path(folder), 0, 1) + 3000, 1);
    const cn_hash key = key_of(0);
    cn_pages_page page;
    cn_pages_txn *t;
    assert_err(cn_pages_begin(&t, p, &t_diag), CN_OK);
    assert_int_equal(cn_pages_get(t, &key, 1, &page), CN_PAGES_HIT);
    for (int n = 0; n < 3; n++)
        flip_at(data_path(folder), place_of(data_path(folder), 2, n) + 1000, 1);
    flip_at(data_path(folder), place_of(data_path(folder), 2, SEED_TOKENS) + 100, 1);
    flip_at(data_path(folder), place_of(data_path(folder), 2, SEED_WINDOW) + 100, 1);
    assert_int_equal(find_key(t, BODY, 2, 3, true).corrupt, 5);
    assert_int_equal(find_key(t, BODY, 2, 3, true).absent, 5);
    assert_int_equal(stat_of(p).pages, 12);

    // Any write deletes them; this one writes them anew.
    assert_err(write_key(p, BODY, 2, 3, true, 5, &t_diag), CN_OK);
    assert_err(cn_pages_renew(t, &is_moved, &t_diag), CN_OK);
    assert_true(is_moved);
    assert_int_equal(find_key(t, BODY, 2, 3, true).hits, 5);
    assert_int_equal(stat_of(p).corrupt, 5);
    flip_at(data_path(folder), place_of(data_path(folder), 3, 0) + 1000, 1);
    assert_int_equal(find_key(t, BODY, 3, 3, true).corrupt, 1);
    assert_err(cn_pages_write(p, NULL, 0, 5, NULL, &t_diag), CN_OK);
    assert_int_equal(stat_of(p).pages, 11);
    assert_err(cn_pages_renew(t, &is_moved, &t_diag), CN_OK);
    assert_int_equal(find_key(t, BODY, 3, 3, true).absent, 1);

    // Evicted and written again: verified again.
    assert_err(cn_pages_delete(p, &key, 1, &t_diag), CN_OK);
    assert_err(write_key(p, BODY, 0, 3, true, 5, &t_diag), CN_OK);
    flip_at(data_path(folder), place_of(data_path(folder), 0, 2) + 1000, 1);
    assert_err(cn_pages_renew(t, NULL, &t_diag), CN_OK);
    const found f = find_key(t, BODY, 0, 3, true);
    assert_true(f.corrupt == 1 && f.hits == 4);

    // In the very places where it was verified before, too.
    const cn_hash five = key_of(5);
    for (int round = 0; round < 12; round++) {
        assert_err(write_key(p, BODY, 5, 1, false, 5, &t_diag), CN_OK);
        if (round > 8) flip_copies(data_path(folder), 5, 0, 1000);
        assert_err(cn_pages_renew(t, NULL, &t_diag), CN_OK);
        assert_int_equal(cn_pages_get(t, &five, 0, &page),
                         round > 8 ? CN_PAGES_CORRUPT : CN_PAGES_HIT);
        assert_err(cn_pages_delete(p, &five, 1, &t_diag), CN_OK);
    }
    cn_pages_end(t);
    cn_pages_close(p);
    assert_sound(folder);
}

/* More bad values than the list of them holds, and more values than marks. */
static void test_many_bad_values(void **state) {
    (void)state;
    enum { KEYS = 30, PAGES = 50 };
    const cn_pages_opts o = {.folder = folder_of("many"), .map_bytes = MAP, .body_bytes = 100};
    cn_pages           *p = open_with(&o);
    for (int i = 0; i < KEYS; i++)
        assert_err(write_key(p, o.body_bytes, i, PAGES, false, 5, &t_diag), CN_OK);
    cn_pages_close(p);
    size_t   bytes;
    uint8_t *data = read_whole(data_path(o.folder), &bytes);
    for (size_t at = 16; at < bytes; at += 4096)
        if (memcmp(data + at, "CnV1", 4) == 0) data[at + 50] ^= 1;
    write_whole(data_path(o.folder), data, bytes);
    free(data);
    p = open_with(&o);
    for (int round = 0; round < 2; round++) {
        int64_t corrupt = 0;
        for (int i = 0; i < KEYS; i++)
            corrupt += find_now(p, o.body_bytes, i, PAGES, false).corrupt;
        assert_int_equal(corrupt, round == 0 ? KEYS * PAGES : 0);
    }
    for (int i = 0; i < KEYS; i++)
        assert_err(write_key(p, o.body_bytes, i, PAGES, false, 5, &t_diag), CN_OK);
    for (int round = 0; round < 40; round++) { // each leaves marks behind
        for (int i = 0; i < KEYS; i++) {
            const cn_hash key = key_of(i);
            assert_err(cn_pages_delete(p, &key, 1, &t_diag), CN_OK);
        }
        if (t_is_sanitized() && round % 10) continue;
        for (int i = 0; i < KEYS; i++) {
            assert_err(write_key(p, o.body_bytes, i, PAGES, false, 5, &t_diag), CN_OK);
            assert_whole(p, o.body_bytes, i, PAGES, false);
        }
    }
    cn_pages_close(p);
}

/* ---- Damage: LMDB's own pages ------------------------------------------------------- */

/* Open what may be damaged in any way.  It must open and give right bytes or none, or be
 * refused; then wiping heals it. */
static cn_err use_damaged(const char *folder) {
    const cn_pages_opts o = {.folder = folder, .map_bytes = MAP, .body_bytes = BODY};
    cn_pages           *p;
    cn_diag             diag = {0};
    cn_err              err = cn_pages_open(&p, &o, &diag);
    if (err) {
        assert_true(err == CN_ECORRUPT || err == CN_EUNSUPPORTED);
        assert_true(diag.err == err && diag.text[0] && p == NULL);
        return err;
    }
    for (int i = 0; i < 40; i++) find_now(p, BODY, i, 3, true);
    for (int i = 20; i < 40 && !err; i++) err = write_key(p, BODY, i, 3, true, 50, &diag);
    if (!err) err = cn_pages_evict(p, 1 << 20, NULL, &diag);
    for (int i = 0; i < 40; i++) find_now(p, BODY, i, 3, true);
    assert_true(err == CN_OK || err == CN_ECORRUPT);
    cn_pages_close(p);
    return err;
}

/* The damages of a data file: one number each.  False: no such. */
static bool make_damage(int64_t n, uint8_t *data, size_t *bytes, const size_t *spot,
                        int64_t spots) {
    if (n < spots) {
        data[spot[n]] ^= (uint8_t)(1 << n % 8);
        return true;
    }
    n -= spots;
    if (n < 200) { // a run of noise
        const size_t at = (size_t)t_rand_range(0, (int64_t)*bytes - 200);
        for (int i = 0; i < 200; i++) data[at + (size_t)i] = (uint8_t)t_rand();
        return true;
    }
    n -= 200;
    if (n < 200) { // a page in another's place
        const int64_t pages = (int64_t)*bytes / 4096;
        memcpy(data + 4096 * t_rand_range(0, pages - 1), data + 4096 * t_rand_range(0, pages - 1),
               4096);
        return true;
    }
    n -= 200;
    if (n < 60) { // cut off
        *bytes = *bytes * (size_t)n / 60 / (n % 2 ? 4096 : 1) * (n % 2 ? 4096 : 1);
        return true;
    }
    return false;
}

/* Whether a snapshot needs the tree page at `data + at`. */
static bool is_live(uint8_t *data, size_t bytes, size_t at) {
    uint64_t unused;
    data[at] ^= 1; // its number
    const cn_err err = cn_lmdb_check(data, bytes, 4096, &unused, NULL);
    data[at] ^= 1;
    return err != CN_OK;
}

/* Bytes to damage: all of LMDB's pages that are in use and not empty, the beginnings of
 * values, and some bytes of free pages. */
static int64_t find_spots(uint8_t *data, size_t bytes, size_t *spot) {
    int64_t n = 0;
    for (size_t page = 0; page < bytes; page += 4096) {
        const uint16_t flags = (uint16_t)(data[page + 10] | data[page + 11] << 8);
        const bool     is_tree = flags == 1 || flags == 2 || flags == 8;
        const size_t   step = is_tree && is_live(data, bytes, page) ? 1 : 512;
        for (size_t at = page; at < page + 4096; at++)
            if (step == 1 ? at % 4096 < 160 || data[at]
                          : at % step == 0 || (flags == 4 && at % 4096 < 32))
                spot[n++] = at;
    }
    return n;
}

static void test_no_damage_of_the_file_matters(void **state) {
    (void)state;
    char        folder[256];
    const char *path;
    size_t      bytes;
    cn_pages   *p;
    struct {
        _Atomic int64_t at, refused, used;
    } *seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    snprintf(folder, sizeof(folder), "%s", folder_of("damage"));
    p = open_plain(folder);
    cn_hash some[12];
    for (int i = 0; i < 30; i++) assert_err(write_key(p, BODY, i, 3, true, i, &t_diag), CN_OK);
    for (int i = 0; i < 12; i++) some[i] = key_of(i * 2); // so that there are free pages
    for (int i = 0; i < 12; i += 4) assert_err(cn_pages_delete(p, some + i, 4, &t_diag), CN_OK);
    cn_pages_close(p);
    path = data_path(folder);
    uint8_t      *data = read_whole(path, &bytes);
    size_t       *spot = malloc(bytes * sizeof(*spot));
    uint8_t      *copy = malloc(bytes);
    const int64_t spots = find_spots(data, bytes, spot),
                  step = is_thorough ? 1 : spots / (t_is_sanitized() ? 150 : 700) | 1;
    assert_true(spots > 4096);

    // In children: one that dies says at which damage.
    for (int64_t n = 0;;) {
        int         status;
        const pid_t pid = fork();
        if (pid == 0) {
            for (;; n += n < spots ? step : 1) {
                size_t now = bytes;
                t_seed((uint64_t)n);
                memcpy(copy, data, bytes);
                seen->at = n;
                if (!make_damage(n, copy, &now, spot, spots)) _exit(7);
                write_whole(path, copy, now);
                if (use_damaged(folder))
                    seen->refused++;
                else
                    seen->used++;
            }
        }
        waitpid(pid, &status, 0);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 7) break;
        n = seen->at;
        t_fail(__FILE__, __LINE__, "damage %lld (byte %zu of %zu): status %x", (long long)n,
               n < spots ? spot[n] : 0, bytes, (unsigned)status);
    }
    print_message("  %lld spots; %lld damages: %lld refused, %lld without harm\n", (long long)spots,
                  (long long)(seen->refused + seen->used), (long long)seen->refused,
                  (long long)seen->used);
    assert_true(seen->refused > 50 && seen->used > 50);

    // LMDB's lock file says nothing that lasts.
    write_whole(path, data, bytes);
    char lock[300];
    snprintf(lock, sizeof(lock), "%s/lock.mdb", folder);
    for (int i = 0; i < 40; i++) {
        uint8_t noise[8192];
        fill(noise, sizeof(noise), (uint64_t)i);
        if (i % 2)
            flip_at(lock, (size_t)t_rand_range(0, 200), i % 8);
        else
            write_whole(lock, noise, i * sizeof(noise) / 40);
        assert_err(use_damaged(folder), CN_OK);
    }
    assert_err(cn_pages_wipe(folder, &t_diag), CN_OK);
    assert_err(use_damaged(folder), CN_OK);
    free(data);
    free(copy);
    free(spot);
    munmap(seen, 4096);
}

/* Damage of LMDB's 16 bytes before a value, found only when it is used or deleted. */
static void test_damage_found_late_is_told(void **state) {
    (void)state;
    for (int way = 0; way < 3; way++) {
        const char *folder = folder_of("late");
        cn_pages   *p = open_plain(folder);
        cn_diag     diag = {0};
        for (int i = 0; i < 3; i++) assert_err(write_key(p, BODY, i, 2, true, i, &t_diag), CN_OK);
        flip_at(data_path(folder), place_of(data_path(folder), 0, 1) - 16, 3); // the pgno
        const cn_hash key = key_of(0);
        if (way == 0) {
            const found f = find_now(p, BODY, 0, 2, true);
            assert_true(f.corrupt == 1 && f.hits == 3);
            assert_err(write_key(p, BODY, 9, 2, true, 9, &diag), CN_ECORRUPT);
        } else if (way == 1) {
            assert_err(cn_pages_evict(p, 1, NULL, &diag), CN_ECORRUPT);
        } else {
            assert_err(cn_pages_delete(p, &key, 1, &diag), CN_ECORRUPT);
        }
        assert_true(diag.err == CN_ECORRUPT && diag.text[0]);
        for (int i = 1; i < 3; i++) assert_whole(p, BODY, i, 2, true); // the rest reads on
        assert_err(cn_pages_touch(p, &key, 1, 99999, &diag), CN_ECORRUPT);
        assert_err(cn_pages_evict(p, 1, NULL, &diag), CN_ECORRUPT);
        assert_err(cn_pages_delete(p, &key, 1, &diag), CN_ECORRUPT);
        assert_err(cn_pages_write(p, NULL, 0, 1, NULL, &diag), CN_ECORRUPT);
        cn_pages_close(p);
        assert_err(cn_pages_wipe(folder, &t_diag), CN_OK);
    }
}

/* Branches of the tree that point out of the file, while it is open. */
static void test_tree_damaged_under_us_is_told(void **state) {
    (void)state;
    const char   *folder = folder_of("under");
    cn_pages     *p = open_plain(folder);
    cn_pages_txn *t;
    cn_diag       diag = {0};
    for (int i = 0; i < 30; i++) assert_err(write_key(p, BODY, i, 2, true, i, &t_diag), CN_OK);
    assert_err(cn_pages_begin(&t, p, &t_diag), CN_OK);
    size_t   bytes;
    uint8_t *data = read_whole(data_path(folder), &bytes);
    for (size_t page = 0; page < bytes; page += 4096) {
        const size_t nodes_end = data[page + 12] | (size_t)data[page + 13] << 8;
        const bool   is_branch = data[page + 10] == 1 && data[page + 11] == 0;
        for (size_t at = page + 16; is_branch && at < page + nodes_end; at += 2) {
            const size_t node = data[at] | (size_t)data[at + 1] << 8;
            if (node < 4090) flip_at(data_path(folder), page + node + 3, 6); // the child's number
        }
    }
    free(data);
    found f = find_key(t, BODY, 7, 2, true);
    assert_true(f.corrupt == 1 && f.absent == 3); // said once
    f = find_key(t, BODY, 8, 2, true);
    assert_int_equal(f.absent, 4);
    assert_err(cn_pages_each(t, sees_one, NULL, &diag), CN_ECORRUPT);
    assert_err(cn_pages_renew(t, NULL, &diag), CN_ECORRUPT); // not even the root is found
    assert_true(diag.err == CN_ECORRUPT && diag.text[0]);
    cn_pages_end(t);
    assert_err(cn_pages_begin(&t, p, &diag), CN_ECORRUPT);
    assert_err(write_key(p, BODY, 50, 2, true, 50, &diag), CN_ECORRUPT);
    cn_pages_close(p);
    assert_err(use_damaged(folder), CN_ECORRUPT);
}

static void test_what_is_not_ours_is_refused(void **state) {
    (void)state;
    const char         *folder = folder_of("foreign");
    const cn_pages_opts o = {.folder = folder, .map_bytes = MAP, .body_bytes = BODY};
    cn_pages           *p;
    MDB_env            *env;
    MDB_txn            *txn;
    MDB_dbi             dbi;
    // Another program's database.
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, folder, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    MDB_val k = {5, "hello"}, v = {5, "world"};
    assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    assert_err(cn_pages_open(&p, &o, &t_diag), CN_ECORRUPT);
    assert_err(cn_pages_wipe(folder, &t_diag), CN_OK);

    // A newer version of ours, and a newer LMDB.
    size_t bytes;
    p = open_plain(folder);
    cn_pages_close(p);
    uint8_t *data = read_whole(data_path(folder), &bytes);
    for (size_t at = 0; at + 24 <= bytes; at++)
        if (memcmp(data + at, "CnPg", 4) == 0) data[at + 4]++;
    write_whole(data_path(folder), data, bytes);
    assert_err(cn_pages_open(&p, &o, &t_diag), CN_EUNSUPPORTED);
    assert_non_null(strstr(t_diag.text, "version 2"));
    data[20] = data[4096 + 20] = 2;
    write_whole(data_path(folder), data, bytes);
    assert_err(cn_pages_open(&p, &o, &t_diag), CN_EUNSUPPORTED);
    data[20] = data[4096 + 20] = 1;
    data[16 + 24 + 1] = data[4096 + 16 + 24 + 1] = 0x20; // pages of 8 KiB
    write_whole(data_path(folder), data, bytes);
    assert_err(cn_pages_open(&p, &o, &t_diag), CN_EUNSUPPORTED);
    free(data);

    // No file at all; and what is not ours stays after a wipe.
    assert_err(cn_pages_wipe(folder, &t_diag), CN_OK);
    char other[300];
    snprintf(other, sizeof(other), "%s/notes", folder);
    write_whole(other, "mine", 4);
    assert_int_equal(mkdir(data_path(folder), 0700), 0);
    assert_err(cn_pages_open(&p, &o, &t_diag), CN_ECORRUPT);
    assert_err(cn_pages_wipe(folder, &t_diag), CN_EIO);
    assert_int_equal(rmdir(data_path(folder)), 0);
    p = open_plain(folder);
    assert_err(cn_pages_wipe(folder, &t_diag), CN_EBUSY);
    assert_err(write_key(p, BODY, 1, 1, true, 1, &t_diag), CN_OK);
    cn_pages_close(p);
    assert_err(cn_pages_wipe(folder, &t_diag), CN_OK);
    assert_err(cn_pages_wipe(folder, &t_diag), CN_OK);
    assert_err(cn_pages_wipe(folder_of("nowhere"), &t_diag), CN_OK);
    assert_err(cn_pages_wipe("", &t_diag), CN_EINVAL);
    assert_err(cn_pages_wipe(NULL, &t_diag), CN_EINVAL);
    assert_int_equal(access(other, F_OK), 0);
    assert_int_equal(access(data_path(folder), F_OK), -1);

    // A small value in a page of its own is not mistaken: deleted whole while open.
    p = open_plain(folder);
    assert_err(write_key(p, BODY, 1, 2, true, 1, &t_diag), CN_OK);
    assert_int_equal(unlink(data_path(folder)), 0);
    assert_whole(p, BODY, 1, 2, true);
    assert_err(write_key(p, BODY, 2, 2, true, 1, &t_diag), CN_OK);
    cn_pages_close(p);
    p = open_plain(folder);
    assert_gone(p, BODY, 1, 2, true);
    cn_pages_close(p);
}

/* ---- Failures and crashes ----------------------------------------------------------- */

typedef struct step {
    const char *name;
    cn_err (*run)(cn_pages *p, int64_t n, cn_diag *diag);
} step;

static cn_err step_write(cn_pages *p, int64_t n, cn_diag *diag) {
    return write_key(p, BODY, n, 3, true, n, diag);
}

static cn_err step_touch(cn_pages *p, int64_t n, cn_diag *diag) {
    cn_hash key[40];
    for (int i = 0; i < 40; i++) key[i] = key_of(n - i);
    return cn_pages_touch(p, key, 40, n + 2 * HOUR * n, diag);
}

static cn_err step_evict(cn_pages *p, int64_t n, cn_diag *diag) {
    (void)n;
    return cn_pages_evict(p, 1, NULL, diag);
}

static cn_err step_delete(cn_pages *p, int64_t n, cn_diag *diag) {
    cn_hash key[5];
    for (int i = 0; i < 5; i++) key[i] = key_of(n - i - 1);
    return cn_pages_delete(p, key, 5, diag);
}

static cn_err step_read(cn_pages *p, int64_t n, cn_diag *diag) {
    cn_pages_txn  *t;
    cn_pages_stats s;
    bool           is_moved = false;
    cn_err         err = cn_pages_begin(&t, p, diag);
    if (err) assert_null(t);
    if (err) return err;
    err = cn_pages_renew(t, &is_moved, diag);
    if (err) { // all is absent until it works
        assert_true(is_moved);
        assert_int_equal(find_key(t, BODY, n - 1, 3, true).absent, 5);
        assert_err(cn_pages_each(t, sees_one, NULL, NULL), CN_EIO);
        if (!cn_pages_renew(t, &is_moved, NULL)) {
            assert_true(is_moved);
            find_key(t, BODY, n - 1, 3, true);
        }
    } else {
        err = cn_pages_each(t, sees_one, NULL, diag);
    }
    cn_pages_end(t);
    return err ? err : cn_pages_stat(p, &s, diag);
}

static const step steps[] = {{"write", step_write},
                             {"touch", step_touch},
                             {"evict", step_evict},
                             {"delete", step_delete},
                             {"read", step_read}};
enum { STEPS = sizeof(steps) / sizeof(steps[0]) };

/* A full cache of keys up to 199, at least 100 of them there. */
static int fill_folder(const char *folder) {
    cn_pages *p = open_plain(folder);
    for (int i = 0; i < 200; i++) assert_err(write_key(p, BODY, i, 3, true, i, &t_diag), CN_OK);
    const int64_t evicted = stat_of(p).evicted;
    assert_true(evicted > 10 && evicted < 100);
    cn_pages_close(p);
    return 200;
}

static void assert_consistent(cn_pages *p, int64_t from, int64_t to) {
    cn_pages_txn *t;
    assert_err(cn_pages_begin(&t, p, &t_diag), CN_OK);
    for (int64_t i = from < 0 ? 0 : from; i < to; i++) {
        const found f = find_key(t, BODY, i, 3, true);
        assert_int_equal(f.corrupt, 0);
        assert_true(f.hits == 0 || f.hits == 5);
    }
    cn_pages_end(t);
}

static void test_every_call_fails_whole(void **state) {
    (void)state;
    static const cn_fault_mode modes[] = {CN_FAULT_ONCE, CN_FAULT_FOREVER};
    const char                *folder = folder_of("faults");
    int64_t                    key = fill_folder(folder);
    cn_pages                  *p = open_plain(folder);
    for (int s = 0; s < STEPS; s++)
        for (int m = 0; m < 2; m++)
            for (int n = 1;; n++) {
                cn_diag diag = {0};
                key += 2;
                assert_err(write_key(p, BODY, key, 3, true, key, &t_diag), CN_OK);
                cn_fault_arm(modes[m], n);
                const cn_err err = steps[s].run(p, key + 1, &diag);
                const bool   hit = cn_fault_was_hit();
                t_note("%s mode %d fault %d at %s: %s", steps[s].name, m, n, cn_fault_last_point(),
                       diag.text);
                cn_fault_arm(CN_FAULT_OFF, 0);
                if (!hit) {
                    assert_err(err, CN_OK);
                    assert_true(n > 3);
                    break;
                }
                assert_true(err == CN_OK || err == CN_EIO || err == CN_ENOMEM);
                if (err) assert_true(diag.err == err && diag.text[0]);
                if (steps[s].run == step_write) {
                    const found f = find_now(p, BODY, key + 1, 3, true);
                    assert_int_equal(f.hits, err ? 0 : 5);
                }
                assert_consistent(p, key - 60, key + 2);
            }
    cn_pages_close(p);
    assert_sound(folder);
}

static void test_open_and_wipe_fail_whole(void **state) {
    (void)state;
    const char         *folder = folder_of("open-faults");
    const cn_pages_opts o = {.folder = folder, .map_bytes = MAP, .body_bytes = BODY};
    for (int is_new = 0; is_new < 2; is_new++)
        for (int n = 1;; n++) {
            cn_pages *p = NULL;
            cn_diag   diag = {0};
            if (is_new) {
                assert_err(cn_pages_wipe(folder, &t_diag), CN_OK);
            } else {
                p = open_plain(folder);
                assert_err(write_key(p, BODY, 1, 3, true, 1, &t_diag), CN_OK);
                cn_pages_close(p);
            }
            cn_fault_arm(CN_FAULT_ONCE, n);
            const cn_err err = cn_pages_open(&p, &o, &diag);
            const bool   hit = cn_fault_was_hit();
            t_note("fault %d at %s", n, cn_fault_last_point());
            cn_fault_arm(CN_FAULT_OFF, 0);
            if (!hit) {
                assert_err(err, CN_OK);
                cn_pages_close(p);
                assert_true(n > 8);
                break;
            }
            assert_true(err == CN_EIO || err == CN_ENOMEM);
            assert_true(diag.err == err && diag.text[0] && p == NULL);
            p = open_plain(folder); // not locked, not listed
            if (!is_new) assert_whole(p, BODY, 1, 3, true);
            cn_pages_close(p);
        }
    for (int n = 1;; n++) {
        cn_diag diag = {0};
        cn_pages_close(open_plain(folder));
        cn_fault_arm(CN_FAULT_ONCE, n);
        const cn_err err = cn_pages_wipe(folder, &diag);
        const bool   hit = cn_fault_was_hit();
        cn_fault_arm(CN_FAULT_OFF, 0);
        if (!hit) {
            assert_err(err, CN_OK);
            assert_int_equal(n, 5); // folder, lock, two files
            break;
        }
        assert_err(err, CN_EIO);
        assert_true(diag.err == err && diag.text[0]);
    }
}

/* The n-th write of LMDB itself fails, as if the disk were full or broken. */
static void test_disk_fails_in_any_write(void **state) {
    (void)state;
    static const int errors[] = {ENOSPC, EIO};
    const char      *folder = folder_of("disk");
    int64_t          key = fill_folder(folder);
    for (int s = 0; s < STEPS - 1; s++)
        for (int mode = DISK_ONCE; mode <= DISK_FOREVER; mode++)
            for (int e = 0; e < 2; e++)
                for (int n = 1;; n++) {
                    cn_pages *p = open_plain(folder);
                    cn_diag   diag = {0};
                    key += 2;
                    assert_err(write_key(p, BODY, key, 3, true, key, &t_diag), CN_OK);
                    arm_disk(mode, errors[e], n);
                    cn_err err = steps[s].run(p, key + 1, &diag);
                    t_note("%s mode %d write %d fails with %s: %s %s", steps[s].name, mode, n,
                           strerror(errors[e]), cn_err_name(err), diag.text);
                    const bool hit = disk.was_hit;
                    arm_disk(DISK_OK, 0, 0);
                    if (hit) {
                        assert_true(err == CN_OK || err == CN_EIO || err == CN_ENOMEM);
                        assert_true(e == 0 || err == CN_EIO);
                        if (err) assert_true(diag.err == err && diag.text[0]);
                    }
                    cn_pages_txn *t; // LMDB refuses all after a meta page failed
                    if (cn_pages_begin(&t, p, &diag) == CN_OK) {
                        cn_pages_end(t);
                        assert_consistent(p, key - 60, key + 2);
                    } else {
                        assert_err(diag.err, CN_EIO);
                    }
                    cn_pages_close(p);
                    assert_sound(folder);
                    if (!hit) {
                        assert_err(err, CN_OK);
                        assert_true(n > 3);
                        break;
                    }
                    p = open_plain(folder);
                    assert_consistent(p, key - 60, key + 2);
                    if (steps[s].run == step_write)
                        assert_int_equal(find_now(p, BODY, key + 1, 3, true).hits, err ? 0 : 5);
                    assert_err(steps[s].run(p, key + 1, &t_diag), CN_OK);
                    cn_pages_close(p);
                }
}

/* A process dies at the n-th fault point, or in the middle of LMDB's n-th write. */
static void test_crash_leaves_whole_values(void **state) {
    (void)state;
    const char *folder = folder_of("crash");
    int64_t     key = fill_folder(folder);
    for (int s = 0; s < STEPS - 1; s++)
        for (int is_disk = 0; is_disk < 2; is_disk++)
            for (int n = 1;; n++) {
                int status;
                key += 2;
                const pid_t pid = fork();
                if (pid == 0) {
                    cn_pages *p = open_plain(folder);
                    if (is_disk)
                        arm_disk(DISK_CRASH, EIO, n);
                    else
                        cn_fault_arm(CN_FAULT_CRASH, n);
                    _exit(steps[s].run(p, key, NULL));
                }
                assert_int_equal(waitpid(pid, &status, 0), pid);
                t_note("%s crash %d of %s", steps[s].name, n, is_disk ? "the disk" : "ours");
                assert_sound(folder);
                cn_pages *p = open_plain(folder);
                assert_consistent(p, key - 60, key + 2);
                if (steps[s].run == step_write && !WIFSIGNALED(status))
                    assert_whole(p, BODY, key, 3, true);
                assert_err(write_key(p, BODY, key + 1, 3, true, key, &t_diag), CN_OK);
                cn_pages_close(p);
                if (WIFSIGNALED(status)) {
                    assert_int_equal(WTERMSIG(status), SIGKILL);
                    continue;
                }
                assert_err(WEXITSTATUS(status), CN_OK);
                if (n < 4) t_fail(__FILE__, __LINE__, "only %d points", n - 1);
                break;
            }
}

/* ---- Other processes and threads ---------------------------------------------------- */

/* Writers that are killed at any time, beside a process that reads and writes. */
static void test_processes_share_a_folder(void **state) {
    (void)state;
    enum { ROUNDS = 12, KEYS = 400 };
    const char *folder = folder_of("shared");
    int         go[2];
    cn_pages_close(open_plain(folder));
    for (int round = 0; round < ROUNDS; round++) {
        pid_t pid[2];
        char  byte;
        assert_int_equal(pipe(go), 0);
        for (int w = 0; w < 2; w++) {
            pid[w] = fork();
            if (pid[w]) continue;
            assert_int_equal(read(go[0], &byte, 1), 1); // opens when the parent has it open
            cn_pages *p = open_plain(folder);
            t_seed((uint64_t)round * 2 + (uint64_t)w);
            for (;;) {
                const int64_t i = t_rand_range(0, KEYS - 1);
                const cn_err  err = write_key(p, BODY, i, 3, true, round, NULL);
                if (err && err != CN_ENOMEM) _exit(1); // held by a snapshot of the others
                const found f = find_now(p, BODY, t_rand_range(0, KEYS - 1), 3, true);
                if (f.corrupt || (f.hits != 0 && f.hits != 5)) _exit(2);
            }
        }
        cn_pages     *p = open_plain(folder);
        cn_pages_txn *t;
        assert_err(cn_pages_begin(&t, p, &t_diag), CN_OK);
        assert_int_equal(write(go[1], "ab", 2), 2);
        const int64_t end = cn_clock_ns() + 30 * 1000000 + t_rand_range(0, 20000000);
        int64_t       seen = 0;
        while (cn_clock_ns() < end) {
            bool is_moved;
            for (int i = 0; i < 40; i++) {
                const found f = find_key(t, BODY, t_rand_range(0, KEYS - 1), 3, true);
                assert_int_equal(f.corrupt, 0);
                assert_true(f.hits == 0 || f.hits == 5);
                seen += f.hits;
            }
            assert_err(cn_pages_renew(t, &is_moved, &t_diag), CN_OK);
        }
        for (int w = 0; w < 2; w++) {
            int status;
            assert_int_equal(kill(pid[w], SIGKILL), 0);
            assert_int_equal(waitpid(pid[w], &status, 0), pid[w]);
            assert_true(WIFSIGNALED(status)); // not by its own checks
        }
        cn_pages_end(t);
        // The dead hold no lock and no snapshot: the whole map can be written again.
        for (int i = 0; i < 10; i++)
            assert_err(write_key(p, BODY, 10000 + round * 10 + i, 64, true, round, &t_diag), CN_OK);
        assert_consistent(p, 0, KEYS);
        assert_true(round < ROUNDS - 1 || seen > 0);
        cn_pages_close(p);
        close(go[0]);
        close(go[1]);
        assert_sound(folder);
    }
}

typedef struct reader {
    cn_pages    *p;
    atomic_bool *stop;
    int64_t      hits;
    bool         is_wrong;
} reader;

static void *read_on(void *arg) {
    reader       *r = arg;
    cn_pages_txn *t;
    cn_pages_page page;
    uint64_t      z = (uint64_t)(uintptr_t)arg;
    if (cn_pages_begin(&t, r->p, NULL)) return NULL;
    while (!atomic_load(r->stop) && !r->is_wrong) {
        for (int n = 0; n < 50; n++) {
            const int64_t i = (int64_t)((z = mix(z + 1)) % 300);
            const cn_hash key = key_of(i);
            if (cn_pages_get(t, &key, 1, &page) == CN_PAGES_HIT) {
                r->hits++;
                r->is_wrong |= !is_filled(page.body, BODY, seed_of(i, 1));
            }
        }
        if (cn_pages_renew(t, NULL, NULL)) r->is_wrong = true;
    }
    cn_pages_end(t);
    return NULL;
}

static void test_threads_read_while_one_writes(void **state) {
    (void)state;
    cn_pages   *p = open_plain(folder_of("threads"));
    atomic_bool stop = false;
    reader      r[3];
    pthread_t   thread[3];
    for (int i = 0; i < 3; i++) {
        r[i] = (reader){p, &stop, 0, false};
        assert_int_equal(pthread_create(&thread[i], NULL, read_on, &r[i]), 0);
    }
    cn_err err = CN_OK;
    for (int i = 0; i < 600 && (!err || err == CN_ENOMEM); i++) // ENOMEM: held by a reader
        err = write_key(p, BODY, i % 300, 3, true, i, &t_diag);
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++) pthread_join(thread[i], NULL);
    assert_true(err == CN_OK || err == CN_ENOMEM);
    for (int i = 0; i < 3; i++) assert_false(r[i].is_wrong);
    assert_true(r[0].hits + r[1].hits + r[2].hits > 0);
    assert_int_equal(stat_of(p).corrupt, 0);
    cn_pages_close(p);
}

/* ---- Limits and disks --------------------------------------------------------------- */

static void test_limits_are_told(void **state) {
    (void)state;
    const char         *folder = folder_of("limits");
    char                long_name[CN_PAGES_FOLDER_BYTES_MAX + 2];
    cn_pages           *p;
    const cn_pages_opts good = {.folder = folder, .map_bytes = MAP, .body_bytes = BODY};
    cn_pages_opts       bad[8];
    memset(long_name, 'x', sizeof(long_name));
    long_name[sizeof(long_name) - 1] = 0;
    for (int i = 0; i < 8; i++) bad[i] = good;
    bad[0].folder = NULL;
    bad[1].folder = "";
    bad[2].folder = long_name;
    bad[3].map_bytes = CN_PAGES_MAP_BYTES_MIN - 1;
    bad[4].map_bytes = INT64_MAX;
    bad[5].body_bytes = 0;
    bad[6].body_bytes = (int64_t)CN_PAGES_BODY_BYTES_MAX + 1;
    bad[7].body_bytes = -5;
    for (int i = 0; i < 8; i++) {
        cn_diag diag = {0};
        t_note("option %d", i);
        p = (cn_pages *)1;
        assert_err(cn_pages_open(&p, &bad[i], &diag), CN_EINVAL);
        assert_true(p == NULL && diag.err == CN_EINVAL && diag.text[0]);
    }
    assert_int_equal(access(folder, F_OK), -1);

    cn_pages_opts o = good;
    o.read_only = true;
    assert_err(cn_pages_open(&p, &o, &t_diag), CN_ENOTFOUND);
    assert_int_equal(access(folder, F_OK), -1);
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_err(cn_pages_open(&p, &o, &t_diag), CN_ENOTFOUND);
    assert_int_equal(access(data_path(folder), F_OK), -1);
    o.read_only = false;
    o.folder = folder_of("limits/no/such");
    assert_err(cn_pages_open(&p, &o, &t_diag), CN_EIO);
    assert_non_null(strstr(t_diag.text, "no/such"));

    o = good;
    o.folder = folder_of("limits");
    p = open_with(&o);
    cn_pages *q;
    assert_err(cn_pages_open(&q, &o, &t_diag), CN_EINVAL); // twice in a process
    assert_null(q);
    const cn_hash       key = key_of(1);
    const int32_t       id = 3;
    const uint8_t       body[BODY] = {0};
    const cn_pages_doc  doc = {.token = &id, .tokens = 1, .line = &id, .lines = 1};
    const cn_pages_item page = {
        .kind = CN_PAGES_PAGE, .key = &key, .data = body, .tokens = 1, .number = 0};
    const cn_pages_item window = {
        .kind = CN_PAGES_WINDOW, .key = &key, .data = body, .bytes = BODY};
    cn_pages_doc  bad_doc[7];
    cn_pages_item item[18];
    for (int i = 0; i < 7; i++) bad_doc[i] = doc;
    bad_doc[0].token = NULL;
    bad_doc[1].tokens = -1;
    bad_doc[2].tokens = CN_PAGES_TOKENS_MAX + 1;
    bad_doc[3].line = NULL;
    bad_doc[4].lines = -1;
    bad_doc[5].lines = CN_PAGES_TOKENS_MAX + 1;
    bad_doc[6].text_bytes = -1;
    for (int i = 0; i < 18; i++)
        item[i] = i < 6    ? page
                  : i < 10 ? window
                           : (cn_pages_item){.kind = CN_PAGES_DOC, .key = &key, .doc = NULL};
    item[0].key = NULL;
    item[1].data = NULL;
    item[2].tokens = 0;
    item[3].number = -1;
    item[4].number = CN_PAGES_NUMBER_MAX + 1;
    item[5].kind = (cn_pages_kind)0;
    item[6].data = NULL;
    item[7].bytes = 0;
    item[8].bytes = (int64_t)CN_PAGES_WINDOW_BYTES_MAX + 1;
    item[9].kind = (cn_pages_kind)4;
    for (int i = 0; i < 7; i++) item[11 + i].doc = &bad_doc[i];
    for (int i = 0; i < 18; i++) {
        const cn_pages_item both[] = {page, item[i]};
        cn_diag             diag = {0};
        int64_t             bytes = 5;
        t_note("item %d", i);
        assert_err(cn_pages_write(p, both, 2, 1, &bytes, &diag), CN_EINVAL);
        assert_true(bytes == 0 && diag.err == CN_EINVAL && strstr(diag.text, "item 1 of 2"));
    }
    assert_err(cn_pages_write(p, &page, -1, 1, NULL, &t_diag), CN_EINVAL);
    assert_err(cn_pages_write(p, &page, CN_PAGES_ITEMS_MAX + 1, 1, NULL, &t_diag), CN_EINVAL);
    assert_int_equal(stat_of(p).keys, 0);
    const cn_pages_item all[] = {page, window};
    assert_err(cn_pages_write(p, all, 2, 1, NULL, NULL), CN_OK);
    cn_pages_close(p);
    cn_pages_close(NULL);

    // Reading only: it reads, and writes nothing.
    o.read_only = true;
    p = open_with(&o);
    assert_int_equal(stat_of(p).keys, 1);
    assert_err(cn_pages_write(p, all, 2, 1, NULL, &t_diag), CN_EINVAL);
    assert_err(cn_pages_touch(p, &key, 1, 99999, &t_diag), CN_EINVAL);
    assert_err(cn_pages_evict(p, 1, NULL, &t_diag), CN_EINVAL);
    assert_err(cn_pages_delete(p, &key, 1, &t_diag), CN_EINVAL);
    cn_pages_close(p);
}

/* A larger map takes effect, a smaller one evicts; beside another process neither. */
static void test_map_size_may_change(void **state) {
    (void)state;
    const char   *folder = folder_of("resize");
    cn_pages_opts o = {.folder = folder, .map_bytes = MAP, .body_bytes = BODY};
    cn_pages     *p = open_with(&o);
    for (int i = 0; i < 300; i++) assert_err(write_key(p, BODY, i, 3, true, i, &t_diag), CN_OK);
    const int64_t small = stat_of(p).keys;
    cn_pages_close(p);
    o.map_bytes = 4 * MAP;
    p = open_with(&o);
    for (int i = 300; i < 900; i++) assert_err(write_key(p, BODY, i, 3, true, i, &t_diag), CN_OK);
    cn_pages_stats s = stat_of(p);
    assert_true(s.keys > 3 * small && s.file_bytes > 2 * MAP && s.file_bytes <= 4 * MAP);
    int  go[2], status;
    char byte;
    cn_pages_close(p);
    assert_int_equal(pipe(go), 0);
    const pid_t pid = fork();
    if (pid == 0) { // asks for less and more, gets what there is
        if (read(go[0], &byte, 1) != 1) _exit(1);
        o.map_bytes = 16 * MAP;
        p = open_with(&o);
        const int64_t budget = stat_of(p).budget_bytes;
        for (int i = 0; i < 20; i++)
            if (write_key(p, BODY, 5000 + i, 3, true, 5000, &t_diag)) _exit(2);
        cn_pages_close(p);
        _exit(budget <= 4 * MAP ? 0 : 3);
    }
    p = open_with(&o);
    assert_int_equal(write(go[1], "a", 1), 1);
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    assert_whole(p, BODY, 5019, 3, true);
    assert_err(write_key(p, BODY, 6000, 3, true, 6000, &t_diag), CN_OK);
    cn_pages_close(p);

    o.map_bytes = MAP;
    p = open_with(&o);
    assert_true(stat_of(p).used_bytes > 2 * MAP);
    assert_err(write_key(p, BODY, 6001, 3, true, 6001, &t_diag), CN_OK);
    s = stat_of(p);
    assert_true(s.used_bytes <= s.budget_bytes && s.budget_bytes < MAP && s.keys <= small);
    assert_whole(p, BODY, 6001, 3, true);
    cn_pages_close(p);
    assert_sound(folder);
    close(go[0]);
    close(go[1]);
}

static void test_full_disk_and_read_only_disk(void **state) {
    (void)state;
    char folder[256], options[64];
    snprintf(folder, sizeof(folder), "%s", folder_of("tmpfs"));
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(options, sizeof(options), "size=%d", MAP / 2);
    if (mount("none", folder, "tmpfs", 0, options)) {
        print_message("  no tmpfs may be mounted here (%s): the full disk is not tried\n",
                      strerror(errno));
        skip();
    }
    cn_pages_opts o = {.folder = folder, .map_bytes = 4 * MAP, .body_bytes = BODY};
    cn_pages     *p = open_with(&o);
    int           written = 0;
    for (int i = 0; i < 600; i++) {
        cn_diag      diag = {0};
        const cn_err err = write_key(p, BODY, i, 3, true, i, &diag);
        t_note("write %d: %s", i, diag.text);
        assert_err(err, err == CN_OK ? CN_OK : CN_ENOMEM);
        if (err) assert_non_null(strstr(diag.text, strerror(ENOSPC)));
        written += !err;
        if (err && i < 90) fprintf(stderr, "%d %s:%d %s\n", i, diag.file, diag.line, diag.text);
        if (i % 20 == 0) assert_consistent(p, i - 100, i + 1);
    }
    print_message("  a disk of %d bytes took %d of 600 writes, %lld evicted\n", MAP / 2, written,
                  (long long)stat_of(p).evicted);
    assert_int_equal(written, 600); // the disk's size is the budget
    assert_true(stat_of(p).keys > 30);
    assert_whole(p, BODY, 599, 3, true);
    cn_pages_close(p);
    assert_sound(folder);

    assert_int_equal(mount("none", folder, "tmpfs", MS_REMOUNT | MS_RDONLY, options), 0);
    cn_diag diag = {0};
    assert_err(cn_pages_open(&p, &o, &diag), CN_EIO);
    assert_true(diag.err == CN_EIO && diag.text[0]);
    assert_err(cn_pages_wipe(folder, &diag), CN_EIO);
    o.read_only = true;
    p = open_with(&o);
    assert_whole(p, BODY, 599, 3, true);
    assert_consistent(p, 0, 600);
    cn_pages_close(p);
    assert_int_equal(umount(folder), 0);
}

static void test_ten_thousand_pages(void **state) {
    (void)state;
    enum { GROUP = 250, KEYS = 1250, PAGES = 8, SMALL = 4032 };
    const cn_pages_opts o = {
        .folder = folder_of("10000"), .map_bytes = 64 << 20, .body_bytes = SMALL};
    cn_pages      *p = open_with(&o);
    uint8_t       *body = malloc((size_t)GROUP * PAGES * SMALL);
    cn_hash        key[GROUP];
    cn_pages_item *item = calloc((size_t)GROUP * PAGES, sizeof(*item));
    const int64_t  start = cn_clock_ns();
    for (int g = 0; g < KEYS / GROUP; g++) {
        for (int j = 0; j < GROUP * PAGES; j++) {
            const int64_t i = g * GROUP + j / PAGES;
            key[j / PAGES] = key_of(i);
            fill(body + (size_t)j * SMALL, SMALL, seed_of(i, j % PAGES));
            item[j] = (cn_pages_item){.kind = CN_PAGES_PAGE,
                                      .key = &key[j / PAGES],
                                      .data = body + (size_t)j * SMALL,
                                      .number = j % PAGES,
                                      .tokens = j % PAGES + 1};
        }
        assert_err(cn_pages_write(p, item, GROUP * PAGES, g, NULL, &t_diag), CN_OK);
    }
    for (int i = 0; i < KEYS; i++) assert_whole(p, SMALL, i, PAGES, false);
    assert_int_equal(stat_of(p).pages, KEYS * PAGES);
    int64_t freed;
    assert_err(cn_pages_evict(p, 16 << 20, &freed, &t_diag), CN_OK);
    assert_true(freed >= 16 << 20 && freed <= (16 << 20) + 4096 * PAGES);
    assert_int_equal(stat_of(p).pages, KEYS * PAGES - freed / 4096);
    cn_pages_close(p);
    assert_sound(o.folder);
    p = open_with(&o);
    assert_int_equal(stat_of(p).pages, KEYS * PAGES - freed / 4096);
    cn_pages_close(p);
    print_message("  10,000 pages: %.2f s\n", (double)(cn_clock_ns() - start) * 1e-9);
    free(body);
    free(item);
}

/* ---- Speed -------------------------------------------------------------------------- */

/* The same bytes appended to a plain file: what this disk gives. */
static double plain_file_bytes_per_ns(const uint8_t *data, size_t bytes, int groups) {
    const int     fd = open(folder_of("plain"), O_WRONLY | O_CREAT, 0600);
    const int64_t start = cn_clock_ns();
    for (int g = 0; g < groups; g++) {
        assert_int_equal(pwrite(fd, data, bytes, (off_t)bytes * g), bytes);
        assert_int_equal(fdatasync(fd), 0);
    }
    const int64_t ns = cn_clock_ns() - start;
    close(fd);
    return groups * (double)bytes / (double)ns;
}

static void bench(void) {
    enum { BENCH_BODY = 163840, GROUP = 100, GROUPS = 30 };
    const cn_pages_opts o = {
        .folder = folder_of("bench"), .map_bytes = INT64_C(2) << 30, .body_bytes = BENCH_BODY};
    const double  group_bytes = (double)GROUP * (BENCH_BODY + CN_VALUE_HEADER_BYTES);
    uint8_t      *body = malloc((size_t)GROUP * BENCH_BODY);
    cn_hash       key[GROUP];
    cn_pages_item item[GROUP];
    cn_pages     *p = open_with(&o);
    cn_pages_txn *t;
    cn_pages_page page;
    int64_t       best = INT64_MAX, all = 0, sum = 0;
    fill(body, (size_t)GROUP * BENCH_BODY, 1);
    printf("plain   %.2f GB/s to a file, a sync every %d MB\n",
           plain_file_bytes_per_ns(body, (size_t)GROUP * BENCH_BODY, GROUPS),
           GROUP * BENCH_BODY / 1000000);
    for (int g = 0; g < GROUPS; g++) {
        for (int j = 0; j < GROUP; j++) {
            key[j] = key_of(g * GROUP + j);
            item[j] = (cn_pages_item){.kind = CN_PAGES_PAGE,
                                      .key = &key[j],
                                      .data = body + (size_t)j * BENCH_BODY,
                                      .tokens = 256};
        }
        const int64_t start = cn_clock_ns();
        assert_err(cn_pages_write(p, item, GROUP, g, NULL, &t_diag), CN_OK);
        const int64_t ns = cn_clock_ns() - start;
        all += ns;
        if (ns < best) best = ns;
    }
    printf("write   %.2f GB/s, best commit %.2f GB/s (%d pages of %d bytes a commit)\n",
           GROUPS * group_bytes / (double)all, group_bytes / (double)best, GROUP,
           BENCH_BODY + CN_VALUE_HEADER_BYTES);
    for (int round = 0; round < 3; round++) {
        best = INT64_MAX;
        for (int repeat = 0; repeat < (round == 0 ? 1 : 5); repeat++) {
            const int64_t start = cn_clock_ns();
            assert_err(cn_pages_begin(&t, p, &t_diag), CN_OK);
            for (int i = 0; i < GROUPS * GROUP; i++) {
                const cn_hash k = key[i % GROUP];
                const cn_hash one = round < 2 ? key_of(i) : k;
                assert_int_equal(cn_pages_get(t, &one, 0, &page), CN_PAGES_HIT);
                sum += page.tokens;
            }
            cn_pages_end(t);
            const int64_t ns = cn_clock_ns() - start;
            if (ns < best) best = ns;
        }
        printf("get     %.0f ns, %s\n", (double)best / (GROUPS * GROUP),
               round == 0   ? "first use: checksum"
               : round == 1 ? "3,000 pages in turn (and 1 BLAKE2b of the test)"
                            : "100 pages in turn");
    }
    assert_err(cn_pages_begin(&t, p, &t_diag), CN_OK);
    const int64_t start = cn_clock_ns();
    for (int i = 0; i < 100000; i++) assert_err(cn_pages_renew(t, NULL, &t_diag), CN_OK);
    printf("renew   %.0f ns\n", (double)(cn_clock_ns() - start) / 100000);
    cn_pages_end(t);
    int64_t freed, at = cn_clock_ns();
    assert_err(cn_pages_evict(p, 100 << 20, &freed, &t_diag), CN_OK);
    printf("evict   %.1f ms for %lld MB\n", (double)(cn_clock_ns() - at) * 1e-6,
           (long long)freed / 1000000);
    cn_pages_close(p);
    at = cn_clock_ns();
    p = open_with(&o);
    printf("open    %.1f ms\n", (double)(cn_clock_ns() - at) * 1e-6);
    cn_pages_close(p);
    free(body);
    assert_true(sum > 0);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_come_back),
        cmocka_unit_test(test_windows_and_documents_of_any_size),
        cmocka_unit_test(test_what_exists_is_left_alone),
        cmocka_unit_test(test_two_page_sizes_share_a_folder),
        cmocka_unit_test(test_each_lists_all_keys),
        cmocka_unit_test(test_snapshot_keeps_what_it_sees),
        cmocka_unit_test(test_snapshots_are_limited),
        cmocka_unit_test(test_least_recently_used_goes_first),
        cmocka_unit_test(test_used_again_is_written_down),
        cmocka_unit_test(test_full_map_evicts),
        cmocka_unit_test(test_large_write_evicts_what_it_needs),
        cmocka_unit_test(test_what_cannot_fit_is_refused_whole),
        cmocka_unit_test(test_no_damaged_value_is_used),
        cmocka_unit_test(test_swapped_values_are_not_used),
        cmocka_unit_test(test_a_bad_value_is_replaced),
        cmocka_unit_test(test_many_bad_values),
        cmocka_unit_test(test_no_damage_of_the_file_matters),
        cmocka_unit_test(test_damage_found_late_is_told),
        cmocka_unit_test(test_tree_damaged_under_us_is_told),
        cmocka_unit_test(test_what_is_not_ours_is_refused),
        cmocka_unit_test(test_every_call_fails_whole),
        cmocka_unit_test(test_open_and_wipe_fail_whole),
        cmocka_unit_test(test_disk_fails_in_any_write),
        cmocka_unit_test(test_crash_leaves_whole_values),
        cmocka_unit_test(test_processes_share_a_folder),
        cmocka_unit_test(test_threads_read_while_one_writes),
        cmocka_unit_test(test_limits_are_told),
        cmocka_unit_test(test_map_size_may_change),
        cmocka_unit_test(test_full_disk_and_read_only_disk),
        cmocka_unit_test(test_ten_thousand_pages),
    };
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        is_bench = true;
        bench();
        return 0;
    }
    is_thorough = argc > 1 && strcmp(argv[1], "thorough") == 0;
    if (argc > 1 && !is_thorough) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
