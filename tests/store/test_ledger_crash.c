/*
 * test_ledger_crash.c - Every commit is there whole or not at all: whatever fails, whenever
 * the process dies, whoever else is at work.
 *
 * Method: run one operation on a copy of a filled ledger while fault number n fires, for
 * n = 1, 2, ... until a run ends with no fault hit.  The faults are the ledger's own points
 * and, through SQLite's table of system calls, each pread, pwrite, ftruncate and unlink
 * that SQLite makes; a pwrite that fails or dies has written half of its bytes.  After each
 * run all that a reader sees must be exactly as before the operation or as after it.
 */
#include "base/clock.h"
#include "base/fault.h"
#include "tests/store/ledger_kit.h"

#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

/* ---- A disk that fails ------------------------------------------------------------- */

static bool is_shaky;

static ssize_t shaky_pread(int fd, void *to, size_t bytes, off_t offset) {
    if (is_shaky && CN_FAULT("test.pread")) return errno = EIO, -1;
    return pread(fd, to, bytes, offset);
}

static ssize_t shaky_pwrite(int fd, const void *from, size_t bytes, off_t offset) {
    if (is_shaky) {
        if (pwrite(fd, from, bytes / 2, offset) < 0) return -1;
        if (CN_FAULT("test.pwrite")) return errno = ENOSPC, -1;
    }
    return pwrite(fd, from, bytes, offset);
}

static int shaky_ftruncate(int fd, off_t bytes) {
    return is_shaky && CN_FAULT("test.ftruncate") ? (errno = EIO, -1) : ftruncate(fd, bytes);
}

static int shaky_unlink(const char *path) {
    return is_shaky && CN_FAULT("test.unlink") ? (errno = EIO, -1) : unlink(path);
}

/* Nobody here pulls the plug, so a sync need not wait for the disk: these two stand before
 * those of the C library.  That they are called, and how often, is part of the promise. */
static int syncs;

static int shaky_sync(void) {
    syncs++;
    return is_shaky && CN_FAULT("test.sync") ? (errno = EIO, -1) : 0;
}

int fsync(int fd) {
    (void)fd;
    return shaky_sync();
}

int fdatasync(int fd) {
    (void)fd;
    return shaky_sync();
}

static int make_disk_shaky(void **state) {
    (void)state;
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    const struct {
        const char         *name;
        sqlite3_syscall_ptr call;
    } calls[] = {{"pread", (sqlite3_syscall_ptr)shaky_pread},
                 {"pread64", (sqlite3_syscall_ptr)shaky_pread},
                 {"pwrite", (sqlite3_syscall_ptr)shaky_pwrite},
                 {"pwrite64", (sqlite3_syscall_ptr)shaky_pwrite},
                 {"ftruncate", (sqlite3_syscall_ptr)shaky_ftruncate},
                 {"unlink", (sqlite3_syscall_ptr)shaky_unlink}};
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
        if (vfs->xSetSystemCall(vfs, calls[i].name, calls[i].call)) return -1;
    return 0;
}

static void arm(cn_fault_mode mode, int64_t nth) {
    cn_fault_arm(mode, nth);
    is_shaky = mode != CN_FAULT_OFF;
}

/* ---- Operations -------------------------------------------------------------------- */

static const cn_ledger_cut cut = {.version = 1, .tenant = ""};

static cn_ledger_blob known_blob(void) {
    static cn_ledger_piece piece;
    piece = k_document("", 7, 8).piece;
    return (cn_ledger_blob){"src/a.c", "id", 2, &piece, 1};
}

/* k_dump, and whether the blob is known. */
static cn_buf dump(cn_ledger *l) {
    cn_buf           out = k_dump(l);
    cn_ledger_piece *piece;
    int32_t          pieces;
    cn_ledger_blob   blob = known_blob();
    const cn_err     err = cn_ledger_blob_get(l, &cut, &blob, &piece, &pieces, &t_diag);
    assert_true(err == CN_OK || err == CN_ENOTFOUND);
    cn_buf_printf(&out, "blob of %d pieces\n", pieces);
    free(piece);
    return out;
}

