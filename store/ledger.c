/*
 * ledger.c - The connection: opening, migrating, queries, transactions, errors.
 *
 * Opening is guarded by slot 0 of the lock file, so that one process makes or migrates the
 * file while others wait.  The first 100 bytes of ledger.db are read before SQLite may act
 * on it: what is not ours is refused as it lies, without even a -wal beside it.
 */
#include "store/ledger.h"
#include "base/fault.h"
#include "store/ledger_int.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_BYTES = 100 };

/* ---- Errors ------------------------------------------------------------------------ */

static cn_err err_of(int rc) {
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return CN_OK;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return CN_EBUSY;
    case SQLITE_NOMEM:
        return CN_ENOMEM;
    case SQLITE_TOOBIG:
        return CN_ETOOBIG;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CONSTRAINT:
        return CN_ECORRUPT; // values are checked before they get here
    default:
        return CN_EIO; // FULL, IOERR, READONLY, CANTOPEN, ...
    }
}

cn_err cn_ledger_sql_fail(cn_ledger *l, int rc, const char *what, cn_diag *diag) {
    const cn_err err = err_of(rc);
    if (!err) return CN_OK;
    // A fault that a test made up is not in the connection.
    const bool  is_told = l->db && sqlite3_extended_errcode(l->db) == rc;
    const char *text = is_told ? sqlite3_errmsg(l->db) : sqlite3_errstr(rc);
    const int   cause = is_told && (rc & 0xff) != SQLITE_BUSY ? sqlite3_system_errno(l->db) : 0;
    return CN_FAIL(diag, err, "%s%s%s (%s) in %s", text, cause ? ": " : "",
                   cause ? strerror(cause) : "", what, l->path);
}

cn_err cn_ledger_check_size(const char *what, int64_t size, const char *unit, int64_t max,
                            cn_diag *diag) {
    if (size < 0) return CN_FAIL(diag, CN_EINVAL, "%s of %lld %s", what, (long long)size, unit);
    if (size > max)
        return CN_FAIL(diag, CN_ETOOBIG, "%s of %lld %s, limit %lld", what, (long long)size, unit,
                       (long long)max);
    return CN_OK;
}

cn_err cn_ledger_check_str(const char *what, const char *text, cn_diag *diag) {
    const size_t bytes = text ? strnlen(text, CN_LEDGER_STRING_BYTES_MAX + 1) : 0;
    return cn_ledger_check_size(what, (int64_t)bytes, "bytes", CN_LEDGER_STRING_BYTES_MAX, diag);
}

cn_err cn_ledger_check_text(const char *what, cn_ledger_text text, cn_diag *diag) {
    cn_assert(text.data || text.bytes == 0);
    return cn_ledger_check_size(what, (int64_t)text.bytes, "bytes", CN_LEDGER_TEXT_BYTES_MAX, diag);
}

/* ---- Queries ----------------------------------------------------------------------- */

cn_query cn_query_open(cn_ledger *l, const char *sql) {
    cn_query q = {.l = l, .rc = SQLITE_OK};
    int      i = 0;

    cn_assert(!l->is_in_callback);
    while (i < l->queries && l->query[i].sql != sql) i++;
    if (i == l->queries) {
        cn_assert(i < CN_LEDGER_QUERIES_MAX);
        q.rc = CN_FAULT("store.ledger.prepare")
                   ? SQLITE_NOMEM
                   : sqlite3_prepare_v3(l->db, sql, -1, SQLITE_PREPARE_PERSISTENT,
                                        &l->query[i].stmt, NULL);
        if (q.rc) return q;
        l->query[i].sql = sql;
        l->queries++;
    }
    q.stmt = l->query[i].stmt;
    cn_assert(!sqlite3_stmt_busy(q.stmt));
    return q;
}

/* The next parameter, if nothing has failed so far; 0 else. */
static int next_parameter(cn_query *q) {
    q->column++;
    return q->rc == SQLITE_OK ? q->column : 0;
}

void cn_query_int(cn_query *q, int64_t value) {
    const int i = next_parameter(q);
    if (i) q->rc = sqlite3_bind_int64(q->stmt, i, value);
}

void cn_query_key(cn_query *q, int64_t value) {
    if (value) {
        cn_query_int(q, value);
    } else { // a parameter that is not bound is NULL
        q->column++;
    }
}

