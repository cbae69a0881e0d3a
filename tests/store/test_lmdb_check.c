/*
 * test_lmdb_check.c - Files that LMDB made pass, and each rule, broken alone, is named.
 *
 * test_pages.c damages every byte of a real cache; here a damage is made on purpose, so
 * that only one rule is broken.
 */
#include "store/lmdb_check_int.h"
#include "tests/test.h"

#include <fcntl.h>
#include <lmdb.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, SMALL = 20, LARGE = 9000, LARGE_PAGES = 3, MAP = 4 << 20 };

static uint8_t *file; // of the database under test, on the heap
static size_t   file_bytes;

static void put(MDB_txn *txn, MDB_dbi dbi, int i, size_t bytes) {
    char    name[16];
    MDB_val k = {(size_t)snprintf(name, sizeof(name), "key %05d", i), name};
    MDB_val v = {bytes, NULL};
    assert_int_equal(mdb_put(txn, dbi, &k, &v, MDB_RESERVE), 0);
    memset(v.mv_data, i, bytes);
}

static void delete_one(MDB_txn *txn, MDB_dbi dbi, int i) {
    char      name[16];
    MDB_val   k = {(size_t)snprintf(name, sizeof(name), "key %05d", i), name};
    const int rc = mdb_del(txn, dbi, &k, NULL);
    assert_true(rc == 0 || rc == MDB_NOTFOUND);
}

/* `rounds` commits of small and large values, some of them deleted again. */
static void make_database(int rounds) {
    static int  number;
    char        path[256];
    MDB_env    *env;
    MDB_txn    *txn;
    MDB_dbi     dbi;
    struct stat st;
    snprintf(path, sizeof(path), "%s/%d", t_tmp_dir(), number++);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_mapsize(env, MAP), 0);
    assert_int_equal(mdb_env_open(env, path, MDB_NOSYNC, 0600), 0);
    for (int r = 0; r < rounds; r++) {
        assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
        assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
        for (int i = 0; i < 40; i++)
            put(txn, dbi, (r * 7919 + i * 31) % 1000, i % 4 ? SMALL : LARGE);
        for (int i = 0; i < 20; i++) delete_one(txn, dbi, (r * 104729 + i) % 1000);
        assert_int_equal(mdb_txn_commit(txn), 0);
    }
    mdb_env_close(env);
    strcat(path, "/data.mdb");
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    free(file);
    file_bytes = (size_t)st.st_size;
    file = malloc(file_bytes);
    assert_int_equal(read(fd, file, file_bytes), file_bytes);
    close(fd);
}

static uint64_t get(const uint8_t *at, int bytes) {
    uint64_t value = 0;
    memcpy(&value, at, (size_t)bytes);
    return value;
}

static void set(uint8_t *at, uint64_t value, int bytes) {
    memcpy(at, &value, (size_t)bytes);
}

/* The newest meta page's content, and in it the two trees. */
static uint8_t *meta(void) {
    return file + 16 + (get(file + 16 + 128, 8) < get(file + PAGE + 16 + 128, 8) ? PAGE : 0);
}

enum { FREE_TREE = 24, MAIN_TREE = 72, LAST_PAGE = 120, DEPTH = 6, LEAVES = 16, ROOT = 40 };

static uint8_t *root_of(int tree) {
    return file + get(meta() + tree + ROOT, 8) * PAGE;
}

static uint8_t *node_of(uint8_t *page, int i) {
    return page + get(page + 16 + 2 * i, 2);
}

static int nodes_of(const uint8_t *page) {
    return (int)(get(page + 12, 2) - 16) / 2;
}

static uint8_t *child_of(uint8_t *page, int i) {
    return file + get(node_of(page, i), 4) * PAGE;
}

/* Number `n` of the nodes in the leaves under the main tree's root that is large (or not). */
static uint8_t *leaf_node(bool is_large, int n) {
    uint8_t *root = root_of(MAIN_TREE);
    for (int i = 0; i < nodes_of(root); i++) {
        uint8_t *leaf = child_of(root, i);
        for (int j = 0; j < nodes_of(leaf); j++)
            if ((get(node_of(leaf, j) + 4, 2) == 1) == is_large && n-- == 0)
                return node_of(leaf, j);
    }
    fail_msg("no such node");
    return NULL;
}

static uint8_t *data_of(uint8_t *node) {
    return node + 8 + get(node + 6, 2);
}

static cn_err check(uint64_t *unused) {
    return cn_lmdb_check(file, file_bytes, PAGE, unused, &t_diag);
}

