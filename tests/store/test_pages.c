/*
 * test_pages.c - What the page cache gives back is what was written under that key, or
 * nothing; snapshots, eviction, limits.
 *
 *   build/release-cpu/tests/store/test_pages bench    speed, printed
 */
#include "base/clock.h"
#include "tests/store/pages_kit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

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

/* ---- Threads ------------------------------------------------------------------------ */

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

/* ---- Eviction ----------------------------------------------------------------------- */

static int32_t is_in_list(void *ctx, const cn_hash *key) {
    const int64_t *list = ctx; // ends with -1
    for (; *list >= 0; list++) {
        const cn_hash k = key_of(*list);
        if (cn_hash_is_equal(&k, key)) return CN_PAGES_KEPT;
    }
    return 0;
}

static void test_least_recently_used_goes_first(void **state) {
    (void)state;
    int64_t       kept[] = {2, -1};
    const int64_t one = 4096 * (3 * 2 + 1 + 5);
    const char   *folder = folder_of("lru");
    cn_pages     *p = open_with(&(cn_pages_opts){
            .folder = folder, .map_bytes = MAP, .body_bytes = BODY, .wanted = is_in_list, .ctx = kept});
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

/* Wants key i as much as i % 3, and counts the looks. */
typedef struct wants {
    int looks;
} wants;

static int32_t wants_of(void *ctx, const cn_hash *key) {
    (void)ctx;
    for (int i = 0; i < 9; i++) {
        const cn_hash k = key_of(i);
        if (cn_hash_is_equal(&k, key)) return i % 3;
    }
    return 0;
}

static void take_a_look(void *ctx) {
    ((wants *)ctx)->looks++;
}

static void test_least_wanted_goes_first(void **state) {
    (void)state;
    wants         w = {0};
    const int64_t one = 4096 * (3 * 2 + 1 + 5);
    cn_pages     *p = open_with(&(cn_pages_opts){.folder = folder_of("wants"),
                                                 .map_bytes = MAP,
                                                 .body_bytes = BODY,
                                                 .wanted = wants_of,
                                                 .look = take_a_look,
                                                 .ctx = &w});
    for (int i = 0; i < 9; i++) assert_err(write_key(p, BODY, i, 3, true, 90 - i, &t_diag), CN_OK);
    assert_int_equal(w.looks, 0); // nothing had to go
    static const int order[] = {6, 3, 0, 7, 4, 1, 8, 5, 2};
    for (int i = 0; i < 9; i++) {
        int64_t freed;
        t_note("evicting number %d", i);
        assert_err(cn_pages_evict(p, one, &freed, &t_diag), CN_OK);
        assert_int_equal(freed, one);
        assert_int_equal(w.looks, i + 1);
        for (int j = 0; j < 9; j++)
            if (j <= i)
                assert_gone(p, BODY, order[j], 3, true);
            else
                assert_whole(p, BODY, order[j], 3, true);
    }
    cn_pages_close(p);
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

static int32_t is_any_kept(void *ctx, const cn_hash *key) {
    (void)key;
    return *(const bool *)ctx ? CN_PAGES_KEPT : 0;
}

/* Lets a key go when first asked, and keeps it when asked again. */
static int32_t is_kept_after_all(void *ctx, const cn_hash *key) {
    cn_hash *seen = ctx;
    for (int i = 0; i < 256; i++)
        if (cn_hash_is_equal(&seen[i], key)) {
            seen[i] = (cn_hash){0};
            return CN_PAGES_KEPT;
        }
    for (int i = 0; i < 256; i++) {
        const cn_hash none = {0};
        if (!cn_hash_is_equal(&seen[i], &none)) continue;
        seen[i] = *key;
        return 0;
    }
    return CN_PAGES_KEPT;
}

static void test_a_change_of_mind_ends(void **state) {
    (void)state;
    static cn_hash seen[256];
    cn_pages      *p = open_with(&(cn_pages_opts){.folder = folder_of("mind"),
                                                  .map_bytes = MAP,
                                                  .body_bytes = BODY,
                                                  .wanted = is_kept_after_all,
                                                  .ctx = seen});
    cn_err         err = CN_OK;
    int            i = 0;
    for (; i < 1000 && !err; i += !err) err = write_key(p, BODY, i, 8, true, i, &t_diag);
    assert_err(err, CN_ENOMEM);
    assert_int_equal(stat_of(p).evicted, 0);
    for (int j = 0; j < i; j++) assert_whole(p, BODY, j, 8, true);
    cn_pages_close(p);
}

static void test_what_cannot_fit_is_refused_whole(void **state) {
    (void)state;
    bool        is_kept = true;
    const char *folder = folder_of("kept");
    cn_pages   *p = open_with(&(cn_pages_opts){.folder = folder,
                                               .map_bytes = MAP,
                                               .body_bytes = BODY,
                                               .wanted = is_any_kept,
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
    cn_hash      *key = calloc((size_t)GROUPS * GROUP, sizeof(*key));
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
            cn_hash *k = &key[g * GROUP + j];
            *k = key_of(g * GROUP + j);
            item[j] = (cn_pages_item){.kind = CN_PAGES_PAGE,
                                      .key = k,
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
                const cn_hash *k = &key[round < 2 ? i : i % GROUP];
                assert_int_equal(cn_pages_get(t, k, 0, &page), CN_PAGES_HIT);
                sum += page.tokens;
            }
            cn_pages_end(t);
            const int64_t ns = cn_clock_ns() - start;
            if (ns < best) best = ns;
        }
        printf("get     %.0f ns, %s\n", (double)best / (GROUPS * GROUP),
               round == 0   ? "first use: checksum"
               : round == 1 ? "3,000 pages in turn"
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
    free(key);
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
        cmocka_unit_test(test_least_wanted_goes_first),
        cmocka_unit_test(test_used_again_is_written_down),
        cmocka_unit_test(test_full_map_evicts),
        cmocka_unit_test(test_large_write_evicts_what_it_needs),
        cmocka_unit_test(test_a_change_of_mind_ends),
        cmocka_unit_test(test_what_cannot_fit_is_refused_whole),
        cmocka_unit_test(test_threads_read_while_one_writes),
        cmocka_unit_test(test_limits_are_told),
        cmocka_unit_test(test_map_size_may_change),
        cmocka_unit_test(test_ten_thousand_pages),
    };
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        is_bench = true;
        bench();
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