/* The ledger that each run begins with; its path. */
static const char *make_template(void) {
    static char dir[96];
    snprintf(dir, sizeof(dir), "%s", k_new_path());
    cn_ledger               *l = k_open(dir);
    int32_t                  turn;
    const cn_ledger_document d[] = {k_document("a.c", 1, 2), k_document("b.c", 3, 4)};
    const cn_ledger_intent   intent[] = {{.name = "x", .arguments = k_text("{}")}, {.name = "y"}};
    const int32_t            token[] = {1, 2, 3};
    const char *const        id[] = {"done", "open", "waits", "extra"};
    for (int i = 0; i < 4; i++) {
        k_create(l, id[i]);
        cn_ledger_writer *w = k_write(l, id[i]);
        assert_err(cn_ledger_documents_put(w, d, 2, NULL, &t_diag), CN_OK);
        for (int t = 0; t < 2; t++) k_turn(w, "question", 2);
        if (i == 1 || i == 2) {
            assert_err(cn_ledger_turn_begin(w, k_text("go on"), &turn, &t_diag), CN_OK);
            assert_err(cn_ledger_step_commit(w,
                                             &(cn_ledger_commit){.token = token,
                                                                 .tokens = 3,
                                                                 .stop = CN_STOP_TOOL,
                                                                 .intent = intent,
                                                                 .intents = 2},
                                             &t_diag),
                       CN_OK);
        }
        cn_ledger_writer_close(w);
    }
    cn_ledger_writer_close(k_write(l, "open")); // its calls are interrupted already
    cn_ledger_close(l);
    return dir;
}

static cn_err op_create(cn_ledger *l, cn_ledger_writer *w, cn_diag *diag) {
    (void)w;
    cn_ledger_session *s;
    const cn_err       err =
        cn_ledger_session_create(l, &(cn_ledger_session){.id = "new", .title = "N"}, &s, diag);
    assert_true((s == NULL) == (err != CN_OK));
    cn_ledger_session_free(s);
    return err;
}

static cn_err op_fork(cn_ledger *l, cn_ledger_writer *w, cn_diag *diag) {
    (void)w;
    cn_ledger_session *s;
    const cn_err       err = cn_ledger_session_fork(l, "done", 1, "fork", &s, diag);
    assert_true((s == NULL) == (err != CN_OK));
    cn_ledger_session_free(s);
    return err;
}

static cn_err op_delete(cn_ledger *l, cn_ledger_writer *w, cn_diag *diag) {
    (void)w;
    return cn_ledger_session_del(l, "extra", diag);
}

static cn_err op_writer(cn_ledger *l, cn_ledger_writer *w, cn_diag *diag) {
    cn_ledger_opened opened;
    const cn_err     err = cn_ledger_writer_open(&w, l, "waits", &opened, diag);
    assert_true((w == NULL) == (err != CN_OK));
    if (!err) assert_int_equal(opened.open_turn, 3);
    cn_ledger_writer_close(w);
    return err;
}

static cn_err op_edit(cn_ledger *l, cn_ledger_writer *w, cn_diag *diag) {
    (void)l;
    return cn_ledger_session_edit(w, &(cn_ledger_edit){.title = "N", .settings = "{}"}, diag);
}

static cn_err op_rewind(cn_ledger *l, cn_ledger_writer *w, cn_diag *diag) {
    (void)l;
    return cn_ledger_rewind(w, 1, diag);
}

static cn_err op_compact(cn_ledger *l, cn_ledger_writer *w, cn_diag *diag) {
    (void)l;
    const int32_t token[] = {7, 8, 9};
    const cn_bill bill = k_bill(3);
    char          parent[CN_LEDGER_ID_BYTES_MAX + 1];
    const cn_err  err = cn_ledger_compact(w,
                                          &(cn_ledger_compaction){.origin = CN_ORIGIN_SUMMARY,
                                                                  .through = 1,
                                                                  .question = k_text("so far?"),
                                                                  .answer = k_text("this"),
                                                                  .token = token,
                                                                  .tokens = 3,
                                                                  .parent_id = "before",
                                                                  .parent_title = "B",
                                                                  .settings = "{}",
                                                                  .bill = &bill},
                                          parent, diag);
    assert_string_equal(parent, err ? "" : "before");
    return err;
}

static cn_err op_begin(cn_ledger *l, cn_ledger_writer *w, cn_diag *diag) {
    (void)l;
    int32_t      turn;
    const cn_err err = cn_ledger_turn_begin(w, k_text("and now?"), &turn, diag);
    assert_int_equal(turn, err ? 0 : 3);
    return err;
}

