/*
 * import.c - A session from JSON Lines: checked line by line, in one transaction.
 *
 * A line is read by its members, in the order that export.h lists them: a member that is missing,
 * of another type, out of its range, unknown or in another place is refused by name.
 */
#include "store/export_int.h"

#include "base/base64.h"
#include "base/clock.h"
#include "base/json.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXTS = 6 }; // of a line, at most

typedef struct import {
    cn_ledger       *l;
    const cn_import *what;
    cn_diag         *diag;
    int64_t          line; // from 1

    // The line that is read.
    cn_json_doc   *doc;
    const cn_json *next; // the member to be taken
    cn_buf         text[TEXTS];
    int            texts;
    cn_buf         ids;
    cn_err         err; // the first thing wrong with it

    // What has come so far.
    int64_t  session;
    char     id[CN_LEDGER_ID_BYTES_MAX + 1];
    int64_t *generation; // [generations] keys of the rows
    int64_t  generations, generations_room;
    int64_t  generation_now; // as the session's line says
    int64_t  documents;      // of the last generation
    int64_t  turns;
    int64_t  turn_key;
    int64_t  turn, step, call, part, reads; // the last ones: step, call and part from -1
    bool     is_over;
} import;

/* ---- Refusals ------------------------------------------------------------------------ */

__attribute__((format(printf, 3, 4))) static void refuse(import *m, cn_err err, const char *fmt,
                                                         ...) {
    char    why[160];
    va_list args;
    if (m->err) return;
    va_start(args, fmt);
    vsnprintf(why, sizeof(why), fmt, args);
    va_end(args);
    m->err = CN_FAIL(m->diag, err, "%.60s: line %" PRId64 ": %s", m->what->name, m->line, why);
}

/* ---- Members ------------------------------------------------------------------------- */

/* The next member, which must be `key`; NULL after anything wrong. */
static const cn_json *take(import *m, const char *key) {
    const cn_json *v = m->next;
    if (m->err) return NULL;
    if (!v) {
        refuse(m, CN_ECORRUPT, "\"%s\" is missing", key);
    } else if (strcmp(cn_json_key(v), key) != 0) {
        refuse(m, CN_ECORRUPT, "\"%.40s\" where \"%s\" belongs", cn_json_key(v), key);
    } else {
        m->next = cn_json_next(v);
        return v;
    }
    return NULL;
}

static int64_t take_int(import *m, const char *key, int64_t min, int64_t max) {
    const cn_json *v = take(m, key);
    int64_t        n = min;
    if (!v) return min;
    if (!cn_json_int64(v, &n))
        refuse(m, CN_ECORRUPT, "\"%s\" is no whole number", key);
    else if (n < min || n > max)
        refuse(m, CN_ECORRUPT, "\"%s\" is %" PRId64 ", want %" PRId64 " to %" PRId64, key, n, min,
               max);
    return n;
}

/* A number that can be but one. */
static void take_same(import *m, const char *key, int64_t want) {
    const int64_t n = take_int(m, key, INT64_MIN, INT64_MAX);
    if (!m->err && n != want)
        refuse(m, CN_ECORRUPT, "\"%s\" is %" PRId64 ", want %" PRId64, key, n, want);
}

static int64_t take_time(import *m, const char *key) {
    return take_int(m, key, 0, INT64_MAX);
}

static const char *take_string(import *m, const char *key) {
    const cn_json *v = take(m, key);
    const char    *text = cn_json_string(v);
    if (v && !text) refuse(m, CN_ECORRUPT, "\"%s\" is no string", key);
    return text ? text : "";
}