void cn_query_f64(cn_query *q, double value) {
    const int i = next_parameter(q);
    if (i) q->rc = sqlite3_bind_double(q->stmt, i, value);
}

void cn_query_str(cn_query *q, const char *text) {
    const int i = next_parameter(q);
    if (i) q->rc = sqlite3_bind_text(q->stmt, i, text ? text : "", -1, SQLITE_STATIC);
}

void cn_query_text(cn_query *q, cn_ledger_text text) {
    const int i = next_parameter(q);
    if (i) // a NULL pointer would bind NULL
        q->rc =
            sqlite3_bind_blob64(q->stmt, i, text.bytes ? text.data : "", text.bytes, SQLITE_STATIC);
}

#define COUNT_ONE(column) +1
enum { BILL_COLUMNS = 0 CN_BILL_COLUMNS(COUNT_ONE) };
_Static_assert(sizeof(cn_bill) == BILL_COLUMNS * sizeof(int64_t), "each number has its column");

void cn_query_bill(cn_query *q, const cn_bill *bill) {
    static const cn_bill zeros;
    const int64_t       *number = (const int64_t *)(const void *)(bill ? bill : &zeros);
    for (int i = 0; i < BILL_COLUMNS; i++) cn_query_int(q, number[i]);
}

cn_err cn_query_step(cn_query *q, cn_diag *diag) {
    if (q->rc == SQLITE_OK || q->rc == SQLITE_ROW)
        q->rc = CN_FAULT("store.ledger.step") ? SQLITE_FULL : sqlite3_step(q->stmt);
    q->column = 0;
    if (q->rc == SQLITE_ROW) return CN_OK;
    if (q->rc == SQLITE_DONE) return CN_ENOTFOUND;
    return cn_ledger_sql_fail(q->l, q->rc, q->stmt ? "query" : "prepare", diag);
}

void cn_query_close(cn_query *q) {
    if (!q->stmt) return;
    (void)sqlite3_reset(q->stmt); // repeats the error of the last step
    (void)sqlite3_clear_bindings(q->stmt);
    q->stmt = NULL;
}

cn_err cn_query_run(cn_query *q, cn_diag *diag) {
    cn_err err;
    do err = cn_query_step(q, diag);
    while (!err);
    cn_query_close(q);
    return err == CN_ENOTFOUND ? CN_OK : err;
}

int64_t cn_query_get_int(cn_query *q) {
    return sqlite3_column_int64(q->stmt, q->column++);
}

double cn_query_get_f64(cn_query *q) {
    return sqlite3_column_double(q->stmt, q->column++);
}

const char *cn_query_get_str(cn_query *q) {
    const char *text = (const char *)sqlite3_column_text(q->stmt, q->column++);
    return text ? text : "";
}

cn_ledger_text cn_query_get_text(cn_query *q) {
    const int   column = q->column++;
    const void *data = sqlite3_column_blob(q->stmt, column);
    return (cn_ledger_text){data, data ? (size_t)sqlite3_column_bytes(q->stmt, column) : 0};
}

void cn_query_get_bill(cn_query *q, cn_bill *bill) {
    int64_t *number = (int64_t *)(void *)bill;
    for (int i = 0; i < BILL_COLUMNS; i++) number[i] = cn_query_get_int(q);
}

int cn_query_get_name(cn_query *q, const char *const *name, int names) {
    const char *text = cn_query_get_str(q);
    for (int i = 0; i < names; i++)
        if (strcmp(text, name[i]) == 0) return i;
    q->rc = SQLITE_CORRUPT;
    return 0;
}

/* ---- Transactions ------------------------------------------------------------------ */

static cn_err run_sql(cn_ledger *l, const char *sql, const char *what, cn_diag *diag) {
    const int rc =
        CN_FAULT("store.ledger.exec") ? SQLITE_IOERR : sqlite3_exec(l->db, sql, NULL, NULL, NULL);
    return cn_ledger_sql_fail(l, rc, what, diag);
}

/* The first column of the first row of `sql`. */
static cn_err read_int(cn_ledger *l, const char *sql, int64_t *out, cn_diag *diag) {
    cn_query q = cn_query_open(l, sql);
    *out = 0;
    const cn_err err = cn_query_step(&q, diag);
    if (!err) *out = cn_query_get_int(&q);
    cn_query_close(&q);
    return err == CN_ENOTFOUND ? CN_OK : err;
}

