/*
 * test_ledger.c - What goes in comes out: sessions, turns, steps, calls, documents, blobs,
 * costs; every refusal leaves the ledger as it was.
 *
 * Crashes, failing disks and several processes: test_ledger_crash.c.
 */
#include "base/clock.h"
#include "tests/store/ledger_kit.h"

#include <dirent.h>
#include <limits.h>
#include <math.h>

static const char *dir;
static cn_ledger  *l;

static int set_up(void **state) {
    (void)state;
    dir = k_new_path();
    l = k_open(dir);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    assert_err(cn_ledger_verify(l, &t_diag), CN_OK);
    cn_ledger_close(l);
    l = NULL;
    return 0;
}

static void reopen(void) {
    cn_ledger_close(l);
    l = k_open(dir);
}

/* The call gives `want`, says why, and changes nothing. */
#define assert_refused(call, want, why)                                                            \
    do {                                                                                           \
        cn_buf was = k_dump(l);                                                                    \
        t_diag = (cn_diag){0};                                                                     \
        assert_err(call, want);                                                                    \
        assert_int_equal(t_diag.err, want);                                                        \
        if (!strstr(t_diag.text, why)) t_fail(__FILE__, __LINE__, "diag: %s", t_diag.text);        \
        cn_buf is = k_dump(l);                                                                     \
        assert_string_equal(is.data, was.data);                                                    \
        cn_buf_release(&was);                                                                      \
        cn_buf_release(&is);                                                                       \
    } while (0)

/* ---- The file ---------------------------------------------------------------------- */

static int mode_of(const char *path) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void test_files_are_private(void **state) {
    (void)state;
    const mode_t mask = umask(0);
    const char  *fresh = k_new_path();
    cn_ledger   *mine = k_open(fresh);
    k_create(mine, "a");
    assert_int_equal(mode_of(fresh), 0700);
    assert_int_equal(mode_of(k_in(fresh, "ledger.db")), 0600);
    assert_int_equal(mode_of(k_in(fresh, "ledger.db-wal")), 0600);
    assert_int_equal(mode_of(k_in(fresh, "ledger.db-shm")), 0600);
    assert_int_equal(mode_of(k_in(fresh, "ledger.lock")), 0600);
    umask(mask);
    assert_string_equal(strrchr(cn_ledger_path(mine), '/'), "/ledger.db");
    assert_int_equal(cn_ledger_path(mine)[0], '/');
    assert_int_equal(cn_ledger_version(mine), CN_LEDGER_VERSION);
    cn_ledger_close(mine);
    cn_ledger_close(NULL);
    // The last one to leave folds the log into the file.
    assert_int_equal(access(k_in(fresh, "ledger.db-wal"), F_OK), -1);
}

