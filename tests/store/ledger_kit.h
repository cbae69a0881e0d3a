/*
 * ledger_kit.h - What the ledger's tests share: folders, a filled session, and a dump: all
 * that a reader can see of a ledger as one text, without times of day, so that two states
 * can be compared.
 */
#ifndef CN_TESTS_STORE_LEDGER_KIT_H
#define CN_TESTS_STORE_LEDGER_KIT_H

#include "base/buf.h"
#include "store/ledger_int.h"
#include "tests/test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* A new path in the scratch folder.  Valid until the 8th call from now. */
static inline const char *k_new_path(void) {
    static char path[8][96];
    static int  made;
    char       *p = path[made % 8];
    snprintf(p, sizeof(path[0]), "%s/%d", t_tmp_dir(), made++);
    return p;
}

static inline const char *k_in(const char *dir, const char *name) {
    static char path[8][160];
    static int  made;
    char       *p = path[made++ % 8];
    snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
    return p;
}

static inline cn_ledger *k_open(const char *dir) {
    cn_ledger *l;
    assert_err(cn_ledger_open(&l, &(cn_ledger_opts){.dir = dir}, &t_diag), CN_OK);
    assert_non_null(l);
    return l;
}

static inline cn_ledger_writer *k_write(cn_ledger *l, const char *id) {
    cn_ledger_writer *w;
    assert_err(cn_ledger_writer_open(&w, l, id, NULL, &t_diag), CN_OK);
    return w;
}

static inline void k_create(cn_ledger *l, const char *id) {
    cn_ledger_session *s;
    assert_err(cn_ledger_session_create(
                   l, &(cn_ledger_session){.id = id, .repo = "/src/x", .title = "T"}, &s, &t_diag),
               CN_OK);
    assert_string_equal(s->id, id);
    cn_ledger_session_free(s);
}

static inline cn_ledger_text k_text(const char *text) {
    return (cn_ledger_text){text, strlen(text)};
}

/* A bill whose every number is another one. */
static inline cn_bill k_bill(int64_t seed) {
    cn_bill  b;
    int64_t *number = (int64_t *)(void *)&b;
    for (size_t i = 0; i < sizeof(b) / sizeof(*number); i++)
        number[i] = seed * 1000 + (int64_t)i * (i % 2 ? 1 : INT64_C(5000000000));
    return b;
}

/* Begin a turn, commit `steps` steps (tokens: 100 turn + step, step; the first refers to the
 * question's first byte and calls a tool, the second brings its result and refers to the last
 * three), finish it. */
static inline int32_t k_turn(cn_ledger_writer *w, const char *question, int32_t steps) {
    int32_t turn;
    assert_err(cn_ledger_turn_begin(w, k_text(question), &turn, &t_diag), CN_OK);
    for (int32_t step = 0; step < steps; step++) {
        const cn_bill          bill = k_bill(10 * turn + step);
        const int32_t          token[2] = {100 * turn + step, step};
        const cn_ledger_intent intent = {"grep", k_text("{\"a\":1}"), k_text("<call a=1>")};
        const cn_ledger_result result = {.state = CN_CALL_DONE,
                                         .exit = 3,
                                         .result = k_text("found"),
                                         .started_ns = 77,
                                         .ns = 1000 * turn};
        const cn_ledger_ref    ref = {.part = step,
                                      .path = step ? "r.txt" : "q.txt",
                                      .begin = 2 * step,
                                      .bytes = 1 + 2 * step};
        assert_err(cn_ledger_step_commit(
                       w,
                       &(cn_ledger_commit){.step = step,
                                           .kind = step % 2 ? CN_STEP_TOOL : CN_STEP_GENERATION,
                                           .stop = CN_STOP_TOOL,
                                           .token = token,
                                           .tokens = 2,
                                           .bill = &bill,
                                           .turn_bill = &bill,
                                           .intent = &intent,
                                           .intents = step == 0 && steps > 1,
                                           .result = &result,
                                           .results = step == 1,
                                           .ref = &ref,
                                           .refs = step < 2},
                       &t_diag),
                   CN_OK);
    }
    const cn_bill        bill = k_bill(turn);
    const cn_ledger_read read = {"src/a.c", 120, 164, 0.31};
    assert_err(cn_ledger_turn_finish(w, CN_STOP_END, k_text("answer"), &bill, &read, 1, &t_diag),
               CN_OK);
    return turn;
}

