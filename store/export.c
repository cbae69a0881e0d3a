/* export.c - Rows of a session as JSON Lines. */
#include "store/export_int.h"

#include "base/base64.h"
#include "base/json.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct export {
    cn_ledger     *l;
    cn_export_fn   fn;
    void          *ctx;
    cn_diag       *diag;
    cn_buf         line, base64;
    cn_json_writer w;
    int64_t        session;    // its key
    int64_t       *generation; // [generations] keys, growing; the index + 1 is the number
    int64_t        generations, generations_room;
    cn_export_sum  sum;
}
export;

/* ---- Lines --------------------------------------------------------------------------- */

static void begin_line(export *e, const char *type) {
    cn_buf_reset(&e->line);
    e->w = cn_json_writer_on(&e->line);
    cn_json_open(&e->w, '{');
    cn_json_field_string(&e->w, "type", type);
}

static cn_err end_line(export *e) {
    cn_err err;
    cn_json_close(&e->w, '}');
    cn_buf_put_str(&e->line, "\n");
    if (e->line.err || e->base64.err)
        return CN_FAIL(e->diag, e->line.err ? e->line.err : e->base64.err,
                       "no memory for a line of %zu bytes", e->line.bytes);
    if (e->line.bytes > CN_EXPORT_LINE_BYTES_MAX)
        return CN_FAIL(e->diag, CN_ETOOBIG, "a line of %zu bytes, limit %d", e->line.bytes,
                       (int)CN_EXPORT_LINE_BYTES_MAX);
    e->sum.lines++;
    e->sum.bytes += (int64_t)e->line.bytes;
    CN_CALL_BACK(e->l, err = e->fn(e->ctx, e->line.data, e->line.bytes, e->diag));
    return err;
}

static bool is_plain(const char *text, size_t bytes) {
    if (memchr(text, 0, bytes)) return false;
    for (size_t at = 0, n; at < bytes; at += n) {
        n = cn_utf8_bytes(text + at, bytes - at);
        if (n == 0) return false;
    }
    return true;
}

static void put_text(export *e, const char *key, cn_ledger_text text) {
    if (text.bytes == 0 || is_plain(text.data, text.bytes)) {
        cn_json_field_bytes(&e->w, key, text.bytes ? text.data : "", text.bytes);
        return;
    }
    cn_buf_reset(&e->base64);
    cn_base64_put(&e->base64, text.data, text.bytes);
    cn_json_field_open(&e->w, key, '{');
    cn_json_field_bytes(&e->w, "base64", cn_buf_str(&e->base64), e->base64.bytes);
    cn_json_close(&e->w, '}');
}

/* Members of a line, from the next columns of a row. */
static void put_column_text(export *e, const char *key, cn_query *q) {
    put_text(e, key, cn_query_get_text(q));
}

static void put_column_int(export *e, const char *key, cn_query *q) {
    cn_json_field_int64(&e->w, key, cn_query_get_int(q));
}

static void put_column_bill(export *e, cn_query *q) {
    cn_bill        bill;
    const int64_t *number = (const int64_t *)(const void *)&bill;
    cn_query_get_bill(q, &bill);
    cn_json_field_open(&e->w, "bill", '{');
    for (int i = 0; i < CN_EXPORT_BILL_NUMBERS; i++)
        if (number[i]) cn_json_field_int64(&e->w, cn_export_bill_name(i), number[i]);
    cn_json_close(&e->w, '}');
}

static void put_column_key(export *e, const char *key, cn_query *q) {
    const cn_ledger_text bytes = cn_query_get_text(q);
    char                 hex[CN_HASH_HEX_BYTES] = "";
    cn_hash              hash;
    if (bytes.bytes == CN_HASH_BYTES) {
        memcpy(hash.bytes, bytes.data, CN_HASH_BYTES);
        cn_hash_hex(hex, &hash);
    }
    cn_json_field_string(&e->w, key, hex);
}

/* Every row of a query as a line. */
static cn_err put_rows(export *e, cn_query                                           *q,
                       cn_err (*row)(export *e, cn_query *q, int64_t number), int64_t number) {
    cn_err err, bad = CN_OK;
    while (!bad && (err = cn_query_step(q, e->diag)) == CN_OK) bad = row(e, q, number);
    cn_query_close(q);
    return bad ? bad : err == CN_ENOTFOUND ? CN_OK : err;
}

/* ---- Documents ----------------------------------------------------------------------- */

static cn_err add_generation(export *e, int64_t key) {
    for (int64_t i = 0; i < e->generations; i++)
        if (e->generation[i] == key) return CN_OK;
    if (key == 0) return CN_OK;
    if (e->generations == e->generations_room) {
        const int64_t room = e->generations_room ? 2 * e->generations_room : 16;
        int64_t      *more = realloc(e->generation, (size_t)room * sizeof(*more));
        if (!more) return CN_FAIL(e->diag, CN_ENOMEM, "no memory for %" PRId64 " views", room);
        e->generation = more;
        e->generations_room = room;
    }
    int64_t at = e->generations++;
    for (; at > 0 && e->generation[at - 1] > key; at--) e->generation[at] = e->generation[at - 1];
    e->generation[at] = key;
    return CN_OK;
}