cn_err cn_ledger_check_place(cn_ledger *l, cn_diag *diag) {
    int has_moved = 0;
    if (sqlite3_file_control(l->db, "main", SQLITE_FCNTL_HAS_MOVED, &has_moved) == SQLITE_OK &&
        has_moved)
        return CN_FAIL(diag, CN_EIO,
                       "%s was moved or deleted while it was open: nothing more is written to it",
                       l->path);
    return CN_OK;
}

cn_err cn_ledger_txn_begin(cn_ledger *l, cn_txn kind, cn_diag *diag) {
    if (kind == CN_TXN_WRITE) CN_TRY(cn_ledger_check_place(l, diag));
    cn_query q = cn_query_open(l, kind == CN_TXN_WRITE ? "BEGIN IMMEDIATE" : "BEGIN");
    return cn_query_run(&q, diag);
}

cn_err cn_ledger_txn_end(cn_ledger *l, cn_err err, cn_diag *diag) {
    if (!err) {
        cn_query q = cn_query_open(l, "COMMIT");
        err = cn_query_run(&q, diag);
        // What a disk does that fails after it has written.
        if (!err && CN_FAULT("store.ledger.committed"))
            err = cn_ledger_sql_fail(l, SQLITE_IOERR_FSYNC, "commit", diag);
    }
    // An error that SQLite rolled back by itself has left no transaction.
    if (err && !sqlite3_get_autocommit(l->db)) sqlite3_exec(l->db, "ROLLBACK", 0, 0, 0);
    return err;
}

/* ---- Opening ----------------------------------------------------------------------- */

/* Make the names that lead to a new ledger durable: a sync of a file does not keep its name.
 * Any of the folders may have been made for it, by a process that died before it could sync. */
static cn_err sync_folders(const char *path, cn_diag *diag) {
    char folder[PATH_MAX];
    snprintf(folder, sizeof(folder), "%s", path);
    for (char *slash; (slash = strrchr(folder, '/'));) {
        slash[slash == folder] = 0;
        const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int       rc = fd < 0 ? -1 : fsync(fd);
        // What may not be read was not made for us; some file systems sync no folders.
        if (rc && (errno == EACCES || errno == EPERM || errno == EINVAL || errno == EROFS)) rc = 0;
        if (CN_FAULT("store.ledger.sync_dir")) rc = (errno = EIO, -1);
        const int cause = errno;
        if (fd >= 0) close(fd);
        if (rc) return CN_FAIL(diag, CN_EIO, "sync %s, for %s: %s", folder, path, strerror(cause));
        if (slash == folder) break;
    }
    return CN_OK;
}

/* The folder's real path; the folder is made if it is not there. */
static cn_err find_dir(char real[PATH_MAX], const char *dir, cn_diag *diag) {
    const int rc = CN_FAULT("store.ledger.mkdir") ? (errno = ENOSPC, -1) : mkdir(dir, 0700);
    if (rc && errno != EEXIST) return CN_FAIL(diag, CN_EIO, "mkdir %s: %s", dir, strerror(errno));
    if (!realpath(dir, real)) return CN_FAIL(diag, CN_EIO, "realpath %s: %s", dir, strerror(errno));
    return CN_OK;
}

/* Make an empty ledger.db for us alone, if there is none.  Only a file that did not exist
 * may be opened and closed here: closing drops the POSIX locks that SQLite holds on that
 * file for the other connections of this process. */
static cn_err make_file(const char *path, cn_diag *diag) {
    const int fd = CN_FAULT("store.ledger.create")
                       ? (errno = ENOSPC, -1)
                       : open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST) {
        struct stat st;
        if (stat(path, &st) || !S_ISREG(st.st_mode))
            return CN_FAIL(diag, CN_ECORRUPT, "not a regular file: %s", path);
        if (st.st_size == 1) // which SQLite takes for an empty one
            return CN_FAIL(diag, CN_ECORRUPT, "not an SQLite database: %s", path);
        return CN_OK;
    }
    if (fd < 0) return CN_FAIL(diag, CN_EIO, "create %s: %s", path, strerror(errno));
    close(fd);
    return CN_OK;
}

static uint32_t big_endian(const uint8_t *byte) {
    return (uint32_t)byte[0] << 24 | (uint32_t)byte[1] << 16 | (uint32_t)byte[2] << 8 | byte[3];
}