static inline cn_ledger_document k_document(const char *path, uint8_t key, int32_t tokens) {
    cn_ledger_document d = {.path = path, .piece = {.tokens = tokens, .first_line = 1, .lines = 9}};
    memset(d.piece.key.bytes, key, CN_HASH_BYTES);
    return d;
}

/* ---- The dump ---------------------------------------------------------------------- */

static inline void k_put_text(cn_buf *buf, const char *name, cn_ledger_text text) {
    cn_buf_printf(buf, " %s[%zu]=", name, text.bytes);
    cn_buf_put(buf, text.data, text.bytes);
}

static inline void k_put_bill(cn_buf *buf, const cn_bill *bill) {
    const int64_t *number = (const int64_t *)(const void *)bill;
    for (size_t i = 0; i < sizeof(*bill) / sizeof(*number); i++)
        cn_buf_printf(buf, ",%lld", (long long)number[i]);
}

static inline void k_put_session(void *ctx, const cn_ledger_session *s) {
    char hex[CN_HASH_HEX_BYTES];
    cn_hash_hex(hex, &s->model);
    cn_buf_printf(ctx,
                  "session %s of %s@%d %s|%s|%s|%s|%s|%.8s head %d open %d turns %d gen %lld\n",
                  s->id, s->parent, s->forked_at, s->title, s->repo, s->commit, s->branch,
                  s->settings, hex, s->head, s->open_turn, s->turns, (long long)s->generation);
}

static inline void k_put_turn(void *ctx, const cn_ledger_turn *t) {
    cn_buf_printf(ctx, "turn %s/%d %s %s%s%d steps", t->session, t->turn, cn_stop_name(t->stop),
                  t->origin ? cn_origin_name(t->origin) : "", t->origin ? " " : "", t->steps);
    k_put_text(ctx, "q", t->question);
    k_put_text(ctx, "a", t->answer);
    k_put_bill(ctx, &t->bill);
    cn_buf_put_str(ctx, "\n");
}

static inline void k_put_step(void *ctx, const cn_ledger_step *s) {
    cn_buf_printf(ctx, "step %d.%d kind %d %s %lld tokens gen %lld", s->turn, s->step, s->kind,
                  cn_stop_name(s->stop), (long long)s->tokens, (long long)s->generation);
    k_put_bill(ctx, &s->bill);
    cn_buf_put_str(ctx, "\n");
}

static inline void k_put_call(void *ctx, const cn_ledger_call *c) {
    cn_buf_printf(ctx, "call %d.%d.%d %s %s exit %d ns %lld", c->turn, c->step, c->call, c->name,
                  cn_call_state_name(c->state), c->exit, (long long)c->ns);
    k_put_text(ctx, "args", c->arguments);
    k_put_text(ctx, "sampled", c->sampled);
    k_put_text(ctx, "result", c->result);
    cn_buf_put_str(ctx, "\n");
}

static inline void k_put_read(void *ctx, int32_t turn, const cn_ledger_read *r) {
    cn_buf_printf(ctx, "read %d %s:%d-%d %.17g\n", turn, r->path, r->first_line, r->last_line,
                  r->share);
}

static inline void k_put_tokens(void *ctx, int32_t turn, int32_t step, const int32_t *token,
                                int64_t tokens) {
    cn_buf_printf(ctx, "tokens %d.%d", turn, step);
    for (int64_t i = 0; i < tokens; i++) cn_buf_printf(ctx, " %d", token[i]);
    cn_buf_put_str(ctx, "\n");
}

static inline void k_put_document(void *ctx, const cn_ledger_document *d) {
    cn_buf_printf(ctx, "document %s key %02x..%02x %d tokens, line %d+%d%s\n", d->path,
                  d->piece.key.bytes[0], d->piece.key.bytes[31], d->piece.tokens,
                  d->piece.first_line, d->piece.lines, d->kind == CN_DOCUMENT_REF ? ", ref" : "");
}

static inline void k_put_ref(void *ctx, const cn_ledger_ref *r) {
    cn_buf_printf(ctx, "ref %d.%d %s of %d.%d bytes %lld+%lld", r->turn, r->part, r->path, r->step,
                  r->call, (long long)r->begin, (long long)r->bytes);
    k_put_text(ctx, "text", r->text);
    cn_buf_put_str(ctx, "\n");
}

