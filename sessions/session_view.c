/*
 * session_view.c - What a session says of its view: its choice of files, the long parts of its
 * conversation, what was added or dropped by hand, and the parts' budget.
 */
#include "sessions/session_int.h"

#include "base/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- Settings: {"budget":N,"refs_budget":N,"compaction":"auto"|"by hand","added":[path],
 *                 "dropped":[path],"passed":[path],"away":[path]} ----------------------------- */

enum { SETTINGS_BYTES = CN_LEDGER_STRING_BYTES_MAX };

static const char by_hand[] = "by hand";

static void read_paths(const cn_json *list, cn_paths *out) {
    cn_paths_release(out);
    for (const cn_json *v = cn_json_first(list); v; v = cn_json_next(v))
        if (cn_json_string(v) && cn_paths_put(out, cn_json_string(v))) return;
}

void cn_session_read_settings(cn_session *s, const char *text) {
    const cn_json_limits limits = {SETTINGS_BYTES, 8, 1 << 20};
    cn_json_doc         *doc;
    s->refs_budget = CN_SESSION_REFS_BUDGET; // of a session that is older than this setting
    if (!text || cn_json_parse(&doc, text, strlen(text), "settings", &limits, NULL)) return;
    const cn_json *root = cn_json_root(doc);
    cn_json_int64(cn_json_get(root, "budget"), &s->budget);
    cn_json_int64(cn_json_get(root, "refs_budget"), &s->refs_budget);
    const char *compaction = cn_json_string(cn_json_get(root, "compaction"));
    s->is_compacted_by_hand = compaction && strcmp(compaction, by_hand) == 0;
    read_paths(cn_json_get(root, "added"), &s->added);
    read_paths(cn_json_get(root, "dropped"), &s->dropped);
    read_paths(cn_json_get(root, "passed"), &s->passed);
    read_paths(cn_json_get(root, "away"), &s->away);
    cn_json_free(doc);
}

static void put_paths(cn_json_writer *w, const char *key, const cn_paths *p) {
    cn_json_put_key(w, key);
    cn_json_open(w, '[');
    for (int64_t i = 0; i < p->count; i++) cn_json_put_string(w, p->path[i]);
    cn_json_close(w, ']');
}

void cn_session_put_settings(const cn_session *s, cn_buf *buf) {
    buf->bytes_max = SETTINGS_BYTES - 1;
    cn_json_writer w = cn_json_writer_on(buf);
    cn_json_open(&w, '{');
    cn_json_put_key(&w, "budget");
    cn_json_put_int64(&w, s->budget);
    cn_json_put_key(&w, "refs_budget");
    cn_json_put_int64(&w, s->refs_budget);
    cn_json_field_string(&w, "compaction", s->is_compacted_by_hand ? by_hand : "auto");
    put_paths(&w, "added", &s->added);
    put_paths(&w, "dropped", &s->dropped);
    put_paths(&w, "passed", &s->passed);
    put_paths(&w, "away", &s->away);
    cn_json_close(&w, '}');
}

cn_err cn_session_make_settings(cn_session *s, cn_buf *buf, cn_diag *diag) {
    cn_session_put_settings(s, buf);
    if (buf->err == CN_ETOOBIG) { // very many paths: files that were passed over may come in later
        cn_buf_release(buf);
        cn_paths_release(&s->passed);
        cn_paths_release(&s->away); // likewise files that return
        cn_session_put_settings(s, buf);
    }
    if (buf->err)
        return CN_FAIL(diag, buf->err,
                       "settings with %" PRId64 " paths added, %" PRId64 " dropped, limit %d bytes",
                       s->added.count, s->dropped.count, (int)SETTINGS_BYTES - 1);
    return CN_OK;
}

static cn_err write_settings(cn_session *s, cn_diag *diag) {
    cn_buf buf = {0};
    cn_err err = cn_session_make_settings(s, &buf, diag);
    if (!err)
        err = cn_ledger_session_edit(s->writer, &(cn_ledger_edit){.settings = cn_buf_str(&buf)},
                                     diag);
    cn_buf_release(&buf);
    return err;
}

double cn_session_prefill_ns(const cn_session *s) {
    return s->host->prefill_ns;
}

cn_err cn_session_set_compaction(cn_session *s, bool is_auto, cn_diag *diag) {
    const bool was = s->is_compacted_by_hand;
    CN_TRY(cn_session_catch_up(s, diag));
    CN_TRY(cn_session_need_writer(s, diag));
    s->is_compacted_by_hand = !is_auto;
    const cn_err err = write_settings(s, diag);
    if (err) s->is_compacted_by_hand = was;
    return err;
}

/* ---- What the ledger knows ----------------------------------------------------------- */

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

cn_err cn_session_load_documents(cn_session *s, cn_diag *diag) {
    if (s->row->generation == 0) return CN_OK;
    collected c = {0};
    cn_err    err = cn_ledger_documents(s->host->ledger, s->row->id, 0, on_document, &c, diag);
    if (!err && c.failed) err = CN_FAIL(diag, CN_ENOMEM, "no memory for a session's documents");
    if (!err) err = cn_context_keep(s->context, c.document, c.documents, diag);
    for (int64_t i = 0; i < c.documents; i++) free((char *)(uintptr_t)c.document[i].path);
    free(c.document);
    return err;
}