/* Any bytes: valid until the next line. */
static cn_ledger_text take_text(import *m, const char *key, int64_t bytes_max) {
    const cn_json *v = take(m, key), *inner;
    cn_ledger_text out = {"", 0};
    if (!v) return out;
    const char *text = cn_json_string(v);
    if (text) {
        out = (cn_ledger_text){text, strlen(text)};
    } else {
        inner = cn_json_first(v);
        text = cn_json_string(inner);
        if (!text || !cn_json_key(inner) || strcmp(cn_json_key(inner), "base64") != 0 ||
            cn_json_next(inner)) {
            refuse(m, CN_ECORRUPT, "\"%s\" is neither a string nor {\"base64\":\"...\"}", key);
            return out;
        }
        cn_assert(m->texts < TEXTS);
        cn_buf *buf = &m->text[m->texts++];
        cn_buf_reset(buf);
        const cn_err err = cn_base64_read(buf, text, strlen(text));
        if (err)
            refuse(m, err == CN_EINVAL ? CN_ECORRUPT : err, "\"%s\" is no base64", key);
        else
            out = (cn_ledger_text){cn_buf_str(buf), buf->bytes};
    }
    if ((int64_t)out.bytes > bytes_max)
        refuse(m, CN_ETOOBIG, "\"%s\" of %zu bytes, limit %" PRId64, key, out.bytes, bytes_max);
    return out;
}

/* Any bytes but NUL, as a C string. */
static const char *take_path(import *m, const char *key) {
    const cn_ledger_text text = take_text(m, key, CN_LEDGER_STRING_BYTES_MAX);
    if (strlen(text.data) != text.bytes) refuse(m, CN_ECORRUPT, "\"%s\" holds a NUL", key);
    return text.data;
}

static const char *take_name(import *m, const char *key, const char *const *name, int names) {
    const char *word = take_string(m, key);
    for (int i = 0; i < names && !m->err; i++)
        if (strcmp(word, name[i]) == 0) return name[i];
    refuse(m, CN_ECORRUPT, "\"%s\" is \"%.40s\", which is none of its words", key, word);
    return name[0];
}

static void take_hash(import *m, const char *key, cn_hash *out) {
    const char *hex = take_string(m, key);
    *out = (cn_hash){{0}};
    if (!m->err && cn_hash_from_hex(out, hex))
        refuse(m, CN_ECORRUPT, "\"%s\" is not 64 hex digits", key);
}

static void take_bill(import *m, cn_bill *out) {
    const cn_json *v = take(m, "bill");
    int64_t       *number = (int64_t *)(void *)out;
    int            i = 0;
    *out = (cn_bill){0};
    if (v && cn_json_type_of(v) != CN_JSON_OBJECT) refuse(m, CN_ECORRUPT, "\"bill\" is no object");
    for (v = cn_json_first(v); v && !m->err; v = cn_json_next(v)) {
        while (i < CN_EXPORT_BILL_NUMBERS && strcmp(cn_json_key(v), cn_export_bill_name(i)) != 0)
            i++;
        if (i == CN_EXPORT_BILL_NUMBERS)
            refuse(m, CN_ECORRUPT, "\"%.40s\" in a bill, unknown or out of order", cn_json_key(v));
        else if (!cn_json_int64(v, &number[i]) || number[i] < -CN_EXPORT_NUMBER_MAX ||
                 number[i] > CN_EXPORT_NUMBER_MAX)
            refuse(m, CN_ECORRUPT, "\"%s\" of a bill is no number up to %" PRId64,
                   cn_export_bill_name(i), CN_EXPORT_NUMBER_MAX);
    }
}

static cn_ledger_text take_tokens(import *m) {
    const cn_json *v = take(m, "tokens");
    int64_t        tokens = 0;
    cn_buf_reset(&m->ids);
    if (v && cn_json_type_of(v) != CN_JSON_ARRAY) refuse(m, CN_ECORRUPT, "\"tokens\" is no array");
    for (v = cn_json_first(v); v && !m->err; v = cn_json_next(v)) {
        int64_t id = -1;
        if (!cn_json_int64(v, &id) || id < 0 || id > INT32_MAX)
            refuse(m, CN_ECORRUPT, "token %" PRId64 " is no id", tokens);
        const int32_t token = (int32_t)id;
        cn_buf_put(&m->ids, &token, sizeof(token));
        tokens++;
    }
    if (tokens > CN_LEDGER_STEP_TOKENS_MAX)
        refuse(m, CN_ETOOBIG, "a step of %" PRId64 " tokens, limit %d", tokens,
               (int)CN_LEDGER_STEP_TOKENS_MAX);
    if (m->ids.err) refuse(m, m->ids.err, "no memory for %" PRId64 " tokens", tokens);
    return (cn_ledger_text){cn_buf_str(&m->ids), m->ids.bytes};
}

