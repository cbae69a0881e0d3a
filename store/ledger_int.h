/*
 * ledger_int.h - What the ledger's files share: the connection, queries, transactions,
 * bill columns, the schema.
 *
 * Layer: store, private.
 */
#ifndef CN_STORE_LEDGER_INT_H
#define CN_STORE_LEDGER_INT_H

#include "store/ledger.h"

#include <sqlite3.h>

CN_C_BEGIN

// Token ids and pieces are kept as they lie in memory.
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file is little-endian");

enum { CN_LEDGER_QUERIES_MAX = 128 }; // different SQL texts

struct cn_ledger {
    sqlite3 *db;
    char    *path, *lock_path, *tenant;
    int32_t  busy_ms;
    int32_t  version;
    bool     is_in_callback;
    int32_t  queries;
    struct {
        const char   *sql; // one address, one statement
        sqlite3_stmt *stmt;
    } query[CN_LEDGER_QUERIES_MAX];
};

struct cn_ledger_writer {
    cn_ledger *l;
    int        fd; // of the lock file: holds the lock
    int64_t    session;
};

/* Open as cn_ledger_open does, but stop at an older version of the schema: for tests. */
cn_err cn_ledger_open_version(cn_ledger **out, const cn_ledger_opts *opts, int32_t version,
                              cn_diag *diag) CN_MUST_CHECK;

/* ---- Schema (ledger_schema.c) ----------------------------------------------------- */

enum {
    CN_LEDGER_VERSION = 3,
    CN_LEDGER_APPLICATION_ID = 0x4341524E, // "CARN", in the file's header
};

/* migration[i] makes version i + 1 of version i. */
extern const char *const cn_ledger_migrations[CN_LEDGER_VERSION];

/* Run migration[l->version .. versions - 1], each in one transaction. */
cn_err cn_ledger_migrate(cn_ledger *l, const char *const *migration, int32_t versions,
                         cn_diag *diag) CN_MUST_CHECK;

/* ---- Errors and transactions ------------------------------------------------------ */

/* The cn_err of an SQLite result code, told with its text, what was being done, and the
 * file.  CN_OK for SQLITE_OK. */
cn_err cn_ledger_sql_fail(cn_ledger *l, int rc, const char *what, cn_diag *diag);

/* CN_EIO  the file is not where it was opened: what is written to it now is lost. */
cn_err cn_ledger_check_place(cn_ledger *l, cn_diag *diag) CN_MUST_CHECK;

typedef enum { CN_TXN_READ, CN_TXN_WRITE } cn_txn;

cn_err cn_ledger_txn_begin(cn_ledger *l, cn_txn kind, cn_diag *diag) CN_MUST_CHECK;
/* Commit if `err` is CN_OK; else, or if that fails, roll back.  Returns what went wrong first. */
cn_err cn_ledger_txn_end(cn_ledger *l, cn_err err, cn_diag *diag) CN_MUST_CHECK;

/* ---- Queries ----------------------------------------------------------------------
 * Open, put values, step, get columns, close.  Values and columns go left to right.  The
 * first failure sticks and is told by the next step.                                      */

typedef struct cn_query {
    cn_ledger    *l;
    sqlite3_stmt *stmt; // cached in l; NULL after a failure to prepare
    int           rc;
    int           column; // the next to put or get
} cn_query;

/* `sql` is a static text. */
cn_query cn_query_open(cn_ledger *l, const char *sql);
void     cn_query_int(cn_query *q, int64_t value); // 0 is 0
void     cn_query_key(cn_query *q, int64_t value); // 0 is NULL
void     cn_query_f64(cn_query *q, double value);
void     cn_query_str(cn_query *q, const char *text);     // NULL is ""; borrowed until close
void     cn_query_text(cn_query *q, cn_ledger_text text); // borrowed until close
void     cn_query_bill(cn_query *q, const cn_bill *bill); // NULL is zeros

/* CN_OK: a row.  CN_ENOTFOUND: no more rows (diag is not touched). */
cn_err cn_query_step(cn_query *q, cn_diag *diag) CN_MUST_CHECK;
void   cn_query_close(cn_query *q);
/* Step to the end, close. */
cn_err cn_query_run(cn_query *q, cn_diag *diag) CN_MUST_CHECK;

/* Columns of the row; strings and bytes are valid until the next step or close. */
int64_t        cn_query_get_int(cn_query *q); // NULL is 0
double         cn_query_get_f64(cn_query *q);
const char    *cn_query_get_str(cn_query *q); // NULL is ""
cn_ledger_text cn_query_get_text(cn_query *q);
void           cn_query_get_bill(cn_query *q, cn_bill *bill);
/* The place of a name in a list of `names`; 0 and CORRUPT at the next step if it is none. */
int cn_query_get_name(cn_query *q, const char *const *name, int names);

/* Around a call of the caller's function. */
#define CN_CALL_BACK(l, call) ((l)->is_in_callback = true, (call), (l)->is_in_callback = false)

/* ---- The bill's columns: X(column, member) ------------------------------------------ */