static cn_err op_step(cn_ledger *l, cn_ledger_writer *w, cn_diag *diag) {
    (void)l;
    static int32_t         token[5000]; // over several pages
    const cn_bill          bill = k_bill(5), turn_bill = k_bill(6);
    const cn_ledger_intent intent[] = {{.name = "p", .sampled = k_text("<p>")}, {.name = "q"}};
    const cn_ledger_result result[] = {
        {.call = 0, .state = CN_CALL_DONE, .result = k_text("r")},
        {.call = 1, .state = CN_CALL_FAILED, .exit = 1, .result = k_text("s")}};
    const cn_ledger_ref ref = {.part = 2, .call = 1, .path = "s.txt", .bytes = 1};
    for (int32_t i = 0; i < 5000; i++) token[i] = i;
    return cn_ledger_step_commit(w,
                                 &(cn_ledger_commit){.step = 1,
                                                     .kind = CN_STEP_TOOL,
                                                     .stop = CN_STOP_TOOL,
                                                     .token = token,
                                                     .tokens = 5000,
                                                     .bill = &bill,
                                                     .turn_bill = &turn_bill,
                                                     .intent = intent,
                                                     .intents = 2,
                                                     .result = result,
                                                     .results = 2,
                                                     .ref = &ref,
                                                     .refs = 1},
                                 diag);
}

static cn_err op_finish(cn_ledger *l, cn_ledger_writer *w, cn_diag *diag) {
    (void)l;
    const cn_bill        bill = k_bill(5);
    const cn_ledger_read read[] = {{"a.c", 1, 2, 0.5}, {"b.c", 3, 4, 0.25}};
    return cn_ledger_turn_finish(w, CN_STOP_END, k_text("so"), &bill, read, 2, diag);
}

static cn_err op_documents(cn_ledger *l, cn_ledger_writer *w, cn_diag *diag) {
    (void)l;
    cn_ledger_document d[] = {k_document("new.c", 5, 6), k_document("b.c", 3, 4)};
    d[1].kind = CN_DOCUMENT_REF;
    int64_t      generation;
    const cn_err err = cn_ledger_documents_put(w, d, 2, &generation, diag);
    assert_true((generation == 0) == (err != CN_OK));
    return err;
}

static cn_err op_blobs(cn_ledger *l, cn_ledger_writer *w, cn_diag *diag) {
    (void)w;
    const cn_ledger_blob blob = known_blob();
    return cn_ledger_blobs_put(l, &cut, &blob, 1, diag);
}

static cn_err op_rate(cn_ledger *l, cn_ledger_writer *w, cn_diag *diag) {
    (void)w;
    return cn_ledger_rate_put(l, &k_engine, 2, 15, diag);
}

static const struct op {
    const char *name;
    const char *writer; // the session that it writes; NULL: none
    cn_err (*run)(cn_ledger *l, cn_ledger_writer *w, cn_diag *diag);
} ops[] = {
    {"create", NULL, op_create},         {"fork", NULL, op_fork},   {"delete", NULL, op_delete},
    {"writer", NULL, op_writer},         {"edit", "done", op_edit}, {"rewind", "done", op_rewind},
    {"begin", "done", op_begin},         {"step", "open", op_step}, {"finish", "open", op_finish},
    {"documents", "done", op_documents}, {"blobs", NULL, op_blobs}, {"rate", NULL, op_rate},
    {"compact", "done", op_compact},
};
enum { OPS = sizeof(ops) / sizeof(ops[0]) };

static const char *copy_of(const char *dir) {
    const char *to = k_new_path();
    int64_t     bytes;
    char       *data = k_read_file(k_in(dir, "ledger.db"), &bytes);
    assert_non_null(data);
    assert_int_equal(mkdir(to, 0700), 0);
    k_write_file(k_in(to, "ledger.db"), data, bytes);
    free(data);
    return to;
}

static void remove_copy(const char *dir) {
    const char *const name[] = {"ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.lock"};
    for (int i = 0; i < 4; i++) unlink(k_in(dir, name[i]));
    assert_int_equal(rmdir(dir), 0);
}

/* What a reader of a new process sees; the file must be sound. */
static cn_buf dump_of(const char *dir) {
    cn_ledger *l = k_open(dir);
    assert_err(cn_ledger_verify(l, &t_diag), CN_OK);
    cn_buf out = dump(l);
    cn_ledger_close(l);
    return out;
}

static cn_err run_op(const struct op *op, cn_ledger *l, cn_diag *diag) {
    cn_ledger_writer *w = op->writer ? k_write(l, op->writer) : NULL;
    const cn_err      err = op->run(l, w, diag);
    cn_ledger_writer_close(w);
    return err;
}

/* The two states that a run of `op` may leave. */
static void both_states(const char *from, const struct op *op, cn_buf *before, cn_buf *after) {
    const char *dir = copy_of(from);
    *before = dump_of(dir);
    cn_ledger *l = k_open(dir);
    assert_err(run_op(op, l, &t_diag), CN_OK);
    cn_ledger_close(l);
    *after = dump_of(dir);
    assert_false(k_is_same(before, after)); // else the test could not fail
    remove_copy(dir);
}

