/*
 * session.c - Open a session, restore its conversation, keep its pages.
 *
 * A page of the conversation is stored under the key of all tokens up to its end, the window
 * under the key of all tokens: a fork finds both, and a turn adds its own pages, one partial
 * tail and one window.
 */
#include "sessions/session_int.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t pages_of(int64_t tokens) {
    return (tokens + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
}

/* ---- Settings: {"budget":N,"prefill_ns":X,"passed":["path",...]} --------------------- */

enum { SETTINGS_BYTES = CN_LEDGER_STRING_BYTES_MAX };

static void forget_passed(cn_session *s) {
    for (int64_t i = 0; i < s->passed_paths; i++) free(s->passed[i]);
    free(s->passed);
    s->passed = NULL;
    s->passed_paths = 0;
}

/* Settings that cannot be read are as if they were not there: they are no truth. */
static void read_settings(cn_session *s, const char *text) {
    const cn_json_limits limits = {SETTINGS_BYTES, 8, 1 << 20};
    cn_json_doc         *doc;
    if (!text || cn_json_parse(&doc, text, strlen(text), "settings", &limits, NULL)) return;
    const cn_json *root = cn_json_root(doc), *passed = cn_json_get(root, "passed");
    cn_json_int64(cn_json_get(root, "budget"), &s->budget);
    cn_json_f64(cn_json_get(root, "prefill_ns"), &s->prefill_ns);
    forget_passed(s);
    s->passed = calloc((size_t)cn_json_count(passed) + 1, sizeof(*s->passed));
    for (const cn_json *v = cn_json_first(passed); v && s->passed; v = cn_json_next(v)) {
        char *path = cn_json_string(v) ? strdup(cn_json_string(v)) : NULL;
        if (path) s->passed[s->passed_paths++] = path;
    }
    cn_json_free(doc);
}

static void put_settings(const cn_session *s, cn_buf *buf) {
    buf->bytes_max = SETTINGS_BYTES - 1;
    cn_json_writer w = cn_json_writer_on(buf);
    cn_json_open(&w, '{');
    cn_json_put_key(&w, "budget");
    cn_json_put_int64(&w, s->budget);
    cn_json_put_key(&w, "prefill_ns");
    cn_json_put_f64(&w, s->prefill_ns, 6);
    cn_json_put_key(&w, "passed");
    cn_json_open(&w, '[');
    for (int64_t i = 0; i < s->passed_paths; i++) cn_json_put_string(&w, s->passed[i]);
    cn_json_close(&w, ']');
    cn_json_close(&w, '}');
}

static cn_err write_settings(cn_session *s, cn_diag *diag) {
    cn_buf buf = {0};
    put_settings(s, &buf);
    if (buf.err == CN_ETOOBIG) { // very many paths: files that were passed over may come in later
        cn_buf_release(&buf);
        forget_passed(s);
        put_settings(s, &buf);
    }
    const cn_err err =
        buf.err ? CN_FAIL(diag, buf.err, "no memory for a session's settings")
                : cn_ledger_session_edit(s->writer, &(cn_ledger_edit){.settings = cn_buf_str(&buf)},
                                         diag);
    cn_buf_release(&buf);
    return err;
}

cn_err cn_session_put_rate(cn_session *s, double prefill_ns, cn_diag *diag) {
    s->prefill_ns = prefill_ns;
    return write_settings(s, diag);
}

cn_err cn_session_put_choice(cn_session *s, const cn_ledger_document *document, int64_t documents,
                             cn_diag *diag) {
    const char *path, *reason;
    int64_t     tokens, count = 0;
    forget_passed(s);
    while (cn_context_left_at(s->context, count, &tokens, &reason)) count++;
    s->passed = calloc((size_t)count + 1, sizeof(*s->passed));
    for (int64_t i = 0; s->passed && i < count; i++) {
        path = strdup(cn_context_left_at(s->context, i, &tokens, &reason));
        if (!path) break;
        s->passed[s->passed_paths++] = (char *)(uintptr_t)path;
    }
    CN_TRY(write_settings(s, diag));
    return cn_context_keep(s->context, document, documents, (const char *const *)s->passed,
                           s->passed_paths, diag);
}

