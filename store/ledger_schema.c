/*
 * ledger_schema.c - The tables and views, as steps from each version to the next.
 *
 * A step that was released is never edited: the next one changes what it made.  Turns are
 * linked backwards (`prev`): the conversation of a session is the chain that ends at its
 * `head`, in its own turns and its parents'.  Columns named `key` are internal; `id` is
 * what people type.  Times of day are unix ns; durations end in _ns.
 */
#include "store/ledger_int.h"

// The columns of the bill as they were in version 1, in the order of cn_bill.
// clang-format off
#define BILL_NAMES_V1(OF)                                                                       \
    OF(context_tokens) OF(cached_tokens) OF(prefilled_tokens) OF(prompt_tokens)                 \
    OF(output_tokens) OF(ttft_ns) OF(load_ns) OF(wall_ns) OF(queue_ns) OF(tokenize_ns)          \
    OF(context_ns) OF(restore_ns) OF(prefill_ns) OF(route_ns) OF(attend_ns) OF(decode_ns)       \
    OF(tool_ns) OF(store_ns) OF(other_ns) OF(bytes_read) OF(bytes_written) OF(no_cache_ns)      \
    OF(per_layer_routing_ns) OF(saved_ns) OF(new_misses) OF(new_missed_tokens)                  \
    OF(changed_misses) OF(changed_missed_tokens) OF(model_misses) OF(model_missed_tokens)       \
    OF(format_misses) OF(format_missed_tokens) OF(evicted_misses) OF(evicted_missed_tokens)     \
    OF(corrupt_misses) OF(corrupt_missed_tokens) OF(unstored_misses) OF(unstored_missed_tokens)
// clang-format on
#define BILL_COLUMN(column) #column " INTEGER NOT NULL DEFAULT 0, "
#define OF_TURN(column) ", t." #column " AS " #column
#define SUM_OF(column) ", sum(" #column ") AS " #column

