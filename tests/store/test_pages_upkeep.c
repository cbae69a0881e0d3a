/*
 * test_pages_upkeep.c - Every value verified; what was deleted is gone from the file, and
 * nothing else is.
 */
#include "tests/store/pages_kit.h"

#include "base/clock.h"
#include "base/fault.h"

#include <sys/wait.h>

static int64_t count_zeroed; // set by count_copies: copies of the beginning of a body

/* How many times the beginning of key i's page `number` lies in the file. */
static int count_copies(const char *folder, int64_t i, int number) {
    uint8_t head[64];
    size_t  bytes;
    int     copies = 0;
    fill(head, sizeof(head), seed_of(i, number));
    uint8_t *data = read_whole(data_path(folder), &bytes);
    for (size_t at = 64; at + BODY <= bytes; at += 4096)
        copies += memcmp(data + at, head, sizeof(head)) == 0;
    free(data);
    count_zeroed += copies;
    return copies;
}

static cn_pages_verified verify(cn_pages *p) {
    cn_pages_verified v;
    assert_err(cn_pages_verify(p, &v, &t_diag), CN_OK);
    return v;
}

static cn_pages_erased erase(cn_pages *p) {
    cn_pages_erased e;
    assert_err(cn_pages_erase(p, &e, &t_diag), CN_OK);
    return e;
}

static void delete_key(cn_pages *p, int64_t i) {
    const cn_hash key = key_of(i);
    assert_err(cn_pages_delete(p, &key, 1, &t_diag), CN_OK);
}

/* ---- Verify ------------------------------------------------------------------------- */

static void test_every_value_is_read(void **state) {
    (void)state;
    enum { KEYS = 10, VALUES = KEYS * (3 + 1 + 3) }; // a window of three parts
    const char *folder = folder_of("verify");
    cn_pages   *p = open_plain(folder);
    assert_int_equal(verify(p).values, 0);
    for (int i = 0; i < KEYS; i++) assert_err(write_key(p, BODY, i, 3, true, 5, &t_diag), CN_OK);
    cn_pages_verified v = verify(p);
    assert_int_equal(v.values, VALUES);
    assert_int_equal(v.bytes, KEYS * (5 * (2 * 4096 - 16) + 2 * (4096 - 16)));
    assert_int_equal(v.corrupt, 0);
    // Each kind of value, and one that this process has verified already.
    assert_whole(p, BODY, 1, 3, true);
    flip_at(data_path(folder), place_of(data_path(folder), 1, 1) + 3000, 1);
    flip_at(data_path(folder), place_of(data_path(folder), 2, SEED_TOKENS) + 100, 1);
    flip_at(data_path(folder), place_of(data_path(folder), 3, SEED_WINDOW) + 100, 1);
    flip_at(data_path(folder), place_of(data_path(folder), 4, 0) + 10, 1); // of a header
    v = verify(p);
    assert_int_equal(v.corrupt, 4);
    assert_int_equal(v.values, VALUES);
    assert_int_equal(stat_of(p).corrupt, 4);
    assert_int_equal(stat_of(p).pages, KEYS * 3 - 2); // they are gone
    v = verify(p);
    assert_int_equal(v.corrupt, 0);
    assert_int_equal(v.values, VALUES - 4);
    for (int i = 1; i < 5; i++) {
        assert_int_equal(find_now(p, BODY, i, 3, true).hits, 4);
        assert_err(write_key(p, BODY, i, 3, true, 5, &t_diag), CN_OK);
        assert_whole(p, BODY, i, 3, true);
    }
    cn_pages_close(p);
    assert_sound(folder);

    // Pages of another size lie in the same folder; who may only read counts.
    const cn_pages_opts o = {
        .folder = folder, .map_bytes = MAP, .body_bytes = 100, .read_only = true};
    flip_at(data_path(folder), place_of(data_path(folder), 5, 0) + 500, 1);
    p = open_with(&o);
    for (int round = 0; round < 2; round++) {
        v = verify(p);
        assert_int_equal(v.values, VALUES);
        assert_int_equal(v.corrupt, 1);
    }
    cn_pages_erased e;
    assert_err(cn_pages_erase(p, &e, &t_diag), CN_EINVAL);
    cn_pages_close(p);
}

/* More bad values than wait at once; in one pass all are gone.  And in one write, if they are
 * found by reading. */