static inline void k_put_cost(void *ctx, const cn_ledger_cost *c) {
    cn_buf_printf(ctx, "cost %s|%s|%d|%s %lld turns %lld calls %lld failed %lld int %lld ns",
                  c->session, c->title, c->turn, c->tool, (long long)c->turns, (long long)c->calls,
                  (long long)c->failed, (long long)c->interrupted, (long long)c->calls_ns);
    k_put_bill(ctx, &c->bill);
    cn_buf_put_str(ctx, "\n");
}

static inline void k_collect_id(void *ctx, const cn_ledger_session *s) {
    cn_buf_put(ctx, s->id, strlen(s->id) + 1);
}

/* One conversation. */
static inline void k_dump_session(cn_ledger *l, const char *id, cn_buf *out) {
    cn_buf_printf(out, "== %s\n", id);
    assert_err(cn_ledger_turns(l, id, 0, k_put_turn, out, &t_diag), CN_OK);
    assert_err(cn_ledger_steps(l, id, 0, k_put_step, out, &t_diag), CN_OK);
    assert_err(cn_ledger_calls(l, id, 0, k_put_call, out, &t_diag), CN_OK);
    assert_err(cn_ledger_reads(l, id, 0, k_put_read, out, &t_diag), CN_OK);
    assert_err(cn_ledger_tokens(l, id, 0, k_put_tokens, out, &t_diag), CN_OK);
    assert_err(cn_ledger_refs(l, id, 0, k_put_ref, out, &t_diag), CN_OK);
    assert_err(cn_ledger_documents(l, id, 0, k_put_document, out, &t_diag), CN_OK);
}

/* The engine whose rate is dumped. */
static const cn_hash k_engine = {{7}};

/* Everything; the caller releases it. */
static inline cn_buf k_dump(cn_ledger *l) {
    cn_buf out = {0}, ids = {0};
    assert_err(cn_ledger_sessions(l, NULL, INT64_MAX, k_put_session, &out, &t_diag), CN_OK);
    assert_err(cn_ledger_sessions(l, NULL, INT64_MAX, k_collect_id, &ids, &t_diag), CN_OK);
    for (size_t at = 0; at < ids.bytes; at += strlen(ids.data + at) + 1)
        k_dump_session(l, ids.data + at, &out);
    for (int by = 0; by < CN_COST_COUNT; by++)
        assert_err(cn_ledger_costs(l, (cn_cost_by)by, NULL, k_put_cost, &out, &t_diag), CN_OK);
    double rate;
    assert_err(cn_ledger_rate_get(l, &k_engine, 2, &rate, &t_diag), CN_OK);
    cn_buf_printf(&out, "rate %g\n", rate);
    cn_buf_release(&ids);
    assert_int_equal(out.err, CN_OK);
    return out;
}

static inline bool k_is_same(const cn_buf *a, const cn_buf *b) {
    return a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0;
}

/* The bytes of a file; NULL and -1 if it is not there.  Freed by free(). */
static inline char *k_read_file(const char *path, int64_t *bytes_out) {
    struct stat st;
    const int   fd = open(path, O_RDONLY);
    *bytes_out = -1;
    if (fd < 0) return NULL;
    assert_int_equal(fstat(fd, &st), 0);
    char *data = malloc((size_t)st.st_size + 1);
    assert_non_null(data);
    assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
    close(fd);
    *bytes_out = st.st_size;
    return data;
}

static inline void k_write_file(const char *path, const void *data, int64_t bytes) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, (size_t)bytes), bytes);
    assert_int_equal(close(fd), 0);
}

/* Run SQL on a ledger.db behind the ledger's back. */
static inline void k_sql(const char *dir, const char *sql) {
    sqlite3 *db;
    char    *text = NULL;
    assert_int_equal(sqlite3_open(k_in(dir, "ledger.db"), &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    if (sqlite3_exec(db, sql, NULL, NULL, &text)) t_fail(__FILE__, __LINE__, "%s: %s", sql, text);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* The one number that a SELECT gives. */
static inline int64_t k_sql_int(const char *dir, const char *sql) {
    sqlite3      *db;
    sqlite3_stmt *stmt;
    assert_int_equal(sqlite3_open(k_in(dir, "ledger.db"), &db), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL))
        t_fail(__FILE__, __LINE__, "%s: %s", sql, sqlite3_errmsg(db));
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    const int64_t value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return value;
}

#endif