// clang-format off
#define CN_BILL_COLUMNS(X)                                                                      \
    X(context_tokens) X(cached_tokens) X(prefilled_tokens) X(prompt_tokens) X(output_tokens)    \
    X(reused_tokens) X(ttft_ns) X(load_ns) X(wall_ns)                                                            \
    X(queue_ns) X(tokenize_ns) X(context_ns) X(restore_ns) X(prefill_ns) X(route_ns)            \
    X(attend_ns) X(decode_ns) X(tool_ns) X(store_ns) X(other_ns)                                \
    X(bytes_read) X(bytes_written) X(no_cache_ns) X(per_layer_routing_ns) X(saved_ns)           \
    X(new_misses) X(new_missed_tokens) X(changed_misses) X(changed_missed_tokens)               \
    X(model_misses) X(model_missed_tokens) X(format_misses) X(format_missed_tokens)             \
    X(evicted_misses) X(evicted_missed_tokens) X(corrupt_misses) X(corrupt_missed_tokens)       \
    X(unstored_misses) X(unstored_missed_tokens)
// clang-format on

/* In the order of the members of cn_bill, each with a comma behind it. */
#define CN_BILL_NAME(column) #column ", "
#define CN_BILL_VALUE(column) "?, "
#define CN_BILL_SUM(column) "sum(" #column "), "

/* ---- Checks shared ---------------------------------------------------------------- */

/* CN_ETOOBIG with both numbers: "a title of 7 bytes, limit 5". */
cn_err cn_ledger_check_size(const char *what, int64_t size, const char *unit, int64_t max,
                            cn_diag *diag) CN_MUST_CHECK;
cn_err cn_ledger_check_str(const char *what, const char *text, cn_diag *diag) CN_MUST_CHECK;
cn_err cn_ledger_check_text(const char *what, cn_ledger_text text, cn_diag *diag) CN_MUST_CHECK;

/* ---- Rows that several files need --------------------------------------------------- */

/* The id that a new session gets: `id`, or (NULL or "") a random one.  CN_EINVAL: not one. */
cn_err cn_ledger_id_choose(char out[CN_LEDGER_ID_BYTES_MAX + 1], const char *id,
                           cn_diag *diag) CN_MUST_CHECK;
/* CN_EINVAL  a session has it. */
cn_err cn_ledger_id_refuse_taken(cn_ledger *l, const char *id, cn_diag *diag) CN_MUST_CHECK;

/* CN_ENOTFOUND  no session with exactly this id. */
cn_err cn_ledger_session_key(cn_ledger *l, const char *id, int64_t *key_out,
                             cn_diag *diag) CN_MUST_CHECK;

/* The id to use: `id`, or a random one where it is NULL or "".
 * CN_EINVAL  it has other characters than ids have. */
cn_err cn_ledger_id_choose(char out[CN_LEDGER_ID_BYTES_MAX + 1], const char *id,
                           cn_diag *diag) CN_MUST_CHECK;

/* A conversation: its turns from first to last. */
typedef struct cn_ledger_link {
    int64_t key;
    int32_t turn;
    bool    is_open;
} cn_ledger_link;

typedef struct cn_ledger_line {
    cn_ledger_link *turn; // [turns]
    int64_t         turns;
} cn_ledger_line;

cn_err cn_ledger_line_get(cn_ledger *l, int64_t session, cn_ledger_line *out,
                          cn_diag *diag) CN_MUST_CHECK;
void   cn_ledger_line_release(cn_ledger_line *line);
/* CN_ENOTFOUND. */
cn_err cn_ledger_line_find(const cn_ledger_line *line, int32_t turn, int64_t *place_out,
                           cn_diag *diag) CN_MUST_CHECK;

typedef struct cn_ledger_open_turn {
    int64_t key;
    int64_t generation;
    int32_t turn, next_step;
} cn_ledger_open_turn;

/* CN_ENOTFOUND  no turn is open (diag is not touched). */
cn_err cn_ledger_open_turn_find(cn_ledger_writer *w, cn_ledger_open_turn *out,
                                cn_diag *diag) CN_MUST_CHECK;
/* Calls of a turn that have an intent and no result become interrupted. */
cn_err cn_ledger_calls_interrupt(cn_ledger *l, int64_t turn_key, int64_t *calls_out,
                                 cn_diag *diag) CN_MUST_CHECK;

/* Remove pins that no session has (ledger_pins.c). */
cn_err cn_ledger_pins_forget(cn_ledger *l, cn_diag *diag) CN_MUST_CHECK;

/* The rows of a query of path, key, tokens, first line, lines, kind; closes it. */
cn_err cn_ledger_document_rows(cn_query *q, cn_ledger_document_fn fn, void *ctx,
                               cn_diag *diag) CN_MUST_CHECK;

/* ---- Locks (ledger_lock.c) -------------------------------------------------------- */

/* Slot 0 guards opening; a session's slot is its key.  *fd_out: cn_ledger_unlock() it.
 *
 * CN_EBUSY  another holds it for longer than wait_ms; *pid_out (may be NULL) is its process
 *           id, 0 if it did not say. */
cn_err cn_ledger_lock(int *fd_out, const char *lock_path, int64_t slot, int32_t wait_ms,
                      int64_t *pid_out, cn_diag *diag) CN_MUST_CHECK;
void   cn_ledger_unlock(int fd, int64_t slot); // fd -1 is allowed

/* Whether somebody holds a slot, this process counted; *pid_out is as for cn_ledger_lock. */
cn_err cn_ledger_lock_look(const char *lock_path, int64_t slot, bool *held_out, int64_t *pid_out,
                           cn_diag *diag) CN_MUST_CHECK;

CN_C_END

#endif