static void test_what_lmdb_writes_is_sound(void **state) {
    (void)state;
    uint64_t unused;
    for (int rounds = 0; rounds < 60; rounds += rounds < 5 ? 1 : 11) {
        t_note("%d rounds", rounds);
        make_database(rounds);
        assert_err(check(&unused), CN_OK);
        assert_int_equal(unused, 0);
    }
}

/* One damage a case, of a database whose main tree has two levels. */
static void damage(int n) {
    uint8_t *root = root_of(MAIN_TREE), *leaf = child_of(root, 1), *m = meta();
    uint8_t *freed = root_of(FREE_TREE);
    switch (n) {
    case 0:
        set(data_of(leaf_node(true, 1)), get(data_of(leaf_node(true, 0)), 8), 8);
        break;
    case 1:
        set(data_of(leaf_node(true, 1)), get(data_of(leaf_node(true, 0)), 8) + 1, 8);
        break;
    case 2:
        set(node_of(root, 1), get(node_of(root, 0), 4), 4);
        break;
    case 3:
        set(data_of(node_of(freed, 0)) + 8, get(node_of(root, 0), 4), 8);
        break;
    case 4:
        set(data_of(leaf_node(true, 0)), get(m + LAST_PAGE, 8), 8);
        break;
    case 5:
        set(data_of(leaf_node(true, 0)), UINT64_C(1) << 60, 8);
        break;
    case 6:
        set(data_of(leaf_node(true, 0)), 1, 8);
        break;
    case 7:
        set(leaf_node(true, 0), 1 << 30, 4);
        break;
    case 8:
        file_bytes = get(m + LAST_PAGE, 8) * PAGE;
        break;
    case 9:
        set(leaf, get(leaf, 8) + 1, 8);
        break;
    case 10:
        set(leaf + 10, 1, 2);
        break;
    case 11:
        set(root + 10, 2, 2);
        break;
    case 12:
        set(leaf + 12, 16, 2);
        break;
    case 13:
        set(leaf + 14, PAGE + 2, 2);
        break;
    case 14:
        set(leaf + 12, get(leaf + 14, 2) + 2, 2);
        break;
    case 15:
        set(leaf + 16, get(leaf + 14, 2) - 2, 2);
        break;
    case 16:
        set(leaf + 16, get(leaf + 18, 2), 2);
        break;
    case 17:
        set(leaf + 14, get(leaf + 14, 2) - 2, 2);
        break;
    case 18:
        set(node_of(leaf, 2) + 6, 600, 2);
        break;
    case 19:
        set(node_of(leaf, 2) + 6, 0, 2);
        break;
    case 20:
        set(node_of(leaf, 2) + 4, 2, 2);
        break;
    case 21:
        set(leaf_node(false, 3), 60000, 4);
        break;
    case 22:
        node_of(leaf, 1)[8 + 6] ^= 1;
        break;
    case 23:
        node_of(root, 1)[8 + 4]++;
        break;
    case 24:
        set(m + MAIN_TREE + DEPTH, 1, 2);
        break;
    case 25:
        set(m + MAIN_TREE + DEPTH, 30, 2);
        break;
    case 26:
        set(m + MAIN_TREE + LEAVES, get(m + MAIN_TREE + LEAVES, 8) + 1, 8);
        break;
    case 27:
        set(m + MAIN_TREE + 4, 4, 2);
        break;
    case 28:
        set(m + MAIN_TREE + ROOT, UINT64_MAX, 8);
        break;
    case 29:
        set(data_of(node_of(freed, 0)), 1000, 8);
        break;
    case 30:
        set(data_of(node_of(freed, 0)) + 16, get(data_of(node_of(freed, 0)) + 8, 8), 8);
        break;
    case 31:
        set(node_of(freed, 0) + 8, 0, 8);
        break;
    case 32:
        set(node_of(freed, nodes_of(freed) - 1) + 8, 1 << 20, 8);
        break;
    case 33:
        set(m + LAST_PAGE, MAP / PAGE, 8);
        break;
    case 34:
        set(m + 128, get(m + 128, 8) + 1, 8);
        break;
    case 35:
        set(m, 7, 4);
        break;
    case 36:
        set(m - 16 + 10, 2, 2);
        break;
    case 37:
        file_bytes = 2 * PAGE - 1;
        break;
    case 38:
        file_bytes = 0;
        break;
    case 39:
        set(node_of(freed, 0) + 6, 4, 2);
        break;
    }
}

