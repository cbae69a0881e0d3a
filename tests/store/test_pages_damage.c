/*
 * test_pages_damage.c - No byte of the page cache's folder, changed in any way, gives a wrong
 * byte to a reader or ends the process.
 *
 *   build/release-cpu/tests/store/test_pages_damage all    each byte of LMDB's pages
 */
#include "tests/store/pages_kit.h"

#include <lmdb.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

static bool is_thorough;

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
                  step = is_thorough ? 1 : spots / (t_is_sanitized() ? 150 : 400) | 1;
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

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_damaged_value_is_used),
        cmocka_unit_test(test_swapped_values_are_not_used),
        cmocka_unit_test(test_a_bad_value_is_replaced),
        cmocka_unit_test(test_many_bad_values),
        cmocka_unit_test(test_no_damage_of_the_file_matters),
        cmocka_unit_test(test_damage_found_late_is_told),
        cmocka_unit_test(test_tree_damaged_under_us_is_told),
        cmocka_unit_test(test_what_is_not_ours_is_refused),
    };
    is_thorough = argc > 1 && strcmp(argv[1], "all") == 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
