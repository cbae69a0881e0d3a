/*
 * test_pages_fail.c - The page cache reads on, whole, when a call fails, the disk fails or is
 * full, a process dies at any point, or others write beside it.
 */
#include "base/clock.h"
#include "base/fault.h"
#include "tests/store/pages_kit.h"

#include <sys/mount.h>
#include <sys/wait.h>

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

/* ---- Other processes ---------------------------------------------------- */

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

/* ---- Disks ------------------------------------------------------------------------------ */

static char mounted[256];

static void unmount(void) { // also where the test has failed
    umount2(mounted, MNT_DETACH);
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
    memcpy(mounted, folder, sizeof(mounted));
    atexit(unmount);
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
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call_fails_whole),
        cmocka_unit_test(test_open_and_wipe_fail_whole),
        cmocka_unit_test(test_disk_fails_in_any_write),
        cmocka_unit_test(test_crash_leaves_whole_values),
        cmocka_unit_test(test_processes_share_a_folder),
        cmocka_unit_test(test_full_disk_and_read_only_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