static int64_t number_of(const export *e, int64_t generation) {
    for (int64_t i = 0; i < e->generations; i++)
        if (e->generation[i] == generation) return i + 1;
    return 0;
}

static cn_err find_generations(export *e, const cn_ledger_line *line) {
    cn_query q = cn_query_open(e->l, "SELECT generation FROM sessions WHERE key = ?");
    cn_query_int(&q, e->session);
    cn_err err = cn_query_step(&q, e->diag);
    if (!err) err = add_generation(e, cn_query_get_int(&q));
    cn_query_close(&q);
    for (int64_t i = 0; i < line->turns && !err; i++) {
        q = cn_query_open(e->l, "SELECT DISTINCT generation FROM steps WHERE turn = ?");
        cn_query_int(&q, line->turn[i].key);
        while ((err = cn_query_step(&q, e->diag)) == CN_OK) {
            err = add_generation(e, cn_query_get_int(&q));
            if (err) break;
        }
        cn_query_close(&q);
        if (err == CN_ENOTFOUND) err = CN_OK;
    }
    return err;
}

static cn_err document_row(export *e, cn_query *q, int64_t number) {
    begin_line(e, "document");
    cn_json_field_int64(&e->w, "generation", number);
    put_column_text(e, "path", q);
    put_column_text(e, "kind", q);
    put_column_key(e, "key", q);
    put_column_int(e, "tokens", q);
    put_column_int(e, "first_line", q);
    put_column_int(e, "lines", q);
    return end_line(e);
}

static cn_err generation_row(export *e, cn_query *q, int64_t number) {
    begin_line(e, "generation");
    cn_json_field_int64(&e->w, "generation", number);
    put_column_int(e, "made_ns", q);
    return end_line(e);
}

static cn_err put_generation(export *e, int64_t number) {
    const int64_t key = e->generation[number - 1];
    cn_query      q = cn_query_open(e->l, "SELECT made FROM generations WHERE key = ?");
    cn_query_int(&q, key);
    CN_TRY(put_rows(e, &q, generation_row, number));
    q = cn_query_open(e->l, "SELECT path, kind, document, tokens, first_line, lines FROM documents"
                            " WHERE generation = ? ORDER BY ordinal");
    cn_query_int(&q, key);
    return put_rows(e, &q, document_row, number);
}

/* ---- Turns --------------------------------------------------------------------------- */

static cn_err call_row(export *e, cn_query *q, int64_t turn) {
    begin_line(e, "call");
    cn_json_field_int64(&e->w, "turn", turn);
    put_column_int(e, "step", q);
    put_column_int(e, "call", q);
    put_column_text(e, "name", q);
    put_column_text(e, "state", q);
    put_column_int(e, "exit", q);
    put_column_int(e, "started_ns", q);
    put_column_int(e, "ns", q);
    put_column_text(e, "arguments", q);
    put_column_text(e, "sampled", q);
    put_column_text(e, "result", q);
    return end_line(e);
}

static cn_err step_row(export *e, cn_query *q, int64_t turn) {
    begin_line(e, "step");
    cn_json_field_int64(&e->w, "turn", turn);
    const int64_t key = cn_query_get_int(q), step = cn_query_get_int(q);
    cn_json_field_int64(&e->w, "step", step);
    put_column_text(e, "kind", q);
    put_column_text(e, "stop", q);
    put_column_int(e, "started_ns", q);
    cn_json_field_int64(&e->w, "generation", number_of(e, cn_query_get_int(q)));
    const cn_ledger_text ids = cn_query_get_text(q);
    cn_json_field_open(&e->w, "tokens", '[');
    for (size_t at = 0; at + sizeof(int32_t) <= ids.bytes; at += sizeof(int32_t)) {
        int32_t token;
        memcpy(&token, (const char *)ids.data + at, sizeof(token));
        cn_json_put_int64(&e->w, token);
    }
    cn_json_close(&e->w, ']');
    put_column_bill(e, q);
    CN_TRY(end_line(e));
    cn_query calls =
        cn_query_open(e->l, "SELECT step, call, name, state, exit, started, ns, arguments, sampled,"
                            " result FROM tool_calls WHERE turn = ? AND step = ? ORDER BY call");
    cn_query_int(&calls, key);
    cn_query_int(&calls, step);
    return put_rows(e, &calls, call_row, turn);
}

static cn_err ref_row(export *e, cn_query *q, int64_t turn) {
    begin_line(e, "ref");
    cn_json_field_int64(&e->w, "turn", turn);
    const int64_t part = cn_query_get_int(q), step = cn_query_get_int(q),
                  call = cn_query_get_int(q);
    cn_json_field_int64(&e->w, "part", part);
    if (part) {
        cn_json_field_int64(&e->w, "step", step);
        cn_json_field_int64(&e->w, "call", call);
    }
    put_column_text(e, "path", q);
    put_column_int(e, "begin", q);
    put_column_int(e, "bytes", q);
    return end_line(e);
}