enum { FEWER = 5 }; // with a sanitizer every fifth point is tried

static int next_point(int n) {
    return n + (t_is_sanitized() ? FEWER : 1);
}

static void test_every_commit_survives_death_whole(void **state) {
    (void)state;
    const char *from = make_template();
    for (int i = 0; i < OPS; i++) {
        cn_buf before, after;
        int    befores = 0, afters = 0;
        both_states(from, &ops[i], &before, &after);
        for (int n = 1;; n = next_point(n)) {
            const char *dir = copy_of(from);
            int         status;
            t_note("%s dies at point %d", ops[i].name, n);
            const pid_t pid = fork();
            if (pid == 0) {
                cn_ledger        *l = k_open(dir);
                cn_ledger_writer *w = ops[i].writer ? k_write(l, ops[i].writer) : NULL;
                arm(CN_FAULT_CRASH, n);
                _exit(ops[i].run(l, w, NULL) == CN_OK ? 0 : 1); // leaves all as it is
            }
            assert_int_equal(waitpid(pid, &status, 0), pid);
            cn_buf     now = dump_of(dir);
            const bool is_before = k_is_same(&now, &before), is_after = k_is_same(&now, &after);
            if (!is_before && !is_after) t_fail(__FILE__, __LINE__, "half of it:\n%s", now.data);
            befores += is_before;
            afters += is_after;
            cn_buf_release(&now);
            remove_copy(dir);
            if (WIFEXITED(status)) { // ran past the last point
                assert_int_equal(WEXITSTATUS(status), 0);
                assert_true(is_after);
                break;
            }
            assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        }
        // Both sides of the commit were tried.
        t_note("%s: %d before, %d after", ops[i].name, befores, afters);
        assert_true(befores >= (t_is_sanitized() ? 1 : 5) && afters >= 1);
        cn_buf_release(&before);
        cn_buf_release(&after);
    }
}

static void fails_whole(const char *from, const struct op *op, cn_fault_mode mode) {
    cn_buf before, after;
    both_states(from, op, &before, &after);
    for (int n = 1;; n = next_point(n)) {
        const char       *dir = copy_of(from);
        cn_ledger        *l = k_open(dir);
        cn_ledger_writer *w = op->writer ? k_write(l, op->writer) : NULL;
        cn_diag           diag = {0};
        arm(mode, n);
        const cn_err err = op->run(l, w, &diag);
        const bool   hit = cn_fault_was_hit();
        const bool   is_read = strcmp(cn_fault_last_point(), "test.pread") == 0;
        t_note("%s, mode %d, fault %d at %s", op->name, mode, n, cn_fault_last_point());
        arm(CN_FAULT_OFF, 0);
        // The same connection sees one of the two, and can go on.
        cn_buf now = dump(l);
        if (!k_is_same(&now, &before) && !k_is_same(&now, &after))
            t_fail(__FILE__, __LINE__, "half of it:\n%s", now.data);
        if (err) {
            t_diag = diag; // for the message
            if (err != CN_ENOMEM && !(err == CN_ECORRUPT && is_read)) assert_err(err, CN_EIO);
            assert_true(diag.err == err && diag.text[0]);
            if (err != CN_ENOMEM) assert_non_null(strstr(diag.text, dir));
            if (k_is_same(&now, &before)) assert_err(op->run(l, w, &t_diag), CN_OK);
        } else {
            assert_true(k_is_same(&now, &after));
        }
        cn_buf_release(&now);
        cn_ledger_writer_close(w);
        cn_ledger_close(l);
        now = dump_of(dir);
        assert_true(k_is_same(&now, &after));
        cn_buf_release(&now);
        remove_copy(dir);
        if (!hit) {
            assert_err(err, CN_OK);
            assert_true(n > 5); // else the fault points were compiled out
            break;
        }
    }
    cn_buf_release(&before);
    cn_buf_release(&after);
}

static void test_every_commit_fails_whole(void **state) {
    (void)state;
    const char *from = make_template();
    for (int i = 0; i < OPS; i++) {
        fails_whole(from, &ops[i], CN_FAULT_ONCE);
        fails_whole(from, &ops[i], CN_FAULT_FOREVER);
    }
}