/* All members were taken. */
static cn_err end_members(import *m) {
    if (m->next) refuse(m, CN_ECORRUPT, "\"%.40s\" is unknown here", cn_json_key(m->next));
    return m->err;
}

/* ---- Lines --------------------------------------------------------------------------- */

static const char *const stop_words[] = {
#define X(name, text) text,
    CN_STOP_LIST(X)
#undef X
};
static const char *const call_words[] = {
#define X(name, text) text,
    CN_CALL_LIST(X)
#undef X
};
static const char *const kind_words[] = {
#define X(name, text) text,
    CN_DOCUMENT_LIST(X)
#undef X
};
static const char *const step_words[] = {"generation", "tool"};
#define WORDS(list) (list), (int)(sizeof(list) / sizeof((list)[0]))

/* The id for the new session. */
static cn_err choose_id(import *m, const char *own) {
    int64_t key;
    if (!m->what->id) { // its own, if nobody has it
        const cn_err err = cn_ledger_session_key(m->l, own, &key, NULL);
        if (err && err != CN_ENOTFOUND) return err;
        return cn_ledger_id_choose(m->id, err ? own : NULL, m->diag);
    }
    CN_TRY(cn_ledger_id_choose(m->id, m->what->id, m->diag));
    const cn_err err = cn_ledger_session_key(m->l, m->id, &key, NULL);
    if (!err) return CN_FAIL(m->diag, CN_EINVAL, "session %s exists", m->id);
    return err == CN_ENOTFOUND ? CN_OK : err;
}

static cn_err session_line(import *m) {
    const char *schema = take_string(m, "schema");
    if (!m->err && strcmp(schema, CN_EXPORT_SCHEMA) != 0)
        refuse(m, CN_EUNSUPPORTED, "schema \"%.40s\", want \"" CN_EXPORT_SCHEMA "\"", schema);
    const int64_t version = take_int(m, "version", 1, INT32_MAX);
    if (version != CN_EXPORT_VERSION)
        refuse(m, CN_EUNSUPPORTED, "version %" PRId64 ", this program knows %d", version,
               (int)CN_EXPORT_VERSION);
    const char *id = take_string(m, "id");
    char        chosen[CN_LEDGER_ID_BYTES_MAX + 1];
    if (!m->err && (!*id || cn_ledger_id_choose(chosen, id, NULL)))
        refuse(m, CN_ECORRUPT, "\"id\" is \"%.70s\", which no session can have", id);
    const char *title = take_path(m, "title"), *repo = take_path(m, "repo"),
               *commit = take_path(m, "commit"), *branch = take_path(m, "branch");
    cn_hash model;
    char    hex[CN_HASH_HEX_BYTES];
    take_hash(m, "model", &model);
    const int64_t created_ns = take_time(m, "created_ns");
    const char   *settings = take_path(m, "settings");
    m->generation_now = take_int(m, "generation", 0, INT32_MAX);
    CN_TRY(end_members(m));
    CN_TRY(choose_id(m, id));
    cn_hash_hex(hex, &model);
    cn_query q = cn_query_open(m->l, "INSERT INTO sessions(id, forked_at, title, repo, commit_id,"
                                     " branch, model, settings, created, updated)"
                                     " VALUES(?, 0, ?, ?, ?, ?, ?, ?, ?, ?)");
    cn_query_str(&q, m->id);
    cn_query_str(&q, title);
    cn_query_str(&q, m->what->repo ? m->what->repo : repo);
    cn_query_str(&q, commit);
    cn_query_str(&q, branch);
    cn_query_str(&q, hex);
    cn_query_str(&q, settings);
    cn_query_int(&q, created_ns);
    cn_query_int(&q, cn_clock_unix_ns());
    CN_TRY(cn_query_run(&q, m->diag));
    m->session = sqlite3_last_insert_rowid(m->l->db);
    return CN_OK;
}