static void test_very_many_bad_values(void **state) {
    (void)state;
    enum { KEYS = 50, PAGES = 50 };
    // So large that the marks of all that is written and read here fit.
    const cn_pages_opts o = {.folder = folder_of("many"), .map_bytes = 4 * MAP, .body_bytes = 100};
    for (int by_reading = 0; by_reading < 2; by_reading++) {
        assert_err(cn_pages_wipe(o.folder, &t_diag), CN_OK);
        cn_pages *p = open_with(&o);
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
        if (by_reading) {
            for (int i = 0; i < KEYS; i++)
                assert_int_equal(find_now(p, o.body_bytes, i, PAGES, false).corrupt, PAGES);
            for (int i = 0; i < KEYS; i++) {
                assert_err(write_key(p, o.body_bytes, i, PAGES, false, 5, &t_diag), CN_OK);
                t_note("key %d", i);
                assert_whole(p, o.body_bytes, i, PAGES, false);
            }
        } else {
            assert_int_equal(verify(p).corrupt, KEYS * PAGES);
            assert_int_equal(stat_of(p).pages, 0);
        }
        assert_int_equal(verify(p).corrupt, 0);
        cn_pages_close(p);
        assert_sound(o.folder);
    }
}

/* ---- Erase -------------------------------------------------------------------------- */

static void test_what_was_deleted_is_gone_from_the_file(void **state) {
    (void)state;
    enum { KEYS = 60 };
    const char *folder = folder_of("erase");
    cn_pages   *p = open_plain(folder);
    for (int i = 0; i < KEYS; i++) assert_err(write_key(p, BODY, i, 3, true, 5, &t_diag), CN_OK);
    for (int i = 0; i < KEYS; i += 2) delete_key(p, i);
    count_zeroed = 0;
    for (int i = 0; i < KEYS; i += 2) count_copies(folder, i, 0);
    assert_true(count_zeroed > KEYS / 4); // deleting alone leaves the bytes there
    const cn_pages_erased e = erase(p);
    assert_int_equal(e.held_bytes, 0);
    assert_int_equal(e.holder_pid, 0);
    assert_true(e.bytes >= KEYS / 2 * 6 * 2 * 4096);
    for (int i = 0; i < KEYS; i++) {
        static const int numbers[] = {0, 1, 2, SEED_TOKENS, SEED_WINDOW};
        for (int n = 0; n < 5; n++)
            assert_int_equal(count_copies(folder, i, numbers[n]) > 0, i % 2);
        if (i % 2)
            assert_whole(p, BODY, i, 3, true);
        else
            assert_gone(p, BODY, i, 3, true);
    }
    // All of the space can be used again.
    for (int i = 100; i < 100 + 4 * KEYS; i++) {
        assert_err(write_key(p, BODY, i, 3, true, i, &t_diag), CN_OK);
        assert_whole(p, BODY, i, 3, true);
    }
    erase(p);
    assert_int_equal(verify(p).corrupt, 0);
    cn_pages_close(p);
    assert_sound(folder);
}

static void test_a_snapshot_holds_what_it_sees(void **state) {
    (void)state;
    const char   *folder = folder_of("held");
    cn_pages     *p = open_plain(folder);
    cn_pages_txn *t;
    for (int i = 0; i < 20; i++) assert_err(write_key(p, BODY, i, 3, true, 5, &t_diag), CN_OK);
    assert_err(cn_pages_begin(&t, p, &t_diag), CN_OK);
    for (int i = 0; i < 10; i++) delete_key(p, i);
    for (int i = 20; i < 30; i++) { // written and deleted behind its back
        assert_err(write_key(p, BODY, i, 3, true, 5, &t_diag), CN_OK);
        delete_key(p, i);
    }
    cn_pages_erased e = erase(p);
    assert_true(e.held_bytes >= 20 * 3 * 2 * 4096);
    assert_int_equal(e.holder_pid, getpid());
    for (int i = 0; i < 20; i++) {
        assert_true(count_copies(folder, i, 0) > 0);
        assert_int_equal(find_key(t, BODY, i, 3, true).hits, 5);
    }
    assert_err(cn_pages_renew(t, NULL, &t_diag), CN_OK);
    e = erase(p);
    assert_true(e.held_bytes <= 8 * 4096); // pages of trees
    for (int i = 0; i < 30; i++)
        assert_int_equal(count_copies(folder, i, 0) > 0, i >= 10 && i < 20);
    cn_pages_end(t);
    cn_pages_close(p);
    assert_sound(folder);
}