/* A commit that does not wait for the disk would pass all of the above. */
static void test_every_commit_is_synced(void **state) {
    (void)state;
    const char *from = make_template();
    for (int i = 0; i < OPS; i++) {
        const char       *dir = copy_of(from);
        cn_ledger        *l = k_open(dir);
        cn_ledger_writer *w = ops[i].writer ? k_write(l, ops[i].writer) : NULL;
        // Not the first of its log: beginning one is synced in any case.
        assert_err(cn_ledger_rate_put(l, &k_engine, 1, 3, &t_diag), CN_OK);
        const int before = syncs;
        assert_err(ops[i].run(l, w, &t_diag), CN_OK);
        t_note("%s: %d syncs", ops[i].name, syncs - before);
        assert_true(syncs > before);
        cn_ledger_writer_close(w);
        cn_ledger_close(l);
        remove_copy(dir);
    }
}

/* ---- Opening ----------------------------------------------------------------------- */

/* A new ledger, or one that must be migrated, at every point of cn_ledger_open. */
static void test_opening_fails_and_dies_whole(void **state) {
    (void)state;
    cn_buf empty;
    {
        const char *dir = k_new_path();
        empty = dump_of(dir);
        remove_copy(dir);
    }
    const cn_fault_mode modes[] = {CN_FAULT_ONCE, CN_FAULT_FOREVER, CN_FAULT_CRASH};
    for (int m = 0; m < 3; m++)
        for (int n = 1;; n = next_point(n)) {
            const char *dir = k_new_path();
            cn_ledger  *l = NULL;
            bool        is_last;
            t_note("mode %d fault %d", m, n);
            if (modes[m] == CN_FAULT_CRASH) {
                int         status;
                const pid_t pid = fork();
                if (pid == 0) {
                    arm(modes[m], n);
                    _exit(cn_ledger_open(&l, &(cn_ledger_opts){.dir = dir}, NULL) != CN_OK);
                }
                assert_int_equal(waitpid(pid, &status, 0), pid);
                is_last = WIFEXITED(status);
                if (is_last) assert_int_equal(WEXITSTATUS(status), 0);
            } else {
                cn_diag diag = {0};
                arm(modes[m], n);
                const cn_err err = cn_ledger_open(&l, &(cn_ledger_opts){.dir = dir}, &diag);
                is_last = !cn_fault_was_hit();
                t_note("mode %d fault %d at %s", m, n, cn_fault_last_point());
                arm(CN_FAULT_OFF, 0);
                assert_true((l == NULL) == (err != CN_OK));
                if (is_last) assert_err(err, CN_OK);
                if (err) assert_true(diag.err == err && strstr(diag.text, dir));
                cn_ledger_close(l);
            }
            cn_buf now = dump_of(dir);
            assert_true(k_is_same(&now, &empty));
            cn_buf_release(&now);
            remove_copy(dir);
            if (is_last) {
                assert_true(n > 20);
                break;
            }
        }
    cn_buf_release(&empty);
}

/* Two more versions on a filled ledger: after death it is at one of three, and whole. */
static void test_migration_dies_whole(void **state) {
    (void)state;
    const char *step[CN_LEDGER_VERSION + 2];
    const char *from = make_template();
    int         seen[3] = {0};
    memcpy(step, cn_ledger_migrations, sizeof(cn_ledger_migrations));
    step[CN_LEDGER_VERSION] = "CREATE TABLE extra(x); INSERT INTO extra SELECT key FROM sessions;";
    step[CN_LEDGER_VERSION + 1] = "UPDATE extra SET x = x + 100; ALTER TABLE extra ADD COLUMN y;";
    for (int n = 1;; n++) {
        const char *dir = copy_of(from);
        int         status;
        t_note("migration dies at point %d", n);
        const pid_t pid = fork();
        if (pid == 0) {
            cn_ledger *l = k_open(dir);
            arm(CN_FAULT_CRASH, n);
            _exit(cn_ledger_migrate(l, step, CN_LEDGER_VERSION + 2, NULL) != CN_OK);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        const int64_t made = k_sql_int(dir, "PRAGMA user_version") - CN_LEDGER_VERSION;
        assert_true(made >= 0 && made <= 2);
        seen[made]++;
        const int64_t tables =
            k_sql_int(dir, "SELECT count(*) FROM sqlite_schema WHERE name = 'extra'");
        assert_int_equal(tables, made > 0);
        if (made > 0)
            assert_int_equal(k_sql_int(dir, "SELECT sum(x) FROM extra"), made == 1 ? 10 : 410);
        if (made == 0) { // and it can be brought up from there
            cn_ledger *l = k_open(dir);
            assert_err(cn_ledger_migrate(l, step, CN_LEDGER_VERSION + 2, &t_diag), CN_OK);
            cn_ledger_close(l);
            assert_int_equal(k_sql_int(dir, "SELECT sum(x) FROM extra"), 410);
        }
        remove_copy(dir);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            assert_int_equal(made, 2);
            break;
        }
    }
    assert_true(seen[0] > 5 && seen[1] > 5 && seen[2] > 0);
}