static cn_err generation_line(import *m) {
    if (m->turn) refuse(m, CN_ECORRUPT, "a generation behind a turn");
    take_same(m, "generation", m->generations + 1);
    const int64_t made_ns = take_time(m, "made_ns");
    CN_TRY(end_members(m));
    if (m->generations == m->generations_room) {
        const int64_t room = m->generations_room ? 2 * m->generations_room : 16;
        int64_t      *more = realloc(m->generation, (size_t)room * sizeof(*more));
        if (!more) return CN_FAIL(m->diag, CN_ENOMEM, "no memory for %" PRId64 " views", room);
        m->generation = more;
        m->generations_room = room;
    }
    cn_query q = cn_query_open(m->l, "INSERT INTO generations(session, made) VALUES(?, ?)");
    cn_query_int(&q, m->session);
    cn_query_int(&q, made_ns);
    CN_TRY(cn_query_run(&q, m->diag));
    m->generation[m->generations++] = sqlite3_last_insert_rowid(m->l->db);
    m->documents = 0;
    return CN_OK;
}

static cn_err document_line(import *m) {
    cn_hash key;
    if (m->turn || m->generations == 0)
        refuse(m, CN_ECORRUPT, "a document that follows no generation");
    take_same(m, "generation", m->generations);
    const char *path = take_path(m, "path"), *kind = take_name(m, "kind", WORDS(kind_words));
    take_hash(m, "key", &key);
    const int64_t tokens = take_int(m, "tokens", 0, INT32_MAX),
                  first_line = take_int(m, "first_line", 0, INT32_MAX),
                  lines = take_int(m, "lines", 0, INT32_MAX);
    if (m->documents == CN_LEDGER_DOCUMENTS_MAX)
        refuse(m, CN_ETOOBIG, "more than %d documents", (int)CN_LEDGER_DOCUMENTS_MAX);
    CN_TRY(end_members(m));
    cn_query q = cn_query_open(m->l, "INSERT INTO documents(generation, ordinal, path, kind,"
                                     " document, tokens, first_line, lines)"
                                     " VALUES(?, ?, ?, ?, ?, ?, ?, ?)");
    cn_query_int(&q, m->generation[m->generations - 1]);
    cn_query_int(&q, m->documents++);
    cn_query_str(&q, path);
    cn_query_str(&q, kind);
    cn_query_text(&q, (cn_ledger_text){key.bytes, CN_HASH_BYTES});
    cn_query_int(&q, tokens);
    cn_query_int(&q, first_line);
    cn_query_int(&q, lines);
    return cn_query_run(&q, m->diag);
}