/* Others read and write meanwhile; nothing of theirs is overwritten. */
static void test_others_go_on(void **state) {
    (void)state;
    enum { KEYS = 60, ROUNDS = 60 };
    const char *folder = folder_of("others");
    cn_pages   *p = open_plain(folder);
    int         ready[2];
    char        byte;
    assert_int_equal(pipe(ready), 0);
    cn_pages_close(p);
    pid_t pid[2];
    for (int w = 0; w < 2; w++) {
        pid[w] = fork();
        if (pid[w]) continue;
        p = open_plain(folder);
        if (write(ready[1], "r", 1) != 1) _exit(3);
        t_seed((uint64_t)w + 7);
        for (;;) {
            cn_pages_txn *t;
            const int64_t i = t_rand_range(0, KEYS - 1);
            const cn_hash gone = key_of(t_rand_range(0, KEYS - 1));
            const cn_err  err = write_key(p, BODY, i, 3, true, 5, NULL);
            if ((err && err != CN_ENOMEM) || cn_pages_delete(p, &gone, 1, NULL)) _exit(1);
            if (cn_pages_begin(&t, p, NULL)) _exit(1);
            for (int n = 0; n < 3; n++) { // the same snapshot, while the others erase
                const found f = find_key(t, BODY, t_rand_range(0, KEYS - 1), 3, true);
                if (f.corrupt || (f.hits != 0 && f.hits != 5)) _exit(2);
            }
            cn_pages_end(t);
        }
    }
    for (int w = 0; w < 2; w++) assert_int_equal(read(ready[0], &byte, 1), 1);
    p = open_plain(folder);
    int64_t       erased = 0;
    const int64_t end_ns = cn_clock_ns() + INT64_C(5000000000);
    for (int round = 0; (round < ROUNDS || erased < MAP) && cn_clock_ns() < end_ns; round++) {
        erased += erase(p).bytes;
        usleep(1000); // they may write now
    }
    for (int w = 0; w < 2; w++) {
        int status;
        assert_int_equal(kill(pid[w], SIGKILL), 0);
        assert_int_equal(waitpid(pid[w], &status, 0), pid[w]);
        assert_true(WIFSIGNALED(status)); // not by its own checks
    }
    assert_true(erased >= MAP);
    assert_int_equal(verify(p).corrupt, 0);
    cn_pages_close(p);
    close(ready[0]);
    close(ready[1]);
    assert_sound(folder);
}

/* ---- Failures ----------------------------------------------------------------------- */

static cn_err upkeep(cn_pages *p, cn_diag *diag) {
    cn_pages_verified v;
    cn_pages_erased   e;
    CN_TRY(cn_pages_verify(p, &v, diag));
    assert_int_equal(v.corrupt, 0);
    return cn_pages_erase(p, &e, diag);
}

static void check_rest(cn_pages *p) {
    for (int i = 0; i < 20; i++)
        if (i % 2)
            assert_whole(p, BODY, i, 3, true);
        else
            assert_gone(p, BODY, i, 3, true);
}

static void test_upkeep_fails_and_dies_whole(void **state) {
    (void)state;
    const char *folder = folder_of("faults");
    cn_pages   *p = open_plain(folder);
    for (int i = 0; i < 20; i++) assert_err(write_key(p, BODY, i, 3, true, 5, &t_diag), CN_OK);
    for (int i = 0; i < 20; i += 2) delete_key(p, i);
    static const cn_fault_mode modes[] = {CN_FAULT_ONCE, CN_FAULT_FOREVER};
    for (int m = 0; m < 2; m++)
        for (int n = 1;; n++) {
            cn_diag diag = {0};
            cn_fault_arm(modes[m], n);
            const cn_err err = upkeep(p, &diag);
            const bool   hit = cn_fault_was_hit();
            t_note("mode %d fault %d at %s: %s", m, n, cn_fault_last_point(), diag.text);
            cn_fault_arm(CN_FAULT_OFF, 0);
            assert_int_equal(err != CN_OK, hit);
            if (!hit) {
                assert_true(n > 5);
                break;
            }
            assert_true(err == CN_EIO || err == CN_ENOMEM);
            assert_true(diag.err == err && diag.text[0]);
            check_rest(p);
        }
    for (int m = 0; m < 2; m++) // the disk's own calls
        for (int64_t n = 1;; n++) {
            cn_diag diag = {0};
            arm_disk(m ? DISK_FOREVER : DISK_ONCE, EIO, n);
            const cn_err err = upkeep(p, &diag);
            t_note("mode %d, disk call %lld: %s", m, (long long)n, diag.text);
            arm_disk(DISK_OK, 0, 0);
            if (!err) break;
            assert_err(err, CN_EIO);
            cn_pages_close(p);
            p = open_plain(folder);
            check_rest(p);
        }
    cn_pages_close(p);
    for (int64_t n = 1;; n++) {
        int         status;
        const pid_t pid = fork();
        if (pid == 0) {
            p = open_plain(folder);
            arm_disk(DISK_CRASH, EIO, n);
            _exit(upkeep(p, NULL) != CN_OK);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        t_note("killed at disk call %lld", (long long)n);
        p = open_plain(folder);
        check_rest(p);
        assert_int_equal(verify(p).corrupt, 0);
        cn_pages_close(p);
        assert_sound(folder);
        if (WIFSIGNALED(status)) continue;
        assert_int_equal(WEXITSTATUS(status), 0);
        assert_true(n > 4);
        break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_value_is_read),
        cmocka_unit_test(test_very_many_bad_values),
        cmocka_unit_test(test_what_was_deleted_is_gone_from_the_file),
        cmocka_unit_test(test_a_snapshot_holds_what_it_sees),
        cmocka_unit_test(test_others_go_on),
        cmocka_unit_test(test_upkeep_fails_and_dies_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