/* ---- kill -9 at any time ----------------------------------------------------------- */

/* Not at a point that we chose: the parent kills a child that commits as fast as it can. */
static void test_kill_at_any_time_keeps_what_was_promised(void **state) {
    (void)state;
    const int        kills = t_is_sanitized() ? 5 : 25;
    _Atomic int32_t *promised =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(promised != MAP_FAILED);
    const char *dir = k_new_path();
    cn_ledger  *l = k_open(dir);
    int32_t     turn;
    k_create(l, "a");
    cn_ledger_writer *w = k_write(l, "a");
    assert_err(cn_ledger_turn_begin(w, k_text("q"), &turn, &t_diag), CN_OK);
    cn_ledger_writer_close(w);
    cn_ledger_close(l);
    *promised = 0;
    for (int kill_n = 0; kill_n < kills; kill_n++) {
        const int32_t before = *promised;
        t_note("kill %d, %d steps promised", kill_n, before);
        const pid_t pid = fork();
        if (pid == 0) {
            cn_ledger_opened opened;
            prctl(PR_SET_PDEATHSIG, SIGKILL); // if the test fails
            l = k_open(dir);
            if (cn_ledger_writer_open(&w, l, "a", &opened, NULL)) _exit(1);
            for (int32_t step = opened.next_step;; step++) {
                const int32_t          token[3] = {step, -step, 7};
                const cn_ledger_intent intent = {.name = "x"};
                if (cn_ledger_step_commit(w,
                                          &(cn_ledger_commit){.step = step,
                                                              .token = token,
                                                              .tokens = 3,
                                                              .intent = &intent,
                                                              .intents = 1},
                                          NULL))
                    _exit(2);
                *promised = step + 1;
            }
        }
        while (*promised == before) nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        nanosleep(&(struct timespec){.tv_nsec = t_rand_range(0, 8000000)}, NULL);
        assert_int_equal(kill(pid, SIGKILL), 0);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));

        cn_ledger_opened opened;
        l = k_open(dir);
        assert_err(cn_ledger_verify(l, &t_diag), CN_OK);
        assert_err(cn_ledger_writer_open(&w, l, "a", &opened, &t_diag), CN_OK);
        // All that was promised, and at most the one whose promise was not heard.
        if (opened.next_step != *promised && opened.next_step != *promised + 1)
            t_fail(__FILE__, __LINE__, "%d steps, %d promised", opened.next_step, *promised);
        // Each open intent of this life was told, once.
        assert_true(opened.interrupted == opened.next_step - before);
        *promised = opened.next_step;
        cn_ledger_writer_close(w);
        cn_buf got = {0}, want = {0};
        assert_err(cn_ledger_tokens(l, "a", 0, k_put_tokens, &got, &t_diag), CN_OK);
        for (int32_t step = 0; step < opened.next_step; step++)
            cn_buf_printf(&want, "tokens 1.%d %d %d 7\n", step, step, -step);
        assert_true(k_is_same(&got, &want));
        cn_buf_release(&got);
        cn_buf_release(&want);
        cn_ledger_close(l);
    }
    munmap((void *)promised, 4096);
}

/* ---- Several processes ------------------------------------------------------------- */

static void wait_for_all(int children) {
    for (int i = 0; i < children; i++) {
        int status;
        assert_true(wait(&status) > 0);
        if (!WIFEXITED(status) || WEXITSTATUS(status))
            t_fail(__FILE__, __LINE__, "a child ended with %x", status);
    }
}

/* Eight processes meet at a folder that is not there yet; each writes its own session. */
static void test_processes_share_a_new_folder(void **state) {
    (void)state;
    enum { CHILDREN = 8 };
    for (int round = 0; round < (t_is_sanitized() ? 1 : 5); round++) {
        const char *dir = k_new_path();
        for (int i = 0; i < CHILDREN; i++)
            if (fork() == 0) {
                char       id[] = {(char)('a' + i), 0};
                cn_ledger *l;
                if (cn_ledger_open(&l, &(cn_ledger_opts){.dir = dir}, &t_diag)) {
                    fprintf(stderr, "%s\n", t_diag.text);
                    _exit(1);
                }
                k_create(l, id);
                cn_ledger_writer *w = k_write(l, id);
                for (int t = 0; t < 5; t++) k_turn(w, id, 2);
                cn_ledger_writer_close(w);
                cn_ledger_close(l);
                _exit(0);
            }
        wait_for_all(CHILDREN);
        cn_ledger *l = k_open(dir);
        assert_err(cn_ledger_verify(l, &t_diag), CN_OK);
        for (int i = 0; i < CHILDREN; i++) {
            const char         id[] = {(char)('a' + i), 0};
            cn_ledger_session *s;
            assert_err(cn_ledger_session_find(l, id, &s, &t_diag), CN_OK);
            assert_int_equal(s->turns, 5);
            cn_ledger_session_free(s);
        }
        cn_ledger_close(l);
    }
}