static const char version_1[] =
    // AUTOINCREMENT: a key names a lock, so it is never given twice.
    "CREATE TABLE sessions("
    " key INTEGER PRIMARY KEY AUTOINCREMENT,"
    " id TEXT NOT NULL UNIQUE,"
    " parent INTEGER REFERENCES sessions(key),"
    " forked_at INTEGER NOT NULL,"
    " head INTEGER REFERENCES turns(key) DEFERRABLE INITIALLY DEFERRED,"
    " generation INTEGER REFERENCES generations(key) DEFERRABLE INITIALLY DEFERRED,"
    " title TEXT NOT NULL, repo TEXT NOT NULL, commit_id TEXT NOT NULL, branch TEXT NOT NULL,"
    " model TEXT NOT NULL CHECK(length(model) = 64),"
    " created INTEGER NOT NULL, updated INTEGER NOT NULL,"
    " settings TEXT NOT NULL) STRICT;"
    "CREATE INDEX sessions_parent ON sessions(parent);"
    "CREATE INDEX sessions_head ON sessions(head);"
    "CREATE INDEX sessions_generation ON sessions(generation);"
    "CREATE INDEX sessions_updated ON sessions(updated);"
    "CREATE INDEX sessions_repo ON sessions(repo, updated);"

    // prev < key: no chain can run in a circle.
    "CREATE TABLE turns("
    " key INTEGER PRIMARY KEY AUTOINCREMENT,"
    " session INTEGER NOT NULL REFERENCES sessions(key) ON DELETE CASCADE,"
    " turn INTEGER NOT NULL CHECK(turn > 0),"
    " prev INTEGER REFERENCES turns(key) DEFERRABLE INITIALLY DEFERRED CHECK(prev < key),"
    " stop TEXT NOT NULL"
    "  CHECK(stop IN ('open', 'end', 'length', 'budget', 'cancel', 'error')),"
    " started INTEGER NOT NULL, finished INTEGER NOT NULL," BILL_NAMES_V1(
        BILL_COLUMN) "UNIQUE(session, turn)) STRICT;"
                     "CREATE INDEX turns_prev ON turns(prev);"

                     // Apart from the turn, whose bill is written again with every step.
                     "CREATE TABLE turn_texts("
                     " turn INTEGER PRIMARY KEY REFERENCES turns(key) ON DELETE CASCADE,"
                     " question BLOB NOT NULL, answer BLOB NOT NULL) STRICT;"

                     "CREATE TABLE generations("
                     " key INTEGER PRIMARY KEY AUTOINCREMENT,"
                     " session INTEGER NOT NULL REFERENCES sessions(key) ON DELETE CASCADE,"
                     " made INTEGER NOT NULL) STRICT;"
                     "CREATE INDEX generations_session ON generations(session);"
                     "CREATE TABLE documents("
                     " generation INTEGER NOT NULL REFERENCES generations(key) ON DELETE CASCADE,"
                     " ordinal INTEGER NOT NULL, path TEXT NOT NULL,"
                     " document BLOB NOT NULL CHECK(length(document) = 32),"
                     " tokens INTEGER NOT NULL, first_line INTEGER NOT NULL, lines INTEGER NOT "
                     "NULL,"
                     " PRIMARY KEY(generation, ordinal)) STRICT, WITHOUT ROWID;"

                     // tokens last: who reads the bill does not read past them.
                     "CREATE TABLE steps("
                     " turn INTEGER NOT NULL REFERENCES turns(key) ON DELETE CASCADE,"
                     " step INTEGER NOT NULL CHECK(step >= 0),"
                     " kind TEXT NOT NULL CHECK(kind IN ('generation', 'tool')),"
                     " stop TEXT NOT NULL"
                     "  CHECK(stop IN ('open', 'end', 'length', 'budget', 'cancel', 'error', "
                     "'tool')),"
                     " started INTEGER NOT NULL,"
                     " generation INTEGER REFERENCES generations(key) DEFERRABLE INITIALLY "
                     "DEFERRED," BILL_NAMES_V1(
                         BILL_COLUMN) " tokens BLOB NOT NULL CHECK(length(tokens) % 4 = 0)," // int32,
                                                                                             // little-endian
                                      " PRIMARY KEY(turn, step)) STRICT;"
                                      "CREATE INDEX steps_generation ON steps(generation);"

                                      "CREATE TABLE tool_calls("
                                      " turn INTEGER NOT NULL, step INTEGER NOT NULL, call INTEGER "
                                      "NOT NULL,"
                                      " name TEXT NOT NULL,"
                                      " state TEXT NOT NULL CHECK(state IN ('intent', 'done', "
                                      "'failed', 'interrupted')),"
                                      " exit INTEGER NOT NULL, started INTEGER NOT NULL, ns "
                                      "INTEGER NOT NULL,"
                                      " arguments BLOB NOT NULL, sampled BLOB NOT NULL, result "
                                      "BLOB NOT NULL,"
                                      " PRIMARY KEY(turn, step, call),"
                                      " FOREIGN KEY(turn, step) REFERENCES steps(turn, step) ON "
                                      "DELETE CASCADE) STRICT;"

                                      "CREATE TABLE attention("
                                      " turn INTEGER NOT NULL REFERENCES turns(key) ON DELETE "
                                      "CASCADE,"
                                      " ordinal INTEGER NOT NULL, path TEXT NOT NULL,"
                                      " first_line INTEGER NOT NULL, last_line INTEGER NOT NULL, "
                                      "share REAL NOT NULL,"
                                      " PRIMARY KEY(turn, ordinal)) STRICT, WITHOUT ROWID;"

                                      // key grows with each put: the oldest are those with the
                                      // smallest.
                                      "CREATE TABLE blobs("
                                      " key INTEGER PRIMARY KEY,"
                                      " model TEXT NOT NULL CHECK(length(model) = 64),"
                                      " tenant TEXT NOT NULL, version INTEGER NOT NULL,"
                                      " path TEXT NOT NULL, blob BLOB NOT NULL,"
                                      " pieces BLOB NOT NULL CHECK(length(pieces) % 44 = 0)," // cn_ledger_piece,
                                                                                              // little-endian
                                      " UNIQUE(path, blob, model, tenant, version)) STRICT;"

                                      "CREATE TABLE prices("
                                      " kind TEXT PRIMARY KEY, per_million REAL NOT NULL "
                                      "CHECK(per_million >= 0))"
                                      " STRICT, WITHOUT ROWID;"

                                      "CREATE VIEW cost_by_turn AS SELECT s.id AS session, s.title "
                                      "AS title, t.turn AS turn,"
                                      " date(t.started / 1000000000, 'unixepoch') AS day, "
                                      "t.started AS started,"
                                      " (SELECT count(*) FROM tool_calls c WHERE c.turn = t.key) "
                                      "AS calls,"
                                      " (SELECT count(*) FROM tool_calls c WHERE c.turn = t.key "
                                      "AND c.state = 'failed') AS failed,"
                                      " (SELECT count(*) FROM tool_calls c WHERE c.turn = t.key "
                                      "AND c.state = 'interrupted')"
                                      "  AS interrupted,"
                                      " (SELECT coalesce(sum(c.ns), 0) FROM tool_calls c WHERE "
                                      "c.turn = t.key) AS calls_ns,"
                                      " ((t.prefilled_tokens + t.prompt_tokens)"
                                      "  * coalesce((SELECT per_million FROM prices WHERE kind = "
                                      "'input'), 0.0)"
                                      " + t.cached_tokens * coalesce((SELECT per_million FROM "
                                      "prices WHERE kind = 'cached'), 0.0)"
                                      " + t.output_tokens * coalesce((SELECT per_million FROM "
                                      "prices WHERE kind = 'output'), 0.0))"
                                      "  / 1e6 AS price" BILL_NAMES_V1(
                                          OF_TURN) " FROM turns t JOIN sessions s ON s.key = "
                                                   "t.session;"

                                                   "CREATE VIEW cost_by_session AS SELECT session, "
                                                   "title, min(started) AS started,"
                                                   " count(*) AS turns, sum(calls) AS calls, "
                                                   "sum(failed) AS failed,"
                                                   " sum(interrupted) AS interrupted, "
                                                   "sum(calls_ns) AS calls_ns, sum(price) AS "
                                                   "price" BILL_NAMES_V1(
                                                       SUM_OF) " FROM cost_by_turn GROUP BY "
                                                               "session;"

                                                               "CREATE VIEW cost_by_day AS SELECT "
                                                               "day, min(started) AS started,"
                                                               " count(*) AS turns, sum(calls) AS "
                                                               "calls, sum(failed) AS failed,"
                                                               " sum(interrupted) AS interrupted, "
                                                               "sum(calls_ns) AS calls_ns, "
                                                               "sum(price) AS price" BILL_NAMES_V1(
                                                                   SUM_OF) " FROM cost_by_turn "
                                                                           "GROUP BY day;"

                                                                           "CREATE VIEW "
                                                                           "cost_by_tool AS SELECT "
                                                                           "name AS tool, "
                                                                           "min(started) AS "
                                                                           "started,"
                                                                           " count(DISTINCT turn) "
                                                                           "AS turns, count(*) AS "
                                                                           "calls, sum(state = "
                                                                           "'failed') AS failed,"
                                                                           " sum(state = "
                                                                           "'interrupted') AS "
                                                                           "interrupted, sum(ns) "
                                                                           "AS calls_ns"
                                                                           " FROM tool_calls GROUP "
                                                                           "BY name;"

                                                                           "PRAGMA application_id "
                                                                           "= 0x4341524E;";