typedef struct parts {
    cn_context *context;
    cn_diag    *diag;
    cn_err      err;
} parts;

static void on_ref(void *ctx, const cn_ledger_ref *r) {
    parts               *p = ctx;
    const cn_context_ref ref = {.path = r->path, .turn = r->turn, .part = r->part};
    if (!p->err) p->err = cn_context_put_ref(p->context, &ref, r->text, p->diag);
}

cn_err cn_session_load_parts(cn_session *s, cn_diag *diag) {
    parts p = {s->context, diag, CN_OK};
    cn_context_take_back(s->context, 0);
    CN_TRY(cn_ledger_refs(s->host->ledger, s->row->id, 0, on_ref, &p, diag));
    s->refs = cn_context_refs(s->context);
    return p.err;
}

/* ---- What the view holds now --------------------------------------------------------- */

/* The paths of `to` that are not in `without`, sorted, each once. */
static cn_err tidy(cn_paths *to, const cn_paths *without, const cn_paths *nor) {
    cn_paths    kept = {0};
    const char *last = NULL;
    cn_err      err = CN_OK;
    cn_paths_sort(to);
    for (int64_t i = 0; i < to->count && !err; i++) {
        const char *path = to->path[i];
        if ((last && strcmp(last, path) == 0) || cn_paths_sorted_has(without, path) ||
            (nor && cn_paths_sorted_has(nor, path)))
            continue;
        last = path;
        err = cn_paths_put(&kept, path);
    }
    if (err) {
        cn_paths_release(&kept);
        return err;
    }
    cn_paths_release(to);
    *to = kept;
    return CN_OK;
}

/* Whatever was in the view once comes back when it returns, whatever was passed over stays out when
 * it does: so the view of a commit is the same however often the folder goes there. */
static cn_err note_choice(cn_session *s) {
    cn_context   *c = s->context;
    const int64_t left = cn_context_get_plan(c)->left_files;
    const char   *path, *reason;
    int64_t       tokens;
    cn_paths      now = {0};
    cn_err        err = CN_OK;
    for (int64_t i = 0; i < cn_context_docs(c) && !err; i++)
        if (cn_context_doc_at(c, i)->kind == CN_DOCUMENT_FILE)
            err = cn_paths_put(&now, cn_context_doc_at(c, i)->path);
    cn_paths_sort(&now);
    for (int64_t i = 0; (path = cn_context_kept_at(c, i)) && !err; i++)
        err = cn_paths_put(&s->away, path);
    if (!err) err = tidy(&s->away, &now, NULL);
    for (int64_t i = 0; i < left && !err; i++)
        err = cn_paths_put(&s->passed, cn_context_left_at(c, i, &tokens, &reason));
    if (!err) err = tidy(&s->passed, &now, &s->away);
    cn_paths_release(&now);
    return err;
}

/* Where HEAD is now; the generation that is made next is of it. */
static cn_err note_head(cn_session *s, cn_diag *diag) {
    cn_repo_head head;
    if (cn_repo_get_head(cn_context_repo(s->context), &head, NULL))
        return CN_OK; // no view needs it
    if (!strcmp(head.commit, s->row->commit) && !strcmp(head.branch, s->row->branch)) return CN_OK;
    CN_TRY(cn_ledger_session_edit(
        s->writer, &(cn_ledger_edit){.commit = head.commit, .branch = head.branch}, diag));
    return cn_session_read_row(s, diag);
}

cn_err cn_session_keep_view(cn_session *s, cn_diag *diag) {
    cn_context   *c = s->context;
    const int64_t docs = cn_context_docs(c);
    if (!s->is_pinned && !s->is_trial) CN_TRY(note_head(s, diag));
    if (!cn_context_has_changed(c) && s->row->generation) return CN_OK;
    cn_ledger_document *d = calloc((size_t)docs + 1, sizeof(*d));
    if (!d || (!s->is_pinned && note_choice(s))) {
        free(d);
        return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " documents", docs);
    }
    for (int64_t i = 0; i < docs; i++) {
        const cn_context_doc *doc = cn_context_doc_at(c, i);
        d[i] = (cn_ledger_document){doc->path, doc->piece, doc->kind};
    }
    cn_err err = cn_ledger_documents_put(s->writer, d, docs, &s->row->generation, diag);
    if (!err) err = write_settings(s, diag);
    if (!err) err = cn_context_keep(c, d, docs, diag);
    free(d);
    return err;
}

/* ---- By hand ------------------------------------------------------------------------- */

void cn_session_forget_edits(cn_session *s, const char *path) {
    cn_paths_remove(&s->added, path);
    cn_paths_remove(&s->dropped, path);
}