static cn_err read_row(export *e, cn_query *q, int64_t turn) {
    begin_line(e, "read");
    cn_json_field_int64(&e->w, "turn", turn);
    put_column_text(e, "path", q);
    put_column_int(e, "first_line", q);
    put_column_int(e, "last_line", q);
    cn_json_field_f64(&e->w, "share", cn_query_get_f64(q), 17);
    return end_line(e);
}

static cn_err turn_row(export *e, cn_query *q, int64_t turn) {
    begin_line(e, "turn");
    cn_json_field_int64(&e->w, "turn", turn);
    put_column_text(e, "stop", q);
    put_column_int(e, "started_ns", q);
    put_column_int(e, "finished_ns", q);
    put_column_text(e, "question", q);
    put_column_text(e, "answer", q);
    put_column_bill(e, q);
    e->sum.turns++;
    return end_line(e);
}

#define BILL_NAMES CN_BILL_COLUMNS(CN_BILL_NAME)

static cn_err put_turn(export *e, const cn_ledger_link *turn) {
    static const struct {
        const char *sql; // a row's columns as its function takes them
        cn_err (*row)(export *e, cn_query *q, int64_t turn);
    } lists[] = {
        {"SELECT t.stop, t.started, t.finished, x.question, x.answer, " BILL_NAMES
         "0 FROM turns t JOIN turn_texts x ON x.turn = t.key WHERE t.key = ?",
         turn_row},
        {"SELECT turn, step, kind, stop, started, generation, tokens, " BILL_NAMES
         "0 FROM steps WHERE turn = ? ORDER BY step",
         step_row},
        {"SELECT part, call_step, call, path, begin, bytes FROM refs WHERE turn = ? ORDER BY part",
         ref_row},
        {"SELECT path, first_line, last_line, share FROM attention WHERE turn = ? ORDER BY ordinal",
         read_row}};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        cn_query q = cn_query_open(e->l, lists[i].sql);
        cn_query_int(&q, turn->key);
        CN_TRY(put_rows(e, &q, lists[i].row, turn->turn));
    }
    return CN_OK;
}

/* ---- The whole ------------------------------------------------------------------------ */

static cn_err session_row(export *e, cn_query *q, int64_t number) {
    (void)number;
    begin_line(e, "session");
    cn_json_field_string(&e->w, "schema", CN_EXPORT_SCHEMA);
    cn_json_field_int64(&e->w, "version", CN_EXPORT_VERSION);
    put_column_text(e, "id", q);
    put_column_text(e, "title", q);
    put_column_text(e, "repo", q);
    put_column_text(e, "commit", q);
    put_column_text(e, "branch", q);
    put_column_text(e, "model", q);
    put_column_int(e, "created_ns", q);
    put_column_text(e, "settings", q);
    cn_json_field_int64(&e->w, "generation", number_of(e, cn_query_get_int(q)));
    return end_line(e);
}

static cn_err put_all(export *e, const cn_ledger_line *line) {
    CN_TRY(find_generations(e, line));
    cn_query q = cn_query_open(e->l, "SELECT id, title, repo, commit_id, branch, model, created,"
                                     " settings, generation FROM sessions WHERE key = ?");
    cn_query_int(&q, e->session);
    CN_TRY(put_rows(e, &q, session_row, 0));
    for (int64_t number = 1; number <= e->generations; number++) CN_TRY(put_generation(e, number));
    for (int64_t i = 0; i < line->turns; i++) CN_TRY(put_turn(e, &line->turn[i]));
    begin_line(e, "end");
    cn_json_field_int64(&e->w, "turns", e->sum.turns);
    cn_json_field_int64(&e->w, "lines", e->sum.lines + 1);
    return end_line(e);
}

static cn_err run(export *e, const char *session) {
    cn_ledger_line line = {0};
    CN_TRY(cn_ledger_session_key(e->l, session, &e->session, e->diag));
    cn_err err = cn_ledger_line_get(e->l, e->session, &line, e->diag);
    if (!err && line.turns && line.turn[line.turns - 1].is_open)
        e->sum.open_turn = line.turn[--line.turns].turn;
    if (!err) err = put_all(e, &line);
    cn_ledger_line_release(&line);
    return err;
}

cn_err cn_ledger_export(cn_ledger *l, const char *session, cn_export_fn fn, void *ctx,
                        cn_export_sum *sum_out, cn_diag *diag) {
    export e = {.l = l, .fn = fn, .ctx = ctx, .diag = diag};
    if (sum_out) *sum_out = (cn_export_sum){0};
    CN_TRY(cn_ledger_txn_begin(l, CN_TXN_READ, diag));
    const cn_err err = cn_ledger_txn_end(l, run(&e, session), diag);
    if (!err && sum_out) *sum_out = e.sum;
    cn_buf_release(&e.line);
    cn_buf_release(&e.base64);
    free(e.generation);
    return err;
}