// A view also holds documents of long parts of its conversation.  A row of refs says which bytes
// of a text they are made of: part 0 is the turn's question, n the result of its n-th call.
static const char version_2[] =
    "ALTER TABLE documents ADD COLUMN kind TEXT NOT NULL DEFAULT 'file'"
    " CHECK(kind IN ('file', 'ref'));"

    "CREATE TABLE refs("
    " turn INTEGER NOT NULL REFERENCES turns(key) ON DELETE CASCADE,"
    " part INTEGER NOT NULL CHECK(part >= 0),"
    " call_step INTEGER, call INTEGER," // NULL for a question
    " path TEXT NOT NULL,"
    " begin INTEGER NOT NULL CHECK(begin >= 0), bytes INTEGER NOT NULL CHECK(bytes > 0),"
    " PRIMARY KEY(turn, part),"
    " CHECK((part = 0) = (call IS NULL) AND (part = 0) = (call_step IS NULL)),"
    " FOREIGN KEY(turn, call_step, call) REFERENCES tool_calls(turn, step, call)"
    "  ON DELETE CASCADE) STRICT, WITHOUT ROWID;";

// Why pages are missing: keys whose pages reached the disk once (until now every document of a view
// was taken for such a one), the oldest with the smallest key; and what the `model` of blobs is of.
// Where HEAD was when a generation was made.  Views that stay as they were: their texts.
// Sessions whose pages are never evicted (keeps).
//
// A session is a tenant's.  A bill has reused_tokens; what a turn would have cost otherwise is 0
// where nobody knows, which older turns without a measured rate said as "nothing saved".  Prices
// are of the configuration: the tokens say what a turn costs at any of them.  How long a token's
// prefill takes is of the engine, not of a session.
//
// A turn of a compacted conversation may stand for turns of its parent, or be a copy of one: the
// parent has its bill, and its calls.
// clang-format off
static const char version_3[] =
    "CREATE TABLE stored("
    " key INTEGER PRIMARY KEY,"
    " document BLOB NOT NULL UNIQUE CHECK(length(document) = 32)) STRICT;"
    "INSERT OR IGNORE INTO stored(document) SELECT document FROM documents ORDER BY generation;"

    "CREATE TABLE domains("
    " id TEXT PRIMARY KEY CHECK(length(id) = 64),"
    " weights TEXT NOT NULL CHECK(length(weights) = 64), layout TEXT NOT NULL)"
    " STRICT, WITHOUT ROWID;"

    "ALTER TABLE generations ADD COLUMN commit_id TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE generations ADD COLUMN branch TEXT NOT NULL DEFAULT '';"

    "CREATE TABLE pins("
    " key INTEGER PRIMARY KEY AUTOINCREMENT,"
    " made INTEGER NOT NULL, commit_id TEXT NOT NULL, branch TEXT NOT NULL) STRICT;"
    "CREATE TABLE pinned("
    " pin INTEGER NOT NULL REFERENCES pins(key) ON DELETE CASCADE,"
    " path TEXT NOT NULL, text BLOB NOT NULL, PRIMARY KEY(pin, path)) STRICT;"
    "ALTER TABLE sessions ADD COLUMN pin INTEGER REFERENCES pins(key);"
    "CREATE INDEX sessions_pin ON sessions(pin);"

    "CREATE TABLE keeps("
    " session INTEGER PRIMARY KEY REFERENCES sessions(key) ON DELETE CASCADE,"
    " made INTEGER NOT NULL) STRICT;"

    "ALTER TABLE sessions ADD COLUMN tenant TEXT NOT NULL DEFAULT '';"

    "ALTER TABLE turns ADD COLUMN reused_tokens INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE steps ADD COLUMN reused_tokens INTEGER NOT NULL DEFAULT 0;"
    "UPDATE turns SET reused_tokens = cached_tokens;" // and more that nobody counted
    "UPDATE turns SET no_cache_ns = 0, saved_ns = 0"
    " WHERE no_cache_ns = wall_ns AND cached_tokens > 0;"

    "ALTER TABLE turns ADD COLUMN origin TEXT NOT NULL DEFAULT 'asked'"
    " CHECK(origin IN ('asked', 'summary', 'extract', 'kept'));"

    "CREATE TABLE rates("
    " engine BLOB NOT NULL CHECK(length(engine) = 32), threads INTEGER NOT NULL,"
    " prefill_ns REAL NOT NULL CHECK(prefill_ns > 0), measured INTEGER NOT NULL,"
    " PRIMARY KEY(engine, threads)) STRICT, WITHOUT ROWID;"

    "DROP VIEW cost_by_session;"
    "DROP VIEW cost_by_day;"
    "DROP VIEW cost_by_turn;"
    "DROP VIEW cost_by_tool;"
    "DROP TABLE prices;"
    "CREATE VIEW cost_by_turn AS SELECT s.id AS session, s.tenant AS tenant, s.title AS title,"
    " t.turn AS turn, date(t.started / 1000000000, 'unixepoch') AS day, t.started AS started,"
    " (SELECT count(*) FROM tool_calls c WHERE c.turn = t.key) AS calls,"
    " (SELECT count(*) FROM tool_calls c WHERE c.turn = t.key AND c.state = 'failed') AS failed,"
    " (SELECT count(*) FROM tool_calls c WHERE c.turn = t.key AND c.state = 'interrupted')"
    "  AS interrupted,"
    " (SELECT coalesce(sum(c.ns), 0) FROM tool_calls c WHERE c.turn = t.key) AS calls_ns"
    BILL_NAMES_V1(OF_TURN) OF_TURN(reused_tokens)
    " FROM turns t JOIN sessions s ON s.key = t.session WHERE t.origin <> 'kept';"
    "CREATE VIEW cost_by_session AS SELECT session, tenant, title, min(started) AS started,"
    " count(*) AS turns, sum(calls) AS calls, sum(failed) AS failed,"
    " sum(interrupted) AS interrupted, sum(calls_ns) AS calls_ns"
    BILL_NAMES_V1(SUM_OF) SUM_OF(reused_tokens) " FROM cost_by_turn GROUP BY session;"
    "CREATE VIEW cost_by_day AS SELECT day, min(started) AS started,"
    " count(*) AS turns, sum(calls) AS calls, sum(failed) AS failed,"
    " sum(interrupted) AS interrupted, sum(calls_ns) AS calls_ns"
    BILL_NAMES_V1(SUM_OF) SUM_OF(reused_tokens) " FROM cost_by_turn GROUP BY day;"
    "CREATE VIEW cost_by_tool AS SELECT c.name AS tool, min(c.started) AS started,"
    " count(DISTINCT c.turn) AS turns, count(*) AS calls, sum(c.state = 'failed') AS failed,"
    " sum(c.state = 'interrupted') AS interrupted, sum(c.ns) AS calls_ns"
    " FROM tool_calls c JOIN turns t ON t.key = c.turn WHERE t.origin <> 'kept' GROUP BY c.name;";
// clang-format on

const char *const cn_ledger_migrations[CN_LEDGER_VERSION] = {version_1, version_2, version_3};