static void test_settings_are_those_promised(void **state) {
    (void)state;
    struct {
        const char *sql;
        const char *want;
    } pragma[] = {{"PRAGMA journal_mode", "wal"}, {"PRAGMA synchronous", "2"},
                  {"PRAGMA foreign_keys", "1"},   {"PRAGMA secure_delete", "1"},
                  {"PRAGMA temp_store", "2"},     {"PRAGMA busy_timeout", "10000"}};
    for (size_t i = 0; i < sizeof(pragma) / sizeof(pragma[0]); i++) {
        sqlite3_stmt *stmt;
        assert_int_equal(sqlite3_prepare_v2(l->db, pragma[i].sql, -1, &stmt, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
        t_note("%s", pragma[i].sql);
        assert_string_equal((const char *)sqlite3_column_text(stmt, 0), pragma[i].want);
        sqlite3_finalize(stmt);
    }
}

static int files_in(const char *where) {
    DIR *d = opendir(where);
    int  n = -2; // . and ..
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

/* Opening must give `want` and leave ledger.db and its log byte for byte. */
static void assert_untouched(const char *where, cn_err want, const char *why) {
    const char *const name[] = {"ledger.db", "ledger.db-wal"};
    char             *was[2], *is[2];
    int64_t           was_bytes[2], is_bytes[2];
    cn_ledger        *mine = l;
    // The lock file is ours, and may come; nothing else.
    k_write_file(k_in(where, "ledger.lock"), "", 0);
    const int files = files_in(where);
    for (int i = 0; i < 2; i++) was[i] = k_read_file(k_in(where, name[i]), &was_bytes[i]);
    for (int round = 0; round < 2; round++) {
        t_diag = (cn_diag){0};
        assert_err(cn_ledger_open(&mine, &(cn_ledger_opts){.dir = where}, &t_diag), want);
        assert_null(mine);
        if (!strstr(t_diag.text, why) || !strstr(t_diag.text, where))
            t_fail(__FILE__, __LINE__, "diag: %s", t_diag.text);
    }
    assert_int_equal(files_in(where), files);
    for (int i = 0; i < 2; i++) {
        is[i] = k_read_file(k_in(where, name[i]), &is_bytes[i]);
        assert_int_equal(is_bytes[i], was_bytes[i]);
        if (was[i]) assert_memory_equal(is[i], was[i], (size_t)was_bytes[i]);
        free(was[i]);
        free(is[i]);
    }
}

static void test_what_is_not_a_ledger_is_refused(void **state) {
    (void)state;
    char garbage[5000];
    for (size_t i = 0; i < sizeof(garbage); i++) garbage[i] = (char)t_rand();
    const int64_t sizes[] = {1, 99, 100, 5000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const char *where = k_new_path();
        t_note("%d bytes", (int)sizes[i]);
        assert_int_equal(mkdir(where, 0700), 0);
        k_write_file(k_in(where, "ledger.db"), garbage, sizes[i]);
        assert_untouched(where, CN_ECORRUPT, "not an SQLite database");
    }
    const char *other[] = {"CREATE TABLE t(x)", "CREATE TABLE t(x); PRAGMA user_version = 1",
                           "PRAGMA user_version = 1",
                           "PRAGMA journal_mode = WAL; CREATE TABLE t(x)"};
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
        const char *where = k_new_path();
        t_note("%s", other[i]);
        assert_int_equal(mkdir(where, 0700), 0);
        k_sql(where, other[i]);
        assert_untouched(where, CN_ECORRUPT, "another program's database");
    }
    const char *where = k_new_path();
    assert_int_equal(mkdir(where, 0700), 0);
    assert_int_equal(mkdir(k_in(where, "ledger.db"), 0700), 0);
    cn_ledger *mine;
    assert_err(cn_ledger_open(&mine, &(cn_ledger_opts){.dir = where}, &t_diag), CN_ECORRUPT);
    where = k_new_path();
    k_write_file(where, "", 0); // the folder is a file
    assert_err(cn_ledger_open(&mine, &(cn_ledger_opts){.dir = where}, &t_diag), CN_EIO);
    assert_non_null(strstr(t_diag.text, where));
    assert_err(cn_ledger_open(&mine, &(cn_ledger_opts){.dir = k_in(where, "x/y")}, &t_diag),
               CN_EIO);
}

static void test_later_version_is_refused(void **state) {
    (void)state;
    const char *where = k_new_path();
    char        why[64];
    cn_ledger  *mine = k_open(where);
    k_create(mine, "a");
    cn_ledger_close(mine);
    k_sql(where, "PRAGMA user_version = 99");
    snprintf(why, sizeof(why), "ledger of version 99, this program knows %d", CN_LEDGER_VERSION);
    assert_untouched(where, CN_EUNSUPPORTED, why);

    // The same with the later version in the log alone: its maker is still at work.
    where = k_new_path();
    cn_ledger_close(k_open(where));
    sqlite3 *db;
    assert_int_equal(sqlite3_open(k_in(where, "ledger.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", 0, 0, 0), SQLITE_OK);
    assert_untouched(where, CN_EUNSUPPORTED, why);
    // And as it lies when its maker died: the last to close must not fold the log in.
    const char *const name[] = {"ledger.db", "ledger.db-wal"};
    const char       *dead = k_new_path();
    assert_int_equal(mkdir(dead, 0700), 0);
    for (int i = 0; i < 2; i++) {
        int64_t bytes;
        char   *data = k_read_file(k_in(where, name[i]), &bytes);
        assert_true(bytes > 0);
        k_write_file(k_in(dead, name[i]), data, bytes);
        free(data);
    }
    k_write_file(k_in(dead, "ledger.db-shm"), "", 0);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_untouched(where, CN_EUNSUPPORTED, why);
    assert_untouched(dead, CN_EUNSUPPORTED, why);
}

/* A ledger of each older version, with rows in it as that version made them. */
#define FIXTURE(document_columns, more_rows, last)                                                 \
    "INSERT INTO sessions(id, forked_at, title, repo, commit_id, branch, model, created, updated," \
    " settings) VALUES('old', 0, 'Old', '/src/old', 'c0ffee', 'main',"                             \
    " '00000000000000000000000000000000000000000000000000000000000000ff', 11, 12, '{}');"          \
    "INSERT INTO generations(session, made) VALUES(1, 13);"                                        \
    "INSERT INTO documents VALUES(1, 0, 'a.c', zeroblob(32), 5, 1, 2" document_columns ");"        \
    "INSERT INTO turns(session, turn, stop, started, finished, cached_tokens, wall_ns,"            \
    " no_cache_ns, unstored_misses) VALUES(1, 1, 'end', 14, 15, 6, 16, 16, 17);"                   \
    "INSERT INTO turn_texts VALUES(1, x'776879', x'736F');"                                        \
    "INSERT INTO steps(turn, step, kind, stop, started, generation, tokens)"                       \
    " VALUES(1, 0, 'generation', 'tool', 18, 1, x'07000000ffffffff');"                             \
    "INSERT INTO tool_calls VALUES(1, 0, 0, 'ls', 'done', 0, 19, 20, x'7B7D', x'3C6C733E', "       \
    "x'612E63');" more_rows "INSERT INTO attention VALUES(1, 0, 'a.c', 1, 2, 0.5);"                \
    "UPDATE sessions SET head = 1, generation = 1;" last

#define PRICE "INSERT INTO prices VALUES('input', 3.0);"
#define REFS                                                                                       \
    "INSERT INTO refs VALUES(1, 0, NULL, NULL, 'q.txt', 0, 3), (1, 1, 0, 0, 'r.txt', 1, 2);"

static const char *const fixtures[CN_LEDGER_VERSION] = {
    FIXTURE("", "", PRICE),
    FIXTURE(", 'file'", REFS, PRICE),
    FIXTURE(", 'file'",
            REFS "INSERT INTO stored(document) VALUES(zeroblob(32));"
                 "INSERT INTO pins(made, commit_id, branch) VALUES(21, 'c0ffee', 'main');"
                 "INSERT INTO pinned VALUES(1, 'a.c', x'696E74'); UPDATE sessions SET pin = 1;"
                 "INSERT INTO keeps VALUES(1, 22);",
            "UPDATE turns SET reused_tokens = 6, no_cache_ns = 0, origin = 'extract';"),
};

#define ADDED_REFS                                                                                 \
    "ref 1.0 q.txt of 0.0 bytes 0+3 text[3]=why\nref 1.1 r.txt of 0.0 bytes 1+2 text[2]=.c\n"

/* What version 1 could not hold. */
static const char *const added[CN_LEDGER_VERSION] = {
    "",
    ADDED_REFS,
    ADDED_REFS,
};

static void test_each_older_version_is_brought_up(void **state) {
    (void)state;
    for (int32_t version = 1; version <= CN_LEDGER_VERSION; version++) {
        const char *where = k_new_path();
        cn_ledger  *mine;
        t_note("version %d", version);
        assert_err(cn_ledger_open_version(&mine, &(cn_ledger_opts){.dir = where}, version, &t_diag),
                   CN_OK);
        assert_int_equal(cn_ledger_version(mine), version);
        cn_ledger_close(mine);
        assert_int_equal(k_sql_int(where, "PRAGMA user_version"), version);
        k_sql(where, fixtures[version - 1]);

        mine = k_open(where);
        assert_int_equal(cn_ledger_version(mine), CN_LEDGER_VERSION);
        assert_err(cn_ledger_verify(mine, &t_diag), CN_OK);
        cn_ledger_session *old;
        assert_err(cn_ledger_session_find(mine, "old", &old, &t_diag), CN_OK);
        assert_int_equal(old->is_pinned, version >= 3);
        cn_ledger_session_free(old);
        cn_buf got = {0};
        assert_err(cn_ledger_sessions(mine, NULL, 9, k_put_session, &got, &t_diag), CN_OK);
        k_dump_session(mine, "old", &got);
        cn_buf want = {0};
        cn_buf_printf(
            &want,
            "session old of @0 Old|/src/old|c0ffee|main|{}|00000000 head 1 open 0 turns 1 gen 1\n"
            "== old\n"
            "turn old/1 end %s1 steps q[3]=why a[2]=so"
            ",0,6,0,0,0,6,0,0,16,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,17,0\n"
            "step 1.0 kind 0 tool 2 tokens gen 1"
            ",0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0\n"
            "call 1.0.0 ls done exit 0 ns 20 args[2]={} sampled[4]=<ls> result[3]=a.c\n"
            "read 1 a.c:1-2 0.5\n"
            "tokens 1.0 7 -1\n"
            "%sdocument a.c key 00..00 5 tokens, line 1+2\n",
            version == 3 ? "extract " : "", added[version - 1]);
        assert_string_equal(got.data, want.data);
        cn_buf_release(&want);
        cn_buf_release(&got);
        // Until version 3 a document of a view was taken for one that was stored.
        assert_int_equal(k_sql_int(where, "SELECT count(*) FROM stored"), 1);
        // And it can be written.
        cn_ledger_writer *w = k_write(mine, "old");
        assert_int_equal(k_turn(w, "next", 2), 2);
        cn_ledger_writer_close(w);
        cn_ledger_close(mine);
    }
}

/* The machinery itself, on steps of our own behind those of the schema. */
static void test_migrations_run_one_by_one(void **state) {
    (void)state;
    const char *step[CN_LEDGER_VERSION + 3];
    memcpy(step, cn_ledger_migrations, sizeof(cn_ledger_migrations));
    step[CN_LEDGER_VERSION] = "CREATE TABLE more(x); INSERT INTO more VALUES(1);";
    step[CN_LEDGER_VERSION + 1] = "INSERT INTO more VALUES(2); UPDATE more SET x = x + 10;";
    step[CN_LEDGER_VERSION + 2] = "INSERT INTO more VALUES(3); INSERT INTO absent VALUES(1);";
    k_create(l, "kept");
    assert_err(cn_ledger_migrate(l, step, CN_LEDGER_VERSION, &t_diag), CN_OK); // nothing to do
    t_diag = (cn_diag){0};
    // The third fails: the two before it stay, of its own nothing does.
    assert_err(cn_ledger_migrate(l, step, CN_LEDGER_VERSION + 3, &t_diag), CN_EIO);
    assert_non_null(strstr(t_diag.text, "no such table: absent"));
    assert_non_null(strstr(t_diag.text, cn_ledger_path(l)));
    assert_int_equal(cn_ledger_version(l), CN_LEDGER_VERSION + 2);
    assert_int_equal(k_sql_int(dir, "PRAGMA user_version"), CN_LEDGER_VERSION + 2);
    assert_int_equal(k_sql_int(dir, "SELECT sum(x) FROM more"), 11 + 12);
    assert_int_equal(k_sql_int(dir, "SELECT count(*) FROM sessions"), 1);
}

static void test_damage_is_found(void **state) {
    (void)state;
    const char       *where = k_new_path();
    cn_ledger        *mine = k_open(where);
    int64_t           bytes;
    cn_buf            out = {0};
    cn_ledger_writer *w;
    k_create(mine, "a");
    w = k_write(mine, "a");
    for (int i = 0; i < 40; i++) k_turn(w, "a question of some length, so that pages fill", 4);
    cn_ledger_writer_close(w);
    cn_ledger_close(mine);
    // A row that points nowhere.
    k_sql(where,
          "UPDATE turns SET prev = 1 WHERE key = 3; INSERT INTO turn_texts VALUES(999, x'', x'')");
    mine = k_open(where);
    assert_err(cn_ledger_verify(mine, &t_diag), CN_ECORRUPT);
    assert_non_null(strstr(t_diag.text, "turn_texts"));
    cn_ledger_close(mine);
    k_sql(where, "DELETE FROM turn_texts WHERE turn = 999");
    // All pages but the first two are noise.
    char *data = k_read_file(k_in(where, "ledger.db"), &bytes);
    assert_true(bytes > 20 * 4096);
    for (int64_t i = 2 * 4096; i < bytes; i++) data[i] = (char)t_rand();
    k_write_file(k_in(where, "ledger.db"), data, bytes);
    free(data);
    const cn_err err = cn_ledger_open(&mine, &(cn_ledger_opts){.dir = where}, &t_diag);
    if (!err) {
        assert_err(cn_ledger_verify(mine, &t_diag), CN_ECORRUPT);
        assert_err(cn_ledger_turns(mine, "a", 0, k_put_turn, &out, &t_diag), CN_ECORRUPT);
        assert_non_null(strstr(t_diag.text, where));
    } else {
        assert_err(err, CN_ECORRUPT);
    }
    cn_buf_release(&out);
    cn_ledger_close(mine);
}

/* ---- Sessions ---------------------------------------------------------------------- */

static void test_session_comes_back(void **state) {
    (void)state;
    cn_ledger_session      *s, *found;
    const cn_ledger_session want = {.title = "Füll the \xff kv pool",
                                    .repo = "/src/a b/\xc3\x28",
                                    .commit = "0123abc",
                                    .branch = "main",
                                    .settings = "{\"budget\":32768}",
                                    .model = cn_hash_of("m", 1)};
    const int64_t           before_ns = cn_clock_unix_ns();
    assert_err(cn_ledger_session_create(l, &want, &s, &t_diag), CN_OK);
    assert_int_equal(strlen(s->id), 16);
    reopen();
    assert_err(cn_ledger_session_find(l, s->id, &found, &t_diag), CN_OK);
    const cn_ledger_session *const both[] = {s, found};
    for (int i = 0; i < 2; i++) {
        assert_string_equal(both[i]->id, s->id);
        assert_string_equal(both[i]->parent, "");
        assert_string_equal(both[i]->title, want.title);
        assert_string_equal(both[i]->repo, want.repo);
        assert_string_equal(both[i]->commit, want.commit);
        assert_string_equal(both[i]->branch, want.branch);
        assert_string_equal(both[i]->settings, want.settings);
        assert_true(cn_hash_is_equal(&both[i]->model, &want.model));
        assert_true(both[i]->created_ns >= before_ns && both[i]->created_ns <= cn_clock_unix_ns());
        assert_true(both[i]->updated_ns == both[i]->created_ns);
        assert_true(both[i]->head == 0 && both[i]->open_turn == 0 && both[i]->turns == 0 &&
                    both[i]->forked_at == 0 && both[i]->generation == 0);
    }
    cn_ledger_session_free(s);
    cn_ledger_session_free(found);
    cn_ledger_session_free(NULL);
}

static void test_session_ids(void **state) {
    (void)state;
    cn_ledger_session *s;
    char               id[CN_LEDGER_ID_BYTES_MAX + 2] = {0};
    const char        *bad[] = {"a b", "a/b", "ä", "a'", "a\n", "."};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_refused(cn_ledger_session_create(l, &(cn_ledger_session){.id = bad[i]}, &s, &t_diag),
                       CN_EINVAL, "letters, digits");
    memset(id, 'x', CN_LEDGER_ID_BYTES_MAX + 1);
    assert_refused(cn_ledger_session_create(l, &(cn_ledger_session){.id = id}, &s, &t_diag),
                   CN_EINVAL, "1 to 64 letters");
    assert_null(s);
    id[CN_LEDGER_ID_BYTES_MAX] = 0;
    k_create(l, id);
    k_create(l, "Az09-_");
    assert_refused(cn_ledger_session_create(l, &(cn_ledger_session){.id = "Az09-_"}, &s, &t_diag),
                   CN_EINVAL, "session Az09-_ exists");
    assert_err(cn_ledger_session_find(l, id, &s, &t_diag), CN_OK);
    cn_ledger_session_free(s);
}

static void test_session_found_by_its_start(void **state) {
    (void)state;
    cn_ledger_session *s;
    k_create(l, "abc1");
    k_create(l, "abc2");
    k_create(l, "abc");
    k_create(l, "abcd-long");
    k_create(l, "xyz");
    const char *const want[][2] = {{"abc", "abc"},
                                   {"abc1", "abc1"},
                                   {"abcd", "abcd-long"},
                                   {"abcd-long", "abcd-long"},
                                   {"x", "xyz"}};
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        assert_err(cn_ledger_session_find(l, want[i][0], &s, &t_diag), CN_OK);
        assert_string_equal(s->id, want[i][1]);
        cn_ledger_session_free(s);
    }
    t_diag = (cn_diag){0};
    assert_err(cn_ledger_session_find(l, "ab", &s, &t_diag), CN_EINVAL);
    assert_null(s);
    assert_non_null(strstr(t_diag.text, "several sessions start with ab: abc, abc1"));
    const char *none[] = {"", "b", "abc1x", "ABC", "a%", "%", "_"};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        assert_err(cn_ledger_session_find(l, none[i], &s, &t_diag), CN_ENOTFOUND);
        assert_null(s);
        assert_non_null(strstr(t_diag.text, "no session"));
    }
}

static void test_latest_is_the_one_written_last(void **state) {
    (void)state;
    cn_ledger_session *s;
    assert_err(cn_ledger_session_latest(l, NULL, &s, &t_diag), CN_ENOTFOUND);
    assert_null(s);
    k_create(l, "a");
    k_create(l, "b");
    assert_err(
        cn_ledger_session_create(l, &(cn_ledger_session){.id = "c", .repo = "/other"}, &s, &t_diag),
        CN_OK);
    cn_ledger_session_free(s);
    assert_err(cn_ledger_session_latest(l, "/src/x", &s, &t_diag), CN_OK);
    assert_string_equal(s->id, "b");
    cn_ledger_session_free(s);
    cn_ledger_writer *w = k_write(l, "a");
    k_turn(w, "q", 1);
    cn_ledger_writer_close(w);
    assert_err(cn_ledger_session_latest(l, "/src/x", &s, &t_diag), CN_OK);
    assert_string_equal(s->id, "a");
    cn_ledger_session_free(s);
    t_diag = (cn_diag){0};
    assert_err(cn_ledger_session_latest(l, "/src", &s, &t_diag), CN_ENOTFOUND);
    assert_non_null(strstr(t_diag.text, "no session on /src"));
    assert_null(s);

    cn_buf ids = {0};
    assert_err(cn_ledger_sessions(l, NULL, 100, k_collect_id, &ids, &t_diag), CN_OK);
    assert_int_equal(ids.bytes, 6);
    assert_memory_equal(ids.data, "a\0c\0b", 6);
    cn_buf_reset(&ids);
    assert_err(cn_ledger_sessions(l, "/src/x", 1, k_collect_id, &ids, &t_diag), CN_OK);
    assert_memory_equal(ids.data, "a", 2);
    assert_int_equal(ids.bytes, 2);
    cn_buf_reset(&ids);
    assert_err(cn_ledger_sessions(l, NULL, 0, k_collect_id, &ids, &t_diag), CN_OK);
    assert_int_equal(ids.bytes, 0);
    cn_buf_release(&ids);
}

static void test_edit_changes_what_it_names(void **state) {
    (void)state;
    cn_ledger_session *s;
    const cn_hash      model = cn_hash_of("new", 3);
    k_create(l, "a");
    cn_ledger_writer *w = k_write(l, "a");
    assert_err(cn_ledger_session_edit(w, &(cn_ledger_edit){.title = "N", .branch = "dev"}, &t_diag),
               CN_OK);
    assert_err(
        cn_ledger_session_edit(
            w, &(cn_ledger_edit){.settings = "{}", .commit = "c2", .model = &model}, &t_diag),
        CN_OK);
    assert_err(cn_ledger_session_edit(w, &(cn_ledger_edit){.branch = ""}, &t_diag), CN_OK);
    cn_ledger_writer_close(w);
    reopen();
    assert_err(cn_ledger_session_find(l, "a", &s, &t_diag), CN_OK);
    assert_string_equal(s->title, "N");
    assert_string_equal(s->branch, "");
    assert_string_equal(s->commit, "c2");
    assert_string_equal(s->settings, "{}");
    assert_string_equal(s->repo, "/src/x");
    assert_true(cn_hash_is_equal(&s->model, &model));
    assert_true(s->updated_ns > s->created_ns);
    cn_ledger_session_free(s);
}

static void test_strings_have_a_limit(void **state) {
    (void)state;
    cn_ledger_session *s;
    char              *big = malloc(CN_LEDGER_STRING_BYTES_MAX + 2);
    assert_non_null(big);
    memset(big, 'x', CN_LEDGER_STRING_BYTES_MAX + 1);
    big[CN_LEDGER_STRING_BYTES_MAX + 1] = 0;
    const cn_ledger_session bad[] = {
        {.title = big}, {.repo = big}, {.commit = big}, {.branch = big}, {.settings = big}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_refused(cn_ledger_session_create(l, &bad[i], &s, &t_diag), CN_ETOOBIG,
                       "of 1048577 bytes, limit 1048576");
        assert_null(s);
    }
    big[CN_LEDGER_STRING_BYTES_MAX] = 0; // the limit itself is fine
    assert_err(
        cn_ledger_session_create(l, &(cn_ledger_session){.id = "a", .title = big}, &s, &t_diag),
        CN_OK);
    assert_string_equal(s->title, big);
    cn_ledger_session_free(s);
    free(big);
}

/* ---- Turns ------------------------------------------------------------------------- */

typedef struct seen {
    int     rows;
    cn_buf  text;
    int64_t tokens;
} seen;

static const char    odd_bytes[] = "nul \0 bad \xff\xfe\xc0\x80 end\0";
static const int32_t odd_tokens[] = {0, 1, -1, INT32_MAX, INT32_MIN, 151936, 0};

static void see_odd_turn(void *ctx, const cn_ledger_turn *t) {
    ((seen *)ctx)->rows++;
    const cn_bill want = k_bill(9);
    assert_int_equal(t->question.bytes, sizeof(odd_bytes));
    assert_memory_equal(t->question.data, odd_bytes, sizeof(odd_bytes));
    assert_int_equal(t->answer.bytes, sizeof(odd_bytes) - 3);
    assert_memory_equal(t->answer.data, odd_bytes, sizeof(odd_bytes) - 3);
    assert_memory_equal(&t->bill, &want, sizeof(want));
    assert_int_equal(t->stop, CN_STOP_BUDGET);
    assert_int_equal(t->steps, 2);
    assert_true(t->started_ns > 0 && t->finished_ns >= t->started_ns);
}

static void see_odd_step(void *ctx, const cn_ledger_step *s) {
    const cn_bill want = k_bill(7 + s->step);
    assert_int_equal(s->step, ((seen *)ctx)->rows++);
    assert_memory_equal(&s->bill, &want, sizeof(want));
    assert_int_equal(s->tokens, s->step == 0 ? 7 : 0);
    assert_int_equal(s->started_ns, 1795459732148123456 + s->step);
    assert_int_equal(s->kind, s->step == 0 ? CN_STEP_GENERATION : CN_STEP_TOOL);
    assert_int_equal(s->stop, s->step == 0 ? CN_STOP_TOOL : CN_STOP_END);
}

static void see_odd_call(void *ctx, const cn_ledger_call *c) {
    assert_int_equal(c->call, ((seen *)ctx)->rows++);
    assert_int_equal(c->step, 0);
    assert_string_equal(c->name, c->call == 0 ? "read" : "");
    assert_int_equal(c->state, c->call == 0 ? CN_CALL_FAILED : CN_CALL_INTERRUPTED);
    assert_int_equal(c->arguments.bytes, c->call == 0 ? sizeof(odd_bytes) : 0);
    assert_int_equal(c->sampled.bytes, c->call == 0 ? 5 : 0);
    if (c->call != 0) return;
    assert_memory_equal(c->arguments.data, odd_bytes, sizeof(odd_bytes));
    assert_memory_equal(c->sampled.data, odd_bytes, 5);
    assert_int_equal(c->result.bytes, sizeof(odd_bytes));
    assert_memory_equal(c->result.data, odd_bytes, sizeof(odd_bytes));
    assert_int_equal(c->exit, -9);
    assert_int_equal(c->started_ns, 1795459732148123456);
    assert_int_equal(c->ns, INT64_C(1) << 40);
}

static void see_odd_tokens(void *ctx, int32_t turn, int32_t step, const int32_t *token,
                           int64_t tokens) {
    ((seen *)ctx)->rows++;
    assert_true(turn == 1 && step == 0 && tokens == 7);
    assert_memory_equal(token, odd_tokens, sizeof(odd_tokens));
}

static void see_odd_read(void *ctx, int32_t turn, const cn_ledger_read *r) {
    const int row = ((seen *)ctx)->rows++;
    assert_int_equal(turn, 1);
    assert_string_equal(r->path, row == 0 ? "z.c" : "a\xff.c");
    assert_int_equal(r->first_line, row == 0 ? 5 : 0);
    assert_int_equal(r->last_line, row == 0 ? INT32_MAX : 0);
    assert_true(r->share == (row == 0 ? 0.1 : 1.0));
}

/* Any bytes, any ids, every number of two bills: the same after a reopen. */
static void test_turn_comes_back(void **state) {
    (void)state;
    int32_t turn;
    k_create(l, "a");
    cn_ledger_writer *w = k_write(l, "a");
    const cn_bill     first = k_bill(7), second = k_bill(8), whole = k_bill(9);
    assert_err(
        cn_ledger_turn_begin(w, (cn_ledger_text){odd_bytes, sizeof(odd_bytes)}, &turn, &t_diag),
        CN_OK);
    assert_int_equal(turn, 1);
    const cn_ledger_intent intent[] = {
        {.name = "read", .arguments = {odd_bytes, sizeof(odd_bytes)}, .sampled = {odd_bytes, 5}},
        {.name = NULL}};
    assert_err(cn_ledger_step_commit(w,
                                     &(cn_ledger_commit){.kind = CN_STEP_GENERATION,
                                                         .stop = CN_STOP_TOOL,
                                                         .token = odd_tokens,
                                                         .tokens = 7,
                                                         .started_ns = 1795459732148123456,
                                                         .bill = &first,
                                                         .turn_bill = &second,
                                                         .intent = intent,
                                                         .intents = 2},
                                     &t_diag),
               CN_OK);
    const cn_ledger_result result = {.state = CN_CALL_FAILED,
                                     .exit = -9,
                                     .result = {odd_bytes, sizeof(odd_bytes)},
                                     .started_ns = 1795459732148123456,
                                     .ns = INT64_C(1) << 40};
    assert_err(cn_ledger_step_commit(w,
                                     &(cn_ledger_commit){.step = 1,
                                                         .kind = CN_STEP_TOOL,
                                                         .stop = CN_STOP_END,
                                                         .started_ns = 1795459732148123457,
                                                         .bill = &second,
                                                         .result = &result,
                                                         .results = 1},
                                     &t_diag),
               CN_OK);
    const cn_ledger_read read[] = {{"z.c", 5, INT32_MAX, 0.1}, {"a\xff.c", 0, 0, 1.0}};
    assert_err(cn_ledger_turn_finish(w, CN_STOP_BUDGET,
                                     (cn_ledger_text){odd_bytes, sizeof(odd_bytes) - 3}, &whole,
                                     read, 2, &t_diag),
               CN_OK);
    cn_ledger_writer_close(w);
    for (int round = 0; round < 2; round++) {
        seen s[5] = {{0}};
        assert_err(cn_ledger_turns(l, "a", 0, see_odd_turn, &s[0], &t_diag), CN_OK);
        assert_err(cn_ledger_steps(l, "a", 0, see_odd_step, &s[1], &t_diag), CN_OK);
        assert_err(cn_ledger_calls(l, "a", 0, see_odd_call, &s[2], &t_diag), CN_OK);
        assert_err(cn_ledger_tokens(l, "a", 0, see_odd_tokens, &s[3], &t_diag), CN_OK);
        assert_err(cn_ledger_reads(l, "a", 0, see_odd_read, &s[4], &t_diag), CN_OK);
        const int want[] = {1, 2, 2, 1, 2};
        for (int i = 0; i < 5; i++) assert_int_equal(s[i].rows, want[i]);
        reopen();
    }
}

/* The columns carry the names of the bill's members: people and views read them by name. */
static void test_columns_are_named_as_the_bill(void **state) {
    (void)state;
    k_create(l, "a");
    cn_ledger_writer *w = k_write(l, "a");
    k_turn(w, "q", 1);
    cn_ledger_writer_close(w);
    const cn_bill b = k_bill(1);
    const struct {
        const char *column;
        int64_t     want;
    } some[] = {
#define OF(member) {#member, b.member}
        OF(context_tokens),
        OF(cached_tokens),
        OF(prefilled_tokens),
        OF(prompt_tokens),
        OF(output_tokens),
        OF(reused_tokens),
        OF(ttft_ns),
        OF(load_ns),
        OF(wall_ns),
        OF(queue_ns),
        OF(tokenize_ns),
        OF(context_ns),
        OF(restore_ns),
        OF(prefill_ns),
        OF(route_ns),
        OF(attend_ns),
        OF(decode_ns),
        OF(tool_ns),
        OF(store_ns),
        OF(other_ns),
        OF(bytes_read),
        OF(bytes_written),
        OF(no_cache_ns),
        OF(per_layer_routing_ns),
        OF(saved_ns),
#undef OF
#define OF(name, NAME)                                                                             \
    {name "_misses", b.misses[CN_MISS_##NAME].count},                                              \
        {name "_missed_tokens", b.misses[CN_MISS_##NAME].tokens}
        OF("new", NEW),
        OF("changed", CHANGED),
        OF("model", MODEL),
        OF("format", FORMAT),
        OF("evicted", EVICTED),
        OF("corrupt", CORRUPT),
        OF("unstored", UNSTORED),
#undef OF
    };
    assert_int_equal(sizeof(some) / sizeof(some[0]), sizeof(cn_bill) / sizeof(int64_t));
    const char *const table[] = {"turns", "cost_by_turn", "cost_by_session", "cost_by_day"};
    for (size_t t = 0; t < sizeof(table) / sizeof(table[0]); t++)
        for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
            char sql[128];
            snprintf(sql, sizeof(sql), "SELECT %s FROM %s", some[i].column, table[t]);
            t_note("%s", sql);
            assert_int_equal(k_sql_int(dir, sql), some[i].want);
        }
}

static void count_tokens(void *ctx, int32_t turn, int32_t step, const int32_t *token,
                         int64_t tokens) {
    seen *s = ctx;
    (void)turn, (void)step;
    assert_true(tokens > 0);
    s->rows++;
    for (int64_t i = 0; i < tokens; i++) assert_int_equal(token[i], s->tokens++);
}

static void test_long_step_comes_in_order(void **state) {
    (void)state;
    enum { TOKENS = 100003 };
    int32_t *token = malloc(TOKENS * sizeof(*token)), turn;
    assert_non_null(token);
    for (int32_t i = 0; i < TOKENS; i++) token[i] = i;
    k_create(l, "a");
    cn_ledger_writer *w = k_write(l, "a");
    assert_err(cn_ledger_turn_begin(w, k_text("q"), &turn, &t_diag), CN_OK);
    assert_err(
        cn_ledger_step_commit(w, &(cn_ledger_commit){.token = token, .tokens = TOKENS}, &t_diag),
        CN_OK);
    seen s = {0};
    assert_err(cn_ledger_tokens(l, "a", 0, count_tokens, &s, &t_diag), CN_OK); // of an open turn
    assert_int_equal(s.tokens, TOKENS);
    assert_true(s.rows > 1);
    assert_refused(
        cn_ledger_step_commit(
            w,
            &(cn_ledger_commit){.step = 1, .token = token, .tokens = CN_LEDGER_STEP_TOKENS_MAX + 1},
            &t_diag),
        CN_ETOOBIG, "a step of 4194305 tokens, limit 4194304");
    assert_refused(cn_ledger_step_commit(
                       w, &(cn_ledger_commit){.step = 1, .token = token, .tokens = -1}, &t_diag),
                   CN_EINVAL, "a step of -1 tokens");
    cn_ledger_writer_close(w);
    free(token);
}

static void test_order_of_writing_is_enforced(void **state) {
    (void)state;
    int32_t turn;
    k_create(l, "a");
    cn_ledger_writer      *w = k_write(l, "a");
    const cn_ledger_text   none = {0};
    const cn_ledger_intent intent = {.name = "x"};
    cn_ledger_result       result = {.state = CN_CALL_DONE};
    assert_refused(cn_ledger_step_commit(w, &(cn_ledger_commit){0}, &t_diag), CN_EINVAL,
                   "no turn is open");
    assert_refused(cn_ledger_turn_finish(w, CN_STOP_END, none, NULL, NULL, 0, &t_diag), CN_EINVAL,
                   "no turn is open");
    assert_err(cn_ledger_turn_begin(w, none, &turn, &t_diag), CN_OK);
    assert_refused(cn_ledger_turn_begin(w, none, &turn, &t_diag), CN_EINVAL, "turn 1 is open");
    assert_int_equal(turn, 0);
    assert_refused(cn_ledger_rewind(w, 0, &t_diag), CN_EINVAL, "turn 1 is open");
    assert_refused(cn_ledger_step_commit(w, &(cn_ledger_commit){.step = 1}, &t_diag), CN_EINVAL,
                   "step 1 of turn 1, the next is 0");
    assert_refused(
        cn_ledger_step_commit(w, &(cn_ledger_commit){.results = 1, .result = &result}, &t_diag),
        CN_EINVAL, "no call 0 of step 0 in turn 1 waits");
    assert_refused(cn_ledger_step_commit(w, &(cn_ledger_commit){.kind = (cn_step_kind)2}, &t_diag),
                   CN_EINVAL, "kind 2");
    assert_refused(cn_ledger_step_commit(w, &(cn_ledger_commit){.stop = CN_STOP_COUNT}, &t_diag),
                   CN_EINVAL, "stop 7");
    assert_refused(cn_ledger_step_commit(
                       w, &(cn_ledger_commit){.intents = CN_LEDGER_STEP_CALLS_MAX + 1}, &t_diag),
                   CN_ETOOBIG, "257 calls, limit 256");
    assert_refused(cn_ledger_step_commit(
                       w, &(cn_ledger_commit){.results = CN_LEDGER_STEP_CALLS_MAX + 1}, &t_diag),
                   CN_ETOOBIG, "257 results, limit 256");
    assert_err(
        cn_ledger_step_commit(
            w, &(cn_ledger_commit){.intent = &intent, .intents = 1, .stop = CN_STOP_TOOL}, &t_diag),
        CN_OK);
    assert_refused(cn_ledger_step_commit(w, &(cn_ledger_commit){.step = 0}, &t_diag), CN_EINVAL,
                   "step 0 of turn 1, the next is 1");
    result.state = CN_CALL_INTENT;
    cn_ledger_commit second = {.step = 1, .kind = CN_STEP_TOOL, .result = &result, .results = 1};
    assert_refused(cn_ledger_step_commit(w, &second, &t_diag), CN_EINVAL, "state 0");
    result.state = CN_CALL_COUNT;
    assert_refused(cn_ledger_step_commit(w, &second, &t_diag), CN_EINVAL, "state 4");
    result = (cn_ledger_result){.state = CN_CALL_DONE, .call = 1};
    assert_refused(cn_ledger_step_commit(w, &second, &t_diag), CN_EINVAL, "no call 1 of step 0");
    result.call = 0;
    assert_err(cn_ledger_step_commit(w, &second, &t_diag), CN_OK);
    second.step = 2; // the same result twice
    assert_refused(cn_ledger_step_commit(w, &second, &t_diag), CN_EINVAL, "no call 0 of step 0");
    const cn_stop bad[] = {CN_STOP_OPEN, CN_STOP_TOOL, CN_STOP_COUNT, (cn_stop)-1};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_refused(cn_ledger_turn_finish(w, bad[i], none, NULL, NULL, 0, &t_diag), CN_EINVAL,
                       "a turn cannot stop with");
    const double shares[] = {-0.1, 1.1, NAN};
    for (int i = 0; i < 3; i++)
        assert_refused(cn_ledger_turn_finish(w, CN_STOP_END, none, NULL,
                                             &(cn_ledger_read){"a", 1, 1, shares[i]}, 1, &t_diag),
                       CN_EINVAL, "a share of");
    assert_refused(
        cn_ledger_turn_finish(w, CN_STOP_END, none, NULL, NULL, CN_LEDGER_READS_MAX + 1, &t_diag),
        CN_ETOOBIG, "limit 65536");
    assert_err(cn_ledger_turn_finish(w, CN_STOP_END, none, NULL, NULL, 0, &t_diag), CN_OK);
    cn_ledger_writer_close(w);
}

static void test_texts_have_a_limit(void **state) {
    (void)state;
    const cn_ledger_text big = {"x", (size_t)CN_LEDGER_TEXT_BYTES_MAX + 1}; // never read
    int32_t              turn;
    k_create(l, "a");
    cn_ledger_writer *w = k_write(l, "a");
    const char       *why = "of 268435457 bytes, limit 268435456";
    assert_refused(cn_ledger_turn_begin(w, big, &turn, &t_diag), CN_ETOOBIG, why);
    assert_err(cn_ledger_turn_begin(w, k_text("q"), &turn, &t_diag), CN_OK);
    const cn_ledger_intent intent[] = {{.arguments = big}, {.sampled = big}};
    for (int i = 0; i < 2; i++)
        assert_refused(cn_ledger_step_commit(
                           w, &(cn_ledger_commit){.intent = &intent[i], .intents = 1}, &t_diag),
                       CN_ETOOBIG, why);
    const cn_ledger_result result = {.state = CN_CALL_DONE, .result = big};
    assert_refused(
        cn_ledger_step_commit(w, &(cn_ledger_commit){.result = &result, .results = 1}, &t_diag),
        CN_ETOOBIG, why);
    assert_refused(cn_ledger_turn_finish(w, CN_STOP_END, big, NULL, NULL, 0, &t_diag), CN_ETOOBIG,
                   why);
    cn_ledger_writer_close(w);
}

/* A step that fails in its middle leaves nothing of it: not its tokens, not its intents. */
static void test_step_is_whole_or_absent(void **state) {
    (void)state;
    int32_t turn;
    k_create(l, "a");
    cn_ledger_writer      *w = k_write(l, "a");
    const int32_t          token[] = {1, 2, 3};
    const cn_bill          bill = k_bill(1);
    const cn_ledger_intent intent = {.name = "x"};
    const cn_ledger_result result = {.state = CN_CALL_DONE, .step = 5};
    assert_err(cn_ledger_turn_begin(w, k_text("q"), &turn, &t_diag), CN_OK);
    assert_refused(cn_ledger_step_commit(w,
                                         &(cn_ledger_commit){.token = token,
                                                             .tokens = 3,
                                                             .bill = &bill,
                                                             .turn_bill = &bill,
                                                             .intent = &intent,
                                                             .intents = 1,
                                                             .result = &result,
                                                             .results = 1},
                                         &t_diag),
                   CN_EINVAL, "no call 0 of step 5");
    cn_ledger_writer_close(w);
}

static void test_lists_keep_to_one_turn(void **state) {
    (void)state;
    cn_buf got = {0};
    k_create(l, "a");
    cn_ledger_writer *w = k_write(l, "a");
    for (int i = 0; i < 3; i++) k_turn(w, "q", 2);
    cn_ledger_writer_close(w);
    assert_err(cn_ledger_tokens(l, "a", 0, k_put_tokens, &got, &t_diag), CN_OK);
    assert_string_equal(got.data, "tokens 1.0 100 0\ntokens 1.1 101 1\ntokens 2.0 200 0\n"
                                  "tokens 2.1 201 1\ntokens 3.0 300 0\ntokens 3.1 301 1\n");
    cn_buf_reset(&got);
    assert_err(cn_ledger_tokens(l, "a", 2, k_put_tokens, &got, &t_diag), CN_OK); // up to it
    assert_string_equal(got.data, "tokens 1.0 100 0\ntokens 1.1 101 1\ntokens 2.0 200 0\n"
                                  "tokens 2.1 201 1\n");
    cn_buf_reset(&got);
    assert_err(cn_ledger_reads(l, "a", 2, k_put_read, &got, &t_diag), CN_OK); // it alone
    assert_string_equal(got.data, "read 2 src/a.c:120-164 0.31\n");
    cn_buf_reset(&got);
    const int32_t absent[] = {4, -1};
    for (int i = 0; i < 2; i++) {
        assert_err(cn_ledger_turns(l, "a", absent[i], k_put_turn, &got, &t_diag), CN_ENOTFOUND);
        assert_err(cn_ledger_tokens(l, "a", absent[i], k_put_tokens, &got, &t_diag), CN_ENOTFOUND);
    }
    assert_non_null(strstr(t_diag.text, "no turn -1"));
    assert_err(cn_ledger_turns(l, "b", 0, k_put_turn, &got, &t_diag), CN_ENOTFOUND);
    assert_non_null(strstr(t_diag.text, "no session b"));
    assert_err(cn_ledger_steps(l, "b", 0, k_put_step, &got, &t_diag), CN_ENOTFOUND);
    assert_err(cn_ledger_calls(l, "b", 0, k_put_call, &got, &t_diag), CN_ENOTFOUND);
    assert_err(cn_ledger_reads(l, "b", 0, k_put_read, &got, &t_diag), CN_ENOTFOUND);
    assert_err(cn_ledger_tokens(l, "b", 0, k_put_tokens, &got, &t_diag), CN_ENOTFOUND);
    assert_err(cn_ledger_documents(l, "b", 0, k_put_document, &got, &t_diag), CN_ENOTFOUND);
    assert_int_equal(got.bytes, 0);
    cn_buf_release(&got);
}

static void test_names_are_those_of_the_wire(void **state) {
    (void)state;
    const char *const stops[] = {"open", "end", "length", "budget", "cancel", "error", "tool"};
    for (int i = 0; i < CN_STOP_COUNT; i++) assert_string_equal(cn_stop_name((cn_stop)i), stops[i]);
    const char *const states[] = {"intent", "done", "failed", "interrupted"};
    for (int i = 0; i < CN_CALL_COUNT; i++)
        assert_string_equal(cn_call_state_name((cn_call_state)i), states[i]);
    assert_string_equal(cn_stop_name(CN_STOP_COUNT), "?");
    assert_string_equal(cn_call_state_name((cn_call_state)-1), "?");
}

/* ---- Interrupted ------------------------------------------------------------------- */

static void test_open_intents_are_told(void **state) {
    (void)state;
    cn_ledger_opened       opened;
    cn_ledger_writer      *w;
    int32_t                turn;
    const cn_ledger_intent intent[] = {{.name = "write"}, {.name = "run"}};
    k_create(l, "a");
    k_create(l, "b");
    w = k_write(l, "a");
    k_turn(w, "q", 2);
    assert_err(cn_ledger_turn_begin(w, k_text("do"), &turn, &t_diag), CN_OK);
    assert_err(
        cn_ledger_step_commit(
            w, &(cn_ledger_commit){.intent = intent, .intents = 2, .stop = CN_STOP_TOOL}, &t_diag),
        CN_OK);
    cn_ledger_writer_close(w); // as a crash leaves it
    reopen();
    assert_err(cn_ledger_writer_open(&w, l, "b", &opened, &t_diag), CN_OK);
    assert_true(opened.interrupted == 0 && opened.open_turn == 0 && opened.next_step == 0);
    cn_ledger_writer_close(w);
    assert_err(cn_ledger_writer_open(&w, l, "a", &opened, &t_diag), CN_OK);
    assert_true(opened.interrupted == 2 && opened.open_turn == 2 && opened.next_step == 1);
    cn_ledger_writer_close(w);
    assert_err(cn_ledger_writer_open(&w, l, "a", &opened, &t_diag), CN_OK);
    assert_true(opened.interrupted == 0 && opened.open_turn == 2 && opened.next_step == 1);
    // The turn goes on: one call is answered as interrupted, the other by its trace as done.
    const cn_ledger_result result[] = {
        {.call = 0, .state = CN_CALL_INTERRUPTED, .result = k_text("unknown")},
        {.call = 1, .state = CN_CALL_DONE, .result = k_text("it had run")}};
    assert_err(
        cn_ledger_step_commit(
            w, &(cn_ledger_commit){.step = 1, .kind = CN_STEP_TOOL, .result = result, .results = 2},
            &t_diag),
        CN_OK);
    // A call that nobody answers is interrupted when the turn ends.
    assert_err(cn_ledger_step_commit(
                   w, &(cn_ledger_commit){.step = 2, .intent = intent, .intents = 1}, &t_diag),
               CN_OK);
    assert_err(cn_ledger_turn_finish(w, CN_STOP_CANCEL, k_text(""), NULL, NULL, 0, &t_diag), CN_OK);
    cn_ledger_writer_close(w);
    cn_buf got = {0};
    assert_err(cn_ledger_calls(l, "a", 2, k_put_call, &got, &t_diag), CN_OK);
    assert_string_equal(
        got.data,
        "call 2.0.0 write interrupted exit 0 ns 0 args[0]= sampled[0]= result[7]=unknown\n"
        "call 2.0.1 run done exit 0 ns 0 args[0]= sampled[0]= result[10]=it had run\n"
        "call 2.2.0 write interrupted exit 0 ns 0 args[0]= sampled[0]= result[0]=\n");
    cn_buf_release(&got);
}

static void test_one_writer_per_session(void **state) {
    (void)state;
    cn_ledger_writer *w, *second;
    cn_ledger        *other = k_open(dir);
    char              pid[32];
    snprintf(pid, sizeof(pid), "process %d", (int)getpid());
    k_create(l, "a");
    k_create(l, "b");
    w = k_write(l, "a");
    cn_ledger *const from[] = {l, other}; // the same connection, another of this process
    for (int i = 0; i < 2; i++) {
        t_diag = (cn_diag){0};
        assert_err(cn_ledger_writer_open(&second, from[i], "a", NULL, &t_diag), CN_EBUSY);
        assert_null(second);
        assert_non_null(strstr(t_diag.text, pid));
        assert_non_null(strstr(t_diag.text, "session a"));
        assert_err(cn_ledger_session_del(from[i], "a", &t_diag), CN_EBUSY);
    }
    second = k_write(other, "b");
    k_turn(second, "q", 2);
    k_turn(w, "q", 2);
    cn_ledger_writer_close(w);
    w = k_write(other, "a"); // free again
    cn_ledger_writer_close(w);
    cn_ledger_writer_close(second);
    cn_ledger_writer_close(NULL);
    assert_err(cn_ledger_writer_open(&w, l, "c", NULL, &t_diag), CN_ENOTFOUND);
    assert_err(cn_ledger_writer_open(&w, l, "", NULL, &t_diag), CN_ENOTFOUND);
    assert_null(w);
    cn_ledger_close(other);
}

/* ---- Fork, rewind, delete ---------------------------------------------------------- */

static void assert_tokens(const char *id, const char *want) {
    cn_buf got = {0};
    assert_err(cn_ledger_tokens(l, id, 0, k_put_tokens, &got, &t_diag), CN_OK);
    assert_string_equal(cn_buf_str(&got), want);
    cn_buf_release(&got);
}

static void fork_at(const char *parent, int32_t turn, const char *id) {
    cn_ledger_session *s;
    assert_err(cn_ledger_session_fork(l, parent, turn, id, &s, &t_diag), CN_OK);
    assert_string_equal(s->id, id);
    assert_string_equal(s->parent, parent);
    assert_int_equal(s->forked_at, turn);
    assert_int_equal(s->head, turn);
    assert_int_equal(s->turns, 0);
    cn_ledger_session_free(s);
}

static int32_t turn_on(const char *id) {
    cn_ledger_writer *w = k_write(l, id);
    const int32_t     turn = k_turn(w, "q", 1);
    cn_ledger_writer_close(w);
    return turn;
}

static void rewind_to(const char *id, int32_t turn) {
    cn_ledger_writer *w = k_write(l, id);
    assert_err(cn_ledger_rewind(w, turn, &t_diag), CN_OK);
    cn_ledger_writer_close(w);
}

static void test_fork_shares_and_goes_its_own_way(void **state) {
    (void)state;
    k_create(l, "a");
    for (int i = 1; i <= 3; i++) assert_int_equal(turn_on("a"), i);
    fork_at("a", 2, "b");
    assert_int_equal(turn_on("b"), 3);
    assert_int_equal(turn_on("a"), 4);
    fork_at("b", 3, "c"); // a fork of a fork
    assert_int_equal(turn_on("c"), 4);
    fork_at("c", 1, "d"); // at a turn of its grandparent
    fork_at("a", 0, "e"); // with nothing
    assert_int_equal(turn_on("e"), 1);
    assert_tokens("a", "tokens 1.0 100 0\ntokens 2.0 200 0\ntokens 3.0 300 0\ntokens 4.0 400 0\n");
    assert_tokens("b", "tokens 1.0 100 0\ntokens 2.0 200 0\ntokens 3.0 300 0\n");
    assert_tokens("c", "tokens 1.0 100 0\ntokens 2.0 200 0\ntokens 3.0 300 0\ntokens 4.0 400 0\n");
    assert_tokens("d", "tokens 1.0 100 0\n");
    assert_tokens("e", "tokens 1.0 100 0\n");
    cn_buf got = {0};
    assert_err(cn_ledger_turns(l, "c", 0, k_put_turn, &got, &t_diag), CN_OK);
    const char *own[] = {"turn a/1 ", "turn a/2 ", "turn b/3 ", "turn c/4 "};
    for (int i = 0; i < 4; i++) assert_non_null(strstr(got.data, own[i]));
    assert_null(strstr(got.data, "turn a/3 "));
    cn_buf_release(&got);
    // Only a session row was written for each fork.
    assert_int_equal(k_sql_int(dir, "SELECT count(*) FROM turns"), 7);
    assert_int_equal(k_sql_int(dir, "SELECT count(*) FROM steps"), 7);

    cn_ledger_session *s;
    int32_t            turn;
    assert_refused(cn_ledger_session_fork(l, "b", 4, NULL, &s, &t_diag), CN_ENOTFOUND, "no turn 4");
    assert_refused(cn_ledger_session_fork(l, "b", -1, NULL, &s, &t_diag), CN_ENOTFOUND,
                   "no turn -1");
    assert_refused(cn_ledger_session_fork(l, "x", 0, NULL, &s, &t_diag), CN_ENOTFOUND,
                   "no session x");
    assert_refused(cn_ledger_session_fork(l, "a", 1, "b", &s, &t_diag), CN_EINVAL,
                   "session b exists");
    assert_refused(cn_ledger_session_fork(l, "a", 1, "no good", &s, &t_diag), CN_EINVAL, "letters");
    cn_ledger_writer *w = k_write(l, "b");
    assert_err(cn_ledger_turn_begin(w, k_text("q"), &turn, &t_diag), CN_OK);
    assert_refused(cn_ledger_session_fork(l, "b", turn, NULL, &s, &t_diag), CN_EINVAL,
                   "turn 4 is not finished");
    assert_null(s);
    cn_ledger_writer_close(w);
}

static void put_fork(void *ctx, const cn_ledger_session *s) {
    cn_buf_printf(ctx, "%s<%s@%d ", s->id, s->parent, s->forked_at);
}

static void test_forks_are_listed(void **state) {
    (void)state;
    k_create(l, "a");
    k_create(l, "z");
    for (int i = 1; i <= 2; i++) turn_on("a");
    fork_at("a", 2, "c");
    fork_at("a", 1, "b");
    fork_at("c", 2, "d"); // not a's
    cn_buf got = {0};
    assert_err(cn_ledger_forks(l, "a", put_fork, &got, &t_diag), CN_OK);
    assert_string_equal(cn_buf_str(&got), "c<a@2 b<a@1 ");
    cn_buf_reset(&got);
    assert_err(cn_ledger_forks(l, "z", put_fork, &got, &t_diag), CN_OK);
    assert_int_equal(got.bytes, 0);
    cn_buf_release(&got);
    assert_refused(cn_ledger_forks(l, "x", put_fork, NULL, &t_diag), CN_ENOTFOUND, "no session x");
}

/* Who still has the file open learns that nobody else will ever see what it writes. */
static void test_a_file_that_is_gone_takes_no_writes(void **state) {
    (void)state;
    cn_ledger_session *s;
    int32_t            turn;
    k_create(l, "a");
    turn_on("a");
    cn_ledger_writer *w = k_write(l, "a");
    t_shell("mkdir %s.gone && mv %s/ledger.db* %s.gone", dir, dir, dir);
    assert_err(cn_ledger_turn_begin(w, k_text("q"), &turn, &t_diag), CN_EIO);
    assert_non_null(strstr(t_diag.text, "ledger.db was moved or deleted"));
    assert_err(cn_ledger_session_edit(w, &(cn_ledger_edit){.title = "t"}, &t_diag), CN_EIO);
    assert_err(cn_ledger_session_create(l, &(cn_ledger_session){.id = "b"}, &s, &t_diag), CN_EIO);
    assert_err(cn_ledger_session_find(l, "a", &s, &t_diag), CN_OK); // it can still be read
    cn_ledger_session_free(s);
    cn_ledger_writer_close(w);
    cn_ledger_close(l);
    l = k_open(dir); // an empty one
    assert_err(cn_ledger_session_find(l, "a", &s, &t_diag), CN_ENOTFOUND);
    cn_ledger_close(l);
    t_shell("rm %s/ledger.db* && mv %s.gone/* %s", dir, dir, dir);
    l = k_open(dir); // what was there is whole
    assert_err(cn_ledger_verify(l, &t_diag), CN_OK);
    assert_err(cn_ledger_session_find(l, "a", &s, &t_diag), CN_OK);
    assert_true(s->turns == 1 && s->title[0] == 'T');
    cn_ledger_session_free(s);
}

static void test_rewind_keeps_the_bill(void **state) {
    (void)state;
    cn_ledger_session *s;
    k_create(l, "a");
    for (int i = 1; i <= 3; i++) turn_on("a");
    fork_at("a", 3, "b");
    rewind_to("a", 1);
    assert_tokens("a", "tokens 1.0 100 0\n");
    assert_int_equal(turn_on("a"), 4); // numbers are not given twice
    assert_tokens("a", "tokens 1.0 100 0\ntokens 4.0 400 0\n");
    assert_tokens("b", "tokens 1.0 100 0\ntokens 2.0 200 0\ntokens 3.0 300 0\n");
    rewind_to("b", 2); // below its own turns: those of its parent
    assert_int_equal(turn_on("b"), 4);
    assert_tokens("b", "tokens 1.0 100 0\ntokens 2.0 200 0\ntokens 4.0 400 0\n");
    cn_buf got = {0};
    assert_err(cn_ledger_costs(l, CN_COST_SESSION, "a", k_put_cost, &got, &t_diag), CN_OK);
    assert_non_null(strstr(got.data, "cost a|T|0| 4 turns"));
    cn_buf_release(&got);
    cn_ledger_writer *w = k_write(l, "a");
    assert_refused(cn_ledger_rewind(w, 2, &t_diag), CN_ENOTFOUND, "no turn 2");
    assert_err(cn_ledger_rewind(w, 4, &t_diag), CN_OK); // to where it is
    cn_ledger_writer_close(w);
    rewind_to("a", 0);
    assert_tokens("a", "");
    assert_err(cn_ledger_session_find(l, "a", &s, &t_diag), CN_OK);
    assert_true(s->head == 0 && s->turns == 4 && s->open_turn == 0);
    cn_ledger_session_free(s);
    assert_int_equal(turn_on("a"), 5);
}

static bool has_bytes(const char *path, const char *text) {
    int64_t bytes;
    char   *data = k_read_file(path, &bytes);
    bool    found = data && memmem(data, (size_t)bytes, text, strlen(text)) != NULL;
    free(data);
    return found;
}

static void test_deleted_session_is_gone(void **state) {
    (void)state;
    cn_ledger_session *s;
    k_create(l, "a");
    k_create(l, "keep");
    turn_on("keep");
    cn_ledger_writer        *w = k_write(l, "a");
    const cn_ledger_document d = k_document("secret/path.c", 1, 2);
    assert_err(cn_ledger_documents_put(w, &d, 1, NULL, &t_diag), CN_OK);
    k_turn(w, "the secret question", 3);
    cn_ledger_writer_close(w);
    fork_at("a", 1, "b");
    turn_on("b");
    assert_refused(cn_ledger_session_del(l, "a", &t_diag), CN_EINVAL, "has a fork, b");
    assert_refused(cn_ledger_session_del(l, "x", &t_diag), CN_ENOTFOUND, "no session x");
    reopen(); // so that the log is in the file
    assert_true(has_bytes(k_in(dir, "ledger.db"), "secret question"));
    assert_err(cn_ledger_session_del(l, "b", &t_diag), CN_OK);
    assert_err(cn_ledger_session_del(l, "a", &t_diag), CN_OK);
    assert_err(cn_ledger_session_find(l, "a", &s, &t_diag), CN_ENOTFOUND);
    assert_int_equal(k_sql_int(dir, "SELECT count(*) FROM refs"), 1); // of one step
    const char *const left[] = {"sessions", "turns", "steps", "turn_texts"};
    for (int i = 0; i < 4; i++) {
        char sql[64];
        snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s", left[i]);
        assert_int_equal(k_sql_int(dir, sql), 1);
    }
    assert_int_equal(k_sql_int(dir, "SELECT count(*) FROM generations"), 0);
    assert_int_equal(k_sql_int(dir, "SELECT count(*) FROM documents"), 0);
    assert_int_equal(k_sql_int(dir, "SELECT count(*) FROM tool_calls"), 0);
    assert_int_equal(k_sql_int(dir, "SELECT count(*) FROM attention"), 1);
    assert_false(has_bytes(k_in(dir, "ledger.db"), "secret"));
    assert_false(has_bytes(k_in(dir, "ledger.db-wal"), "secret"));
    // Its key is not given again: whoever held its lock does not hold another's.
    k_create(l, "a");
    assert_int_equal(k_sql_int(dir, "SELECT key FROM sessions WHERE id = 'a'"), 4);
}

/* ---- Refs -------------------------------------------------------------------------- */

static void assert_refs(const char *id, int32_t turn, const char *want) {
    cn_buf got = {0};
    assert_err(cn_ledger_refs(l, id, turn, k_put_ref, &got, &t_diag), CN_OK);
    assert_string_equal(cn_buf_str(&got), want);
    cn_buf_release(&got);
}

/* A step of the open turn with one ref. */
static cn_err commit_ref(cn_ledger_writer *w, int32_t step, const cn_ledger_ref *ref) {
    return cn_ledger_step_commit(w, &(cn_ledger_commit){.step = step, .ref = ref, .refs = 1},
                                 &t_diag);
}

/* Parts are read with their bytes, any bytes; they go with their turn and stay with a fork. */
static void test_refs_come_back(void **state) {
    (void)state;
    int32_t                turn;
    const char             question[] = "0\0\xff\n4";
    const cn_ledger_intent intent[] = {{.name = "x"}, {.name = "y"}};
    const cn_ledger_result result = {.call = 1, .state = CN_CALL_DONE, .result = k_text("result")};
    const cn_ledger_ref    r[] = {
           {.part = 0, .path = "turn-1/question.txt", .begin = 1, .bytes = 3},
           {.part = 2, .step = 0, .call = 1, .path = "turn-1/result-2.txt", .begin = 0, .bytes = 6},
    };
    k_create(l, "a");
    cn_ledger_writer *w = k_write(l, "a");
    assert_err(cn_ledger_turn_next(w, &turn, &t_diag), CN_OK);
    assert_int_equal(turn, 1);
    assert_err(cn_ledger_turn_begin(w, (cn_ledger_text){question, 5}, &turn, &t_diag), CN_OK);
    assert_err(
        cn_ledger_step_commit(
            w, &(cn_ledger_commit){.intent = intent, .intents = 2, .ref = r, .refs = 1}, &t_diag),
        CN_OK);
    assert_err(cn_ledger_step_commit(w,
                                     &(cn_ledger_commit){.step = 1,
                                                         .kind = CN_STEP_TOOL,
                                                         .result = &result,
                                                         .results = 1,
                                                         .ref = r + 1,
                                                         .refs = 1},
                                     &t_diag),
               CN_OK);
    assert_err(cn_ledger_turn_finish(w, CN_STOP_END, k_text(""), NULL, NULL, 0, &t_diag), CN_OK);
    assert_err(cn_ledger_turn_next(w, &turn, &t_diag), CN_OK);
    assert_int_equal(turn, 2);
    assert_int_equal(k_turn(w, "Q", 2), 2);
    cn_ledger_writer_close(w);
    reopen();
    const char *second = "ref 2.0 q.txt of 0.0 bytes 0+1 text[1]=Q\n"
                         "ref 2.1 r.txt of 0.0 bytes 2+3 text[3]=und\n";
    cn_buf      got = {0};
    assert_err(cn_ledger_refs(l, "a", 1, k_put_ref, &got, &t_diag), CN_OK);
    const char first[] = "ref 1.0 turn-1/question.txt of 0.0 bytes 1+3 text[3]=\0\xff\n\n"
                         "ref 1.2 turn-1/result-2.txt of 0.1 bytes 0+6 text[6]=result\n";
    assert_int_equal(got.bytes, sizeof(first) - 1);
    assert_memory_equal(got.data, first, sizeof(first) - 1);
    cn_buf_release(&got);
    assert_refs("a", 2, second);

    fork_at("a", 2, "b");
    rewind_to("a", 1);
    assert_err(cn_ledger_refs(l, "a", 2, k_put_ref, NULL, &t_diag), CN_ENOTFOUND);
    assert_refs("b", 2, second);
    rewind_to("a", 0);
    assert_refs("a", 0, "");
}

static void test_refs_have_their_text(void **state) {
    (void)state;
    int32_t                turn;
    const cn_ledger_result result = {.state = CN_CALL_DONE, .result = k_text("result")};
    const cn_ledger_intent intent = {.name = "x"};
    cn_ledger_ref          r = {.path = "q", .begin = 1, .bytes = 4};
    k_create(l, "a");
    cn_ledger_writer *w = k_write(l, "a");
    assert_err(cn_ledger_turn_begin(w, k_text("four"), &turn, &t_diag), CN_OK);
    assert_refused(commit_ref(w, 0, &r), CN_EINVAL, "part 0 of turn 1 has no bytes 1 to 5");
    r.bytes = 0;
    assert_refused(commit_ref(w, 0, &r), CN_EINVAL, "0 bytes");
    r = (cn_ledger_ref){.path = "q", .begin = -1, .bytes = 1};
    assert_refused(commit_ref(w, 0, &r), CN_EINVAL, "from byte -1");
    r.begin = INT64_MAX;
    assert_refused(commit_ref(w, 0, &r), CN_EINVAL, "from byte 9223372036854775807");
    r = (cn_ledger_ref){.path = "q", .part = -1, .bytes = 1};
    assert_refused(commit_ref(w, 0, &r), CN_EINVAL, "part -1");
    r = (cn_ledger_ref){.path = "r", .part = 1, .bytes = 1};
    assert_refused(commit_ref(w, 0, &r), CN_EINVAL, "part 1 of turn 1 has no bytes");
    assert_refused(
        cn_ledger_step_commit(w, &(cn_ledger_commit){.refs = CN_LEDGER_STEP_REFS_MAX + 1}, &t_diag),
        CN_ETOOBIG, "258 refs, limit 257");
    assert_err(
        cn_ledger_step_commit(w, &(cn_ledger_commit){.intent = &intent, .intents = 1}, &t_diag),
        CN_OK);
    assert_refused(commit_ref(w, 1, &r), CN_EINVAL, "part 1 of turn 1 has no bytes"); // no result
    // A result and what refers to it are one step; nothing of it stays if the ref is wrong.
    cn_ledger_commit both = {
        .step = 1, .kind = CN_STEP_TOOL, .result = &result, .results = 1, .ref = &r, .refs = 1};
    r.bytes = 7;
    assert_refused(cn_ledger_step_commit(w, &both, &t_diag), CN_EINVAL, "no bytes 0 to 7");
    r.bytes = 6;
    assert_err(cn_ledger_step_commit(w, &both, &t_diag), CN_OK);
    assert_refused(commit_ref(w, 2, &r), CN_EINVAL, "or has its ref: r");
    assert_err(cn_ledger_turn_finish(w, CN_STOP_END, k_text(""), NULL, NULL, 0, &t_diag), CN_OK);
    cn_ledger_writer_close(w);
    // A text that has shrunk behind the ledger's back is damage, and said.
    k_sql(dir, "UPDATE tool_calls SET result = x'00'");
    assert_err(cn_ledger_refs(l, "a", 0, k_put_ref, NULL, &t_diag), CN_ECORRUPT);
    assert_non_null(strstr(t_diag.text, "a row of turn 1 is damaged"));
}

/* ---- Documents --------------------------------------------------------------------- */

static void assert_documents(const char *id, int64_t generation, const char *want) {
    cn_buf got = {0};
    assert_err(cn_ledger_documents(l, id, generation, k_put_document, &got, &t_diag), CN_OK);
    assert_string_equal(cn_buf_str(&got), want);
    cn_buf_release(&got);
}

static void test_documents_are_replaced_whole(void **state) {
    (void)state;
    int64_t g1, g2, g3, g4;
    k_create(l, "a");
    assert_documents("a", 0, "");
    cn_ledger_writer        *w = k_write(l, "a");
    const cn_ledger_document d[] = {k_document("z.c", 0xfe, 2048), k_document("a\xff.c", 0, 1),
                                    k_document("z.c", 3, 0)};
    cn_ledger_document       ref = k_document("z.c", 4, 5);
    const char              *z = "document z.c key fe..fe 2048 tokens, line 1+9\n";
    ref.kind = CN_DOCUMENT_REF;
    assert_err(cn_ledger_documents_put(w, &ref, 1, NULL, &t_diag), CN_OK);
    assert_documents("a", 0, "document z.c key 04..04 5 tokens, line 1+9, ref\n");
    assert_err(cn_ledger_documents_put(w, d, 3, &g1, &t_diag), CN_OK);
    assert_documents("a", 0,
                     "document z.c key fe..fe 2048 tokens, line 1+9\n"
                     "document a\xff.c key 00..00 1 tokens, line 1+9\n"
                     "document z.c key 03..03 0 tokens, line 1+9\n");
    assert_err(cn_ledger_documents_put(w, d, 1, &g2, &t_diag), CN_OK);
    assert_true(g2 > g1);
    assert_documents("a", 0, z);
    cn_buf got = {0}; // nothing ran over the first: it is gone
    assert_err(cn_ledger_documents(l, "a", g1, k_put_document, &got, &t_diag), CN_ENOTFOUND);
    k_turn(w, "q", 1);
    assert_err(cn_ledger_documents_put(w, d + 1, 2, &g3, &t_diag), CN_OK);
    assert_documents("a", g2, z); // a step ran over the second
    assert_err(cn_ledger_steps(l, "a", 1, k_put_step, &got, &t_diag), CN_OK);
    char gen[32];
    snprintf(gen, sizeof(gen), "gen %lld,", (long long)g2);
    assert_non_null(strstr(got.data, gen));
    cn_buf_release(&got);
    fork_at("a", 1, "b"); // and the fork has the third
    assert_err(cn_ledger_documents_put(w, NULL, 0, &g4, &t_diag), CN_OK);
    assert_documents("a", 0, "");
    assert_documents("b", 0,
                     "document a\xff.c key 00..00 1 tokens, line 1+9\n"
                     "document z.c key 03..03 0 tokens, line 1+9\n");
    assert_documents("b", g3,
                     "document a\xff.c key 00..00 1 tokens, line 1+9\n"
                     "document z.c key 03..03 0 tokens, line 1+9\n");
    assert_err(cn_ledger_documents(l, "a", g4 + 1, k_put_document, NULL, &t_diag), CN_ENOTFOUND);

    cn_ledger_document bad[2] = {d[0], d[0]};
    bad[1].piece.tokens = -1;
    assert_refused(cn_ledger_documents_put(w, bad, 2, &g4, &t_diag), CN_EINVAL, "-1 tokens");
    bad[1] = d[0];
    bad[1].piece.lines = -1;
    assert_refused(cn_ledger_documents_put(w, bad, 2, NULL, &t_diag), CN_EINVAL, "-1 lines");
    bad[1] = d[0];
    bad[1].kind = CN_DOCUMENT_COUNT;
    assert_refused(cn_ledger_documents_put(w, bad, 2, NULL, &t_diag), CN_EINVAL, "kind 2");
    assert_refused(cn_ledger_documents_put(w, d, CN_LEDGER_DOCUMENTS_MAX + 1, NULL, &t_diag),
                   CN_ETOOBIG, "1048577 documents, limit 1048576");
    assert_int_equal(g4, 0);
    cn_ledger_writer_close(w);
}

/* ---- Blobs ------------------------------------------------------------------------- */

static void test_blob_is_known_by_all_five(void **state) {
    (void)state;
    cn_ledger_piece      *got;
    int32_t               pieces;
    const cn_ledger_cut   cut = {.model = cn_hash_of("m", 1), .tenant = "tenant", .version = 3};
    const cn_ledger_piece piece[] = {k_document("", 0xAB, 2000).piece,
                                     k_document("", 0xCD, INT32_MAX).piece};
    const cn_ledger_blob  blob = {
         "src/\xff.c", "\0\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\xf\x10\x11\x12", 20, piece, 2};
    const cn_ledger_blob both[] = {blob, {"empty", "\1", 1, NULL, 0}};
    assert_err(cn_ledger_blobs_put(l, &cut, both, 2, &t_diag), CN_OK);
    reopen();
    assert_err(cn_ledger_blob_get(l, &cut, &blob, &got, &pieces, &t_diag), CN_OK);
    assert_int_equal(pieces, 2);
    assert_memory_equal(got, piece, sizeof(piece));
    free(got);
    assert_err(cn_ledger_blob_get(l, &cut, &both[1], &got, &pieces, &t_diag), CN_OK);
    assert_true(got == NULL && pieces == 0); // known, and empty

    cn_ledger_cut  cuts[3] = {cut, cut, cut};
    cn_ledger_blob blobs[3] = {blob, blob, blob};
    cuts[0].model = cn_hash_of("n", 1);
    cuts[1].tenant = "";
    cuts[2].version = 2;
    blobs[0].path = "src/b.c";
    blobs[1].id_bytes = 19;
    blobs[2].id = "\1\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\xf\x10\x11\x12";
    t_diag = (cn_diag){0};
    for (int i = 0; i < 3; i++) {
        assert_err(cn_ledger_blob_get(l, &cuts[i], &blob, &got, &pieces, &t_diag), CN_ENOTFOUND);
        assert_err(cn_ledger_blob_get(l, &cut, &blobs[i], &got, &pieces, &t_diag), CN_ENOTFOUND);
        assert_true(got == NULL && pieces == 0);
    }
    assert_string_equal(t_diag.text, ""); // an answer, not an error
    // Put again: the last one counts.
    blobs[0] = (cn_ledger_blob){blob.path, blob.id, 20, piece + 1, 1};
    assert_err(cn_ledger_blobs_put(l, &cut, blobs, 1, &t_diag), CN_OK);
    assert_err(cn_ledger_blob_get(l, &cut, &blob, &got, &pieces, &t_diag), CN_OK);
    assert_int_equal(pieces, 1);
    assert_memory_equal(got, piece + 1, sizeof(*piece));
    free(got);

    blobs[1] = (cn_ledger_blob){"x", "", 0, piece, CN_LEDGER_PIECES_MAX + 1};
    assert_err(cn_ledger_blobs_put(l, &cut, blobs, 2, &t_diag), CN_ETOOBIG);
    assert_non_null(strstr(t_diag.text, "65537 pieces, limit 65536"));
    blobs[1] = (cn_ledger_blob){"x", "", CN_LEDGER_ID_BYTES_MAX + 1, piece, 1};
    assert_err(cn_ledger_blobs_put(l, &cut, blobs, 2, &t_diag), CN_ETOOBIG);
    cn_ledger_piece bad = piece[0];
    bad.first_line = -1;
    blobs[1] = (cn_ledger_blob){"x", "", 0, &bad, 1};
    assert_err(cn_ledger_blobs_put(l, &cut, blobs, 2, &t_diag), CN_EINVAL);
    assert_int_equal(k_sql_int(dir, "SELECT count(*) FROM blobs"), 2);
}

static void test_blobs_are_kept_to_a_number(void **state) {
    (void)state;
    cn_ledger_piece    *got;
    int32_t             pieces;
    char                sql[96];
    const cn_ledger_cut cut = {.version = 1};
    cn_ledger_blob      blob[] = {{"old", "1", 1, NULL, 0},
                                  {"edge", "1", 1, NULL, 0},
                                  {"last", "1", 1, NULL, 0},
                                  {"new", "1", 1, NULL, 0}};
    assert_err(cn_ledger_blobs_put(l, &cut, blob, 3, &t_diag), CN_OK);
    // As after very many puts.
    snprintf(sql, sizeof(sql), "UPDATE blobs SET key = %d WHERE path = 'last'",
             CN_LEDGER_BLOBS_MAX);
    k_sql(dir, sql);
    assert_err(cn_ledger_blobs_put(l, &cut, &blob[3], 1, &t_diag), CN_OK);
    const cn_err want[] = {CN_ENOTFOUND, CN_OK, CN_OK, CN_OK};
    for (int i = 0; i < 4; i++)
        assert_err(cn_ledger_blob_get(l, &cut, &blob[i], &got, &pieces, &t_diag), want[i]);
}

/* ---- Cost -------------------------------------------------------------------------- */

typedef struct costs {
    int            rows;
    cn_ledger_cost row[8];
    char           name[8][32];
} costs;

static void keep_cost(void *ctx, const cn_ledger_cost *c) {
    costs *k = ctx;
    assert_true(k->rows < 8);
    snprintf(k->name[k->rows], sizeof(k->name[0]), "%s%s%s", c->session, c->day, c->tool);
    k->row[k->rows++] = *c;
}

static costs costs_by(cn_cost_by by, const char *session) {
    costs k = {0};
    assert_err(cn_ledger_costs(l, by, session, keep_cost, &k, &t_diag), CN_OK);
    return k;
}

static void test_costs_add_up(void **state) {
    (void)state;
    costs k;
    for (int by = 0; by < CN_COST_COUNT; by++)
        assert_int_equal(costs_by((cn_cost_by)by, NULL).rows, 0);
    k_create(l, "a");
    k_create(l, "b");
    cn_ledger_writer *a = k_write(l, "a"), *b = k_write(l, "b");
    k_turn(a, "q", 2);
    k_turn(b, "q", 1);
    k_turn(a, "q", 2);
    cn_ledger_writer_close(a);
    cn_ledger_writer_close(b);
    k_sql(dir, "UPDATE turns SET started = 1763942399999999999 WHERE key = 1;" // 2025-11-23
               "UPDATE turns SET started = 1763942400000000000 WHERE key > 1;" // 2025-11-24
               "UPDATE tool_calls SET state = 'failed', name = 'cat' WHERE turn = 3");
    const cn_bill t1 = k_bill(1), t2 = k_bill(2);

    k = costs_by(CN_COST_TURN, NULL);
    assert_int_equal(k.rows, 3);
    assert_true(k.row[0].turn == 1 && k.row[1].turn == 1 && k.row[2].turn == 2);
    assert_string_equal(k.name[0], "a");
    assert_memory_equal(&k.row[2].bill, &t2, sizeof(t2));
    assert_int_equal(k.row[2].turns, 1);
    assert_int_equal(k.row[2].calls, 1);
    assert_int_equal(k.row[2].failed, 1);
    assert_int_equal(k.row[2].calls_ns, 2000);
    assert_int_equal(k.row[0].started_ns, 1763942399999999999);

    k = costs_by(CN_COST_SESSION, NULL);
    assert_int_equal(k.rows, 2);
    assert_string_equal(k.name[0], "a");
    cn_bill sum = t1;
    cn_bill_add(&sum, &t2);
    assert_memory_equal(&k.row[0].bill, &sum, sizeof(sum));
    assert_true(k.row[0].turns == 2 && k.row[0].calls == 2 && k.row[0].failed == 1 &&
                k.row[0].calls_ns == 3000 && k.row[0].turn == 0);
    k = costs_by(CN_COST_SESSION, "b");
    assert_int_equal(k.rows, 1);
    assert_memory_equal(&k.row[0].bill, &t1, sizeof(t1));

    k = costs_by(CN_COST_DAY, NULL);
    assert_int_equal(k.rows, 2);
    assert_string_equal(k.name[0], "2025-11-23");
    assert_string_equal(k.name[1], "2025-11-24");
    assert_memory_equal(&k.row[1].bill, &sum, sizeof(sum)); // b's first and a's second
    assert_int_equal(k.row[1].turns, 2);
    k = costs_by(CN_COST_DAY, "b");
    assert_int_equal(k.rows, 1);
    assert_int_equal(k.row[0].turns, 1);

    k = costs_by(CN_COST_TOOL, NULL);
    assert_int_equal(k.rows, 2);
    assert_string_equal(k.name[0], "cat"); // 2000 ns against 1000
    assert_string_equal(k.name[1], "grep");
    assert_true(k.row[0].calls == 1 && k.row[0].failed == 1 && k.row[0].turns == 1 &&
                k.row[0].calls_ns == 2000);
    assert_int_equal(costs_by(CN_COST_TOOL, "b").rows, 0);

    // The views for people say the same.
    assert_int_equal(k_sql_int(dir, "SELECT wall_ns FROM cost_by_session WHERE session = 'a'"),
                     sum.wall_ns);
    assert_int_equal(k_sql_int(dir, "SELECT turns FROM cost_by_day WHERE day = '2025-11-24'"), 2);
    assert_int_equal(k_sql_int(dir, "SELECT calls_ns FROM cost_by_tool WHERE tool = 'cat'"), 2000);
    assert_int_equal(k_sql_int(dir, "SELECT failed FROM cost_by_turn WHERE session = 'a'"
                                    " AND turn = 2"),
                     1);

    t_diag = (cn_diag){0};
    assert_err(cn_ledger_costs(l, CN_COST_DAY, "x", keep_cost, &k, &t_diag), CN_ENOTFOUND);
    assert_non_null(strstr(t_diag.text, "no session x"));
    assert_err(cn_ledger_costs(l, CN_COST_COUNT, NULL, keep_cost, &k, &t_diag), CN_EINVAL);
}

/* By engine and threads, the last one; kept. */
static void test_rate_is_the_last_measured(void **state) {
    (void)state;
    const cn_hash engine = {{1}}, other = {{2}};
    double        rate = 1;
    assert_err(cn_ledger_rate_get(l, &engine, 2, &rate, &t_diag), CN_OK);
    assert_true(rate == 0);
    assert_err(cn_ledger_rate_put(l, &engine, 2, 99.5, &t_diag), CN_OK);
    assert_err(cn_ledger_rate_put(l, &engine, 2, 123.25, &t_diag), CN_OK);
    assert_err(cn_ledger_rate_put(l, &engine, 1, 200, &t_diag), CN_OK);
    reopen();
    assert_err(cn_ledger_rate_get(l, &engine, 2, &rate, &t_diag), CN_OK);
    assert_true(rate == 123.25);
    assert_err(cn_ledger_rate_get(l, &engine, 1, &rate, &t_diag), CN_OK);
    assert_true(rate == 200);
    assert_err(cn_ledger_rate_get(l, &other, 2, &rate, &t_diag), CN_OK);
    assert_true(rate == 0);
    assert_refused(cn_ledger_rate_put(l, &engine, 2, 0, &t_diag), CN_EINVAL, "a rate of 0 ns");
    assert_refused(cn_ledger_rate_put(l, &engine, 2, INFINITY, &t_diag), CN_EINVAL, "inf");
}

/* ---- Tenants ------------------------------------------------------------------------ */

static cn_ledger *open_for(const char *tenant) {
    cn_ledger *mine;
    assert_err(cn_ledger_open(&mine, &(cn_ledger_opts){.dir = dir, .tenant = tenant}, &t_diag),
               CN_OK);
    return mine;
}

/* Every function that names or lists sessions, tried by one tenant on another's. */
static void test_tenants_do_not_meet(void **state) {
    (void)state;
    cn_ledger         *mine = open_for("mine"), *theirs = open_for("theirs");
    cn_ledger_session *s;
    k_create(mine, "alpha");
    k_create(theirs, "alpine");
    cn_ledger_writer *w = k_write(mine, "alpha");
    k_turn(w, "q", 2);
    const cn_ledger_document d = k_document("a.c", 1, 5);
    assert_err(cn_ledger_documents_put(w, &d, 1, NULL, &t_diag), CN_OK);
    cn_ledger_writer_close(w);

    // The start of an id is looked up among one's own: "al" is not ambiguous, "alph" is nobody.
    assert_err(cn_ledger_session_find(theirs, "al", &s, &t_diag), CN_OK);
    assert_string_equal(s->id, "alpine");
    cn_ledger_session_free(s);
    const char *const ids[] = {"alph", "alpha"};
    for (int i = 0; i < 2; i++)
        assert_refused(cn_ledger_session_find(theirs, ids[i], &s, &t_diag), CN_ENOTFOUND, ids[i]);
    assert_err(cn_ledger_session_latest(theirs, "/src/x", &s, &t_diag), CN_OK);
    assert_string_equal(s->id, "alpine");
    cn_ledger_session_free(s);
    assert_err(cn_ledger_session_latest(l, NULL, &s, &t_diag), CN_ENOTFOUND); // of no tenant
    cn_buf ids_seen = {0};
    assert_err(cn_ledger_sessions(theirs, NULL, 9, k_collect_id, &ids_seen, &t_diag), CN_OK);
    assert_string_equal(ids_seen.data, "alpine");
    assert_int_equal(ids_seen.bytes, 7);
    cn_buf_release(&ids_seen);

    cn_buf nothing = {0};
    assert_err(cn_ledger_session_fork(theirs, "alpha", 1, NULL, &s, &t_diag), CN_ENOTFOUND);
    assert_err(cn_ledger_session_del(theirs, "alpha", &t_diag), CN_ENOTFOUND);
    assert_err(cn_ledger_writer_open(&w, theirs, "alpha", NULL, &t_diag), CN_ENOTFOUND);
    assert_err(cn_ledger_turns(theirs, "alpha", 0, k_put_turn, &nothing, &t_diag), CN_ENOTFOUND);
    assert_err(cn_ledger_steps(theirs, "alpha", 0, k_put_step, &nothing, &t_diag), CN_ENOTFOUND);
    assert_err(cn_ledger_calls(theirs, "alpha", 0, k_put_call, &nothing, &t_diag), CN_ENOTFOUND);
    assert_err(cn_ledger_reads(theirs, "alpha", 0, k_put_read, &nothing, &t_diag), CN_ENOTFOUND);
    assert_err(cn_ledger_refs(theirs, "alpha", 0, k_put_ref, &nothing, &t_diag), CN_ENOTFOUND);
    assert_err(cn_ledger_tokens(theirs, "alpha", 0, k_put_tokens, &nothing, &t_diag), CN_ENOTFOUND);
    assert_err(cn_ledger_documents(theirs, "alpha", 0, k_put_document, &nothing, &t_diag),
               CN_ENOTFOUND);
    for (int by = 0; by < CN_COST_COUNT; by++) {
        assert_err(cn_ledger_costs(theirs, (cn_cost_by)by, NULL, k_put_cost, &nothing, &t_diag),
                   CN_OK);
        assert_err(cn_ledger_costs(theirs, (cn_cost_by)by, "alpha", k_put_cost, &nothing, &t_diag),
                   CN_ENOTFOUND);
    }
    assert_int_equal(nothing.bytes, 0);

    // Its owner has all of it, and a fork is the owner's too.
    assert_err(cn_ledger_session_fork(mine, "alpha", 1, "fork", &s, &t_diag), CN_OK);
    cn_ledger_session_free(s);
    assert_err(cn_ledger_session_find(theirs, "fork", &s, &t_diag), CN_ENOTFOUND);
    assert_err(cn_ledger_session_find(mine, "fork", &s, &t_diag), CN_OK);
    cn_ledger_session_free(s);
    assert_err(cn_ledger_costs(mine, CN_COST_TOOL, NULL, k_put_cost, &nothing, &t_diag), CN_OK);
    assert_true(nothing.bytes > 0);
    cn_buf_release(&nothing);
    // What they share: an id is given once.
    assert_refused(
        cn_ledger_session_create(theirs, &(cn_ledger_session){.id = "alpha"}, &s, &t_diag),
        CN_EINVAL, "session alpha exists");
    cn_ledger_close(mine);
    cn_ledger_close(theirs);

    char long_name[CN_LEDGER_TENANT_BYTES_MAX + 2];
    memset(long_name, 'x', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = 0;
    cn_ledger *none;
    assert_refused(
        cn_ledger_open(&none, &(cn_ledger_opts){.dir = dir, .tenant = long_name}, &t_diag),
        CN_ETOOBIG, "65 bytes, limit 64");
    assert_null(none);
}

/* ---- Speed ------------------------------------------------------------------------- */

/* A step costs the same whether it is the first or the ten thousandth. */
static void test_ten_thousand_steps(void **state) {
    (void)state;
    const int32_t steps = t_is_sanitized() ? 1000 : 10000, part = steps / 10;
    int32_t       token[64], turn = 0;
    int64_t       first_ns = INT64_MAX, last_ns = INT64_MAX;
    for (int32_t i = 0; i < 64; i++) token[i] = i;
    k_create(l, "a");
    cn_ledger_writer *w = k_write(l, "a");
    // Syncs are the disk's; what is measured here is ours.
    assert_int_equal(sqlite3_exec(l->db, "PRAGMA synchronous = OFF", 0, 0, 0), SQLITE_OK);
    assert_err(cn_ledger_turn_begin(w, k_text("q"), &turn, &t_diag), CN_OK);
    const int64_t start_ns = cn_clock_ns();
    for (int32_t step = 0; step < steps; step++) {
        const int64_t before_ns = cn_clock_ns();
        const cn_bill bill = k_bill(step);
        assert_err(
            cn_ledger_step_commit(
                w,
                &(cn_ledger_commit){
                    .step = step, .token = token, .tokens = 64, .bill = &bill, .turn_bill = &bill},
                &t_diag),
            CN_OK);
        const int64_t ns = cn_clock_ns() - before_ns; // the fastest of each end: least noise
        if (step < part && ns < first_ns) first_ns = ns;
        if (step >= steps - part && ns < last_ns) last_ns = ns;
    }
    const int64_t write_ns = cn_clock_ns() - start_ns;
    const int64_t read_at_ns = cn_clock_ns();
    cn_buf        got = {.bytes_max = 1 << 30};
    assert_err(cn_ledger_tokens(l, "a", 0, k_put_tokens, &got, &t_diag), CN_OK);
    const int64_t read_ns = cn_clock_ns() - read_at_ns;
    cn_buf_release(&got);
    print_message("%d steps: %.1f us a commit, first %.1f us, last %.1f us; read %.2f us a step\n",
                  steps, (double)write_ns / 1e3 / steps, (double)first_ns / 1e3,
                  (double)last_ns / 1e3, (double)read_ns / 1e3 / steps);
    assert_true(last_ns < 3 * first_ns + 50000);
    assert_err(cn_ledger_turn_finish(w, CN_STOP_END, k_text(""), NULL, NULL, 0, &t_diag), CN_OK);
    cn_ledger_writer_close(w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_files_are_private),
        TEST(test_settings_are_those_promised),
        TEST(test_what_is_not_a_ledger_is_refused),
        TEST(test_later_version_is_refused),
        TEST(test_each_older_version_is_brought_up),
        TEST(test_migrations_run_one_by_one),
        TEST(test_damage_is_found),
        TEST(test_session_comes_back),
        TEST(test_session_ids),
        TEST(test_session_found_by_its_start),
        TEST(test_latest_is_the_one_written_last),
        TEST(test_edit_changes_what_it_names),
        TEST(test_strings_have_a_limit),
        TEST(test_turn_comes_back),
        TEST(test_columns_are_named_as_the_bill),
        TEST(test_long_step_comes_in_order),
        TEST(test_order_of_writing_is_enforced),
        TEST(test_texts_have_a_limit),
        TEST(test_step_is_whole_or_absent),
        TEST(test_lists_keep_to_one_turn),
        TEST(test_names_are_those_of_the_wire),
        TEST(test_open_intents_are_told),
        TEST(test_one_writer_per_session),
        TEST(test_fork_shares_and_goes_its_own_way),
        TEST(test_forks_are_listed),
        TEST(test_a_file_that_is_gone_takes_no_writes),
        TEST(test_rewind_keeps_the_bill),
        TEST(test_deleted_session_is_gone),
        TEST(test_refs_come_back),
        TEST(test_refs_have_their_text),
        TEST(test_documents_are_replaced_whole),
        TEST(test_blob_is_known_by_all_five),
        TEST(test_blobs_are_kept_to_a_number),
        TEST(test_costs_add_up),
        TEST(test_rate_is_the_last_measured),
        TEST(test_tenants_do_not_meet),
        TEST(test_ten_thousand_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