static cn_err check_path(cn_session *s, const char *path, cn_edit edit, cn_diag *diag) {
    const char *skip;
    if (cn_context_ref_find(s->context, path)) return CN_OK;
    if (!cn_context_has_file(s->context, path, &skip) && s->is_pinned && edit == CN_EDIT_ADD)
        return CN_FAIL(diag, CN_ENOTFOUND,
                       "%s is not in the view, which is pinned: --unpin, then add it", path);
    if (!cn_context_has_file(s->context, path, &skip))
        return CN_FAIL(diag, CN_ENOTFOUND, "no file and no part of the conversation: %s", path);
    if (skip && edit == CN_EDIT_ADD) return CN_FAIL(diag, CN_EUNSUPPORTED, "%s: %s", path, skip);
    return CN_OK;
}

/* Put all paths into one list, and out of the other. */
static cn_err move_paths(cn_paths *to, cn_paths *from, const char *const *path, int64_t paths) {
    for (int64_t i = 0; i < paths; i++) {
        cn_paths_remove(from, path[i]);
        if (!cn_paths_has(to, path[i])) CN_TRY(cn_paths_put(to, path[i]));
    }
    return CN_OK;
}

cn_err cn_session_edit(cn_session *s, cn_edit edit, const char *const *path, int64_t paths,
                       cn_diag *diag) {
    CN_TRY(cn_session_catch_up(s, diag));
    CN_TRY(cn_session_need_writer(s, diag));
    CN_TRY(cn_context_update(s->context, diag));
    for (int64_t i = 0; i < paths; i++) CN_TRY(check_path(s, path[i], edit, diag));
    const cn_paths was_added = s->added, was_dropped = s->dropped;
    s->added = s->dropped = (cn_paths){0};
    cn_err err = cn_paths_put_all(&s->added, &was_added);
    if (!err) err = cn_paths_put_all(&s->dropped, &was_dropped);
    if (!err)
        err = edit == CN_EDIT_ADD ? move_paths(&s->added, &s->dropped, path, paths)
                                  : move_paths(&s->dropped, &s->added, path, paths);
    if (err) err = CN_FAIL(diag, err, "no memory for %" PRId64 " paths", paths);
    if (!err) err = write_settings(s, diag);
    cn_paths spent[] = {was_added, was_dropped};
    if (err) { // as before
        spent[0] = s->added, spent[1] = s->dropped;
        s->added = was_added, s->dropped = was_dropped;
    }
    cn_paths_release(&spent[0]);
    cn_paths_release(&spent[1]);
    return err ? err : cn_context_update(s->context, diag);
}

/* ---- The budget of parts ------------------------------------------------------------- */

static bool may_go(const cn_session *s, const cn_context_ref *r, int32_t turn) {
    return r->turn != turn && !cn_paths_has(&s->dropped, r->path) &&
           !cn_paths_has(&s->added, r->path);
}

/* What goes next: results before questions, the oldest first; NULL if nothing may. */
static const cn_context_ref *oldest_part(const cn_session *s, int32_t turn) {
    const cn_context_ref *question = NULL;
    for (int64_t i = 0; i < cn_context_refs(s->context); i++) {
        const cn_context_ref *r = cn_context_ref_at(s->context, i);
        if (!may_go(s, r, turn)) continue;
        if (r->part > 0) return r;
        if (!question) question = r;
    }
    return question;
}

/* Before anything is dropped for it: a turn that is refused changes nothing. */
static cn_err check_least(const cn_session *s, int32_t turn, int64_t tokens, cn_diag *diag) {
    const cn_context_plan *plan = cn_context_get_plan(s->context);
    const int64_t          view_max = cn_engine_view_tokens(s->host->engine);
    int64_t                least = plan->tokens + tokens;
    for (int64_t i = 0; i < cn_context_refs(s->context); i++) {
        const cn_context_ref *r = cn_context_ref_at(s->context, i);
        if (may_go(s, r, turn)) least -= r->tokens;
    }
    if (least > view_max)
        return CN_FAIL(diag, CN_ETOOBIG,
                       "a view of %" PRId64 " tokens, the engine's limit is %" PRId64, least,
                       view_max);
    return CN_OK;
}

cn_err cn_session_fit(cn_session *s, int32_t turn, int64_t tokens, cn_paths *let_go,
                      cn_diag *diag) {
    CN_TRY(check_least(s, turn, tokens, diag));
    const cn_context_plan *plan = cn_context_get_plan(s->context);
    const int64_t left = cn_engine_view_tokens(s->host->engine) - plan->file_tokens - tokens,
                  room = left < s->refs_budget ? left : s->refs_budget;
    int64_t used = plan->ref_tokens;
    bool    has_dropped = false;
    for (const cn_context_ref *r; used > room && (r = oldest_part(s, turn)); used -= r->tokens) {
        if (cn_paths_put(let_go, r->path) || cn_paths_put(&s->dropped, r->path))
            return CN_FAIL(diag, CN_ENOMEM, "no memory to drop %s", r->path);
        has_dropped = true;
    }
    if (!has_dropped) return CN_OK;
    CN_TRY(write_settings(s, diag));
    return cn_context_refresh(s->context, diag);
}