/* Another process holds the session; its lock dies with it. */
static void test_second_writer_is_refused_until_the_first_dies(void **state) {
    (void)state;
    const char       *dir = k_new_path();
    int               ready[2];
    cn_ledger        *l = k_open(dir);
    cn_ledger_writer *w;
    char              who[48], c;
    k_create(l, "a");
    k_create(l, "b");
    cn_ledger_close(l);
    assert_int_equal(pipe(ready), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); // if the test fails
        l = k_open(dir);
        w = k_write(l, "a");
        if (write(ready[1], "x", 1) != 1) _exit(1);
        pause();
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    l = k_open(dir);
    snprintf(who, sizeof(who), "session a is being written by process %d", (int)pid);
    t_diag = (cn_diag){0};
    assert_err(cn_ledger_writer_open(&w, l, "a", NULL, &t_diag), CN_EBUSY);
    assert_null(w);
    assert_string_equal(t_diag.text, who);
    w = k_write(l, "b"); // another session is free
    k_turn(w, "q", 2);
    cn_ledger_writer_close(w);
    cn_buf got = k_dump(l); // and anybody may read
    cn_buf_release(&got);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    w = k_write(l, "a");
    k_turn(w, "q", 2);
    cn_ledger_writer_close(w);
    cn_ledger_close(l);
    close(ready[0]);
    close(ready[1]);
}