/* ---- Opening ---------------------------------------------------------------------- */

static cn_err find_row(cn_session *s, const cn_session_opts *opts, const char *root,
                       cn_diag *diag) {
    if (opts->id) return cn_ledger_session_find(s->host->ledger, opts->id, &s->row, diag);
    if (opts->is_continued) return cn_ledger_session_latest(s->host->ledger, root, &s->row, diag);

    cn_repo_head head;
    cn_buf       settings = {0};
    CN_TRY(cn_repo_get_head(cn_context_repo(s->context), &head, diag));
    s->budget = opts->budget ? opts->budget : CN_CHOOSE_BUDGET;
    put_settings(s, &settings);
    const cn_ledger_session row = {.repo = root,
                                   .commit = head.commit,
                                   .branch = head.branch,
                                   .settings = cn_buf_str(&settings),
                                   .model = s->host->model_id};
    const cn_err            err = cn_ledger_session_create(s->host->ledger, &row, &s->row, diag);
    cn_buf_release(&settings);
    return err;
}

typedef struct collected {
    cn_ledger_document *document;
    int64_t             documents, room;
    bool                failed;
} collected;

static void on_document(void *ctx, const cn_ledger_document *d) {
    collected *c = ctx;
    if (c->failed) return;
    if (c->documents == c->room) {
        const int64_t       room = c->room ? 2 * c->room : 256;
        cn_ledger_document *more = realloc(c->document, (size_t)room * sizeof(*more));
        c->failed = !more;
        if (!more) return;
        c->document = more;
        c->room = room;
    }
    c->document[c->documents] = *d;
    c->document[c->documents].path = strdup(d->path);
    c->failed = !c->document[c->documents].path;
    c->documents += !c->failed;
}

static cn_err keep_choice(cn_session *s, cn_diag *diag) {
    if (s->row->generation == 0) return CN_OK;
    collected c = {0};
    cn_err    err = cn_ledger_documents(s->host->ledger, s->row->id, 0, on_document, &c, diag);
    if (!err && c.failed) err = CN_FAIL(diag, CN_ENOMEM, "no memory for a session's documents");
    if (!err)
        err = cn_context_keep(s->context, c.document, c.documents, (const char *const *)s->passed,
                              s->passed_paths, diag);
    for (int64_t i = 0; i < c.documents; i++) free((char *)(uintptr_t)c.document[i].path);
    free(c.document);
    return err;
}

typedef struct loaded {
    cn_tokens *tokens;
    cn_err     err;
} loaded;

static void on_tokens(void *ctx, int32_t turn, int32_t step, const int32_t *token, int64_t tokens) {
    (void)turn, (void)step;
    loaded *l = ctx;
    if (!l->err) l->err = cn_tokens_put(l->tokens, token, tokens);
}

/* The last step, to know whether it ended in a call that has no result. */
static void on_step(void *ctx, const cn_ledger_step *step) {
    cn_session *s = ctx;
    s->has_open_call = step->stop == CN_STOP_TOOL && step->kind == CN_STEP_GENERATION;
}

static cn_err load_conversation(cn_session *s, cn_diag *diag) {
    loaded l = {&s->tokens, CN_OK};
    CN_TRY(cn_ledger_tokens(s->host->ledger, s->row->id, 0, on_tokens, &l, diag));
    if (l.err) return CN_FAIL(diag, l.err, "no memory for a conversation");
    return cn_ledger_steps(s->host->ledger, s->row->id, 0, on_step, s, diag);
}