static void test_each_rule_is_kept(void **state) {
    (void)state;
    static const char *const why[] = {
        "used twice",        "used twice",       "used twice",     "used twice",
        "out of range",      "out of range",     "in a meta page", "out of range",
        "behind the end",    "another number",   "the wrong kind", "the wrong kind",
        "too few nodes",     "no sense",         "no sense",       "out of place",
        "out of order",      "nodes overlap",    "a key too long", "a key of the wrong size",
        "of unknown kind",   "data too long",    "out of order",   "out of order",
        "the wrong kind",    "impossible depth", "other counts",   "other counts",
        "impossible depth",  "too long",         "out of order",   "by no transaction",
        "by no transaction", "impossible size",  "out of place",   "no LMDB meta page",
        "no LMDB meta page", "only 8191 bytes",  "only 0 bytes",   "a key of the wrong size"};
    make_database(12);
    assert_int_equal(get(meta() + MAIN_TREE + DEPTH, 2), 2);
    assert_int_equal(get(meta() + FREE_TREE + DEPTH, 2), 1);
    uint8_t     *sound = malloc(file_bytes);
    const size_t sound_bytes = file_bytes;
    memcpy(sound, file, file_bytes);
    for (int n = 0; n < 40; n++) {
        uint64_t unused = 1;
        damage(n);
        t_note("damage %d", n);
        assert_err(check(&unused), CN_ECORRUPT);
        if (!strstr(t_diag.text, why[n]))
            t_fail(__FILE__, __LINE__, "%s, want %s", t_diag.text, why[n]);
        assert_int_equal(unused, 0);
        file_bytes = sound_bytes;
        memcpy(file, sound, sound_bytes);
        assert_err(check(&unused), CN_OK);
    }
    free(sound);
}

static void test_lost_pages_are_counted(void **state) {
    (void)state;
    uint64_t unused;
    make_database(12);
    set(meta() + LAST_PAGE, get(meta() + LAST_PAGE, 8) + 77, 8);
    assert_err(check(&unused), CN_OK);
    assert_int_equal(unused, 77);
}

static void test_other_formats_are_told(void **state) {
    (void)state;
    uint64_t unused;
    make_database(3);
    assert_err(cn_lmdb_check(file, file_bytes, 2 * PAGE, &unused, &t_diag), CN_EUNSUPPORTED);
    set(meta() + FREE_TREE, 16384, 4);
    assert_err(check(&unused), CN_EUNSUPPORTED);
    assert_non_null(strstr(t_diag.text, "16384"));
    set(meta() + FREE_TREE, PAGE, 4);
    set(file + PAGE + 16 + 4, 2, 4);
    assert_err(check(&unused), CN_EUNSUPPORTED);
    assert_non_null(strstr(t_diag.text, "format 2"));
    assert_err(cn_lmdb_check(file, file_bytes, PAGE, &unused, NULL), CN_EUNSUPPORTED);
}

static void test_header_of_a_large_value(void **state) {
    (void)state;
    make_database(12);
    uint8_t        *node = leaf_node(true, 0);
    uint8_t        *value = file + get(data_of(node), 8) * PAGE + 16;
    const size_t    bytes = get(node, 4);
    const uintptr_t base = (uintptr_t)file;
    assert_int_equal(bytes, LARGE);
    assert_true(cn_lmdb_overflow_is_sound(base, value, LARGE, PAGE));
    assert_true(cn_lmdb_overflow_is_sound(base, value, LARGE_PAGES * PAGE - 16, PAGE));
    assert_false(cn_lmdb_overflow_is_sound(base, value, LARGE_PAGES * PAGE - 15, PAGE));
    assert_false(cn_lmdb_overflow_is_sound(base, value, (LARGE_PAGES - 1) * PAGE - 16, PAGE));
    assert_false(cn_lmdb_overflow_is_sound(base + PAGE, value, LARGE, PAGE));
    assert_false(cn_lmdb_overflow_is_sound(base + 8, value, LARGE, PAGE));
    for (int i = 0; i < 16; i++) // pgno, pad (which says nothing), flags, pages
        for (int bit = 0; bit < 8; bit++) {
            value[i - 16] ^= (uint8_t)(1 << bit);
            assert_int_equal(cn_lmdb_overflow_is_sound(base, value, LARGE, PAGE), i / 2 == 4);
            value[i - 16] ^= (uint8_t)(1 << bit);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_lmdb_writes_is_sound),
        cmocka_unit_test(test_each_rule_is_kept),
        cmocka_unit_test(test_lost_pages_are_counted),
        cmocka_unit_test(test_other_formats_are_told),
        cmocka_unit_test(test_header_of_a_large_value),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(file);
    return failed;
}