static cn_err check_version(cn_ledger *l, int64_t version, int64_t application, int32_t known,
                            cn_diag *diag) {
    if (version != 0 && application != CN_LEDGER_APPLICATION_ID)
        return CN_FAIL(diag, CN_ECORRUPT, "another program's database, not a ledger: %s", l->path);
    if (version < 0 || version > known)
        return CN_FAIL(diag, CN_EUNSUPPORTED,
                       "ledger of version %lld, this program knows %d and older: %s",
                       (long long)version, known, l->path);
    return CN_OK;
}

/* Look at the header through SQLite's own descriptor, before it does anything. */
static cn_err check_header(cn_ledger *l, int32_t known, cn_diag *diag) {
    sqlite3_file *file = NULL;
    sqlite3_int64 bytes = 0;
    uint8_t       header[HEADER_BYTES];

    int rc = sqlite3_file_control(l->db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (!rc) rc = file->pMethods->xFileSize(file, &bytes);
    if (!rc && bytes >= HEADER_BYTES) rc = file->pMethods->xRead(file, header, HEADER_BYTES, 0);
    if (CN_FAULT("store.ledger.header")) rc = SQLITE_IOERR_READ;
    CN_TRY(cn_ledger_sql_fail(l, rc, "read the header", diag));
    if (bytes == 0) return CN_OK;
    if (bytes < HEADER_BYTES || memcmp(header, "SQLite format 3", 16) != 0)
        return CN_FAIL(diag, CN_ECORRUPT, "not an SQLite database: %s", l->path);
    int32_t version = (int32_t)big_endian(header + 60);
    if (version == 0 && big_endian(header + 28) > 1) version = -1; // pages, and not from us
    return check_version(l, version, big_endian(header + 68), known, diag);
}

/* What the header cannot tell: a -wal may be newer, and version 0 may be full of tables. */
static cn_err check_content(cn_ledger *l, int32_t known, cn_diag *diag) {
    int64_t version = 0, application = 0, tables = 0;
    CN_TRY(read_int(l, "PRAGMA user_version", &version, diag));
    CN_TRY(read_int(l, "PRAGMA application_id", &application, diag));
    CN_TRY(read_int(l, "SELECT count(*) FROM sqlite_schema", &tables, diag));
    if (version == 0 && tables > 0) version = -1; // made by another program
    CN_TRY(check_version(l, version, application, known, diag));
    l->version = (int32_t)version;
    return CN_OK;
}

static cn_err set_up(cn_ledger *l, int32_t version, cn_diag *diag) {
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    const int rc = CN_FAULT("store.ledger.open") ? SQLITE_CANTOPEN
                                                 : sqlite3_open_v2(l->path, &l->db, flags, NULL);
    CN_TRY(cn_ledger_sql_fail(l, rc, "open", diag));
    sqlite3_extended_result_codes(l->db, 1);
    sqlite3_busy_timeout(l->db, l->busy_ms);
    // Until we know that it is ours, closing must not write: no checkpoint.
    sqlite3_db_config(l->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_db_config(l->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);

    CN_TRY(check_header(l, version, diag));
    if (sqlite3_db_readonly(l->db, "main") == 1)
        return CN_FAIL(diag, CN_EIO, "read-only: %s", l->path);
    CN_TRY(check_content(l, version, diag));
    sqlite3_db_config(l->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);

    CN_TRY(run_sql(l,
                   "PRAGMA foreign_keys = ON;"
                   "PRAGMA synchronous = FULL;"
                   "PRAGMA temp_store = MEMORY;" // nothing of it in /tmp
                   "PRAGMA secure_delete = ON;",
                   "settings", diag));
    cn_query   q = cn_query_open(l, "PRAGMA journal_mode = WAL");
    cn_err     err = cn_query_step(&q, diag);
    const bool is_wal = !err && strcmp(cn_query_get_str(&q), "wal") == 0;
    cn_query_close(&q);
    CN_TRY(err);
    if (!is_wal)
        return CN_FAIL(diag, CN_EIO, "no write-ahead log on this file system: %s", l->path);
    CN_TRY(read_int(l, "PRAGMA journal_size_limit = 67108864" /* after a checkpoint */,
                    &(int64_t){0}, diag));
    if (l->version == 0) CN_TRY(sync_folders(l->path, diag)); // before anything is promised
    return cn_ledger_migrate(l, cn_ledger_migrations, version, diag);
}

cn_err cn_ledger_migrate(cn_ledger *l, const char *const *migration, int32_t versions,
                         cn_diag *diag) {
    while (l->version < versions) {
        char next[64];
        snprintf(next, sizeof(next), "PRAGMA user_version = %d", l->version + 1);
        CN_TRY(cn_ledger_txn_begin(l, CN_TXN_WRITE, diag));
        cn_err err = run_sql(l, migration[l->version], "migration", diag);
        if (!err) err = run_sql(l, next, "migration", diag);
        CN_TRY(cn_ledger_txn_end(l, err, diag));
        l->version++;
    }
    return CN_OK;
}

cn_err cn_ledger_open_version(cn_ledger **out, const cn_ledger_opts *opts, int32_t version,
                              cn_diag *diag) {
    char   dir[PATH_MAX];
    int    guard = -1;
    cn_err err = CN_OK;

    *out = NULL;
    const char *tenant = opts->tenant ? opts->tenant : "";
    cn_assert(opts->dir && opts->busy_ms >= 0);
    CN_TRY(cn_ledger_check_size("a tenant's name", (int64_t)strlen(tenant), "bytes",
                                CN_LEDGER_TENANT_BYTES_MAX, diag));
    CN_TRY(find_dir(dir, opts->dir, diag));
    cn_ledger *l = CN_FAULT("store.ledger.memory") ? NULL : calloc(1, sizeof(*l));
    if (!l) return CN_FAIL(diag, CN_ENOMEM, "no memory to open %s/ledger.db", dir);
    l->busy_ms = opts->busy_ms ? opts->busy_ms : CN_LEDGER_BUSY_MS;
    if (asprintf(&l->path, "%s/ledger.db", dir) < 0) l->path = NULL;
    if (asprintf(&l->lock_path, "%s/ledger.lock", dir) < 0) l->lock_path = NULL;
    l->tenant = strdup(tenant);
    if (!l->path || !l->lock_path || !l->tenant) {
        err = CN_FAIL(diag, CN_ENOMEM, "no memory to open %s/ledger.db", dir);
        goto out;
    }
    err = cn_ledger_lock(&guard, l->lock_path, 0, l->busy_ms, NULL, diag);
    if (err) goto out;
    err = make_file(l->path, diag);
    if (err) goto out;
    err = set_up(l, version, diag);
    if (err) goto out;
    *out = l;

out:
    if (err) cn_ledger_close(l);
    cn_ledger_unlock(guard, 0);
    return err;
}

cn_err cn_ledger_open(cn_ledger **out, const cn_ledger_opts *opts, cn_diag *diag) {
    return cn_ledger_open_version(out, opts, CN_LEDGER_VERSION, diag);
}

void cn_ledger_close(cn_ledger *l) {
    if (!l) return;
    cn_assert(!l->is_in_callback);
    for (int i = 0; i < l->queries; i++) sqlite3_finalize(l->query[i].stmt);
    const int rc = sqlite3_close(l->db);
    cn_assert(rc == SQLITE_OK); // else a statement was lost
    free(l->path);
    free(l->lock_path);
    free(l->tenant);
    free(l);
}

const char *cn_ledger_path(const cn_ledger *l) {
    return l->path;
}

int32_t cn_ledger_version(const cn_ledger *l) {
    return l->version;
}

cn_err cn_ledger_verify(cn_ledger *l, cn_diag *diag) {
    cn_query q = cn_query_open(l, "PRAGMA integrity_check(1)");
    cn_err   err = cn_query_step(&q, diag);
    if (!err) {
        const char *finding = cn_query_get_str(&q);
        if (strcmp(finding, "ok") != 0)
            err = CN_FAIL(diag, CN_ECORRUPT, "%s in %s", finding, l->path);
    }
    cn_query_close(&q);
    CN_TRY(err);

    q = cn_query_open(l, "PRAGMA foreign_key_check");
    err = cn_query_step(&q, diag);
    if (!err)
        err = CN_FAIL(diag, CN_ECORRUPT, "a row of %s points nowhere in %s", cn_query_get_str(&q),
                      l->path);
    cn_query_close(&q);
    return err == CN_ENOTFOUND ? CN_OK : err;
}