static cn_err turn_line(import *m) {
    cn_bill       bill;
    const int64_t turn = take_int(m, "turn", m->turn + 1, CN_EXPORT_TURN_MAX);
    const char   *stop = take_name(m, "stop", WORDS(stop_words));
    if (strcmp(stop, stop_words[CN_STOP_OPEN]) == 0 || strcmp(stop, stop_words[CN_STOP_TOOL]) == 0)
        refuse(m, CN_ECORRUPT, "a turn does not stop with \"%s\"", stop);
    const int64_t started_ns = take_time(m, "started_ns"),
                  finished_ns = take_time(m, "finished_ns");
    const cn_ledger_text question = take_text(m, "question", CN_LEDGER_TEXT_BYTES_MAX),
                         answer = take_text(m, "answer", CN_LEDGER_TEXT_BYTES_MAX);
    take_bill(m, &bill);
    CN_TRY(end_members(m));
    cn_query q = cn_query_open(
        m->l,
        "INSERT INTO turns(session, turn, prev, stop, started, finished, " CN_BILL_COLUMNS(
            CN_BILL_NAME) "key) VALUES(?, ?, ?, ?, ?, ?, " CN_BILL_COLUMNS(CN_BILL_VALUE) "NULL)");
    cn_query_int(&q, m->session);
    cn_query_int(&q, turn);
    cn_query_key(&q, m->turn_key);
    cn_query_str(&q, stop);
    cn_query_int(&q, started_ns);
    cn_query_int(&q, finished_ns);
    cn_query_bill(&q, &bill);
    CN_TRY(cn_query_run(&q, m->diag));
    m->turn_key = sqlite3_last_insert_rowid(m->l->db);
    q = cn_query_open(m->l, "INSERT INTO turn_texts(turn, question, answer) VALUES(?, ?, ?)");
    cn_query_int(&q, m->turn_key);
    cn_query_text(&q, question);
    cn_query_text(&q, answer);
    m->turn = turn;
    m->step = m->call = m->part = -1;
    m->reads = 0;
    m->turns++;
    return cn_query_run(&q, m->diag);
}

/* A line that belongs to the last turn. */
static void take_turn(import *m) {
    if (m->turn == 0) refuse(m, CN_ECORRUPT, "it stands before the first turn");
    take_same(m, "turn", m->turn);
}

static cn_err step_line(import *m) {
    cn_bill bill;
    take_turn(m);
    take_same(m, "step", m->step + 1);
    const char   *kind = take_name(m, "kind", WORDS(step_words));
    const char   *stop = take_name(m, "stop", WORDS(stop_words));
    const int64_t started_ns = take_time(m, "started_ns"),
                  generation = take_int(m, "generation", 0, m->generations);
    const cn_ledger_text tokens = take_tokens(m);
    take_bill(m, &bill);
    CN_TRY(end_members(m));
    cn_query q = cn_query_open(
        m->l, "INSERT INTO steps(turn, step, kind, stop, started,"
              " generation, " CN_BILL_COLUMNS(
                  CN_BILL_NAME) "tokens)"
                                " VALUES(?, ?, ?, ?, ?, ?, " CN_BILL_COLUMNS(CN_BILL_VALUE) "?)");
    cn_query_int(&q, m->turn_key);
    cn_query_int(&q, ++m->step);
    cn_query_str(&q, kind);
    cn_query_str(&q, stop);
    cn_query_int(&q, started_ns);
    cn_query_key(&q, generation ? m->generation[generation - 1] : 0);
    cn_query_bill(&q, &bill);
    cn_query_text(&q, tokens);
    m->call = -1;
    return cn_query_run(&q, m->diag);
}