static cn_err become_writer(cn_session *s, cn_diag *diag) {
    cn_ledger_opened opened;
    CN_TRY(cn_ledger_writer_open(&s->writer, s->host->ledger, s->row->id, &opened, diag));
    if (!opened.open_turn) return CN_OK;
    snprintf(s->interrupted, sizeof(s->interrupted),
             "turn %d was interrupted%s; its finished steps are kept", opened.open_turn,
             opened.interrupted ? " while a tool ran" : "");
    return cn_ledger_turn_finish(s->writer, CN_STOP_ERROR, (cn_ledger_text){0}, NULL, NULL, 0,
                                 diag);
}

static cn_err open_context(cn_session *s, const char *folder, int64_t budget, cn_diag *diag) {
    cn_context_close(s->context);
    s->context = NULL;
    return cn_context_open(&s->context, s->host,
                           &(cn_context_opts){.folder = folder, .budget = budget}, diag);
}

static cn_err open_session(cn_session *s, const cn_session_opts *opts, cn_diag *diag) {
    if (opts->id) {
        CN_TRY(find_row(s, opts, NULL, diag));
    } else {
        CN_TRY(open_context(s, opts->folder, opts->budget, diag));
        CN_TRY(find_row(s, opts, cn_repo_root(cn_context_repo(s->context)), diag));
    }
    read_settings(s, s->row->settings); // the budget was kept when the session was made
    CN_TRY(open_context(s, opts->folder ? opts->folder : s->row->repo, s->budget, diag));
    CN_TRY(become_writer(s, diag));
    CN_TRY(keep_choice(s, diag));
    CN_TRY(load_conversation(s, diag));
    CN_TRY(cn_doc_create(&s->doc, s->host->engine, CN_SESSION_TOKENS_MAX, false, diag));
    return cn_view_create(&s->view, s->host->engine, CN_VIEW_PAGES_MAX, diag);
}

cn_err cn_session_open(cn_session **out, cn_host *host, const cn_session_opts *opts,
                       cn_diag *diag) {
    *out = NULL;
    cn_session *s = calloc(1, sizeof(*s));
    if (!s) return CN_FAIL(diag, CN_ENOMEM, "no memory for a session");
    s->host = host;
    const cn_err err = open_session(s, opts, diag);
    if (err) {
        cn_session_close(s);
        return err;
    }
    *out = s;
    return CN_OK;
}

void cn_session_close(cn_session *s) {
    if (!s) return;
    cn_view_free(s->view);
    cn_doc_free(s->doc);
    cn_context_close(s->context);
    cn_ledger_writer_close(s->writer);
    cn_ledger_session_free(s->row);
    cn_tokens_release(&s->tokens);
    forget_passed(s);
    free(s);
}

const cn_ledger_session *cn_session_row(const cn_session *s) {
    return s->row;
}

cn_context *cn_session_context(cn_session *s) {
    return s->context;
}

int64_t cn_session_tokens(const cn_session *s) {
    return s->tokens.count;
}

const char *cn_session_interrupted(const cn_session *s) {
    return s->interrupted[0] ? s->interrupted : NULL;
}

/* ---- The conversation's pages ------------------------------------------------------ */

/* Keys of all its pages, the last one of all tokens. */
static void page_keys(const cn_session *s, cn_hash *key, int64_t pages) {
    cn_conversation_key k;
    cn_conversation_key_init(&k, &s->host->domain);
    for (int64_t p = 0; p < pages; p++) {
        const int64_t left = s->tokens.count - p * CN_PAGE_TOKENS;
        cn_conversation_key_put(&k, s->tokens.token + p * CN_PAGE_TOKENS,
                                left < CN_PAGE_TOKENS ? left : CN_PAGE_TOKENS);
        key[p] = cn_conversation_key_get(&k);
    }
}