static void test_busy_database_is_told_and_passes(void **state) {
    (void)state;
    const char        *dir = k_new_path();
    cn_ledger         *l;
    cn_ledger_session *s;
    sqlite3           *other;
    assert_err(cn_ledger_open(&l, &(cn_ledger_opts){.dir = dir, .busy_ms = 30}, &t_diag), CN_OK);
    assert_int_equal(sqlite3_open(k_in(dir, "ledger.db"), &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", 0, 0, 0), SQLITE_OK);
    const int64_t start_ns = cn_clock_ns();
    assert_err(cn_ledger_session_create(l, &(cn_ledger_session){.id = "a"}, &s, &t_diag), CN_EBUSY);
    assert_true(cn_clock_ns() - start_ns >= 25000000);
    assert_non_null(strstr(t_diag.text, dir));
    assert_non_null(strstr(t_diag.text, "database is locked"));
    cn_buf got = k_dump(l); // readers do not wait
    cn_buf_release(&got);
    assert_int_equal(sqlite3_exec(other, "COMMIT", 0, 0, 0), SQLITE_OK);
    k_create(l, "a");
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    cn_ledger_close(l);
}

/* ---- Full and read-only ------------------------------------------------------------ */

/* In a child: until it exits, what is mounted is only there. */
static void on_full_disk(const char *dir) {
    cn_ledger_opened opened;
    cn_ledger       *l = k_open(k_in(dir, "state"));
    int32_t          turn, step = 0;
    char            *ballast = calloc(1, 256 << 10), *result = malloc(32 << 10);
    cn_err           err = CN_OK;
    k_write_file(k_in(dir, "ballast"), ballast, 256 << 10);
    memset(result, 'r', 32 << 10);
    k_create(l, "a");
    cn_ledger_writer *w = k_write(l, "a");
    assert_err(cn_ledger_turn_begin(w, k_text("q"), &turn, &t_diag), CN_OK);
    for (int life = 0; life < 2; life++) {
        for (;; step++) {
            const int32_t          token[2] = {step, step * step};
            const cn_ledger_intent intent = {.name = "x", .sampled = {result, 32 << 10}};
            t_diag = (cn_diag){0};
            err = cn_ledger_step_commit(
                w,
                &(cn_ledger_commit){
                    .step = step, .token = token, .tokens = 2, .intent = &intent, .intents = 1},
                &t_diag);
            if (err) break;
        }
        t_note("full after %d steps", step);
        assert_err(err, CN_EIO);
        assert_true(step > 10);
        assert_non_null(strstr(t_diag.text, "full"));
        assert_non_null(strstr(t_diag.text, dir));
        cn_buf got = {0}, want = {0};
        assert_err(cn_ledger_tokens(l, "a", 0, k_put_tokens, &got, &t_diag), CN_OK);
        for (int i = 0; i < step; i++) cn_buf_printf(&want, "tokens 1.%d %d %d\n", i, i, i * i);
        assert_true(k_is_same(&got, &want));
        cn_buf_release(&got);
        cn_buf_release(&want);
        if (life == 0) { // room again: it goes on with the same step
            assert_int_equal(unlink(k_in(dir, "ballast")), 0);
            const int32_t before = step;
            const int32_t token[2] = {step, step * step};
            assert_err(
                cn_ledger_step_commit(
                    w, &(cn_ledger_commit){.step = step, .token = token, .tokens = 2}, &t_diag),
                CN_OK);
            assert_int_equal(before, step++);
        }
    }
    cn_ledger_writer_close(w);
    cn_ledger_close(l);
    l = k_open(k_in(dir, "state")); // full as the disk is
    assert_err(cn_ledger_verify(l, &t_diag), CN_OK);
    err = cn_ledger_writer_open(&w, l, "a", &opened, &t_diag);
    assert_true(err == CN_EIO || (err == CN_OK && opened.next_step == step));
    cn_ledger_writer_close(w);
    cn_ledger_close(l);
    free(ballast);
    free(result);
}

static void test_full_disk_fails_whole(void **state) {
    (void)state;
    enum { SKIPPED = 77 };
    const char *dir = k_new_path();
    int         status;
    assert_int_equal(mkdir(dir, 0700), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
            mount("tmpfs", dir, "tmpfs", 0, "size=2m"))
            _exit(SKIPPED);
        on_full_disk(dir);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) {
        print_message("full disk: skipped, only root can mount one\n");
        skip();
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* In a child that is nobody: root may write anywhere. */
static void on_read_only_folder(const char *dir) {
    cn_ledger *l = (cn_ledger *)&l;
    t_diag = (cn_diag){0};
    assert_err(cn_ledger_open(&l, &(cn_ledger_opts){.dir = dir}, &t_diag), CN_EIO);
    assert_null(l);
    assert_non_null(strstr(t_diag.text, dir));
    assert_non_null(strstr(t_diag.text, "Permission denied"));
    t_diag = (cn_diag){0};
    assert_err(cn_ledger_open(&l, &(cn_ledger_opts){.dir = k_in(dir, "new")}, &t_diag), CN_EIO);
    assert_non_null(strstr(t_diag.text, "Permission denied"));
}

static void test_read_only_is_refused(void **state) {
    (void)state;
    enum { NOBODY = 65534 };
    const char *dir = k_new_path();
    int         status;
    cn_ledger  *l = k_open(dir);
    k_create(l, "a");
    cn_ledger_close(l);
    const bool is_root = geteuid() == 0;
    assert_int_equal(unlink(k_in(dir, "ledger.lock")), 0);
    assert_int_equal(chmod(k_in(dir, "ledger.db"), 0444), 0);
    assert_int_equal(chmod(t_tmp_dir(), 0711), 0);
    for (int round = 0; round < 2; round++) {
        // First nothing can be made in the folder; then only ledger.db itself is read-only.
        assert_int_equal(chmod(dir, round == 0 ? 0555 : 0777), 0);
        t_note("round %d", round);
        const pid_t pid = fork();
        if (pid == 0) {
            if (is_root && (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY))) _exit(2);
            if (round == 0) {
                on_read_only_folder(dir);
            } else {
                assert_err(cn_ledger_open(&l, &(cn_ledger_opts){.dir = dir}, &t_diag), CN_EIO);
                assert_non_null(strstr(t_diag.text, "read-only"));
                assert_non_null(strstr(t_diag.text, dir));
            }
            _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    assert_int_equal(chmod(t_tmp_dir(), 0700), 0);
    assert_int_equal(k_sql_int(dir, "SELECT count(*) FROM sessions"), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_commit_survives_death_whole),
        cmocka_unit_test(test_every_commit_fails_whole),
        cmocka_unit_test(test_every_commit_is_synced),
        cmocka_unit_test(test_opening_fails_and_dies_whole),
        cmocka_unit_test(test_migration_dies_whole),
        cmocka_unit_test(test_kill_at_any_time_keeps_what_was_promised),
        cmocka_unit_test(test_processes_share_a_new_folder),
        cmocka_unit_test(test_second_writer_is_refused_until_the_first_dies),
        cmocka_unit_test(test_busy_database_is_told_and_passes),
        cmocka_unit_test(test_full_disk_fails_whole),
        cmocka_unit_test(test_read_only_is_refused),
    };
    return cmocka_run_group_tests(tests, make_disk_shaky, NULL);
}