static cn_err call_line(import *m) {
    take_turn(m);
    take_same(m, "step", m->step);
    take_same(m, "call", m->call + 1);
    if (m->step < 0 || m->call + 1 >= CN_LEDGER_STEP_CALLS_MAX)
        refuse(m, CN_ECORRUPT, "a call without a step, or more than %d of one",
               (int)CN_LEDGER_STEP_CALLS_MAX);
    const char *name = take_path(m, "name"), *state = take_name(m, "state", WORDS(call_words));
    if (strcmp(state, call_words[CN_CALL_INTENT]) == 0)
        refuse(m, CN_ECORRUPT, "a call of a finished turn is no \"%s\"", state);
    const int64_t exit = take_int(m, "exit", INT32_MIN, INT32_MAX),
                  started_ns = take_time(m, "started_ns"),
                  ns = take_int(m, "ns", 0, CN_EXPORT_NUMBER_MAX);
    const cn_ledger_text arguments = take_text(m, "arguments", CN_LEDGER_TEXT_BYTES_MAX),
                         sampled = take_text(m, "sampled", CN_LEDGER_TEXT_BYTES_MAX),
                         result = take_text(m, "result", CN_LEDGER_TEXT_BYTES_MAX);
    CN_TRY(end_members(m));
    cn_query q = cn_query_open(m->l, "INSERT INTO tool_calls(turn, step, call, name, state, exit,"
                                     " started, ns, arguments, sampled, result)"
                                     " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    cn_query_int(&q, m->turn_key);
    cn_query_int(&q, m->step);
    cn_query_int(&q, ++m->call);
    cn_query_str(&q, name);
    cn_query_str(&q, state);
    cn_query_int(&q, exit);
    cn_query_int(&q, started_ns);
    cn_query_int(&q, ns);
    cn_query_text(&q, arguments);
    cn_query_text(&q, sampled);
    cn_query_text(&q, result);
    return cn_query_run(&q, m->diag);
}

static cn_err ref_line(import *m) {
    int64_t step = 0, call = 0;
    take_turn(m);
    m->part = take_int(m, "part", m->part + 1, CN_LEDGER_STEP_REFS_MAX * INT64_C(1000));
    if (m->part) {
        step = take_int(m, "step", 0, m->step < 0 ? 0 : m->step);
        call = take_int(m, "call", 0, CN_LEDGER_STEP_CALLS_MAX - 1);
    }
    const char   *path = take_path(m, "path");
    const int64_t begin = take_int(m, "begin", 0, CN_LEDGER_TEXT_BYTES_MAX),
                  bytes = take_int(m, "bytes", 1, CN_LEDGER_TEXT_BYTES_MAX);
    CN_TRY(end_members(m));
    cn_query q = cn_query_open(
        m->l, "INSERT INTO refs(turn, part, call_step, call, path, begin, bytes)"
              " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE ?6 + ?7 <= coalesce("
              "  CASE ?2 WHEN 0 THEN (SELECT length(question) FROM turn_texts WHERE turn = ?1)"
              "   ELSE (SELECT length(result) FROM tool_calls"
              "    WHERE turn = ?1 AND step = ?3 AND call = ?4) END, -1)");
    cn_query_int(&q, m->turn_key);
    cn_query_int(&q, m->part);
    for (int i = 0; i < 2; i++)
        if (m->part == 0) {
            cn_query_key(&q, 0); // NULL
        } else {
            cn_query_int(&q, i == 0 ? step : call);
        }
    cn_query_str(&q, path);
    cn_query_int(&q, begin);
    cn_query_int(&q, bytes);
    CN_TRY(cn_query_run(&q, m->diag));
    if (sqlite3_changes(m->l->db) != 1)
        refuse(m, CN_ECORRUPT, "part %" PRId64 " has no bytes %" PRId64 " to %" PRId64, m->part,
               begin, begin + bytes);
    return m->err;
}

static cn_err read_line(import *m) {
    double share = -1;
    take_turn(m);
    const char   *path = take_path(m, "path");
    const int64_t first_line = take_int(m, "first_line", INT32_MIN, INT32_MAX),
                  last_line = take_int(m, "last_line", INT32_MIN, INT32_MAX);
    const cn_json *v = take(m, "share");
    if (v && (!cn_json_f64(v, &share) || !(share >= 0 && share <= 1)))
        refuse(m, CN_ECORRUPT, "\"share\" is no number from 0 to 1");
    if (m->reads == CN_LEDGER_READS_MAX)
        refuse(m, CN_ETOOBIG, "more than %d places of evidence", (int)CN_LEDGER_READS_MAX);
    CN_TRY(end_members(m));
    cn_query q = cn_query_open(m->l, "INSERT INTO attention(turn, ordinal, path, first_line,"
                                     " last_line, share) VALUES(?, ?, ?, ?, ?, ?)");
    cn_query_int(&q, m->turn_key);
    cn_query_int(&q, m->reads++);
    cn_query_str(&q, path);
    cn_query_int(&q, first_line);
    cn_query_int(&q, last_line);
    cn_query_f64(&q, share);
    return cn_query_run(&q, m->diag);
}

static cn_err end_line(import *m) {
    take_same(m, "turns", m->turns);
    take_same(m, "lines", m->line);
    if (m->generation_now > m->generations)
        refuse(m, CN_ECORRUPT, "the session's generation is %" PRId64 ", of %" PRId64,
               m->generation_now, m->generations);
    CN_TRY(end_members(m));
    m->is_over = true;
    cn_query q = cn_query_open(m->l, "UPDATE sessions SET head = ?, generation = ? WHERE key = ?");
    cn_query_key(&q, m->turn_key);
    cn_query_key(&q, m->generation_now ? m->generation[m->generation_now - 1] : 0);
    cn_query_int(&q, m->session);
    return cn_query_run(&q, m->diag);
}

/* ---- The whole ------------------------------------------------------------------------ */

static cn_err put_line(import *m, const char *text, size_t bytes) {
    static const struct {
        const char *type;
        cn_err (*read)(import *m);
    } types[] = {{"session", session_line},
                 {"generation", generation_line},
                 {"document", document_line},
                 {"turn", turn_line},
                 {"step", step_line},
                 {"call", call_line},
                 {"ref", ref_line},
                 {"read", read_line},
                 {"end", end_line}};
    // Objects in an object, and so many tokens.
    const cn_json_limits limits = {CN_EXPORT_LINE_BYTES_MAX, 3, CN_LEDGER_STEP_TOKENS_MAX + 100};
    char                 name[80];
    m->texts = 0;
    snprintf(name, sizeof(name), "%.60s: line %" PRId64, m->what->name, m->line);
    CN_TRY(cn_json_parse(&m->doc, text, bytes, name, &limits, m->diag));
    m->next = cn_json_first(cn_json_root(m->doc));
    if (cn_json_type_of(cn_json_root(m->doc)) != CN_JSON_OBJECT)
        refuse(m, CN_ECORRUPT, "not an object");
    const char *type = take_string(m, "type");
    if (!m->err && (m->session == 0) != (strcmp(type, "session") == 0))
        refuse(m, CN_ECORRUPT,
               m->session ? "a second session" : "no export of a session: its line comes first");
    if (m->is_over) refuse(m, CN_ECORRUPT, "it stands behind the end");
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]) && !m->err; i++)
        if (strcmp(type, types[i].type) == 0) return types[i].read(m);
    refuse(m, CN_ECORRUPT, "\"type\" is \"%.40s\", which is none of its words", type);
    return m->err;
}