/* Whether all was found; then the document holds the conversation. */
static bool restore_from(cn_session *s, cn_pages_txn *txn, const cn_hash *key, cn_page_ref *page,
                         int64_t pages, void *window, int64_t window_bytes) {
    for (int64_t p = 0; p < pages; p++) {
        cn_pages_page found;
        if (cn_pages_get(txn, &key[p], (int32_t)p, &found) != CN_PAGES_HIT) return false;
        page[p] = (cn_page_ref){found.body, found.tokens};
    }
    if (cn_pages_get_window(txn, &key[pages - 1], window, window_bytes) != CN_PAGES_HIT)
        return false;
    return cn_doc_restore(s->doc, s->tokens.count, page, pages, window, window_bytes, NULL) ==
           CN_OK;
}

cn_err cn_session_restore(cn_session *s, int64_t *bytes_out, cn_diag *diag) {
    *bytes_out = 0;
    if (s->is_restored && cn_doc_tokens(s->doc) == s->tokens.count) return CN_OK;
    cn_doc_reset(s->doc);
    s->is_restored = true;
    s->stored_pages = 0;
    const int64_t pages = pages_of(s->tokens.count);
    if (pages == 0) return CN_OK;
    if (s->tokens.count > CN_SESSION_TOKENS_MAX)
        return CN_FAIL(diag, CN_ETOOBIG, "a conversation of %" PRId64 " tokens, limit %d",
                       s->tokens.count, (int)CN_SESSION_TOKENS_MAX);
    const int64_t window_bytes = cn_doc_window_bytes(s->doc, s->tokens.count);
    cn_hash      *key = malloc((size_t)pages * sizeof(*key));
    cn_page_ref  *page = malloc((size_t)pages * sizeof(*page));
    void         *window = malloc((size_t)window_bytes);
    cn_pages_txn *txn = NULL;
    cn_err        err = CN_OK;
    if (!key || !page || !window) {
        err = CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " pages", pages);
        goto out;
    }
    err = cn_pages_begin(&txn, s->host->pages, diag);
    if (err) goto out;
    page_keys(s, key, pages);
    if (restore_from(s, txn, key, page, pages, window, window_bytes)) {
        s->stored_pages = s->tokens.count / CN_PAGE_TOKENS;
        *bytes_out = pages * cn_engine_page_bytes(s->host->engine) + window_bytes;
    }
out:
    cn_pages_end(txn);
    free(window);
    free(page);
    free(key);
    return err;
}

void cn_session_store(cn_session *s, int64_t *bytes_out) {
    const int64_t pages = pages_of(s->tokens.count);
    *bytes_out = 0;
    if (pages == 0 || cn_doc_tokens(s->doc) != s->tokens.count) return;
    const int64_t first = s->stored_pages,
                  window_bytes = cn_doc_window_bytes(s->doc, s->tokens.count);
    cn_hash       *key = malloc((size_t)pages * sizeof(*key));
    cn_pages_item *item = calloc((size_t)(pages - first) + 1, sizeof(*item));
    void          *window = malloc((size_t)window_bytes);
    int64_t        items = 0;
    cn_diag        diag = {0};
    cn_err         err = CN_ENOMEM;
    if (!key || !item || !window) goto out;
    page_keys(s, key, pages);
    for (int64_t p = first; p < pages; p++) {
        const cn_page_ref page = cn_doc_page(s->doc, p);
        item[items++] = (cn_pages_item){.kind = CN_PAGES_PAGE,
                                        .key = &key[p],
                                        .data = page.body,
                                        .number = (int32_t)p,
                                        .tokens = page.tokens};
    }
    cn_doc_window_save(s->doc, window);
    item[items++] = (cn_pages_item){
        .kind = CN_PAGES_WINDOW, .key = &key[pages - 1], .data = window, .bytes = window_bytes};
    err = cn_pages_write(s->host->pages, item, items, cn_clock_unix_ns() / 1000000000, bytes_out,
                         &diag);
    if (!err) s->stored_pages = s->tokens.count / CN_PAGE_TOKENS;
out:
    if (err) cn_log(CN_LOG_WARN, "the conversation's pages are not stored: %s", diag.text);
    free(window);
    free(item);
    free(key);
}