static cn_err put_all(import *m) {
    const char *at = m->what->text, *end = at + m->what->bytes;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        m->line++;
        if (!newline) refuse(m, CN_ECORRUPT, "it has no end: the text is cut off");
        if (m->err) return m->err;
        const cn_err err = put_line(m, at, (size_t)(newline - at));
        cn_json_free(m->doc);
        m->doc = NULL;
        CN_TRY(err);
        at = newline + 1;
    }
    if (!m->is_over) {
        m->line++;
        refuse(m, CN_ECORRUPT,
               m->session ? "no \"end\": the text is cut off"
                          : "no export of a session: it is empty");
    }
    return m->err;
}

cn_err cn_ledger_import(cn_ledger *l, const cn_import *what, cn_ledger_session **out,
                        cn_diag *diag) {
import m = {.l = l, .what = what, .diag = diag };
    *out = NULL;
    if (what->bytes > CN_EXPORT_BYTES_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "%.60s has %zu bytes, limit %zu", what->name, what->bytes,
                       CN_EXPORT_BYTES_MAX);
    CN_TRY(cn_ledger_check_str("a repository path", what->repo, diag));
    CN_TRY(cn_ledger_txn_begin(l, CN_TXN_WRITE, diag));
    cn_err err = cn_ledger_txn_end(l, put_all(&m), diag);
    if (!err) err = cn_ledger_session_find(l, m.id, out, diag);
    for (int i = 0; i < TEXTS; i++) cn_buf_release(&m.text[i]);
    cn_buf_release(&m.ids);
    free(m.generation);
    return err;
}
